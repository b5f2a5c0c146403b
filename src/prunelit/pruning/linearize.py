"""A network's parameters and inputs made positive, so that its output grows along every path."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn

from prunelit.pruning.call import Call
from prunelit.pruning.nested import tensors_in
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


def signal_inputs(network: nn.Module, call: Call) -> list[bool]:
    """Tell for each tensor of ``call`` whether it is a signal, which an input of ones can stand for.

    Integers and bools are none. A floating-point tensor is none but a mask or a setting if it

    * is passed for an argument whose name contains ``mask``,
    * holds minus infinity, or a number below -10,000 that stands for it,
    * is a single number without axes, or
    * holds zeros and ones alone, while another floating-point tensor does not.
    """
    named = [
        (tensor, "mask" in name) for name, value in _arguments(network, call) for tensor in tensors_in(value)
    ]
    masks = {id(tensor) for tensor, is_mask in named if is_mask}
    floats = [
        tensor.is_floating_point()
        and tensor.ndim > 0
        and id(tensor) not in masks
        and not bool((tensor < -1e4).any())
        for tensor in call.tensors()
    ]
    binary = [bool(((tensor == 0) | (tensor == 1)).all()) for tensor in call.tensors()]
    mixed = any(signal and not zeros_and_ones for signal, zeros_and_ones in zip(floats, binary, strict=True))
    return [
        signal and not (mixed and zeros_and_ones)
        for signal, zeros_and_ones in zip(floats, binary, strict=True)
    ]


def _arguments(network: nn.Module, call: Call) -> list[tuple[str, object]]:
    """Return the arguments of ``call`` by name; of nested dicts, the names are those of the keys."""
    try:
        bound = inspect.signature(network.forward).bind(*call.inputs, **call.keywords).arguments
    except (TypeError, ValueError):
        bound = dict(call.keywords)
    found: list[tuple[str, object]] = []
    waiting: list[tuple[str, object]] = list(bound.items())
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{name}.{key}", each) for key, each in value.items()]
        else:
            found.append((name, value))
    return found
