"""Scores by the flow through a network: |w| * dR/d|w|, with R the sum of what an input of ones gives."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from prunelit.pruning.call import Call
from prunelit.pruning.flow import NoFlow, flow_ends
from prunelit.pruning.linearize import linearized, signal_inputs
from prunelit.pruning.masks import Scores
from prunelit.pruning.parameters import Parameters
from prunelit.pruning.scored_layers import OutOfSight, ScoredLayers


def flow_scores(
    network: nn.Module, parameters: Parameters, example: Call, biases: bool, previous: Scores
) -> Scores:
    """Return ``|w| * dR/d|w|`` in float64 by name.

    On a CPU the layers of the network are computed by :class:`ScoredLayers`. Where that finds no flow, or a
    weight is used in a way that it does not see, all is left to autograd.

    Args:
        network: in the modes in which it is to run.
        parameters: what is scored.
        example: the arguments of one call, for one sample.
        biases: whether biases that are not among ``parameters`` count.
        previous: scores of an earlier call, which are written over; it may be empty.

    Raises:
        NoFlow: no output depends on an input and on one of ``parameters``.
    """
    if all(parameter.device.type == "cpu" for parameter in parameters.values()):
        try:
            scores = absolute_values(parameters, previous)
            _write(ScoredLayers(scores), network, parameters, example, biases)
            if any(map(Tensor.any, scores.values())):
                return scores
            previous = scores
        except (OutOfSight, NoFlow, RuntimeError):  # if it is no fault of the stand-ins, it comes again
            pass
    scores = absolute_values(parameters, previous)
    gradients = _write(ScoredLayers(scores, stand_in=False), network, parameters, example, biases)
    stopped = all(gradient is None or not gradient.any() for gradient in gradients)
    if stopped and all(map(Tensor.any, parameters.values())):
        raise NoFlow.through(network)
    return scores


@torch.no_grad()
def absolute_values(parameters: Parameters, memory: Scores) -> Scores:
    """Return absolute values in float64, in the tensors of ``memory`` if they fit."""
    return {
        name: (
            memory[name]
            if name in memory and memory[name].shape == p.shape and memory[name].device == p.device
            else torch.empty(p.shape, dtype=torch.float64, device=p.device)
        )
        .copy_(p.detach())
        .abs_()
        for name, p in parameters.items()
    }


def _write(
    layers: ScoredLayers, network: nn.Module, parameters: Parameters, example: Call, biases: bool
) -> list[Tensor | None]:
    """Write the scores; return the gradients that autograd gave."""
    return layers.backward(*total_flow(layers, network, parameters, example, biases))


def total_flow(
    layers: ScoredLayers, network: nn.Module, parameters: Parameters, example: Call, biases: bool
) -> tuple[Tensor, Tensor]:
    """Return the sum of the flow, with its graph, and the factor that brings gradients into float64's range.

    Raises:
        NoFlow: no output depends on an input and on one of ``parameters``.
    """
    signals = signal_inputs(network, example)
    tensors = linearized(network, {parameters[n]: t for n, t in layers.tensors.items()}, biases)

    def flow(scale: float) -> Tensor:
        ones = iter(signals)
        call = example.map(lambda tensor: _filled(tensor, scale if next(ones) else None))
        scaled = {n: t * scale if n.endswith("bias") else t for n, t in tensors.items()}
        with layers:
            ends = flow_ends(network, scaled, call)
        if not ends:
            raise NoFlow.through(network)
        return torch.stack([end.sum() for end in ends]).sum()

    total = flow(1.0)
    scale = _power_of_two(total, flow)
    if scale != 1:
        total = flow(scale)
    return total, torch.full_like(total, scale)


def _power_of_two(total: Tensor, flow: Callable[[float], Tensor]) -> float:
    """Return the scale that brings forward and backward pass into the middle of float64's range.

    It is 1 for a ``total`` well inside the range, and where ``flow`` is not homogeneous.
    """
    value, exponent = float(total.detach()), 0
    if value == 0 or not math.isfinite(value):
        exponent = 1000 if value == 0 else -1000
        value = float(flow(2.0**exponent).detach())
    if not 0 < value < math.inf or abs(gain := math.log2(value) - exponent) <= 600:
        return 1.0
    half = round(gain / 2)
    middle = float(flow(2.0**-half).detach())
    return 2.0**-half if middle > 0 and abs(math.log2(middle) + half - gain) < 1e-6 else 1.0


def _filled(tensor: Tensor, value: float | None) -> Tensor:
    """Return the tensor in float64, filled with ``value`` unless that is None; integers stay."""
    if not tensor.is_floating_point():
        return tensor
    return tensor.double() if value is None else torch.full_like(tensor, value, dtype=torch.float64)
