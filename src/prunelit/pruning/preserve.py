"""Leave a network and the random state as they were found, also when something raises."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


@contextmanager
def random_state(seed: int) -> Iterator[None]:
    """Seed Python, NumPy and torch inside the block; give them back their states after it.

    The stream is another than that of ``torch.manual_seed(seed)``: networks are drawn from that
    one, and random scores or new weights must not repeat it.
    """
    seed = int(np.random.SeedSequence(seed % 2**64).generate_state(1)[0])
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=devices):
        try:
            random.seed(seed)
            np.random.seed(seed)
            torch.random.default_generator.manual_seed(seed)
            if devices:
                torch.cuda.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextmanager
def modes(network: nn.Module) -> Iterator[None]:
    """Give every module back its train or eval mode after the block."""
    training = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, mode in training:
            module.training = mode


@contextmanager
def preserved(network: nn.Module) -> Iterator[None]:
    """Give ``network`` back its weights, gradients, buffers and modes after the block.

    Inside the block every parameter requires a gradient and has none. Holds one copy of the
    weights and buffers. The tensors after the block are those from before it, also where a module
    put another in their place.
    """
    parameters = list(network.parameters())
    before = [(p, p.detach().clone(), p.grad, p.requires_grad) for p in parameters]
    buffers = [(b, b.detach().clone()) for b in network.buffers()]
    places: list[dict[str, Any]] = [p for m in network.modules() for p in (m._parameters, m._buffers)]
    held = [dict(place) for place in places]
    with modes(network), torch.enable_grad():
        try:
            for parameter in parameters:
                parameter.grad = None
                parameter.requires_grad_(parameter.is_floating_point())
            yield
        finally:
            with torch.no_grad():
                for parameter, value, gradient, requires_grad in before:
                    parameter.copy_(value)
                    parameter.requires_grad_(requires_grad)
                    parameter.grad = gradient
                for buffer, value in buffers:
                    if not torch.equal(buffer, value):  # an expanded buffer can't be written to
                        buffer.copy_(value)
            for place, tensors in zip(places, held, strict=True):
                place.clear()
                place.update(tensors)
