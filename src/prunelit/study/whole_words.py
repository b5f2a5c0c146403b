"""Text in lines that end between words, so that keys, paths and commands in it can be copied whole."""

from __future__ import annotations

import argparse
import shutil
import textwrap

WIDEST = 104
"""Longer lines are hard to read, however wide the terminal is."""


def terminal_width() -> int:
    """Return how many characters a line of help may have."""
    return min(shutil.get_terminal_size().columns, WIDEST)


def wrapped(text: str, indent: int = 0, width: int | None = None) -> str:
    """Return ``text`` in lines of at most ``width`` characters; a longer word has a line of its own."""
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
    """Help of argparse whose lines end between words; examples after the options are kept as they are."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrapped(text, width=width).splitlines()
