"""An ``output_dir`` that cannot be written: a wrong request, unlike a file that a run cannot open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prunelit.durable import is_full, os_errors
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
    # logging.config hides the log that it could not open behind a ValueError.
    hidden = isinstance(error, ValueError) and str(error).startswith("Unable to configure handler")
    if is_full(error) or not (hidden or isinstance(error, OSError)):
        return None
    found = next((cause for cause in os_errors(error) if cause.filename is not None), None)
    if found is None:
        return None
    return BadRequest("output_dir", found.filename, "a folder that can be written", found.strerror or "")
