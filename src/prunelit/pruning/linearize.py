"""A network's parameters made positive, so that its output grows along every path."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunelit.pruning.parameters import Parameters


def linearized(
    network: nn.Module, parameters: Parameters, biases: bool
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Return float64 copies of all parameters and buffers by name, and those of ``parameters`` in order.

    Parameters are absolute values, those of ``parameters`` require gradients; running means are 0;
    biases that are not among ``parameters`` are 0 unless ``biases`` asks for them. The network is
    not touched: call it with ``torch.func.functional_call``.
    """
    copies = {p: p.detach().to(torch.float64).abs_() for p in network.parameters()}
    prunable = set(parameters.values())
    for name, parameter in network.named_parameters():
        if not biases and name.rpartition(".")[2] == "bias" and parameter not in prunable:
            copies[parameter].zero_()
    chosen = [copies[p].requires_grad_() for p in parameters.values()]
    tensors = {n: copies[p] for n, p in network.named_parameters()}
    for name, buffer in network.named_buffers():
        if buffer.is_floating_point():
            mean = name.rpartition(".")[2] == "running_mean"
            tensors[name] = torch.zeros_like(buffer, dtype=torch.float64) if mean else buffer.double()
    return tensors, chosen
