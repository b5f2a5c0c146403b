"""Restore a network and the random state, also after an exception."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def random_state(seed: int) -> Iterator[None]:
    """Seed Python, NumPy and torch inside the block; restore their states after it.

    The stream differs from ``torch.manual_seed(seed)``: networks are drawn from that stream, and random
    scores or new weights must not repeat it.
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
    """Restore the train or eval mode of every module after the block."""
    training = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, mode in training:
            module.training = mode


def tensor_undo(tensor: Tensor, values: bool = True) -> Callable[[], None]:
    """Remove the gradient of ``tensor``; return a function that restores everything.

    That is its values, its gradient and whether it requires one. Holds a copy of the values; without
    ``values`` none, and leaves them as they are.
    """
    value = tensor.detach().clone() if values else None
    needs, leaf = tensor.requires_grad, tensor.is_leaf
    gradient = tensor.grad if leaf else None
    if leaf:
        tensor.grad = None

    def undo() -> None:
        if value is not None:
            with torch.no_grad():
                if tensor.shape != value.shape or tensor.dtype != value.dtype:
                    tensor.data = value
                elif not _same_values(tensor, value):  # one that is expanded cannot be written to
                    tensor.copy_(value)
        if leaf and tensor.is_leaf:
            tensor.requires_grad_(needs)
            tensor.grad = gradient

    return undo


def _same_values(tensor: Tensor, other: Tensor) -> bool:
    return torch.equal(tensor, other) or bool(((tensor == other) | (tensor.isnan() & other.isnan())).all())


@contextmanager
def preserved(
    network: nn.Module, differentiated: Iterable[nn.Parameter] | None = None, values: bool = True
) -> Iterator[None]:
    """Restore weights, gradients, buffers and modes of ``network`` after the block.

    Inside the block no parameter has a gradient. Those ``differentiated`` require one (None: all do),
    and the others if they did before: a copy that a training step updates in place, such as a
    momentum encoder, must not take part in its graph. Holds one copy of the weights and buffers; of the
    buffers alone without ``values``, for a block that writes to no weight. The tensors after the block
    are those from before it, also where a module put another in their place.
    """
    undo = [tensor_undo(parameter, values) for parameter in network.parameters()]
    undo += [tensor_undo(buffer) for buffer in network.buffers()]
    plain = [m for m in network.modules() if not isinstance(m, torch.jit.ScriptModule)]  # those can't change
    places: list[dict[str, Any]] = [p for m in plain for p in (m._parameters, m._buffers)]
    held = [dict(place) for place in places]
    with modes(network), torch.enable_grad():
        try:
            for parameter in network.parameters() if differentiated is None else differentiated:
                parameter.requires_grad_(parameter.is_floating_point())
            yield
        finally:
            for put_back in undo:
                put_back()
            for place, tensors in zip(places, held, strict=True):
                place.clear()
                place.update(tensors)
