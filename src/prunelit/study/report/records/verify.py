"""Compare every file of complete runs with its recorded SHA-256."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from prunelit.request import BadRequest
from prunelit.study.integrity import MANIFEST, DamagedRun
from prunelit.study.record import Record
from prunelit.study.report.plain_text import plain
from prunelit.study.report.records.run_files import find_runs


def verify(folders: Sequence[Path]) -> int:
    """Check the complete runs in ``folders``; print a line for each damaged one and a summary.

    Return how many runs are damaged.

    Raises:
        BadRequest: a folder is missing, or there is no complete run.
    """
    for folder in folders:
        if not folder.is_dir():
            raise BadRequest("DIR", folder, "a folder with runs", "there is no such folder")
    runs = {run.resolve(): run for folder in folders for run in find_runs(folder)}
    complete = [record for record in map(Record, runs.values()) if record.complete]
    if not complete:
        raise BadRequest("DIR", ", ".join(map(str, folders)), "a folder with complete runs")
    damaged = 0
    for record in complete:
        try:
            record.check(digests=True)
        except DamagedRun as error:
            print(plain(error), file=sys.stderr)
            damaged += 1
    unlisted = sum(not (record.folder / MANIFEST).exists() for record in complete)
    notes = f", {unlisted} of an earlier version without {MANIFEST}" if unlisted else ""
    print(f"verified: {len(complete) - damaged} runs intact, {damaged} damaged{notes}")
    return damaged
