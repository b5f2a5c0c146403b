"""Methods are named by what tells them apart, and by no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from prunelit.study.record import Record
from prunelit.study.report.records.study import read_study

MakeRun = Callable[..., Record]

CASES = [
    # what distinguishes runs of one pruner, and the names that follow
    ([["seed=0"], ["seed=1"], ["compression=2"]], ["synflow"]),
    ([["pruner.rounds=1"], ["pruner.rounds=100"]], ["synflow rounds=1", "synflow rounds=100"]),
    ([["optimizer=sgd"], ["optimizer=adam"]], ["synflow optimizer=adam", "synflow optimizer=sgd"]),
    ([["batch_size=32"], ["batch_size=64"]], ["synflow batch_size=32", "synflow batch_size=64"]),
    (
        [["pruner.batch_size=32"], ["pruner.batch_size=64"]],
        ["synflow pruner.batch_size=32", "synflow pruner.batch_size=64"],
    ),
    (
        [["pruner=set", "pruner.grow.at=gradient"], ["pruner=set", "pruner.grow.at=random"]],
        ["set grow.at=gradient", "set grow.at=random"],
    ),
    ([["pruner=mag", "epochs=1"], ["epochs=2"]], ["mag", "synflow"]),
    ([["model=mlp", "epochs=1"], ["epochs=2"]], ["synflow"]),
    (
        [["pruner=erk"], ["pruner=erk", "pruner.criterion._target_=prunelit.pruning.criteria.Mag"]],
        ["erk criterion=Mag", "erk criterion=Rand"],
    ),
    (
        [["checkpoint=a.ckpt", "seed=0"], ["checkpoint=b.ckpt", "seed=1"], ["seed=0"]],
        ["synflow checkpoint=given", "synflow checkpoint=null"],
    ),
    # Runs of one seed that start from different files are different methods; the seeds of the files are not.
    (
        [
            ["seed=0", "pruner.densities_from=a/mag-c1-seed0-0123456789"],
            ["seed=1", "pruner.densities_from=a/mag-c1-seed1-0123456abc"],
            ["seed=0", "pruner.densities_from=a/mag-c2-seed0-0123456def"],
        ],
        ["synflow densities_from=a/mag-c1", "synflow densities_from=a/mag-c2"],
    ),
    (
        [["checkpoint=a.ckpt"], ["checkpoint=b.ckpt"]],
        ["synflow checkpoint=a.ckpt", "synflow checkpoint=b.ckpt"],
    ),
    ([["checkpoint=a.ckpt"], ["checkpoint=b.ckpt", "compression=2"]], ["synflow"]),
    (
        [["checkpoint=a-seed0-0123456789"], ["checkpoint=a-seed0-0123456abc"]],
        ["synflow checkpoint=a-seed0-0123456789", "synflow checkpoint=a-seed0-0123456abc"],
    ),
    # Patterns and thresholds share a column, so the names distinguish them.
    ([["pruner.pattern='2:4'"], ["pruner.pattern='4:8'"]], ["synflow pattern=2:4", "synflow pattern=4:8"]),
    (
        [["pruner=karnin", "pruner.threshold=0.3"], ["pruner=karnin", "pruner.threshold=0.4"]],
        ["karnin threshold=0.3", "karnin threshold=0.4"],
    ),
    ([["optimizer.weight_decay=0"], ["optimizer.weight_decay=0.0"]], ["synflow"]),
    # A budget removes units, whatever the config has.
    ([["flops=0.5"], ["params=0.5"], ["flops=0.5", "pruner.granularity=unit"]], ["synflow"]),
    ([["speedup=2"], ["compression=1"]], ["synflow granularity=unit", "synflow granularity=weight"]),
    (
        [["latency=8ms"], ["compression=1", "pruner.granularity=unit"], ["compression=1"]],
        ["synflow granularity=unit", "synflow granularity=weight"],
    ),
    ([["pruner=none", "flops=0.5"], ["pruner=none"]], ["none"]),
    ([["data.workers=2"], ["logger=none"], ["data.root=x"], ["name=y"]], ["synflow"]),
]


@pytest.mark.parametrize(("requests", "names"), CASES)
def test_names(make_run: MakeRun, tmp_path: Path, requests: list[list[str]], names: list[str]) -> None:
    for request in requests:
        overrides = ["+" + item if item.startswith("data.root") else item for item in request]
        make_run(*overrides)
    assert sorted(set(read_study([tmp_path]).runs["label"])) == names
