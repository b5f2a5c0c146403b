"""Check the runs of a sweep before the first one starts: build networks, data and pruners without
training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from omegaconf import DictConfig

from prunelit.request import BadRequest
from prunelit.study.command import as_request
from prunelit.study.invocation import Invocation
from prunelit.study.sweep.composer import Request, Run
from prunelit.study.sweep.isolation import Killed, in_own_process
from prunelit.study.sweep.run_in_sweep import warm_up

MOST_SECONDS = 10.0
"""Time limit of the check; runs that it does not reach are checked when they start."""
CHECKED = ("seed=", "epochs=")
"""Overrides whose values were checked when the run was composed."""
LATER = ("checkpoint", "pruner.densities_from")
"""Keys that may name files that an earlier run of the sweep will write."""


def prepare_for_runs() -> None:
    """Import what runs need into this process, from which theirs are forked."""
    if prepare := Invocation.current().prepare:
        warm_up(prepare)


def sample(runs: Sequence[Run]) -> list[Run]:
    """Return a small set of runs that together contain every override of all runs."""
    seen: set[str] = set()
    chosen: list[Run] = []
    for run in runs:
        news = {text for text in run.overrides if not text.startswith(CHECKED)} - seen
        if news or not chosen:
            chosen.append(run)
            seen |= news
    return chosen


def try_out(runs: Sequence[Run], compose: Callable[[Request], DictConfig]) -> None:
    """Check a sample of ``runs`` in a separate process, so that this process builds no network and uses no
    device.

    Raises:
        BadRequest: one of them would be refused. Any other error is left to the run itself.
    """
    refuse = Invocation.current().refuse
    if refuse is None:
        return
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
