"""How long an epoch trains, without the evaluations and prunings in between."""

from __future__ import annotations

import time


class EpochClock:
    """Seconds of training since the epoch began; a resumed epoch goes on from what it had."""

    def __init__(self) -> None:
        self._started, self._paused = time.perf_counter(), 0.0
        self._resumed_at: float | None = None

    @property
    def seconds(self) -> float:
        """What the clock shows."""
        return time.perf_counter() - self._started - self._paused

    def start(self) -> None:
        """Begin at 0."""
        self._started, self._paused = time.perf_counter(), 0.0

    def pause(self) -> None:
        """Stop until :meth:`go_on`."""
        self._paused -= time.perf_counter()

    def go_on(self) -> None:
        """Go on after a pause."""
        self._paused += time.perf_counter()

    def resume_at(self, seconds: float) -> None:
        """Note what the clock of an interrupted epoch showed."""
        self._resumed_at = seconds

    def resume(self) -> None:
        """Go on from what was noted, if anything was."""
        if self._resumed_at is not None:
            self._started, self._paused = time.perf_counter() - self._resumed_at, 0.0
            self._resumed_at = None
