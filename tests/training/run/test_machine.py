"""What a run says of the machine that it ran on."""

from __future__ import annotations

import sys

import lightning.pytorch as pl
import pytest
import torch

from prunelit.training.run.machine import environment, forget_peak_memory


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is that of the process")
def test_memory_of_a_run_before_in_the_same_process_does_not_count() -> None:
    trainer = pl.Trainer(accelerator="cpu", logger=False, barebones=True)
    large = torch.ones(400 * 2**20, dtype=torch.uint8)
    before = environment(trainer)["peak_memory_bytes"]
    del large
    forget_peak_memory()
    assert environment(trainer)["peak_memory_bytes"] < before - 100 * 2**20
