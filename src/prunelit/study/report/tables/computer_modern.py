"""The width of text in LaTeX's default font."""

from __future__ import annotations

from prunelit.study.report.plain_text import plain

CHARACTERS = {
    2.78: "il.,:;'!|[]",
    3.06: "fj",
    3.33: " -",
    3.61: "I",
    3.9: "rst()",
    4.44: "cez",
    5.28: "kqvxy",
    5.56: "bdhnpuS",
    6.2: "JLZ",
    6.81: "EFP",
    7.22: "wBCRT",
    7.78: "ADGHKNOQUVXY=<>+±×",
    8.33: "m%",
    9.17: "M",
    10.28: "W",
}
"""Points in Computer Modern at 10 pt, by the characters that are so wide; digits and all others have 5."""
WIDTHS = {character: points for points, characters in CHARACTERS.items() for character in characters}
SMALL = 0.93
"""Of 9 pt, the size of tables, to 10 pt: letters of smaller sizes are a little wider for their height."""
BOLD = 1.16
"""Of bold letters to upright ones."""


def text_width(text: str, bold: bool = False) -> float:
    """Return the points of a text at 9 pt."""
    return SMALL * sum(WIDTHS.get(character, 5.0) for character in plain(text)) * (BOLD if bold else 1.0)
