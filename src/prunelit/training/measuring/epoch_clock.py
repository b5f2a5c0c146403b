"""Measures the training time of an epoch without evaluations and prunings."""

from __future__ import annotations

import time


class EpochClock:
    """Seconds of training since the start of the epoch; a resumed epoch continues its count."""

    def __init__(self) -> None:
        self._started, self._paused = time.perf_counter(), 0.0
        self._resumed_at: float | None = None

    @property
    def seconds(self) -> float:
        """The seconds so far."""
        return time.perf_counter() - self._started - self._paused

    def start(self) -> None:
        """Begin at 0."""
        self._started, self._paused = time.perf_counter(), 0.0

    def pause(self) -> None:
        """Stop until :meth:`unpause`."""
        self._paused -= time.perf_counter()

    def unpause(self) -> None:
        """Continue after a pause."""
        self._paused += time.perf_counter()

    def add(self, seconds: float) -> None:
        """Count ``seconds`` in which the run was trained while the clock was paused."""
        self._paused -= seconds

    def resume_at(self, seconds: float) -> None:
        """Store the seconds of an interrupted epoch."""
        self._resumed_at = seconds

    def resume(self) -> None:
        """Continue from the stored seconds, if any."""
        if self._resumed_at is not None:
            self._started, self._paused = time.perf_counter() - self._resumed_at, 0.0
            self._resumed_at = None
