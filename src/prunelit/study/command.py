"""Run a Hydra program and return its exit status; Hydra's errors become one line, too."""

from __future__ import annotations

import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, InstantiationException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from prunelit.durable import DiskFull, OutputLost, is_full, say_of_full_disks_once
from prunelit.interruption import Interrupted, RunTimedOut
from prunelit.notice import show_each_warning_once
from prunelit.request import MISSING, BadRequest, OneLineFault, nearest
from prunelit.study.complete import confirmed_line
from prunelit.study.configs import CONFIGS
from prunelit.study.endings import SweepFailed
from prunelit.study.identity import register_resolvers
from prunelit.study.integrity import DamagedRun
from prunelit.study.invocation import Invocation
from prunelit.study.lock import Busy
from prunelit.study.overrides import (
    OF_TORCHVISION,
    check_arguments,
    completed,
    dotted_keys,
    pointer,
    unparsable,
)
from prunelit.study.record import Record
from prunelit.study.refused import remove_new_folders
from prunelit.study.unwritable import unwritable

register_resolvers()
# The launcher configs of prunelit have the names of the plugins' configs and change some of their values.
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")


def begin_output() -> None:
    """Show warnings of pruning once each, log the others, and say once that a disk is full, from now on."""
    show_each_warning_once()
    say_of_full_disks_once()


def outcome_of(job: Callable[[], float]) -> float | Exception:
    """Return what ``job`` returns or raises; an exception is reported by :func:`call`, not by Hydra."""
    try:
        return job()
    except Exception as error:
        Invocation.current().failures.append(error)
        if as_request(error):
            remove_new_folders()
        return error


def call(program: Callable[[], Any], argv: list[str], invocation: Invocation | None = None) -> int:
    """Call a Hydra program and return its exit status.

    The status is 0 for success, 1 for an error (with its traceback), and 2 for a wrong request (one line).

    Args:
        program: the program.
        argv: its command line, which is sorted into an order that Hydra accepts.
        invocation: the state that the parts of the program share; None: a new one.
    """
    invocation = invocation or Invocation()
    invocation.begin()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of ending the process.
    # Hydra's parser needs contiguous overrides; a -m between them would end them.
    argv[1:] = sorted(argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))
    try:
        check_arguments(argv[1:])
        argv[1:] = completed(argv[1:], CONFIGS)
        program()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader closed the pipe (`| head`): discard the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as in a shell: 128 + SIGPIPE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Interrupted as asked:
        print(asked, file=sys.stderr)
        return 128 + asked.signal
    except Exception as error:
        # Runs report their own errors; here only files of Hydra and of the leader of a sweep matter.
        refused = unwritable(error)
        try:
            if refused and (done := _complete_already(Path(refused.value))):
                print(done)
                return 0
            invocation.failures.append(refused or error)
        except DamagedRun as damaged:
            invocation.failures.append(damaged)
    return max(map(_report, invocation.failures), default=0)


def _complete_already(unwritten: Path) -> str:
    """Return the line on a complete run in whose folder Hydra could not write a file; empty if it is not one.

    A complete run needs no more files, so its disk may be read-only.
    """
    if "rerun=true" in sys.argv:
        return ""
    for folder in (unwritten.parent, unwritten.parent.parent):  # of train.log, of .hydra/config.yaml
        record = Record(folder)
        if record.settled:
            return confirmed_line(record, _from_here(folder))
    return ""


def _from_here(folder: Path) -> Path:
    """Return the path from the current folder if ``folder`` lies below it."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _report(error: Exception) -> int:
    """Print one failure and return its exit status."""
    if isinstance(error, SweepFailed):
        return error.status
    if isinstance(error, (Busy, DamagedRun, RunTimedOut, OneLineFault)):
        print(error, file=sys.stderr)
        return 1
    if isinstance(error, OutputLost) or is_full(error):
        folder = next((a.split("=", 1)[1] for a in sys.argv[1:] if a.startswith("output_dir=")), "outputs")
        print(error if isinstance(error, OutputLost) else DiskFull(folder), file=sys.stderr)
        return 1
    request = as_request(error)
    if request is None:
        traceback.print_exception(error)
        return 1
    print(request, file=sys.stderr)
    return 2


def as_request(error: BaseException) -> BadRequest | None:
    """Return the BadRequest that caused an error, None if there is none."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, BadRequest):
            return chain
        chain = chain.__cause__ or (chain.__context__ if isinstance(chain, InstantiationException) else None)
    if isinstance(error, MissingConfigException):
        return _missing_choice(error)
    if isinstance(error, (HydraException, OmegaConfBaseException)) and not isinstance(
        error, InstantiationException
    ):
        return _wrong_override(error)
    return None


def _missing_choice(error: MissingConfigException) -> BadRequest:
    """Turn ``Could not find 'pruner/snipp'`` into a line with the group's choices."""
    group, _, choice = str(error.missing_cfg_file or "").rpartition("/")
    if group == "model" and OF_TORCHVISION.match(choice):
        return BadRequest(group, choice, f"torchvision, with model.name={choice}", "it is torchvision's")
    return BadRequest(group or "config", choice, nearest(choice, error.options or []))


def _wrong_override(error: Exception) -> BadRequest:
    """Turn Hydra's message about an override into a line with the key and similar keys."""
    text = f"{error!s} {error.__cause__!s}"
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return BadRequest(missing[1], MISSING, "given")
    kind = re.search(r"Value '(.*)' of type '\w+' could not be converted to (\w+)\s+full_key: (\S+)", text)
    if kind:
        return BadRequest(kind[3], kind[1], f"a value of the kind {kind[2]}")
    unknown = re.search(r"Could not override '([^']+)'", text) or re.search(r"full_key: (\S+)", text)
    if unknown:
        name = str(unknown[1])
        value = next(
            (a.partition("=")[2] for a in sys.argv[1:] if a.lstrip("+").partition("=")[0] == name), ""
        )
        return BadRequest(name, value, pointer(name, value, known_keys()))
    if split := next((a for a in sys.argv[1:] if not a.startswith("-") and a.endswith(",")), None):
        name, _, value = split.partition("=")
        return BadRequest(name, value, "a list without spaces: a,b,c")
    several = next((a for a in sys.argv[1:] if re.search(r"=[^\[{('\"]*,", a)), None)
    if "--multirun" in text and several:
        name, _, value = several.partition("=")
        return BadRequest(name, value, "one value, or -m for a sweep over several")
    if wrong := unparsable(sys.argv[1:]):
        return wrong
    parse = re.search(r"(?:Error parsing override|parsing) '([^']*)'", text)
    first = " ".join(str(error).split())[:300]
    name, _, value = (str(parse[1]) if parse else "").partition("=")
    return BadRequest(name or "override", value, "of the form key=value", first)


def known_keys() -> list[str]:
    """Return the dotted keys of the config with the groups chosen on the command line."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        # A choice may be in a --config-dir of the user: ignore it here.
        choices = [(a, *a.partition("=")[::2]) for a in sys.argv[1:]]
        chosen = [a for a, group, name in choices if (CONFIGS / group / f"{name}.yaml").is_file()]
        cfg = compose("config", chosen)

    return dotted_keys(cfg)
