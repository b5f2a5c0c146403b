"""A run that is killed at any moment, and begun again, finds bit for bit what an undisturbed one finds."""

import random
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from forked_runs import KINDS, SMALL, begin, findings, finish, kill_at

PRUNING = ("prunelit.training.network_pruner.prune", 1)
MOMENTS = (
    # Where a process kills itself: a function, and the how manieth call of it.
    ("prunelit.training.module.Classifier.training_step", 30),
    ("prunelit.training.module.Classifier.validation_step", 1),
    ("torch.save", 1),
    ("prunelit.training.module.Classifier.test_step", 1),
    ("prunelit.training.checkpoints.save_tensors", 2),
    ("prunelit.study.record.Record.finish", 1),
)


def quick(only: str) -> list[Any]:
    """Return the kinds of runs; all but one are for the slow tests."""
    return [pytest.param(kind, marks=() if kind == only else pytest.mark.slow) for kind in KINDS]


@pytest.mark.parametrize("kind", quick("start"))
def test_a_run_killed_at_every_stage(kind: str, tmp_path: Path, undisturbed) -> None:
    """Pruning, an epoch, an evaluation, a checkpoint, the last test, the record, and its end."""
    place = 3 if kind == "end" else 0
    for moment in (*MOMENTS[:place], PRUNING, *MOMENTS[place:]):
        patch = partial(kill_at, *moment)
        assert finish(tmp_path, *SMALL, *KINDS[kind], patch=patch) == -signal.SIGKILL, moment
    assert finish(tmp_path, *SMALL, *KINDS[kind]) == 0
    assert findings(tmp_path) == undisturbed(*KINDS[kind])


@pytest.mark.parametrize(
    ("kind", "times"), [("rounds", 2), *(pytest.param(kind, 20, marks=pytest.mark.slow) for kind in KINDS)]
)
def test_a_run_killed_at_random_moments(kind: str, times: int, tmp_path: Path, undisturbed) -> None:
    """Also again while it continues; each time it is complete, it is compared, and another run starts."""
    wanted, kills, ends = undisturbed(*KINDS[kind]), 0, 0
    moments, whole = random.Random(kind), None
    while kills < times or ends < 2:
        folder, start = tmp_path / str(ends), time.monotonic()
        process = begin(folder, *SMALL, *KINDS[kind])
        if whole and kills < times:
            process.join(moments.uniform(0.1, 0.9) * whole)
            process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        if process.exitcode == 0:
            whole = whole or time.monotonic() - start
            assert findings(folder) == wanted, f"after {kills} kills"
            ends += 1


@pytest.mark.parametrize("kind", quick("end"))
def test_a_run_killed_before_a_file_is_in_its_place(kind: str, tmp_path: Path, undisturbed) -> None:
    """Each attempt writes more files than the one before, the last of them only aside."""
    status, files = -signal.SIGKILL, 1
    while status == -signal.SIGKILL:
        files += 2
        status = finish(tmp_path, *SMALL, *KINDS[kind], patch=partial(kill_at, "pathlib.Path.replace", files))
    assert finish(tmp_path, *SMALL, *KINDS[kind]) == 0
    assert findings(tmp_path) == undisturbed(*KINDS[kind])
    assert not list(tmp_path.rglob("*.partial"))
