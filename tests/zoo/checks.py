"""What must hold of a pruned module of the zoo."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import lightning.pytorch as pl
from torch import Tensor, nn

from prunelit import Pruning
from prunelit.pruning.masks import Masks
from zoo.entry import ENTRIES, Entry
from zoo.fitting import SPARSITY, fit


@cache
def dense_names(name: str) -> tuple[list[str], list[str]]:
    """Return the names of an entry's parameters and of its state after training without pruning."""
    module, _ = fit(ENTRIES[name])
    return [name for name, _ in module.named_parameters(remove_duplicate=False)], list(module.state_dict())


def full_names(pruning: Pruning) -> Masks:
    """Return the masks by the names that parameters have in the whole module."""
    prefix = f"{pruning.network_name}." if pruning.network_name else ""
    return {prefix + name: mask for name, mask in pruning.masks.items()}


def check_names(entry: Entry, pruning: Pruning, module: pl.LightningModule) -> None:
    """The parameters have the names of the module that is not pruned, and those to prune have masks."""
    names, state = dense_names(entry.name)
    assert [name for name, _ in module.named_parameters(remove_duplicate=False)] == names
    assert list(module.state_dict()) == state
    expected, found = set(filter(entry.is_prunable, names)), set(full_names(pruning))
    assert expected, f"{entry.prunable} matches no parameter"
    if pruning.criterion.unit == "weight":
        assert found == expected
    else:  # with their biases and normalisation
        assert {name for name in found if name.endswith("weight") and entry.is_prunable(name)} == expected


def check_zeros(pruning: Pruning, state: Mapping[str, Tensor]) -> None:
    """What the masks remove is 0."""
    for name, mask in full_names(pruning).items():
        assert not state[name][~mask].any(), name


def check_counts(entry: Entry, pruning: Pruning, module: pl.LightningModule) -> None:
    """Exactly the share asked for is removed: of all weights, or of each layer's filters."""
    masks = full_names(pruning)
    if pruning.criterion.unit == "weight":
        assert sum(int(mask.sum()) for mask in masks.values()) == round(
            (1 - SPARSITY) * sum(mask.numel() for mask in masks.values())
        )
        return
    for name in filter(entry.is_prunable, masks):
        layer = module.get_submodule(name.rpartition(".")[0])
        rows = masks[name].movedim(1 if isinstance(layer, nn.ConvTranspose2d) else 0, 0).flatten(1)
        filters, kept = rows.any(1), int(masks[name].sum())
        whole = bool((rows == filters[:, None]).all()) and int(filters.sum()) == round(SPARSITY * len(rows))
        assert whole or kept in (rows.numel(), round((1 - SPARSITY) * rows.numel())), name
