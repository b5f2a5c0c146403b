"""Loops over many scores in C: each reads memory once, where operations on arrays read it often.

They are compiled when the package is installed, if there is a C compiler (see ``hatch_build.py``). While they
run, other threads do too.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

VERSION = 2
"""That of ``loops.c``, as which the library must be compiled."""

LIBRARY = Path(__file__).with_name("compiled_loops.so")

_POINTER, _SIZE, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double


def load(path: Path) -> ctypes.CDLL | None:
    """Return the library, or None if it is missing or cannot be used."""
    try:
        library = ctypes.CDLL(str(path))
        version = ctypes.c_int32.in_dll(library, "loops_version").value
    except (OSError, ValueError):  # there was no compiler, or it is for another kind of machine
        return None
    if version != VERSION:  # it is older than this file
        return None
    for name in ("mark_float", "mark_double"):
        function = getattr(library, name)
        function.restype = _SIZE
        function.argtypes = (*[_POINTER] * 3, _SIZE, _REAL, _REAL, *[_POINTER] * 3)
    for name in ("settle_float", "settle_double"):
        function = getattr(library, name)
        function.restype = _SIZE
        function.argtypes = (_POINTER, _POINTER, _SIZE, _REAL, _POINTER)
    for width in (1, 2, 4, 8):
        function = getattr(library, f"clear_{width}")
        function.restype = None
        function.argtypes = (_POINTER, _POINTER, _SIZE)
    library.keep_reaching.restype = _SIZE
    library.keep_reaching.argtypes = (*[_POINTER] * 2, _SIZE, _REAL, _REAL, *[_POINTER] * 3)
    return library


_library = load(LIBRARY)


def available() -> bool:
    """Return whether the loops are compiled."""
    return _library is not None


def mark(
    values: Any, candidates: Any, marks: Any, low: Any, high: Any, near: Any, places: Any
) -> tuple[int, int]:
    """Mark the candidates that reach ``low``, and pick out those from ``low`` to ``high``.

    All arrays are one-dimensional; those that are written to are contiguous.

    Args:
        values: what is compared, float32 or float64.
        candidates: which of them count; None if all do.
        marks: where those that reach ``low`` are marked.
        low: the lower bound.
        high: the upper bound.
        near: memory for the values from ``low`` to ``high``, as long as ``values``.
        places: memory for their places, int32, as long.

    Returns:
        how many candidates reach ``low``, or -1 if a value is not finite; and how many were picked out.
    """
    assert _library is not None
    function = _library.mark_float if values.dtype == np.float32 else _library.mark_double
    values, picked = np.ascontiguousarray(values), _SIZE()  # one that is expanded is not
    chosen = None if candidates is None else np.ascontiguousarray(candidates)
    number = function(
        values.ctypes.data,
        None if chosen is None else chosen.ctypes.data,
        marks.ctypes.data,
        len(values),
        low,
        high,
        near.ctypes.data,
        places.ctypes.data,
        ctypes.addressof(picked),
    )
    return number, picked.value


def settle(near: Any, places: Any, threshold: Any, marks: Any) -> int:
    """Unmark ``places``, int32, where ``near`` is below ``threshold``; return how often it is equal."""
    assert _library is not None
    function = _library.settle_float if near.dtype == np.float32 else _library.settle_double
    return int(function(near.ctypes.data, places.ctypes.data, len(near), threshold, marks.ctypes.data))


def clear_unmarked(bits: Any, marks: Any) -> None:
    """Set integers of any width to 0 where ``marks`` are False; both are contiguous and have one shape."""
    assert _library is not None
    getattr(_library, f"clear_{bits.itemsize}")(bits.ctypes.data, marks.ctypes.data, bits.size)


def keep_reaching(
    derivatives: Any, values: Any, low: float, high: float, near: Any, places: Any
) -> tuple[int, int]:
    """Set ``values`` to 0 whose scores are below ``low``, and pick out scores from ``low`` to below ``high``.

    All arrays are one-dimensional and contiguous.

    Args:
        derivatives: the scores, ``derivatives * values``, are written over them; float64.
        values: as many; float64.
        low: the lower bound.
        high: the upper bound.
        near: memory for the scores from ``low`` to below ``high``, as long as ``values``.
        places: memory for their places, int32, as long.

    Returns:
        how many scores reach ``low``, and how many were picked out.
    """
    assert _library is not None
    picked = _SIZE()
    scores, kept, found, at = (each.ctypes.data for each in (derivatives, values, near, places))
    number = _library.keep_reaching(scores, kept, len(values), low, high, found, at, ctypes.addressof(picked))
    return number, picked.value
