"""How much is asked for, and what it is called."""

from typing import Any, get_type_hints

import pytest

from prunelit.amount import BUDGETS, Amount
from prunelit.declared import options_of
from prunelit.request import BadRequest
from prunelit.training.config.keys import pruner_options
from prunelit.training.fit.options import PARTS, PruningOptions


def config(compression: Any = None, sparsity: Any = None, **pruner: Any) -> dict[str, Any]:
    own = {"criterion": "mag", "scope": "global", "compression": 0.5, **pruner}
    return {"compression": compression, "sparsity": sparsity, "pruner": own}


@pytest.mark.parametrize(
    ("asked", "density", "words", "short"),
    [
        (config(), 10**-0.5, "compression 0.5", "c0.5"),
        (config(compression=1), 0.1, "compression 1", "c1"),
        (config(sparsity=0.9), 0.1, "sparsity 0.9", "s0.9"),
        (config(compression=2, criterion=None), 1.0, "compression 0", "c0"),
        (config(pattern="2:4"), None, "", ""),
        (config(densities_from="run"), None, "", ""),
        (config(compression=None, scope="global"), 10**-0.5, "compression 0.5", "c0.5"),
    ],
)
def test_an_amount_is_read_from_a_config(asked: Any, density: float | None, words: str, short: str) -> None:
    amount = Amount.of(asked)
    assert amount.density == (None if density is None else pytest.approx(density))
    assert (amount.words, amount.short) == (words, short)


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        (config(compression=1, sparsity=0.5), "sparsity"),
        (config(compression=-1), "compression"),
        (config(sparsity=1), "sparsity"),
        (config(sparsity=True), "sparsity"),
        (
            config(compression=None) | {"pruner": {"criterion": "mag", "scope": "layer", "compression": "a"}},
            "pruner.compression",
        ),
    ],
)
def test_a_wrong_amount_is_refused(asked: Any, key: str) -> None:
    with pytest.raises(BadRequest) as refused:
        Amount.of(asked)
    assert refused.value.key == key


def test_the_options_that_editors_know_are_those_that_are_declared() -> None:
    declared = {option.name for option in pruner_options()} | {
        "layer_densities",
        "pre_epochs",
        "grow",
        *BUDGETS,
        *PARTS,
    }
    assert set(get_type_hints(PruningOptions)) == declared
    assert options_of(Amount)["sparsity"].expected == "a number in [0, 1), or null"
