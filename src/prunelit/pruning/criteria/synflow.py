"""SynFlow: synaptic flow, score(w) = |w| * dR/d|w| with R = 1' f(1; |w|).

Tanaka, Kunin, Yamins and Ganguli, Pruning neural networks without any data by iteratively
conserving synaptic flow, https://arxiv.org/abs/2006.05467

R is the sum of the outputs for an input of ones, when every parameter is replaced by its absolute
value. Masks and token ids among the inputs stay as they are (see ``signal_inputs``). Outputs count as
they are before a final softmax, sigmoid or the like, and losses among them do not count (see
``prunelit.pruning.flow``). Biases that are not prunable are left out, as in the paper: flow that
enters by them starves the layers before, which may then empty. ``biases=True`` counts them, as
published code does; without biases both are the same. Batch normalisation runs in eval mode with its
running mean taken as 0, so that it is a positive scaling; in a fresh network that is the identity.

R is a product over layers and leaves float32 in deep networks, so it is computed in float64 on
copies of the parameters: the network itself is not touched. Where R nears the ends of float64
too, input, biases and output are multiplied by one power of two. f is positively homogeneous in
input and biases, so this multiplies all scores by one common factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor, nn
from typing_extensions import Doc

from prunelit.declared import checked
from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.flow import NoFlow, flow_ends
from prunelit.pruning.linearize import linearized, signal_inputs
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters


class SynFlow(Criterion):
    """Synaptic flow in float64; one forward and backward pass of one input, whatever the data."""

    needs = "example"

    @checked
    def __init__(
        self,
        biases: Annotated[
            bool, Doc("Include biases that are not prunable in the flow, as published code does.")
        ] = False,
    ) -> None:
        self.biases = biases

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return ``|w| * dR/d|w|`` in float64.

        Raises:
            NoFlow: no output depends on an input and on a prunable parameter.
        """
        assert objective is not None
        network.eval()
        example = objective.example(network)
        signals = signal_inputs(network, example)
        tensors, chosen = linearized(network, parameters, self.biases)

        def flow(scale: float) -> Tensor:
            ones = iter(signals)
            call = example.map(lambda tensor: _filled(tensor, scale if next(ones) else None))
            scaled = {n: t * scale if n.endswith("bias") else t for n, t in tensors.items()}
            ends = flow_ends(network, scaled, call)
            if not ends:
                raise NoFlow.through(network)
            return torch.stack([end.sum() for end in ends]).sum()

        total = flow(1.0)
        scale = _power_of_two(total, flow)
        if scale != 1:
            total = flow(scale)
        gradients = torch.autograd.grad(total, chosen, torch.full_like(total, scale), allow_unused=True)
        if all(gradient is None or not gradient.any() for gradient in gradients) and all(
            map(Tensor.any, chosen)
        ):
            raise NoFlow.through(network)
        return {
            name: torch.zeros_like(w) if gradient is None else (w * gradient).detach()
            for name, w, gradient in zip(parameters, chosen, gradients, strict=True)
        }


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
