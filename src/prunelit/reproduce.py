"""The command for a published report: it runs the sweeps, and compares every published number with ours.

python -m prunelit.reproduce --list
python -m prunelit.reproduce khanal2018
python -m prunelit.reproduce shi2022 --only 1 --scale 0.1 trainer=gpu
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from prunelit.request import BadRequest

EXAMPLES = """\
examples:
  python -m prunelit.reproduce --list
  python -m prunelit.reproduce khanal2018
  python -m prunelit.reproduce shi2022 --only 1 --scale 0.1 trainer=gpu
  python -m prunelit.reproduce butler2022 --dry-run
"""


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's values."""
    from prunelit.study.whole_words import WholeWords, wrapped

    parser = argparse.ArgumentParser(
        "python -m prunelit.reproduce",
        description=wrapped("Run the sweeps of a published report, and compare every published number."),
        epilog=EXAMPLES,
        formatter_class=WholeWords,
    )
    add = parser.add_argument
    add("report", metavar="NAME", nargs="?", default="", help="of a report; --list shows all")
    add("overrides", metavar="key=value", nargs="*", help="further overrides of every run")
    add("--list", action="store_true", help="show what there is, what is done, and how long the rest takes")
    add("--dry-run", action="store_true", help="print the commands, run nothing")
    add("--compare", action="store_true", help="run nothing, compare what is there")
    add("--only", metavar="TABLE", help="the sweeps of one table or figure, such as IV, or one sweep")
    add("--scale", metavar="S", default="1", help="in (0, 1]: fewer epochs, seeds or images; default: 1")
    add("--seeds", metavar="N", help="the first N seeds of each sweep at most; three make a verdict")
    add("--measure", action="store_true", help="with --list: train an epoch of what was never run")
    add("--images", metavar="DATA=DIR", action="append", default=[], help="read a data set from a folder")
    add("--output-dir", metavar="DIR", default="outputs", help="where studies lie; default: outputs")
    add("--write-docs", metavar="FILE", type=Path, help="write docs/reproduction.md, NAME's numbers renewed")
    return parser.parse_intermixed_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return 0 if every run is complete, 1 if not, 2 for a wrong request."""
    chosen = arguments(argv)
    try:
        return reproduce(chosen)
    except BadRequest as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from prunelit.study.command import as_request

        request = as_request(error)
        if request is None:
            raise
        print(request, file=sys.stderr)
        return 2


def reproduce(chosen: argparse.Namespace) -> int:
    """Do what the command line asks for; return the exit status.

    Raises:
        BadRequest: a report, table, scale, folder or override that there is not.
    """
    from prunelit.study.reproduction.asked import asked_for
    from prunelit.study.reproduction.description import read_report, report_names
    from prunelit.study.reproduction.document import write_document
    from prunelit.study.reproduction.listing import say_list
    from prunelit.study.reproduction.program import (
        compare_and_write,
        run_commands,
        say_commands,
        say_what_does_not_apply,
    )
    from prunelit.study.reproduction.requests import commands

    request = asked_for(chosen)
    if chosen.list:
        names = [chosen.report] if chosen.report else report_names()
        say_list(names, request, chosen.measure)
        return 0
    if not chosen.report and chosen.write_docs:
        write_document(chosen.write_docs)
        return 0
    report = read_report(chosen.report)
    sweeps = report.serving(chosen.only)
    wanted = commands(report, request, sweeps)
    say_what_does_not_apply(request, sweeps)
    if chosen.dry_run:
        say_commands(wanted)
        return 0
    _create(request.output_dir)
    status = 0 if chosen.compare else run_commands(report, request, wanted)
    if status > 1:
        return status
    everything = wanted if chosen.only is None else commands(report, request, report.serving(None))
    compare_and_write(report, request, everything, chosen.write_docs)
    return status


def _create(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or str(error)
        raise BadRequest("--output-dir", folder, "a folder that can be created", why) from error


if __name__ == "__main__":
    sys.exit(main())
