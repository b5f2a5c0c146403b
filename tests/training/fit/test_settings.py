"""A fit that resumes with other arguments of ``Pruning`` than its checkpoint says which ones."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from prunelit import SNIP, HoldMasks, Mag, Pruning
from prunelit.request import PruningWarning
from stock import Stranger, loader, network, trainer

OTHER = "the checkpoint comes from a pruning with other arguments"


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    first = trainer(Pruning(Mag(), sparsity=0.5, network="backbone"), max_epochs=1)
    first.fit(Stranger(network()), loader())
    first.save_checkpoint(tmp_path / "one.ckpt")
    return str(tmp_path / "one.ckpt")


def resumed(checkpoint: str, pruning: Pruning) -> list[str]:
    """Train for another epoch; return the warnings about other arguments."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PruningWarning)
        trainer(pruning, max_epochs=2).fit(Stranger(network()), loader(), ckpt_path=checkpoint)
    return [str(warning.message) for warning in caught if OTHER in str(warning.message)]


def test_the_same_arguments_and_held_masks_are_nothing_to_warn_of(checkpoint: str) -> None:
    pruning = Pruning(Mag(), sparsity=0.5, network="backbone")
    assert resumed(checkpoint, pruning) == []
    assert resumed(checkpoint, HoldMasks(pruning.masks, network="backbone")) == []


@pytest.mark.parametrize(
    ("pruning", "then", "now"),
    [
        (lambda: Pruning(Mag(), sparsity=0.8, network="backbone"), "sparsity=0.5", "sparsity=0.8"),
        (lambda: Pruning(SNIP(), sparsity=0.5, network="backbone"), "Mag", "SNIP"),
        (
            lambda: Pruning(Mag(), sparsity=0.5, scope="layer", network="backbone"),
            "scope='global'",
            "scope='layer'",
        ),
        (
            lambda: Pruning(Mag(), sparsity=0.5, exclude="6", network="backbone"),
            "exclude=()",
            "exclude=('6',)",
        ),
    ],
)
def test_other_arguments_are_named(checkpoint: str, pruning, then: str, now: str) -> None:
    (said,) = resumed(checkpoint, pruning())
    assert f"{then} then, {now} now" in said
