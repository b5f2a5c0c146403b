"""When prunings come: the epochs of each moment, a training that is too short, and a moment of one's own."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest

from prunelit import BadRequest, Mag, Plan, Pruning, Timing
from prunelit.training.fit.timing import MOMENTS, Moment, Now, Shortfall, settle
from stock import Stranger, loader


@pytest.mark.parametrize(
    ("timing", "first", "run_epochs"),
    [
        (Timing(), 0, 10),
        (Timing(pre_epochs=2), 2, 12),
        (Timing("epoch", every=2), 2, 10),
        (Timing("epoch", every=5), 5, 20),
        (Timing("epoch", pre_epochs=0, every=5), 0, 15),
        (Timing("epoch", every=2, rewound_to=3), 5, 11),
        (Timing("end"), 0, 10),
    ],
)
def test_epochs_of_a_run_that_asks_for_ten_and_has_three_rounds(timing, first: int, run_epochs: int) -> None:
    assert timing.moment.first() == first
    assert timing.moment.run_epochs(10, 3) == run_epochs


def test_a_round_comes_every_so_many_epochs_after_the_last() -> None:
    moment = Timing("epoch", pre_epochs=1, every=3).moment
    due = [epoch for epoch in range(9) if moment.is_due(Now(epoch, prunings=1, last_pruning=2))]
    assert due == [5, 6, 7, 8]
    assert moment.upcoming(Now(3, prunings=1, last_pruning=2), end=9) == 5
    assert moment.upcoming(Now(6, prunings=1, last_pruning=2), end=9) == 6
    # Where the last pruning is not known, those before it came when they should.
    assert moment.upcoming(Now(0, prunings=2), end=9) == 7


def test_a_pruning_after_training_is_never_due_within_it() -> None:
    moment = Timing("end").moment
    assert not any(moment.is_due(Now(epoch)) for epoch in range(5))
    assert moment.upcoming(Now(2), end=5) == 5
    assert moment.shortfall(Now(2), end=5, left=1) is None


@pytest.mark.parametrize(
    ("end", "expected"),
    # Rounds at 2, 4 and 6; the last one needs epoch 6 to begin.
    [(7, None), (6, Shortfall(2, 1)), (3, Shortfall(1, 4)), (2, Shortfall(0, 5)), (-1, None)],
)
def test_what_a_short_training_lacks(end: int, expected: Shortfall | None) -> None:
    assert Timing("epoch", every=2).moment.shortfall(Now(), end, left=3) == expected


def test_levels_end_with_the_next_pruning_or_with_the_run() -> None:
    moment = Timing("epoch", every=2).moment
    assert [moment.end_of_level(done, 3, 9) for done in range(4)] == [2, 4, 6, 9]
    assert moment.end_of_level(1, 3, 3) == 3
    assert Timing("end").moment.end_of_level(0, 1, 9) == 9


@pytest.mark.parametrize(
    ("when", "pre_epochs", "epochs", "grows", "expected"),
    [
        ("start", 2, 0, False, ("end", 2)),
        ("start", 2, 1, False, ("start", 1)),
        ("start", 2, 0, True, ("start", 0)),
        ("start", 0, 0, False, ("start", 0)),
        ("epoch", 2, 0, False, ("epoch", 0)),
    ],
)
def test_a_pruning_that_no_epoch_follows_comes_after_training(when, pre_epochs, epochs, grows, expected):
    assert settle(when, pre_epochs, epochs, grows) == expected


def test_growth_follows_a_pruning_at_the_start_only() -> None:
    for timing, key in ((Timing("end"), "when"), (Timing("epoch"), "when"), (Timing(every=2), "every")):
        with pytest.raises(BadRequest) as refused:
            timing.check_growth("grow.at is random")
        assert refused.value.key == key


class EverySteps(Moment):
    """A round every two optimizer steps."""

    rounds_apart = within_epochs = True

    def is_due(self, now: Now) -> bool:
        return now.step >= 2 * (now.prunings + 1)

    def shortfall(self, now: Now, end: int, left: int) -> Shortfall | None:
        return None


class Steps(pl.Callback):
    """Notes the steps before each pruning."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_before_pruning(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning) -> None:
        self.seen.append(trainer.global_step)


def test_a_moment_of_ones_own_prunes_within_an_epoch(monkeypatch) -> None:
    monkeypatch.setitem(MOMENTS, "start", EverySteps)
    pruning, steps = Pruning(Mag(), compression=0.6, plan=Plan(rounds=3)), Steps()
    trainer = pl.Trainer(
        max_epochs=2,
        callbacks=[pruning, steps],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(Stranger(), loader())
    assert steps.seen == [2, 4, 6]
    assert pruning.current_density == pytest.approx(10**-0.6, abs=0.02)
