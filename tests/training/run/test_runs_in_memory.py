"""The estimate of the memory of a run."""

import torch
from torch import nn

from prunelit.training.models import FC
from prunelit.training.run.runs_in_memory import COPIES, FIXED_BYTES, PASSES, bytes_of_run, saved_bytes


def test_the_backward_pass_keeps_the_inputs_of_layers() -> None:
    network = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))
    # The image, and the output of ReLU, which the second layer and ReLU itself share.
    assert saved_bytes(network, torch.zeros(1, 10)) == 4 * (10 + 20)


def test_batches_and_weights_count() -> None:
    network = FC(10, (1, 8, 8), width=30)
    weights = 4 * sum(p.numel() for p in network.parameters())
    activations = saved_bytes(network, torch.zeros(1, 1, 8, 8))
    found = bytes_of_run(network, torch.zeros(1, 1, 8, 8), batch_size=16)
    assert found == FIXED_BYTES + COPIES * weights + PASSES * 16 * activations
