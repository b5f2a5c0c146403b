"""Linear layers whose weights have the pattern 2:4 as products that skip the zeros, on GPUs that can.

Mishra et al., Accelerating sparse deep neural networks, https://arxiv.org/abs/2104.08378; PyTorch's
``torch.sparse.to_sparse_semi_structured``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunelit.notice import warn
from prunelit.pruning.parameters import abridged

LEAST = (32, 64)
"""Rows and columns that PyTorch takes multiples of, in half precision."""


def has_pattern(mask: Tensor) -> bool:
    """Whether a matrix of a size that PyTorch takes keeps at most two of every four consecutive inputs."""
    if mask.ndim != 2 or mask.shape[0] % LEAST[0] or mask.shape[1] % LEAST[1]:
        return False
    return bool((mask.unflatten(1, (-1, 4)).sum(2) <= 2).all())


def layers_with_pattern(network: nn.Module, masks: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the linear layers whose weights have the pattern."""
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
        and f"{name}.weight" in masks
        and has_pattern(masks[f"{name}.weight"])
    ]


def semi_structured(network: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, nn.Module] | None:
    """Return the network in half precision as it is, ``half``, and with sparse products, ``2to4``.

    None where no linear layer has the pattern, and where there is no GPU of compute capability 8.0 or more.
    Without such a GPU, a warning follows if all of these layers keep exactly two of every four inputs.
    """
    names = layers_with_pattern(network, masks)
    if not names:
        return None
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        if all(bool((masks[f"{name}.weight"].unflatten(1, (-1, 4)).sum(2) == 2).all()) for name in names):
            where = abridged([f"{name}.weight" for name in names])
            gpu = "a GPU of compute capability 8.0 or more"
            warn(f"the record lacks the latency of 2:4 products ({where}), which need {gpu}")
        return None
    half = copy.deepcopy(network).half().eval()
    sparse = copy.deepcopy(half)
    for name in names:
        layer = sparse.get_submodule(name)
        weight: Tensor = layer.weight  # type: ignore[assignment]
        layer.weight = nn.Parameter(torch.sparse.to_sparse_semi_structured(weight.detach()), False)
    return {"half": half, "2to4": sparse}
