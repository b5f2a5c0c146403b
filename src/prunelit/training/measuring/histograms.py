"""Histograms of weights, and how many connections each unit keeps: arrays of ``details.npz``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from prunelit.pruning.masks import Masks

BINS = 64


def histogram(values: Tensor, edges: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return how many finite ``values`` lie in each bin, and the bins' edges; of complex numbers, the
    magnitudes.

    Args:
        values: of any shape.
        edges: the edges of the bins; None: from the minimum to the maximum.
    """
    values = values.detach().cpu().flatten()
    values = (values.abs() if values.is_complex() else values).float()
    values = values[values.isfinite()]
    if edges is None:
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
        edges = torch.linspace(low, high if high > low else low + 1, BINS + 1)
    counts = torch.histc(values, BINS, float(edges[0]), float(edges[-1]))
    return counts.long(), edges


def stacked(arrays: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return arrays of one axis with those of equal type and length in one tensor, with which a checkpoint is
    saved faster."""
    alike: dict[tuple[Any, int], list[str]] = {}
    for name, array in arrays.items():
        alike.setdefault((array.dtype, len(array)), []).append(name)
    groups = list(alike.values())
    tensors = [torch.stack([arrays[name] for name in group]) for group in groups]
    return {"order": list(arrays), "groups": groups, "tensors": tensors}


def unstacked(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the arrays that :func:`stacked` has put together; a checkpoint of earlier versions has them as
    they are."""
    if "groups" not in state:
        return dict(state)
    rows = zip(state["groups"], state["tensors"], strict=True)
    found = {name: row for group, tensor in rows for name, row in zip(group, tensor, strict=True)}
    return {name: found[name] for name in state["order"]}


def kept_connections(masks: Masks) -> dict[str, Tensor]:
    """Return for each weight the number of connections that each output unit (axis 0) and input unit (axis 1)
    keeps."""
    kept = {}
    for name, mask in masks.items():
        if mask.ndim >= 2:
            kept[f"kept_by_output/{name}"] = mask.flatten(1).sum(1).int().cpu()
            kept[f"kept_by_input/{name}"] = mask.transpose(0, 1).flatten(1).sum(1).int().cpu()
    return kept
