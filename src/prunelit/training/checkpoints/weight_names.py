"""Fit the weights of a file into a network: names with a prefix, values, and the last layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from prunelit.request import BadRequest

SAME = "a checkpoint of the same network"
COUNTER = "num_batches_tracked"
"""A buffer of BatchNorm that older files lack; it changes no output."""


@dataclass(frozen=True)
class Fitted:
    """The weights that a network takes, the prefix that their names had, and what is omitted.

    Attributes:
        weights: a value for every entry of the network's state dict.
        prefix: the prefix of the names in the file.
        ignored: names in the file that the network does not have.
        fresh: names in the network that keep their initial values, as the file has another shape.
    """

    weights: dict[str, Tensor]
    prefix: str
    ignored: list[str]
    fresh: list[str]


def fitted(found: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path, strict: bool = True) -> Fitted:
    """Return ``found`` with the names of ``own``.

    Names may have a prefix, such as ``module.`` or ``model.``: the prefix is used for which all names of the
    network exist. ``num_batches_tracked`` may be missing. Unless ``strict``, the last layer may have another
    size in the file, and then keeps its initial weights.

    Raises:
        BadRequest: on ``checkpoint``; names the first entry that differs.
    """
    needed = {name for name in own if not name.endswith(COUNTER)}
    fits = [p for p in _prefixes(found) if all(p + name in found for name in needed)]
    if len(fits) > 1 and fits[0]:
        raise BadRequest(
            "checkpoint", path, SAME, f"every name occurs twice, after the prefixes {fits[0]} and {fits[1]}"
        )
    prefix = fits[0] if fits else ""
    ignored = [name for name in found if name.removeprefix(prefix) not in own or not name.startswith(prefix)]
    if ignored and not prefix:
        raise BadRequest("checkpoint", path, SAME, _difference(found, own))
    values = {name: found[prefix + name] for name in own if prefix + name in found}
    if missing := [name for name in needed if name not in values]:
        raise BadRequest("checkpoint", path, SAME, f"the checkpoint lacks {missing[0]}")
    other = [name for name in values if values[name].shape != own[name].shape]
    if other and not _is_head(other, own):
        name = other[0]
        why = f"{name} has shape {tuple(values[name].shape)}, the network's {tuple(own[name].shape)}"
        raise BadRequest("checkpoint", path, SAME, why)
    if other and strict:
        shape, expected = tuple(values[other[0]].shape), tuple(own[other[0]].shape)
        why = f"{other[0]} has shape {shape}, the network's {expected}"
        hint = f"{SAME} (checkpoint_strict=false loads it without this last layer)"
        raise BadRequest("checkpoint", path, hint, why)
    for name, value in values.items():
        if fault := _fault(value, own[name]):
            raise BadRequest("checkpoint", path, "finite numbers of the network's kind", f"{name} {fault}")
    return Fitted({**own, **{n: v for n, v in values.items() if n not in other}}, prefix, ignored, other)


def _prefixes(found: Mapping[str, Tensor]) -> list[str]:
    """Return the possible prefixes of all names: empty, ``module.``, ``module.model.`` and so on."""
    prefixes = {""}
    for name in found:
        parts = name.split(".")
        prefixes |= {"".join(f"{part}." for part in parts[:depth]) for depth in range(1, min(4, len(parts)))}
    return sorted(prefixes, key=lambda prefix: (prefix.count("."), prefix))


def _difference(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Return the first name that is missing on one side."""
    for name in own:
        if name not in found and not name.endswith(COUNTER):
            return f"the checkpoint lacks {name}"
    return f"the network lacks {next(name for name in found if name not in own)}"


def _is_head(names: list[str], own: Mapping[str, Tensor]) -> bool:
    """Whether all names belong to the layer that comes last in the network."""
    last = list(own)[-1].rpartition(".")[0]
    return all(name.rpartition(".")[0] == last for name in names)


def _fault(value: Tensor, expected: Tensor) -> str:
    """Return why a value cannot be a weight, empty if it can."""
    if value.is_quantized or value.layout != torch.strided:
        return "is quantised" if value.is_quantized else "is a sparse tensor"
    if value.is_meta:
        return "has no values"
    if value.is_complex() != expected.is_complex():
        return "is complex"
    if expected.is_floating_point() and not value.is_floating_point():
        return f"holds {str(value.dtype).removeprefix('torch.')}"
    if value.is_floating_point() and not bool(value.isfinite().all()):
        return "holds NaN or infinity"
    return ""
