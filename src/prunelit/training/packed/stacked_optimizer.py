"""The optimizers of several runs as one, over parameters that are stacked along a first dimension."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunelit.training.packed.stretch import Stretch

ELEMENTWISE = tuple(
    getattr(torch.optim, name)
    for name in ("Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam")
)
"""Optimizers whose update of a weight depends on this weight, its gradient and its state alone."""


def why_not_stacked(optimizer: Optimizer, network: nn.Module) -> str:
    """Return why ``optimizer`` cannot be stacked; empty if it can."""
    groups = optimizer.param_groups
    if type(optimizer) not in ELEMENTWISE:
        return f"the optimizer is a {type(optimizer).__name__}"
    if len(groups) != 1 or [id(p) for p in groups[0]["params"]] != [id(p) for p in network.parameters()]:
        return "the optimizer has groups of parameters"
    hooks = (optimizer._optimizer_step_post_hooks, optimizer._optimizer_step_pre_hooks)
    return "the steps of the optimizer are observed" if any(hooks) else ""


class StackedOptimizer:
    """Updates stacked parameters as the optimizer of each run would update its own.

    Neighboring runs with the same hyperparameters and the same number of steps are updated together.

    Args:
        stretches: the runs, in the order of the stack.
        parameters: by name, of shape (runs, ...).
    """

    def __init__(self, stretches: Sequence[Stretch], parameters: dict[str, Tensor]) -> None:
        self._parts: list[tuple[Optimizer, list[Stretch], dict[str, Tensor]]] = []
        self._slices: list[tuple[slice, dict[str, Tensor]]] = []
        start = 0
        for _, neighbors in groupby(stretches, key=lambda stretch: stretch.update):
            runs = list(neighbors)
            place = slice(start, start := start + len(runs))
            leaves = {name: p.detach()[place].requires_grad_() for name, p in parameters.items()}
            self._parts.append((_stacked(runs, leaves), runs, leaves))
            self._slices.append((place, leaves))

    def step(self, gradients: dict[str, Tensor]) -> None:
        """Update the parameters that have a gradient, of shape (runs, ...), in place."""
        for (optimizer, _, _), (place, leaves) in zip(self._parts, self._slices, strict=True):
            for name, leaf in leaves.items():
                leaf.grad = gradients[name][place] if name in gradients else None
            # Without the hooks on optimizers, by which each run of this process looks at its own network.
            step = type(optimizer).step
            getattr(step, "__wrapped__", step)(optimizer)

    @torch.no_grad()
    def give_back(self) -> None:
        """Copy the states to the optimizers of the runs."""
        for optimizer, runs, leaves in self._parts:
            for number, run in enumerate(runs):
                # Otherwise the schedule of the learning rate would warn that no step came before it.
                run.optimizer._opt_called = True  # type: ignore[attr-defined]
                for name, leaf in leaves.items():
                    if state := optimizer.state.get(leaf):
                        _give(state, number, leaf, run.optimizer.state[run.parameters[name]])


def _stacked(runs: list[Stretch], leaves: dict[str, Tensor]) -> Optimizer:
    group = {key: value for key, value in runs[0].optimizer.param_groups[0].items() if key != "params"}
    kind: Any = type(runs[0].optimizer)
    optimizer: Optimizer = kind([{"params": list(leaves.values()), **group}])
    for name, leaf in leaves.items():
        states = [run.optimizer.state.get(run.parameters[name], {}) for run in runs]
        if states[0]:
            optimizer.state[leaf] = {
                key: torch.stack([state[key] for state in states]) if _has_rows(value, leaf) else _copy(value)
                for key, value in states[0].items()
            }
    return optimizer


def _give(state: dict[str, Any], number: int, leaf: Tensor, own: dict[str, Any]) -> None:
    """Write the part of ``state`` that belongs to run ``number`` into the state of its optimizer."""
    for key, value in state.items():
        if isinstance(value, Tensor) and value.shape == leaf.shape:
            if isinstance(own.get(key), Tensor):
                own[key].copy_(value[number])
            else:
                own[key] = value[number].clone()
        else:
            own[key] = _copy(value)


def _has_rows(value: Any, leaf: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == leaf.shape[1:]


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
