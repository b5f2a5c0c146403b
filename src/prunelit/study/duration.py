"""Durations in readable units."""


def duration(seconds: float) -> str:
    """Return ``45 s``, ``3 min 20 s``, ``2 h 05 min`` or ``1 d 02 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for size, unit, small, smaller in ((60, "min", 1, "s"), (3600, "h", 60, "min"), (86400, "d", 3600, "h")):
        if whole < size * (60 if size == 60 else 24) or unit == "d":
            return f"{whole // size} {unit} {whole % size // small:02} {smaller}"
    raise AssertionError
