"""What one call of the command line knows; Hydra's own code lies between those who need it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

_CURRENT: ContextVar[Invocation] = ContextVar("invocation")


@dataclass
class Invocation:
    """One call of a program.

    Attributes:
        refuse: raises BadRequest for a run that would be refused when it starts; None: nothing does.
        prepare: imports what runs need.
        get_ready: checks a run in its process while it waits for its turn; the second check is then faster.
        together: returns the function that executes several runs in this process, which train together.
        runs_that_fit: returns how many runs with a config fit into the memory, or into a number of GB.
        failures: what its runs raised.
        new_folders: the folder of the run or of the sweep and its parents, if they did not exist before.
        has_computed: whether this process has done a run itself, after which it must not be forked.
    """

    refuse: Callable[[DictConfig], None] | None = None
    prepare: Callable[[], None] | None = None
    get_ready: Callable[[DictConfig], None] | None = None
    together: Callable[[], Callable[..., list[Any]]] | None = None
    runs_that_fit: Callable[[DictConfig, float | None], int] | None = None
    failures: list[Exception] = field(default_factory=list)
    new_folders: list[Path] = field(default_factory=list)
    has_computed: bool = False

    def begin(self) -> None:
        """Let this be the current invocation from now on; what the process has computed stays known."""
        before = _CURRENT.get(None)
        self.has_computed |= before is not None and before.has_computed
        _CURRENT.set(self)

    @classmethod
    def current(cls) -> Invocation:
        """Return the current invocation; outside of the command line a new one begins."""
        current = _CURRENT.get(None)
        if current is None:
            current = cls()
            current.begin()
        return current
