"""Wrap text between words, so that keys, paths and commands in it can be copied."""

from __future__ import annotations

import argparse
import shutil
import textwrap

WIDEST = 104
"""The maximum width of help, because longer lines are hard to read."""


def terminal_width() -> int:
    """Return how many characters a line of help may have."""
    return min(shutil.get_terminal_size().columns, WIDEST)


def wrapped(text: str, indent: int = 0, width: int | None = None) -> str:
    """Return ``text`` in lines of at most ``width`` characters; a longer word has its own line."""
    margin = " " * indent
    return textwrap.fill(
        text,
        width or terminal_width(),
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )


class WholeWords(argparse.RawDescriptionHelpFormatter):
    """An argparse formatter that wraps between words and does not wrap the examples."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrapped(text, width=width).splitlines()
