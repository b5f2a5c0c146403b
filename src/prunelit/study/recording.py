"""Say in a run's record how the run ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prunelit.data_workers import stop_watching_workers
from prunelit.durable import DiskFull, is_full, lost_output
from prunelit.study.command import as_request
from prunelit.study.record import Record


@contextmanager
def noting_the_end(record: Record, output_dir: str, keep_refused: bool) -> Iterator[None]:
    """Start the record, and note in it if the block is interrupted, fails or is refused.

    Args:
        record: of the run.
        output_dir: the config's, which an error about a full disk names.
        keep_refused: whether a wrong request counts as a failed run, as it does for the table of a sweep,
            instead of leaving no trace.

    Raises:
        OutputLost: in place of errors that say that the run's files are gone or the disk is full.
    """
    record.start()
    try:
        yield
    except (SystemExit, KeyboardInterrupt):
        stop_watching_workers()
        record.interrupt()
        raise
    except BaseException as error:
        stop_watching_workers()
        if is_full(error):
            error = DiskFull(output_dir)
        error = lost_output(error, record.folder) or error
        request = as_request(error)
        if request and not request.shows_in_the_run and not keep_refused:
            record.refuse()
        else:
            record.fail(error)
        raise error
