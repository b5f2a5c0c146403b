"""Any process of a sweep may be killed at any moment by any signal: nothing is left running, nothing is lost.

``pytest -n0 -m slow tests/durability/test_killed_sweep.py`` kills each kind of process 50 times. On two
cores that took 2 minutes for the leader and 6 for runs, beside other processes.
"""

import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from killed_sweeps import Sweep, findings_of, kill, of_kind, processes, statuses_of, wait_for
from prunelit.study.report.watch import Watched

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

KINDS = {
    "leader": (),
    "run": (),
    "data worker": ("data.in_memory=false", "data.workers=1"),
    "rank": ("trainer=ddp", "trainer.accelerator=cpu"),
}
LAUNCHERS = ("joblib", "basic", "submitit_local")
SIGNALS = [getattr(signal, f"SIG{name}") for name in ("KILL", "SEGV", "ABRT", "TERM", "HUP", "USR1", "QUIT")]
LONGEST_WAIT = 5.0
"""Seconds after which no process is left, on a machine that has nothing else to do."""


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, tuple[str, ...]], dict[str, bytes]]:
    """What a sweep finds that nobody disturbs, by the number of its runs and its overrides."""
    known: dict[tuple[int, tuple[str, ...]], dict[str, bytes]] = {}

    def find(runs: int, overrides: tuple[str, ...]) -> dict[str, bytes]:
        if (runs, overrides) not in known:
            sweep = Sweep(tmp_path_factory.mktemp("whole"), runs, *overrides)
            assert sweep.join() == 0, sweep.said
            known[runs, overrides] = findings_of(sweep.folder)
        return known[runs, overrides]

    return find


def kill_some(kind: str, sweep: Sweep, most: int, chance: random.Random) -> int:
    """Kill up to ``most`` processes of a sweep at random moments; return how many there were to kill."""
    kills = 0
    while kills < most:
        found = wait_for(lambda: of_kind(kind, sweep) or not sweep.is_alive(), kind)
        if found is True:
            break
        time.sleep(chance.choice((0, chance.uniform(0, 0.1), chance.uniform(0, 2))))
        victims = of_kind(kind, sweep)
        if victims and kill(victim := chance.choice(victims), chance.choice(SIGNALS)):
            kills += 1
            wait_for(lambda pid=victim: pid not in processes(sweep.folder), "end of what was killed")
    return kills


def disturb(kind: str, sweep: Sweep, most: int, chance: random.Random, patience: float) -> int:
    """Do the same, see the sweep end, and look at what it leaves; return how many were killed."""
    before, told = findings_of(sweep.folder), len(sweep.said)
    kills = kill_some(kind, sweep, most, chance)
    status = sweep.join()
    wait_for(lambda: not processes(sweep.folder), "end of all processes", patience)
    said, after = sweep.said[told:], findings_of(sweep.folder)
    assert before.items() <= after.items(), f"a complete run is lost or changed: {said}"
    assert "Traceback" not in said
    watched = Watched()
    watched.refresh([sweep.folder])
    assert not watched.waiting, "runs are waiting for a sweep that has ended"
    if kind != "leader":
        assert status == (0 if len(after) == 2 * sweep.runs else 1), said
        assert len(after) >= 2 * (sweep.runs - kills), f"a run has ended that nobody killed: {said}"
        ended = set(statuses_of(sweep.folder).values())
        assert ended <= {"complete", "failed", "interrupted"}, said
    return kills


@pytest.mark.parametrize(
    ("kind", "times", "runs", "patience"),
    [
        *((kind, 1, 2, 600.0) for kind in ("leader", "run")),
        *(pytest.param(kind, 50, 6, LONGEST_WAIT, marks=pytest.mark.slow) for kind in KINDS),
    ],
)
def test_a_killed_process_ends_its_run_alone(
    kind: str, times: int, runs: int, patience: float, tmp_path: Path, whole
) -> None:
    """Whatever was killed, the same command goes on, until it finds what an undisturbed sweep finds."""
    chance, kills, studies = random.Random(f"{kind} {times}"), 0, 0
    wanted = whole(runs, KINDS[kind])
    while kills < times:
        folder = tmp_path / str(studies)
        folder.mkdir()
        launcher = LAUNCHERS[studies % len(LAUNCHERS)] if times > 1 else LAUNCHERS[0]
        while findings_of(folder) != wanted:
            sweep = Sweep(folder, runs, *KINDS[kind], f"hydra/launcher={launcher}")
            most = min(runs // 2, times - kills)
            kills += disturb(kind, sweep, most, chance, patience) if most else 0
            assert most or sweep.join() == 0, sweep.said
        studies += 1
