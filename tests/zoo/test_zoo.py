"""Every criterion and every moment on every module of the zoo."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from same_run import assert_equal_runs, plain, record_run
from zoo.checks import check_counts, check_names, check_zeros
from zoo.entry import Entry
from zoo.fitting import CRITERIA, MOMENTS, Saving, Watch, fit, pruning_for
from zoo.members import ALL, ENTRIES

every_entry = pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry.name)


def turn(entry: Entry, place: int) -> str:
    """Return a moment; entries and criteria meet each of them in turn."""
    return MOMENTS[(ALL.index(entry) + place) % len(MOMENTS)]


def applicable(entry: Entry, start: int) -> str:
    """Return the first criterion from a place on, round the list, that applies to the entry."""
    names = list(CRITERIA)
    start %= len(names)
    return next(name for name in names[start:] + names[:start] if name not in entry.refuses)


def test_the_zoo_is_large_enough() -> None:
    assert len(ALL) >= 25
    assert {"GraSP", "Mag", "SNIP", "SynFlow"} <= CRITERIA.keys()


def half(entry: Entry, place: int) -> int:
    """Return 0 or 1 for two halves of all pairs; each has every entry, criterion and moment."""
    return (ALL.index(entry) + place + place // len(MOMENTS)) % 2


PAIRS = [
    pytest.param(
        *(entry, place),
        id=f"{entry.name}-{criterion}",
        marks=[pytest.mark.slow] if half(entry, place) else [],
    )
    for entry in ALL
    for place, criterion in enumerate(CRITERIA)
]


def test_half_of_the_pairs_have_every_criterion_and_moment() -> None:
    tried = [pair.values for pair in PAIRS if not pair.marks]
    assert {place for _, place in tried} == set(range(len(CRITERIA)))
    assert {turn(entry, place) for entry, place in tried} == set(MOMENTS)
    assert {entry.name for entry, _ in tried} == {entry.name for entry in ALL}


@pytest.mark.parametrize(("entry", "place"), PAIRS)
def test_names_counts_and_zeros(entry: Entry, place: int, tmp_path: Path) -> None:
    criterion = list(CRITERIA)[place]
    pruning = pruning_for(entry, criterion, turn(entry, place))
    watch = Watch(pruning)
    if criterion in entry.refuses:
        with pytest.raises(ValueError, match=entry.refuses[criterion]) as refused:
            fit(entry, pruning, watch)
        assert "\n" not in str(refused.value)
        return
    module, trainer = fit(entry, pruning, watch)
    assert watch.looks or pruning.moment.after_training
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    saved = torch.load(tmp_path / "saved.ckpt", weights_only=False)
    check_names(entry, pruning, module)
    check_counts(entry, pruning, module)
    for state in (module.state_dict(), saved["state_dict"]):
        check_zeros(pruning, state)
    assert saved["state_dict"].keys() == module.state_dict().keys()


@cache
def unpruned_run(name: str) -> dict[str, Any]:
    """Return everything that the entry's training does without pruning."""
    entry = ENTRIES[name]
    return record_run(lambda: (entry.make(), entry.loaders()), **entry.trainer)


@every_entry
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("turned", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_compression_0_changes_nothing(entry: Entry, moment: str, turned: int) -> None:
    """By another criterion at each moment."""
    names = [name for name in ("SNIP", "SynFlow", "Mag") if name not in entry.refuses]
    criterion = names[(MOMENTS.index(moment) + turned) % len(names)]
    pruning = pruning_for(entry, criterion, moment, compression=0.0)
    found = record_run(lambda: (entry.make(), entry.loaders()), pruning, **entry.trainer)
    assert_equal_runs(found, unpruned_run(entry.name))


@every_entry
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_resumed_run_equals_an_uninterrupted_one(entry: Entry, moment: str, tmp_path: Path) -> None:
    if entry.not_resumable:
        pytest.skip(entry.not_resumable)
    criterion = applicable(entry, ALL.index(entry) + 5 * MOMENTS.index(moment))
    whole = pruning_for(entry, criterion, moment)
    module, trainer = fit(entry, whole, Saving(tmp_path), epochs=3)
    resumed = pruning_for(entry, criterion, moment)
    again, other = fit(entry, resumed, epochs=3, ckpt_path=str(tmp_path / "1.ckpt"))
    assert plain(resumed.masks) == plain(whole.masks)
    assert plain(again.state_dict()) == plain(module.state_dict())
    optimizers = [[plain(o.state_dict()) for o in runner.optimizers] for runner in (trainer, other)]
    assert optimizers[0] == optimizers[1]


@pytest.mark.parametrize("criterion", [name for name, found in CRITERIA.items() if found.unit == "weight"])
@pytest.mark.parametrize(
    "entry", [entry for entry in ALL if entry.same_masks_as], ids=lambda entry: entry.name
)
def test_ways_to_compute_the_same_network_give_the_same_masks(entry: Entry, criterion: str) -> None:
    assert entry.same_masks_as is not None
    found = []
    for made in (entry, replace(entry, module=entry.same_masks_as)):
        pruning = pruning_for(made, criterion, "start")
        fit(made, pruning)
        found.append(plain(pruning.masks))
    assert found[0] == found[1]
