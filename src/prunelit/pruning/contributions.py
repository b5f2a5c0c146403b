"""The contribution of each input channel of a layer to its outputs at sampled positions, and the order of
removal.

A layer's output, less its bias, is a sum over its input channels: ``y = sum of x_c``. Samples of it are the
rows of a matrix X with one column per channel. The choice of channels only needs the Gram matrix ``G = X'
X``, which has as many rows and columns as there are channels, however many samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

from prunelit.pruning.objective import Objective
from prunelit.pruning.preserve import random_state

CHUNK = 2**22
"""The number of products of weights and inputs in memory at a time."""


def gram_matrices(
    network: nn.Module, channels: Mapping[str, int], objective: Objective, positions: int
) -> dict[str, Tensor]:
    """Return the Gram matrix of each layer's channels, in float64, over all batches and processes.

    One forward pass per batch. Positions are drawn by the global random state and the batch's place, so that
    they are the same however many processes share the batches.

    Args:
        network: holds the layers, which are plain convolutions or linear ones.
        channels: by name of the layer, the channels that its inputs come in.
        objective: its loss runs the network.
        positions: places drawn from each sample's outputs of a layer.
    """
    layers = {name: network.get_submodule(name) for name in channels}
    grams = {
        name: torch.zeros(count, count, dtype=torch.float64, device=next(layers[name].parameters()).device)
        for name, count in channels.items()
    }

    def adding(name: str) -> Any:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            inputs = [*args, *kwargs.values()][0].detach()
            per_sample = positions * next(layer.parameters())[0].numel()
            for part in inputs.split(max(1, CHUNK // per_sample)):
                rows = sampled_contributions(layer, part, channels[name], positions)
                grams[name] += rows.T @ rows

        return hook

    handles = [layers[n].register_forward_pre_hook(adding(n), with_kwargs=True) for n in layers]
    seed = int(torch.randint(2**62, ()))
    try:
        for place, batch in objective.numbered():
            with random_state(seed + place):
                objective.loss(batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: objective.sum_over_ranks(gram) for name, gram in grams.items()}


@torch.no_grad()
def sampled_contributions(layer: nn.Module, inputs: Tensor, channels: int, positions: int) -> Tensor:
    """Return what each channel adds to ``positions`` randomly drawn outputs of each sample.

    An output is drawn by its place in the image and by its own channel. A linear layer's inputs come
    in ``channels`` blocks of equal size.

    Returns:
        float64, of shape (samples * positions, channels).
    """
    samples = torch.arange(len(inputs)).repeat_interleave(positions)
    weight: Tensor = layer.weight  # type: ignore[assignment]
    outputs = _draw(len(weight), len(samples), inputs)
    if isinstance(layer, _ConvNd):
        places, size = _patches(layer, inputs, len(samples))
        index = (samples.view(-1, *[1] * size).to(inputs.device), *places)
        met = _padded(layer, inputs).movedim(1, -1)[index]
        products = met.double() * weight.movedim(1, -1)[outputs].double()
        return products.flatten(1, -2).sum(1)
    rows = inputs.flatten(1, -2) if inputs.ndim > 2 else inputs.unsqueeze(1)
    met = rows[samples.to(inputs.device), _draw(rows.shape[1], len(samples), inputs)]
    products = met.double() * weight[outputs].double()
    return products.unflatten(1, (channels, -1)).sum(2)


def _draw(high: int, count: int, like: Tensor) -> Tensor:
    return torch.randint(high, (count,)).to(like.device)


def _patches(layer: _ConvNd, inputs: Tensor, count: int) -> tuple[list[Tensor], int]:
    """Return, for each axis of the image, the padded indices under the kernel at ``count`` random places."""
    border = layer._reversed_padding_repeated_twice
    size = len(layer.kernel_size)
    places = []
    for axis, (kernel, stride, dilation) in enumerate(
        zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    ):
        before, after = border[2 * (size - 1 - axis) : 2 * (size - axis)]
        length = inputs.shape[2 + axis] + before + after
        corner = _draw((length - dilation * (kernel - 1) - 1) // stride + 1, count, inputs) * stride
        under = corner[:, None] + dilation * torch.arange(kernel, device=inputs.device)
        places.append(under.view(count, *[kernel if i == axis else 1 for i in range(size)]))
    return places, size


def _padded(layer: _ConvNd, inputs: Tensor) -> Tensor:
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)


def removal_order(gram: Tensor) -> list[int]:
    """Return all channels in the order of greedy removal: the next adds least to ``|X_T 1|^2``.

    T are the channels removed so far. Adding c changes the objective by ``G_cc + 2 sum of G_ct over
    t in T``, which is kept up to date for every c: O(C) a removal. Of equals the first goes first.
    """
    products = gram.double().cpu().numpy()
    change = products.diagonal().copy()
    order = []
    for _ in range(len(products)):
        channel = int(np.argmin(change))
        order.append(channel)
        change += 2 * products[channel]
        change[channel] = np.inf
    return order


def rescaling(gram: Tensor, kept: Tensor) -> Tensor:
    """Return the factors w of the kept channels with the least ``|X 1 - X_kept w|^2``; the others' are 0.

    Where several are least, those nearest to 1: a channel that never fires keeps its weights.
    """
    products, kept_there = gram.double().cpu(), kept.cpu()
    rows = products[kept_there]
    lost = rows[:, ~kept_there].sum(1, keepdim=True)
    change = torch.linalg.lstsq(rows[:, kept_there], lost, driver="gelsd").solution
    factors = torch.zeros(len(products), dtype=torch.float64)
    factors[kept_there] = 1 + change[:, 0]
    return factors.to(gram.device)
