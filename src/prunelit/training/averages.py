"""Find the averages of a network's weights that callbacks and modules keep, so that masks hold on them too.

Stochastic weight averaging (Izmailov et al., https://arxiv.org/abs/1803.05407) and exponential moving
averages go on holding what a weight was before it was pruned. An average is known by its class: torch's
``AveragedModel``, and the copies of Lightning's ``WeightAveraging`` and ``StochasticWeightAveraging``.
Other copies of a network, such as a teacher, are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from prunelit.pruning.parameters import Parameters


def averages_of(trainer: pl.Trainer, pl_module: pl.LightningModule, name: str) -> list[Parameters]:
    """Return the parameters of all averages of the submodule ``name`` of ``pl_module``, by its own names.

    An average of another part of ``pl_module`` counts as far as both overlap.
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
    seen: set[int] = set()
    for owner in (*trainer.callbacks, *pl_module.modules()):  # type: ignore[attr-defined]
        for key, value in vars(owner).items():
            for average in _contents(value):
                is_average = isinstance(average, AveragedModel) or key == "_average_model"
                if isinstance(average, nn.Module) and is_average and id(average) not in seen:
                    seen.add(id(average))
                    yield average.module if isinstance(average, AveragedModel) else average


def _contents(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _source(average: nn.Module, pl_module: pl.LightningModule) -> str | None:
    """Return the name of the part of ``pl_module`` that ``average`` is a copy of, None if it is of no part.

    Among several parts of the same build it is the one whose weights are nearest.
    """
    inside = {
        part for found in pl_module.modules() if isinstance(found, AveragedModel) for part in found.modules()
    }
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
