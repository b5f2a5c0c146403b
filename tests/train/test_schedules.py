"""The learning rate of each epoch, where pruning makes a run longer than asked or restarts the schedule."""

from math import cos, pi

import pytest

from runs import csv_rows, only_folder, power_cut

COMMON = ("scheduler=cosine", "optimizer=sgd", "optimizer.lr=1.0", "logger=none")


def half_cosine(length: int) -> list[float]:
    return [(1 + cos(pi * epoch / length)) / 2 for epoch in range(length)]


def rates() -> list[float]:
    return [float(row["learning_rate"]) for row in csv_rows("metrics.csv")]


@pytest.mark.parametrize(
    ("asked", "levels"),
    [
        (("pruner=none", "pre_epochs=2", "epochs=3"), [5]),
        (("pruner=mag", "pre_epochs=2", "epochs=3"), [5]),
        (("pruner=gmp", "epochs=3", "pruner.rounds=4"), [5]),
        (("pruner=mag", "pre_epochs=2", "epochs=3", "pruner.restart_schedule=true"), [2, 3]),
        (("pruner=lottery", "sparsity=0.4", "pruner.every=2", "epochs=10"), [2, 2, 2, 4]),
        (("pruner=lottery", "sparsity=0.4", "pre_epochs=3", "epochs=3"), [3, 1, 1, 1]),
        (("pruner=karnin", "epochs=3", "pruner.restart_schedule=true"), [3]),
        (("pruner=set", "epochs=4"), [4]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_cosine_ends_with_the_run_or_with_each_level(cli, asked, levels: list[int]) -> None:
    assert cli(*asked, "batch_size=1024", *COMMON)[0] == 0
    right = [rate for length in levels for rate in half_cosine(length)]
    assert rates() == pytest.approx(right)


def test_a_length_that_is_given_is_kept(cli) -> None:
    assert cli("pruner=mag", "pre_epochs=1", "epochs=2", "scheduler.T_max=30", *COMMON)[0] == 0
    assert rates() == pytest.approx(half_cosine(30)[:3])


def test_a_resumed_level_has_the_rates_of_an_undisturbed_one(cli, monkeypatch) -> None:
    request = ("pruner=lottery", "sparsity=0.2", "pruner.every=2", "epochs=5", *COMMON)
    with power_cut(monkeypatch):
        assert cli(*request)[0] == 1
    assert cli(*request)[0] == 0
    assert rates() == pytest.approx(half_cosine(2) + half_cosine(3))


def test_milestones_below_one_are_shares_of_the_epochs(cli) -> None:
    steps = ("scheduler=multistep", "scheduler.milestones=[0.5,0.75]", "optimizer.lr=1.0")
    assert cli("pruner=mag", "pre_epochs=1", "epochs=3", "logger=none", "optimizer=sgd", *steps)[0] == 0
    assert rates() == pytest.approx([1.0, 1.0, 0.1, 0.01])


def test_milestones_after_the_last_epoch_are_reported(cli) -> None:
    status, _, err = cli("pruner=rand", "epochs=1", "logger=none", "scheduler=multistep")
    assert (status, len(err)) == (0, 1)
    assert err[0].startswith("warning: scheduler.milestones: 60, 120 come after the 1 epochs")
    assert "scheduler.milestones: 60, 120" in (only_folder() / "train.log").read_text()
