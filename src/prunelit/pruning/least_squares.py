"""Least squares: fit the layers behind removed units to the outputs that they had before the pruning.

He, Zhang and Sun, Channel pruning for accelerating very deep neural networks (ICCV 2017),
https://arxiv.org/abs/1707.06168
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from prunelit.pruning.layer_rows import rows_of_layer
from prunelit.pruning.masks import Masks
from prunelit.pruning.preserve import modes, random_state

MOST_INPUTS = 8192
"""Largest number of inputs that an output is fitted to: the matrix of their products has its square."""
ROWS = 4096
"""How many rows are multiplied at a time, in float64."""


@dataclass(frozen=True)
class Training:
    """What layers are fitted on.

    Attributes:
        run: runs the network on a batch.
        batches: at least one.
        ridge: the strength of the ridge penalty on the change of the weights, as a share of the mean square
            of a layer's inputs.
    """

    run: Callable[[Any], Any]
    batches: Sequence[Any]
    ridge: float


@torch.no_grad()
def repair_layers(
    network: nn.Module, before: Mapping[str, Tensor], masks: Masks, training: Training
) -> list[str]:
    """Change the kept weights of the layers that lost inputs so that their outputs stay as before.

    For a layer with the weights W, the change D minimizes the mean of ``|y - (W + D) x|^2`` over the training
    data, plus ``ridge * mean(x^2) * |D|^2``. Here, x is the input of the layer after the pruning, and y its
    output before. A bias is fitted too. Layers are changed in the order in which they run, each with the
    inputs that the layers in front of it give after their own change. Masked weights stay 0, and BatchNorm
    works with its running statistics.

    Args:
        network: pruned; its weights are changed in place.
        before: all parameters of the network before the pruning, by name.
        masks: of the pruned network.
        training: the batches, and the strength of the penalty.

    Returns:
        The names of the layers that stay as they are because they have more than 8,192 inputs.
    """
    layers = _that_lost_inputs(network, before, masks)
    too_wide = [name for name, layer in layers.items() if layer.weight[0].numel() > MOST_INPUTS]
    with modes(network):
        network.eval()
        for name in _in_order(network, {n: m for n, m in layers.items() if n not in too_wide}, training):
            _repair(network, name, before, masks, training)
    return too_wide


def _that_lost_inputs(network: nn.Module, before: Mapping[str, Tensor], masks: Masks) -> dict[str, Any]:
    """Return the convolutions and linear layers that train and of whose inputs some have been removed."""
    holders: dict[int, int] = {}
    for module in network.modules():
        for parameter in module._parameters.values():
            holders[id(parameter)] = holders.get(id(parameter), 0) + 1
    found = {}
    for name, layer in network.named_modules():
        weight = f"{name}.weight".lstrip(".")
        if not isinstance(layer, nn.Linear | _ConvNd) or isinstance(layer, _ConvTransposeNd):
            continue
        if weight not in masks or not layer.weight.requires_grad or holders[id(layer.weight)] > 1:
            continue
        had, has = _inputs_used(before[weight] != 0), _inputs_used(masks[weight])
        if bool((had & ~has).any()) and bool(has.any()):
            found[name] = layer
    return found


def _inputs_used(nonzero: Tensor) -> Tensor:
    """Return which inputs any output depends on, given where a weight is not 0."""
    return nonzero.transpose(0, 1).flatten(1).any(1)


def _in_order(network: nn.Module, layers: Mapping[str, nn.Module], training: Training) -> list[str]:
    """Return the names of ``layers`` in the order in which they run; those that do not run are left out."""
    order: list[str] = []
    handles = [
        layer.register_forward_pre_hook(lambda *_, name=name: order.append(name))
        for name, layer in layers.items()
    ]
    try:
        with random_state(0):
            training.run(training.batches[0])
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(order))


def _repair(
    network: nn.Module, name: str, before: Mapping[str, Tensor], masks: Masks, training: Training
) -> None:
    """Fit one layer."""
    layer: Any = network.get_submodule(name)
    groups = getattr(layer, "groups", 1)
    mask = masks[f"{name}.weight".lstrip(".")].flatten(1)
    biases = [None] * groups if layer.bias is None else layer.bias.chunk(groups)
    fits_bias = layer.bias is not None and layer.bias.requires_grad
    parts = zip(mask.chunk(groups), layer.weight.flatten(1).chunk(groups), biases, strict=True)
    fits = [_Fit(*part, fits_bias) for part in parts]
    generator = torch.Generator().manual_seed(0)
    for number, batch in enumerate(training.batches):
        with _values(network, before):
            outputs = _calls(layer, training.run, batch, number)
        inputs = _calls(layer, training.run, batch, number)
        for (given, _), (_, wanted) in zip(inputs, outputs, strict=False):
            rows, targets = rows_of_layer(layer, given, wanted, generator)
            for fit, x, y in zip(fits, rows.chunk(groups, 1), targets.chunk(groups, 1), strict=True):
                fit.add(x, y)
    for fit in fits:
        fit.apply(training.ridge)


@contextmanager
def _values(network: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Give the parameters of ``network`` other values inside the block."""
    own = {n: (p, p.detach().clone()) for n, p in network.named_parameters() if not torch.equal(p, values[n])}
    for name, (parameter, _) in own.items():
        parameter.copy_(values[name])
    try:
        yield
    finally:
        for parameter, value in own.values():
            parameter.copy_(value)


def _calls(
    layer: nn.Module, run: Callable[[Any], Any], batch: Any, number: int
) -> list[tuple[Tensor, Tensor]]:
    """Return input and output of each call of ``layer`` while the network runs on a batch."""
    found: list[tuple[Tensor, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            found.append((inputs[0].detach().clone(), output.detach().clone()))  # later changed in place

    handle = layer.register_forward_hook(note)
    try:
        with random_state(number):  # the same random augmentation and sampling before and after
            run(batch)
    finally:
        handle.remove()
    return found


class _Fit:
    """The least-squares fit of one group of a layer's outputs to its inputs.

    Args:
        mask: of the weight, of shape (outputs, inputs).
        weight: of the same shape; changed in place by :meth:`apply`.
        bias: of shape (outputs,), or None.
        fits_bias: whether the bias is fitted too.
    """

    def __init__(self, mask: Tensor, weight: Tensor, bias: Tensor | None, fits_bias: bool) -> None:
        self.weight, self.bias, self.fits_bias = weight, bias, fits_bias
        self.outputs, self.inputs = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        self.mask = mask[self.outputs][:, self.inputs]
        zeros = partial(torch.zeros, dtype=torch.float64, device=weight.device)
        self.squares = zeros(len(self.inputs), len(self.inputs))
        self.products = zeros(len(self.outputs), len(self.inputs))
        self.sum_inputs, self.sum_errors = zeros(len(self.inputs)), zeros(len(self.outputs))
        self.count = 0

    def add(self, rows: Tensor, targets: Tensor) -> None:
        """Add inputs of shape (n, inputs) and the outputs of shape (n, outputs) that they should give."""
        weight = self.weight[self.outputs][:, self.inputs].double()
        bias = 0 if self.bias is None else self.bias[self.outputs].double()
        for some, wanted in zip(rows.split(ROWS), targets.split(ROWS), strict=True):
            x = some[:, self.inputs].double()
            errors = wanted[:, self.outputs].double() - (x @ weight.T + bias)
            self.squares += x.T @ x
            self.products += errors.T @ x
            self.sum_inputs += x.sum(0)
            self.sum_errors += errors.sum(0)
            self.count += len(x)

    def apply(self, ridge: float) -> None:
        """Change weight and bias, if that makes the outputs more similar."""
        if not self.count or not len(self.inputs) or not len(self.outputs):
            return
        squares, products = self.squares / self.count, self.products / self.count
        inputs, errors = self.sum_inputs / self.count, self.sum_errors / self.count
        strength = ridge * float(squares.diagonal().mean())
        if self.fits_bias:
            squares, products = squares - inputs.outer(inputs), products - errors.outer(inputs)
        penalized = squares.clone()
        penalized.diagonal().add_(strength)
        factor, failed = torch.linalg.cholesky_ex(penalized)
        if bool(failed) or not bool(products.isfinite().all()):
            return
        change = torch.cholesky_solve(products.T, factor).T * self.mask
        if float((change * (2 * products - change @ squares)).sum()) <= 0:
            return  # weights that were masked one by one leave nothing to gain
        place = self.outputs[:, None], self.inputs[None, :]
        self.weight[place] += change.to(self.weight.dtype)
        if self.bias is not None and self.fits_bias:
            self.bias[self.outputs] += (errors - change @ inputs).to(self.bias.dtype)
