"""Detect an ``output_dir`` that cannot be written, which is a wrong request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prunelit.durable import is_full, os_errors
from prunelit.request import BadRequest


@contextmanager
def refused_if_unwritable() -> Iterator[None]:
    """Raise BadRequest if the block cannot write to a folder in ``output_dir``.

    Only for the first files of a run; a file that it cannot open later is an error of the run.
    """
    try:
        yield
    except OSError as error:
        request = unwritable(error)
        if request is None:
            raise
        raise request from error


def unwritable(error: Exception) -> BadRequest | None:
    """Return the BadRequest if an ``output_dir`` that cannot be written caused the error, otherwise None."""
    # logging.config raises a ValueError for a log that it could not open.
    hidden = isinstance(error, ValueError) and str(error).startswith("Unable to configure handler")
    if is_full(error) or not (hidden or isinstance(error, OSError)):
        return None
    found = next((cause for cause in os_errors(error) if cause.filename is not None), None)
    if found is None:
        return None
    return BadRequest("output_dir", found.filename, "a folder that can be written", found.strerror or "")
