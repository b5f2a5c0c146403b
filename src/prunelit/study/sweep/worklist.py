"""The runs of a sweep to execute: each run once, and no complete runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prunelit.study.inputs import Inputs
from prunelit.study.integrity import DamagedRun
from prunelit.study.sweep.composer import Run

MOST_LINES = 100


@dataclass(frozen=True)
class Worklist:
    """``todo`` goes to the launcher; ``complete`` is already on disk."""

    todo: list[Run]
    complete: list[Run]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Worklist:
        """Merge requests for the same run, and separate complete runs."""
        once: dict[Path, Run] = {}
        for run in runs:
            once.setdefault(run.folder, run)
        inputs = Inputs()
        complete = [
            run for run in once.values() if not run.rerun and run.complete and _is_current(run, inputs)
        ]
        skipped = {run.folder for run in complete}
        return cls([run for run in once.values() if run.folder not in skipped], complete)

    def print_complete(self) -> None:
        """Print a line for each complete run; one for all of them if they are many."""
        if len(self.complete) > MOST_LINES:
            study = self.complete[0].folder.parent
            print(f"complete already: {len(self.complete)} runs, as in {study} (rerun=true repeats them)")
            return
        for run in self.complete:
            print(f"complete already: {run.folder} (rerun=true repeats it)")


def _is_current(run: Run, inputs: Inputs) -> bool:
    """Whether the inputs of a complete run are unchanged; otherwise the launcher executes it and it reports
    the change."""
    try:
        inputs.check(run.folder)
    except DamagedRun:
        return False
    return True
