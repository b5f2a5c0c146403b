"""What a run says of the machine that it ran on."""

from __future__ import annotations

import sys

import lightning.pytorch as pl
import pytest
import torch

from prunelit.training.run.machine import environment, forget_peak_memory


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the peak of the process is known")
def test_memory_of_a_run_before_in_the_same_process_does_not_count() -> None:
    trainer = pl.Trainer(accelerator="cpu", logger=False, barebones=True)

    def peak_with(mebibytes: int) -> float:
        forget_peak_memory()
        large = torch.ones(mebibytes * 2**20, dtype=torch.uint8)
        del large  # the largest use counts, not that of now
        return float(environment(trainer)["peak_memory_bytes"]) / 2**20

    peaks = [peak_with(mebibytes) for mebibytes in (400, 0, 200)]
    assert peaks[0] - peaks[1] == pytest.approx(400, abs=60)
    assert peaks[2] - peaks[1] == pytest.approx(200, abs=60)
