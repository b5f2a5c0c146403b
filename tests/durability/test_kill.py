"""A run that is killed at any moment, and begun again, finds bit for bit what an undisturbed one finds."""

import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from forked_runs import KINDS, SMALL, begin, findings, finish, kill_at

MOMENTS = {
    # Where a process kills itself: a function, and the how manieth call of it.
    "the first pruning": ("prunelit.training.callback.prune", 1),
    "an epoch": ("prunelit.training.module.Classifier.training_step", 30),
    "an evaluation": ("prunelit.training.module.Classifier.validation_step", 2),
    "a checkpoint": ("torch.save", 4),
    "the last test": ("prunelit.training.module.Classifier.test_step", 1),
    "the record": ("prunelit.training.checkpoints.save_tensors", 2),
    "the end": ("prunelit.study.record.Record.finish", 1),
}


def killed(folder: Path, *overrides: str, patch) -> None:
    assert finish(folder, *SMALL, *overrides, patch=patch) == -signal.SIGKILL


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_at_a_known_moment(kind: str, moment: str, tmp_path: Path, undisturbed) -> None:
    killed(tmp_path, *KINDS[kind], patch=partial(kill_at, *MOMENTS[moment]))
    assert finish(tmp_path, *SMALL, *KINDS[kind]) == 0
    assert findings(tmp_path) == undisturbed(*KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_at_20_random_moments(kind: str, tmp_path: Path, undisturbed) -> None:
    """Also again while it goes on; whenever it gets to its end, it is compared and begun anew."""
    wanted, kills, ends = undisturbed(*KINDS[kind]), 0, 0
    moments, whole = random.Random(kind), None
    while kills < 20 or ends < 3:
        folder, start = tmp_path / str(ends), time.monotonic()
        process = begin(folder, *SMALL, *KINDS[kind])
        if whole and kills < 20:
            process.join(moments.uniform(0.1, 0.9) * whole)
            process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        if process.exitcode == 0:
            whole = whole or time.monotonic() - start
            assert findings(folder) == wanted, f"after {kills} kills"
            ends += 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_before_a_file_is_in_its_place(kind: str, tmp_path: Path, undisturbed) -> None:
    """Each attempt writes more files than the one before, the last of them only aside."""
    status, files = -signal.SIGKILL, 1
    while status == -signal.SIGKILL:
        files += 2
        status = finish(tmp_path, *SMALL, *KINDS[kind], patch=partial(kill_at, "pathlib.Path.replace", files))
    assert finish(tmp_path, *SMALL, *KINDS[kind]) == 0
    assert findings(tmp_path) == undisturbed(*KINDS[kind])
    assert not list(tmp_path.rglob("*.partial"))
