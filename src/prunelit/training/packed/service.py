"""Train the runs of a group: those that have the same form as one stack, the others one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from prunelit.interruption import Interruption
from prunelit.training.packed.stack import Diverged, Stack
from prunelit.training.packed.stretch import Stretch

MOST_SECONDS = 30.0
"""Seconds after which a stretch ends within an epoch, so that the runs can save a checkpoint."""
ONLY_ONE = "no other run of its group has a network, batches and an optimizer of the same form"


def serve(stretches: Sequence[Stretch], interruption: Interruption, threads: int) -> None:
    """Train on the stretches of a group.

    Afterwards each stretch is trained on at least one batch, or says why its run trains alone.

    Args:
        stretches: one of each run.
        interruption: a signal ends the stretches after a batch.
        threads: the number of threads of the group.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    alike: dict[Any, list[Stretch]] = {}
    for stretch in stretches:
        alike.setdefault(stretch.kind, []).append(stretch)
    try:
        for group in alike.values():
            _train(group, interruption)
    finally:
        torch.set_num_threads(before)


def _train(group: list[Stretch], interruption: Interruption) -> None:
    """Train runs of one form; runs that diverge or cannot be stacked train alone."""
    end = time.monotonic() + MOST_SECONDS

    def may_go_on() -> bool:
        interruption.progressed()
        return interruption.asked is None and time.monotonic() < end

    waiting = [group]
    while waiting:
        runs = waiting.pop()
        if len(runs) < 2:
            for run in runs:
                run.alone = run.alone or ONLY_ONE
            continue
        waiting += _trained(runs, may_go_on)


def _trained(runs: list[Stretch], may_go_on: Callable[[], bool]) -> list[list[Stretch]]:
    """Train a stack; return the groups of runs that must be stacked again to go on."""
    began, left = time.perf_counter(), []
    try:
        stack = Stack(runs)
        stack.train(may_go_on)
    except Diverged as error:
        for number in error.runs:
            stack.stretches[number].alone = "its loss is not finite"
        left = [[run for run in runs if not run.alone]]
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        half = len(runs) // 2
        left = [runs[:half], runs[half:]]
    except Exception as error:  # of a layer that cannot be stacked
        why = " ".join(f"{type(error).__name__}: {error}".split())
        for run in runs:
            run.alone = why[:200]
    share = (time.perf_counter() - began) / len(runs)
    for run in runs:
        run.seconds += share
    return left
