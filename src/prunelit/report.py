"""The command for reports: read the records of runs, write tables, figures and one page.

python -m prunelit.report outputs
python -m prunelit.report outputs --metric best_top1 --out report
python -m prunelit.report outputs --published
python -m prunelit.report --watch outputs
python -m prunelit.report --verify outputs
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from prunelit.request import BadRequest

EXAMPLES = """\
examples:
  python -m prunelit.report outputs
  python -m prunelit.report outputs/cifar10 --metric best_top1 --out report
  python -m prunelit.report --watch outputs
"""


def report(
    folders: Sequence[Path], out: Path | None = None, metric: str = "top1", published: bool = False
) -> list[Path]:
    """Read the records in ``folders``, print the results, write all files and return their paths.

    Args:
        folders: the folders of the runs.
        out: the output folder; by default ``report`` in the first folder.
        metric: the numeric key of ``result.json`` shown in the first tables.
        published: whether to compare with published numbers.

    Raises:
        BadRequest: a folder is missing or contains no runs, or the metric does not exist.
    """
    from prunelit.study.report.page.html import write_page
    from prunelit.study.report.page.vega import bundling
    from prunelit.study.report.records.study import read_study
    from prunelit.study.report.tables.files import write_report
    from prunelit.study.report.tables.metrics import metric_named
    from prunelit.study.report.tables.report_tables import make_tables
    from prunelit.study.report.terminal import show_study, show_written

    chosen = metric_named(metric)
    study = read_study(folders)
    show_skipped(study.skipped)
    if study.runs.empty:
        raise BadRequest(
            "DIR", ", ".join(map(str, folders)), "a folder with runs", "no run could be read there"
        )
    read, target = len(study.skipped), out or folders[0] / "report"
    with bundling() as script:
        tables = make_tables(study, chosen, published)
        show_study(study, tables)
        try:
            files = [*write_report(study, tables, target), *write_page(study, tables, target, script)]
        except OSError as error:
            raise BadRequest("--out", target, "a folder that can be written", error.strerror or "") from error
    show_skipped(study.skipped[read:])
    show_written(files)
    return files


def show_skipped(lines: Sequence[str]) -> None:
    """Report on standard error which files were skipped."""
    from prunelit.study.report.plain_text import plain

    for line in lines:
        print(f"skipped: {plain(line)}", file=sys.stderr)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's values."""
    from prunelit.study.whole_words import WholeWords, wrapped

    parser = argparse.ArgumentParser(
        "python -m prunelit.report",
        description=wrapped("Make tables, figures and a web page from the records of runs."),
        epilog=EXAMPLES,
        formatter_class=WholeWords,
    )
    parser.add_argument(
        "folders", metavar="DIR", nargs="+", type=Path, help="folders with runs, at any depth"
    )
    parser.add_argument("--out", type=Path, help="output folder; default: report/ in the first DIR")
    parser.add_argument("--metric", default="top1", help="a numeric key of result.json; default: top1")
    parser.add_argument(
        "--published", action="store_true", help="also compare with the published numbers of five reports"
    )
    parser.add_argument("--watch", action="store_true", help="show the progress of a sweep; writes nothing")
    parser.add_argument(
        "--verify", action="store_true", help="compare each file of complete runs with its SHA-256"
    )
    parser.add_argument("--once", action="store_true", help="with --watch: show once and end")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status: 0 for success, 1 for a damaged run, 2 for a wrong
    request."""
    chosen = arguments(argv)
    try:
        if chosen.verify:
            from prunelit.study.report.records.verify import verify

            return int(verify(chosen.folders) > 0)
        if chosen.watch:
            from prunelit.study.report.watch import watch

            watch(chosen.folders, once=chosen.once)
        else:
            report(chosen.folders, chosen.out, chosen.metric, chosen.published)
    except BadRequest as error:
        from prunelit.study.report.plain_text import plain

        print(plain(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
