"""A look at the runs of a sweep before the first one starts: networks, data, pruners, but no training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from omegaconf import DictConfig

from prunelit.request import BadRequest
from prunelit.study.command import as_request
from prunelit.study.sweep.composer import Request, Run
from prunelit.study.sweep.isolation import Killed, in_own_process
from prunelit.study.sweep.run_in_sweep import warm_up

MOST_SECONDS = 10.0
"""How long is looked at most; what is not seen then is refused when its turn comes."""
CHECKED = ("seed=", "epochs=")
"""Overrides whose values were checked when the run was composed."""
LATER = ("checkpoint", "pruner.densities_from")
"""Keys that may name what an earlier run of the sweep is to leave."""

Refuse = Callable[[DictConfig], None]
"""Raises BadRequest for a run that would be refused when it starts."""

_registered: list[tuple[Refuse, Callable[[], None]]] = []


def register(refuse: Refuse, prepare: Callable[[], None]) -> None:
    """Say what refuses a run, and what imports all that it needs."""
    _registered[:] = [(refuse, prepare)]


def prepare_for_runs() -> None:
    """Import what runs need into this process, from which theirs are forked."""
    if _registered:
        warm_up(_registered[0][1])


def sample(runs: Sequence[Run]) -> list[Run]:
    """Return runs in which each override of all runs is found once at least: few, even of very many."""
    seen: set[str] = set()
    chosen: list[Run] = []
    for run in runs:
        news = {text for text in run.overrides if not text.startswith(CHECKED)} - seen
        if news or not chosen:
            chosen.append(run)
            seen |= news
    return chosen


def try_out(runs: Sequence[Run], compose: Callable[[Request], DictConfig]) -> None:
    """Let a process of its own look at a sample of ``runs``; this one makes no network and touches no device.

    Raises:
        BadRequest: one of them would be refused. Any other fault is left to the run itself.
    """
    if not _registered:
        return
    refuse, _ = _registered[0]
    prepare_for_runs()

    def look() -> BadRequest | None:
        deadline = time.monotonic() + MOST_SECONDS
        for run in sample(runs):
            try:
                refuse(compose(run.overrides))
            except Exception as error:
                request = as_request(error)
                if request and request.key not in LATER:
                    return request
            if time.monotonic() > deadline:
                break
        return None

    try:
        found = in_own_process(look, lambda: False)
    except Killed:
        return
    if found is not None:
        raise found
