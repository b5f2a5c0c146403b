"""Warnings for the terminal and the log of the run."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import TextIO

from prunelit.place import is_first
from prunelit.request import PruningWarning

log = logging.getLogger(__name__)


def warn(message: str) -> None:
    """Log a warning, and print it in one line on standard error, on rank 0 only."""
    if is_first():
        line = " ".join(message.split())
        log.warning(line)
        print(f"warning: {line}", file=sys.stderr)


def show_each_warning_once() -> None:
    """Write warnings to the log, and each of pruning in one line on standard error too, from now on."""
    logging.captureWarnings(True)  # where there is no log, it keeps them from standard error
    logging.getLogger("py.warnings").addHandler(logging.NullHandler())
    warnings.simplefilter("always", PruningWarning)
    shown: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not issubclass(category, PruningWarning):
            text = warnings.formatwarning(message, category, filename, lineno, line)
            logging.getLogger("py.warnings").warning("%s", text)
        elif str(message) not in shown:
            shown.add(str(message))
            warn(str(message))

    warnings.showwarning = show
