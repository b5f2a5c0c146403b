"""Make the parameters and inputs of a network positive, so that its output grows along every path."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunelit.pruning.call import Call
from prunelit.pruning.nested import tensors_in


def linearized(
    network: nn.Module, differentiated: Mapping[nn.Parameter, Tensor], biases: bool
) -> dict[str, Tensor]:
    """Return a replacement of each parameter and buffer by name: ``differentiated``, or copies in float64.

    Copies of parameters are absolute values; biases that are copied are 0 unless ``biases`` asks for
    them; running means are 0. The network is not touched: call it with ``torch.func.functional_call``.
    """
    tensors = {}
    for name, parameter in network.named_parameters():
        if parameter in differentiated:
            tensors[name] = differentiated[parameter]
            continue
        tensors[name] = parameter.detach().to(torch.float64).abs()
        if not biases and name.rpartition(".")[2] == "bias":
            tensors[name].zero_()
    for name, buffer in network.named_buffers():
        if buffer.is_floating_point():
            mean = name.rpartition(".")[2] == "running_mean"
            tensors[name] = torch.zeros_like(buffer, dtype=torch.float64) if mean else buffer.double()
    return tensors


def signal_inputs(network: nn.Module, call: Call) -> list[bool]:
    """Return for each tensor of ``call`` whether it is a signal, which an input of ones can replace.

    Integers and bools are not. A floating-point tensor is a mask or a setting, and not a signal, if it

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
    """Return the arguments of ``call`` by name; in nested dicts, the keys are the names."""
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
