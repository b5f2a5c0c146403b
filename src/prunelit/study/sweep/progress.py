"""Print one line per run of a sweep: its result, the number of completed runs, and the remaining time."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from prunelit.study.duration import duration
from prunelit.study.endings import NotStarted, RunFailed
from prunelit.study.terminal import complete_line


class Progress:
    """Counts the runs of a sweep and prints a line for each, as it ends.

    Args:
        complete: the number of runs that were complete before the sweep.
        todo: the number of runs to execute.
        jobs: the number of runs at a time.
    """

    def __init__(self, complete: int, todo: int, jobs: int) -> None:
        self.done, self.total, self.jobs = complete, complete + todo, jobs
        self._begun, self._complete = time.monotonic(), complete

    def ended(self, folder: Path, outcome: float | Exception, again: bool = False) -> None:
        """Print the line of a run that has ended; ``again`` means that it failed and will be tried again.

        Runs that the user interrupted are only listed in the final table.
        """
        self.done += not again
        if isinstance(outcome, RunFailed):
            print(f"failed: {folder}: {outcome.why}{' (trying again)' if again else ''}", file=sys.stderr)
        elif isinstance(outcome, Exception):
            if not isinstance(outcome, NotStarted):
                print(outcome, file=sys.stderr)
        else:
            print(f"{complete_line(folder)} ({self.count()})", flush=True)

    def count(self) -> str:
        """Return the number of completed runs, and the estimated time for the others."""
        left, ended = self.total - self.done, self.done - self._complete
        text = f"{self.done} of {self.total}"
        if left and ended:
            text += f", about {duration((time.monotonic() - self._begun) / ended * left)} left"
        return text
