"""Call several functions in threads that take turns: only one of them runs at a time.

A function that needs something together with the others calls :func:`wait_for` with a request. When all of
them wait or have ended, the main thread serves the requests, and each function continues in turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar, copy_context
from typing import Any, Protocol


class State(Protocol):
    """A part of the state of this process that each function has for itself, such as a random state."""

    def save(self) -> Any:
        """Return the present value."""

    def restore(self, value: Any) -> None:
        """Set the value that :meth:`save` returned."""


class Member:
    """One of the functions, in its own thread.

    Attributes:
        shared: what all functions share.
        request: what the function waits for; None once it has ended.
        outcome: what the function returned or raised.
    """

    def __init__(self, task: Callable[[], Any], states: Sequence[State], shared: Any = None) -> None:
        self.shared = shared
        self.request: Any = None
        self.outcome: Any = None
        self.is_over = False
        self._states, self._saved = states, [state.save() for state in states]
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        work = copy_context().run
        # As a daemon, so that the process can end if a function hangs.
        self._thread = threading.Thread(target=work, args=(self._work, task), daemon=True)
        self._thread.start()

    def resume(self) -> None:
        """Let the function run until it waits or ends; called by the main thread."""
        others = [state.save() for state in self._states]
        self._restore(self._saved)
        self._go.release()
        self._back.acquire()
        self._saved = [state.save() for state in self._states]
        self._restore(others)

    def wait_for(self, request: Any) -> None:
        """Let the others run; return when ``request`` is served."""
        self.request = request
        self._back.release()
        self._go.acquire()

    def _restore(self, values: Sequence[Any]) -> None:
        for state, value in zip(self._states, values, strict=True):
            state.restore(value)

    def _work(self, task: Callable[[], Any]) -> None:
        self._go.acquire()
        _HERE.set(self)
        try:
            self.outcome = task()
        except BaseException as error:
            self.outcome = error
        self.request, self.is_over = None, True
        self._back.release()


_HERE: ContextVar[Member | None] = ContextVar("member", default=None)


def current() -> Member | None:
    """Return the function that runs in this thread; None outside of :func:`take_turns`."""
    return _HERE.get()


def take_turns(
    tasks: Sequence[Callable[[], Any]],
    serve: Callable[[list[Any]], None],
    states: Sequence[State] = (),
    may_begin: Callable[[], bool] = lambda: True,
    shared: Any = None,
) -> list[Any]:
    """Return what each of ``tasks`` returned or raised; None for a task that did not begin.

    Args:
        tasks: the functions.
        serve: called in this thread with the requests of all functions that wait.
        states: parts of the state of the process that each function has for itself.
        may_begin: called before each function begins.
        shared: given to each function as ``current().shared``.
    """
    members: list[Member | None] = []
    for task in tasks:
        member = Member(task, states, shared) if may_begin() else None
        members.append(member)
        if member is not None:
            member.resume()
    while waiting := [member for member in members if member is not None and not member.is_over]:
        serve([member.request for member in waiting])
        for member in waiting:
            member.resume()
    return [None if member is None else member.outcome for member in members]
