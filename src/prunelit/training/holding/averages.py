"""Find the averages of a network's weights that callbacks and modules keep, so that masks are applied to them
too.

Stochastic weight averaging (Izmailov et al., https://arxiv.org/abs/1803.05407) and exponential moving
averages retain the values of weights from before they were pruned. An average is recognized by its class
(torch's ``AveragedModel``, and the copies of Lightning's ``WeightAveraging`` and
``StochasticWeightAveraging``) or by its name (see :mod:`prunelit.pruning.averaged_copies`). Other copies of a
network, such as a teacher, are not changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from prunelit.pruning.averaged_copies import averaged_copies, says_average
from prunelit.pruning.parameters import Parameters

OF_EVERY_MODULE = frozenset(vars(nn.Module()))
"""Attributes of each module that hold its parameters, its submodules and its hooks."""
PLAIN = (bool, int, float, str, Tensor, type(None))
"""Types of attributes that hold no modules."""


def averages_of(trainer: pl.Trainer, pl_module: pl.LightningModule, name: str) -> list[Parameters]:
    """Return the parameters of all averages of the submodule ``name`` of ``pl_module``, by its own names.

    An average of another part of ``pl_module`` is included as far as both overlap.
    """
    found = []
    for average in _averages(trainer, pl_module):
        source = _source(average, pl_module)
        if source is None:
            continue
        # Names in the average begin at its source, names of masks at the network.
        full = {_join(source, own): parameter for own, parameter in _parameters(average).items()}
        start = _join(name, "")
        found.append({own.removeprefix(start): p for own, p in full.items() if own.startswith(start)})
    return found


def _averages(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Iterator[nn.Module]:
    """Yield the averaged copies, each once."""
    found = [*averaged_copies(pl_module)]
    for owner in (*trainer.callbacks, *pl_module.modules()):  # type: ignore[attr-defined]
        is_module = isinstance(owner, nn.Module)
        by_class = not is_module and says_average(type(owner).__name__)
        without = OF_EVERY_MODULE if is_module else ("_trainer",)
        for key, value in vars(owner).items():
            if key not in without and not isinstance(value, PLAIN):
                found += _in_attribute(value, by_name=by_class or says_average(key))
            if key == "_average_model" and isinstance(value, nn.Module):
                found.append(value)
    for average in dict.fromkeys(found):
        yield average.module if isinstance(average, AveragedModel) else average


def _in_attribute(value: Any, by_name: bool) -> list[nn.Module]:
    """Return the averages in ``value``; with ``by_name``, its name indicates an average."""
    found: list[nn.Module] = []
    for item in _contents(value):
        if isinstance(item, AveragedModel):
            found.append(item)
        elif isinstance(item, nn.Module):
            if by_name or says_average(type(item).__name__):
                # The wrapper of the copy is not part of the network and has no source there.
                found += [item, *item.children()]
        elif hasattr(item, "__dict__") and (by_name or says_average(type(item).__name__)):
            found += [inner for inner in vars(item).values() if isinstance(inner, nn.Module)]
    return found


def _contents(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _source(average: nn.Module, pl_module: pl.LightningModule) -> str | None:
    """Return the name of the part of ``pl_module`` that ``average`` is a copy of, None if there is none.

    Among several parts of the same structure it is the one with the closest weights.
    """
    inside = {part for found in averaged_copies(pl_module) for part in found.modules()}
    if average in set(pl_module.modules()) - inside:
        return None  # the trained weights, under another name
    shapes = {name: p.shape for name, p in _parameters(average).items()}
    fitting = [
        (name, part)
        for name, part in pl_module.named_modules()
        if type(part) is type(average)
        and part not in inside
        and {own: p.shape for own, p in _parameters(part).items()} == shapes
    ]
    if len(fitting) < 2:
        return fitting[0][0] if fitting else None
    return min(fitting, key=lambda item: _distance(average, item[1]))[0]


@torch.no_grad()
def _distance(first: nn.Module, second: nn.Module) -> float:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return sum(float((p.cpu().double() - q.cpu().double()).square().sum()) for p, q in pairs)


def _parameters(module: nn.Module) -> Parameters:
    return dict(module.named_parameters(remove_duplicate=False))


def _join(start: str, name: str) -> str:
    return f"{start}.{name}" if start else name
