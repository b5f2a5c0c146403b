"""Make text of records safe for a terminal and a page."""

from __future__ import annotations

import re
import unicodedata


def plain(text: object) -> str:
    """Return ``text`` in one line without characters that control a terminal or change the direction."""
    line = re.sub(r"\s+", " ", str(text))
    return "".join(_seen(character) for character in line)


def _seen(character: str) -> str:
    # Cc: control characters; Cf: for example those that change the direction; Cs: surrogates.
    return "\ufffd" if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co") else character
