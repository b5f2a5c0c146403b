"""How runs ended, as objects that can be sent from the process of a run to the leading process."""

from __future__ import annotations

from pathlib import Path


class Ending(Exception):
    """An exception that is reported in one line, without a traceback.

    ``status`` is the corresponding exit status.
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
    """A run of a sweep was not started or not finished, because the sweep was stopped."""


class Submitted(Ending):
    """A run of a sweep is pending or running on a cluster, and this command does not wait for it."""

    status = 0


class SweepFailed(Exception):
    """Some runs of a sweep are not complete; its table names them."""

    def __init__(self, status: int) -> None:
        super().__init__(f"exit status {status}")
        self.status = status


class SweepStopped(BaseException):
    """Ends a launcher that executes its jobs one after the other in the leading process.

    ``outcome`` is the result of the last run, which is in ``folder``.
    """

    def __init__(self, folder: Path, outcome: float | Exception) -> None:
        super().__init__(folder, outcome)
        self.folder, self.outcome = folder, outcome
