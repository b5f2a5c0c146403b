"""What runs raised, and how it travels from a run's process to the one that leads."""

from __future__ import annotations

from pathlib import Path

failures: list[Exception] = []
"""What the runs of this program raised."""


class Ending(Exception):
    """An exception that is one line, already printed or to be printed without a traceback.

    ``status`` is the exit status that it stands for.
    """

    status = 1

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(why)
        self.folder, self.why = folder, why

    def __reduce__(self) -> tuple[type[Ending], tuple[Path, str]]:
        """Pickle by the two arguments."""
        return type(self), (self.folder, self.why)


class RunFailed(Ending):
    """A run of a sweep failed; the traceback is in its folder."""

    @classmethod
    def of(cls, folder: Path, error: BaseException) -> RunFailed:
        """Return the failure in one line."""
        message = next(iter(str(error).strip().splitlines()), "")
        return cls(folder, f"{type(error).__name__}: {message}"[:300])


class NotStarted(Ending):
    """A run of a sweep was not begun, or not ended, since the sweep was stopped."""


class Submitted(Ending):
    """A run of a sweep waits in a cluster's queue or is under way there, and nobody here waits for it."""

    status = 0


class SweepFailed(Exception):
    """Not everything that a sweep was asked for is on disk; its table has said what."""

    def __init__(self, status: int) -> None:
        super().__init__(f"exit status {status}")
        self.status = status


class SweepStopped(BaseException):
    """Ends a launcher that does its jobs one after the other in the leading process.

    ``outcome`` is what the run of ``folder``, the last, came to.
    """

    def __init__(self, folder: Path, outcome: float | Exception) -> None:
        super().__init__(folder, outcome)
        self.folder, self.outcome = folder, outcome
