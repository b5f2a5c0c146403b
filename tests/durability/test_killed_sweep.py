"""Any process of a sweep may be killed at any moment: nothing is left running, and no other run is lost.

``pytest -m slow tests/durability/test_killed_sweep.py`` kills 50 times.
"""

import random
import signal
import sys
import time
from pathlib import Path

import pytest

from killed_sweeps import begin_sweep, findings_of, kill, of_kind, processes, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

RUNS = ("pruner=snip", "epochs=1", "seed=1,2,3", "sweep.jobs=2", "hydra/launcher=joblib")
WORKERS = {
    "leader": (),
    "run": (),
    "data worker": ("data.in_memory=false", "data.workers=1"),
    "rank": ("trainer=ddp", "trainer.accelerator=cpu"),
}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory):
    """What a sweep finds that nobody disturbs, by its overrides."""
    known: dict[tuple[str, ...], dict[str, bytes]] = {}

    def find(overrides: tuple[str, ...]) -> dict[str, bytes]:
        if overrides not in known:
            folder = tmp_path_factory.mktemp("whole")
            sweep = begin_sweep(folder, *RUNS, *overrides)
            sweep.join()
            assert sweep.exitcode == 0, (folder / "said.txt").read_text()
            known[overrides] = findings_of(folder)
        return known[overrides]

    return find


def kill_one(kind: str, folder: Path, overrides: tuple[str, ...], chance: random.Random) -> bool:
    """Kill a process of a sweep at some moment; return whether there was one to kill, and look what ends."""
    before = findings_of(folder)
    sweep = begin_sweep(folder, *RUNS, *overrides)
    level = kind if kind in ("leader", "run") else "worker"
    found = wait_for(lambda: of_kind(level, folder, sweep.pid) or not sweep.is_alive(), kind)
    if found is True:
        return False
    time.sleep(chance.uniform(0, 0.5))
    victims = of_kind(level, folder, sweep.pid)
    was_there = bool(victims) and kill(chance.choice(victims), chance.choice(SIGNALS))
    sweep.join()
    wait_for(lambda: not processes(folder), "end of all processes")
    said = (folder / "said.txt").read_text()
    assert "Traceback" not in said or kind == "rank", said
    after = findings_of(folder)
    assert before.items() <= after.items(), "a complete run is lost or changed"
    if kind != "leader":
        assert len(after) >= 2 * 2, f"more than one of three runs has ended: {said}"
    return was_there


@pytest.mark.parametrize(
    ("kind", "times"),
    [
        *((kind, 1) for kind in ("leader", "run")),
        *(pytest.param(kind, 13, marks=pytest.mark.slow) for kind in WORKERS),
    ],
)
def test_a_killed_process_ends_its_run_alone(kind: str, times: int, tmp_path: Path, whole) -> None:
    chance, kills, attempt = random.Random(f"{kind} {times}"), 0, 0
    overrides = WORKERS[kind]
    wanted = whole(overrides)
    while kills < times:
        folder = tmp_path / str(attempt)
        folder.mkdir()
        kills += kill_one(kind, folder, overrides, chance)
        attempt += 1
        last = begin_sweep(folder, *RUNS, *overrides)
        last.join()
        assert last.exitcode == 0, (folder / "said.txt").read_text()
        assert findings_of(folder) == wanted
