"""The states of optimizers, such as momentum, for parameters that became smaller or larger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunelit.request import BadRequest

Change = Callable[[str, Tensor], Tensor]


def check_states(optimizers: Iterable[Optimizer], parameters: Mapping[str, nn.Parameter]) -> None:
    """Raise BadRequest for an optimizer whose state of a parameter cannot be cut as the parameter is.

    It can if each tensor of the state is a number or has the shape of the parameter, as with SGD and Adam.
    """
    for optimizer in _with_inner(optimizers):
        for parameter in parameters.values():
            for value in optimizer.state.get(parameter, {}).values():
                fits = not isinstance(value, Tensor) or value.shape in (parameter.shape, torch.Size([]))
                if isinstance(value, (list, dict)) or not fits:
                    kind = type(optimizer).__name__
                    why = f"{kind} keeps a state that does not have the shape of its parameter"
                    raise BadRequest("cut", True, "false, or an optimizer such as SGD or Adam", why)


@torch.no_grad()
def change_states(
    optimizers: Iterable[Optimizer],
    parameters: Mapping[str, nn.Parameter],
    shapes: Mapping[str, torch.Size],
    change: Change,
) -> None:
    """Apply ``change`` to the states of parameters; groups and their settings stay.

    Args:
        optimizers: of the training.
        parameters: by name; already changed.
        shapes: their shapes before, which their states still have.
        change: maps a name and a tensor to the tensor in its new shape.
    """
    for optimizer in _with_inner(optimizers):
        for name, parameter in parameters.items():
            state: dict[str, Any] = optimizer.state.get(parameter, {})
            for key, value in state.items():
                if isinstance(value, Tensor) and value.ndim and value.shape == shapes[name]:
                    state[key] = change(name, value)


def _with_inner(optimizers: Iterable[Optimizer]) -> Iterator[Optimizer]:
    """Yield the optimizers and those that they call, as SAM and Lookahead do."""
    for optimizer in optimizers:
        yield optimizer
        yield from (inner for inner in vars(optimizer).values() if isinstance(inner, Optimizer))
