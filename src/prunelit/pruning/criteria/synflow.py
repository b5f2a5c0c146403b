"""SynFlow: synaptic flow, score(w) = |w| * dR/d|w| with R = 1' f(1; |w|).

Tanaka, Kunin, Yamins and Ganguli, Pruning neural networks without any data by iteratively
conserving synaptic flow, https://arxiv.org/abs/2006.05467

R is the sum of the outputs for an input of ones, when every parameter is replaced by its absolute
value. Batch normalisation runs in eval mode with its running mean taken as 0, so that it is a
positive scaling; in a fresh network that is the identity.

R is a product over layers and leaves float32 in deep networks, so it is computed in float64 on
copies of the parameters: the network itself is not touched.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map_only

from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters


class SynFlow(Criterion):
    """Synaptic flow in float64; one forward and backward pass of one input, whatever the data."""

    needs = "example"

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return ``|w| * dR/d|w|`` in float64."""
        assert objective is not None
        network.eval()
        tensors = _linearized(network, parameters)
        ones = tree_map_only(Tensor, _ones_like, objective.example())
        output = functional_call(network, tensors, ones)
        flow = torch.stack([leaf.sum() for leaf in _tensors(output)]).sum()
        chosen = [tensors[name] for name in parameters]
        gradients = torch.autograd.grad(flow, chosen, allow_unused=True)
        return {
            name: torch.zeros_like(w) if gradient is None else (w * gradient).detach()
            for name, w, gradient in zip(parameters, chosen, gradients, strict=True)
        }


def _linearized(network: nn.Module, parameters: Parameters) -> dict[str, Tensor]:
    """Return float64 copies: parameters as absolute values, running means as 0."""
    tensors = {n: p.detach().to(torch.float64).abs_() for n, p in network.named_parameters()}
    for name in parameters:
        tensors[name].requires_grad_()
    for name, buffer in network.named_buffers():
        if buffer.is_floating_point():
            mean = name.rpartition(".")[2] == "running_mean"
            tensors[name] = torch.zeros_like(buffer, dtype=torch.float64) if mean else buffer.double()
    return tensors


def _ones_like(tensor: Tensor) -> Tensor:
    return torch.ones_like(tensor, dtype=torch.float64) if tensor.is_floating_point() else tensor


def _tensors(output: Any) -> list[Tensor]:
    leaves = torch.utils._pytree.tree_leaves(output)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad]
