"""Warnings for the terminal and the log of the run."""

from __future__ import annotations

import logging
import sys

from prunelit.place import is_first

log = logging.getLogger(__name__)


def warn(message: str) -> None:
    """Log a warning, and print it in one line on standard error, on rank 0 only."""
    if is_first():
        line = " ".join(message.split())
        log.warning(line)
        print(f"warning: {line}", file=sys.stderr)
