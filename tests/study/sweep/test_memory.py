"""A sweep's own process does not grow with its runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

CALLBACK = """
from hydra.experimental.callback import Callback

class Resident(Callback):
    def on_job_end(self, config, job_return, **kwargs):
        for line in open("/proc/self/status"):
            if line.startswith("VmRSS"):
                print(line.split()[1], file=open("resident", "a"))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_twenty_runs_leave_the_leading_process_as_it_was(start, study: Path) -> None:
    (study / "resident.py").write_text(CALLBACK)
    seeds = ",".join(map(str, range(24)))
    sweep = start("-m", "epochs=0", f"seed={seeds}", "+hydra.callbacks.resident._target_=resident.Resident")
    _, err = sweep.communicate(timeout=600)
    assert (sweep.returncode, err) == (0, "")
    kilobytes = [int(line) for line in Path("resident").read_text().split()]
    assert len(kilobytes) == 24
    # The first runs warm caches of Hydra's up.
    assert kilobytes[-1] - kilobytes[3] < 2_000, kilobytes
