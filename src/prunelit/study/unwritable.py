"""An ``output_dir`` that cannot be written: a wrong request, unlike a file that a run cannot open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prunelit.durable import is_full
from prunelit.request import BadRequest


@contextmanager
def refused_if_unwritable() -> Iterator[None]:
    """Raise BadRequest for a folder below ``output_dir`` in which the block cannot write.

    For the first files of a run alone: what it cannot open later is a fault.
    """
    try:
        yield
    except OSError as error:
        request = unwritable(error)
        if request is None:
            raise
        raise request from error


def unwritable(error: Exception) -> BadRequest | None:
    """Return the wrong ``output_dir`` behind what kept a file from being made, None if it is a fault."""
    if not isinstance(error, OSError) or error.filename is None or is_full(error):
        return None
    allowed = "a folder that can be written"
    return BadRequest("output_dir", error.filename, allowed, error.strerror or "")
