"""How many runs that train together fit into memory."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from prunelit.training.data.module import available_memory
from prunelit.training.run import from_config

COPIES = 12
"""Tensors as large as all weights in a group, for each run.

These are weights, gradients and two states of an optimizer, of the run and in the stack, their masks, and
temporary copies. Some of them do not exist in every run.
"""
FIXED_BYTES = 2**25
"""Python's objects of a run."""
PASSES = 3
"""Forward activations, their gradients and temporary tensors, in units of the activations."""


def runs_that_fit(cfg: DictConfig, memory_gb: float | None) -> int:
    """Return how many runs with the config ``cfg`` fit into memory at a time.

    Args:
        cfg: the config of one of the runs.
        memory_gb: the memory in GB; None: half of the free memory of the device.
    """
    data = from_config.build_data(cfg)
    network, _ = from_config.build_network(cfg, data)
    known = data.preview()
    shape = known[1] if known else data.input_shape
    on_gpu = cfg.trainer.accelerator != "cpu" and torch.cuda.is_available()
    free = available_memory(torch.device("cuda" if on_gpu else "cpu")) // 2
    limit = free if memory_gb is None else int(memory_gb * 1e9)
    return limit // bytes_of_run(network, torch.zeros(1, *shape), cfg.batch_size)


def bytes_of_run(network: nn.Module, image: Tensor, batch_size: int) -> int:
    """Return an estimate of the memory that one run of a group needs, in bytes."""
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    return FIXED_BYTES + COPIES * weights + PASSES * batch_size * saved_bytes(network, image)


def saved_bytes(network: nn.Module, image: Tensor) -> int:
    """Return how many bytes the backward pass of one image keeps, besides the parameters."""
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def unpack(tensor: Any) -> Any:
        return tensor

    network.eval()  # a BatchNorm cannot train on a single value of each channel
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        network(image)
    return sum(kept.values())
