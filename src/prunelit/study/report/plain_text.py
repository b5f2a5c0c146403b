"""Text of records as one line that can do no harm to a terminal or a page."""

from __future__ import annotations

import re
import unicodedata


def plain(text: object) -> str:
    """Return ``text`` in one line without characters that steer a terminal or turn its direction."""
    line = re.sub(r"\s+", " ", str(text))
    return "".join(_seen(character) for character in line)


def _seen(character: str) -> str:
    # Cc: control characters; Cf: among others those that turn the direction; Cs: halves of characters.
    return "\ufffd" if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co") else character
