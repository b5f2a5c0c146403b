"""Records of earlier versions, whose pruners had other keys, are read as those of today."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from prunelit.study.record import Record
from prunelit.study.report.records.former_keys import with_present_keys
from prunelit.study.report.records.study import read_study

GROWTH = {"every": 1, "share": 0.1, "decay": "none", "stop": 1.0, "regrow": False}


def written_by_an_earlier_version(record: Record, **pruner: Any) -> None:
    path = record.folder / ".hydra" / "config.yaml"
    config = OmegaConf.to_container(OmegaConf.load(path))
    for key in ("pattern", "densities_from", "grow"):
        del config["pruner"][key]
    former = {"scope": "global", "mask_from": None, "grow": None, "decay": "none", "stop": 1.0}
    config["pruner"] |= former | {"regrow": False} | pruner
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(config)))


@pytest.mark.parametrize(
    ("request_of_today", "former", "asked"),
    [
        (["pruner=mag", "pruner.pattern=2:4"], {"scope": "2:4"}, "2:4"),
        (["pruner=like", "pruner.densities_from=run"], {"scope": "like", "mask_from": "run"}, "like"),
        (
            ["pruner=rigl", "compression=1", "pruner.grow.every=2"],
            {
                "scope": "erk",
                "grow": "gradient",
                "every": 2,
                "share": 0.3,
                "decay": "cosine",
                "stop": 0.75,
                "regrow": True,
            },
            "compression 1",
        ),
        (["pruner=lottery", "compression=1"], {"share": 0.2}, "compression 1"),
    ],
    ids=["pattern", "like", "growth", "no growth"],
)
def test_an_earlier_record_reads_as_the_same_request_of_today(
    make_run: Callable[..., Record], tmp_path: Path, request_of_today: list[str], former: Any, asked: str
) -> None:
    make_run(*request_of_today)
    written_by_an_earlier_version(make_run(*request_of_today, "seed=1"), **former)
    study = read_study([tmp_path])
    assert study.runs["asked"].tolist() == [asked] * 2
    assert study.runs["label"].nunique() == 1
    today, earlier = (dict(config["pruner"]) for config in study.configs.values())
    assert earlier == today


@pytest.mark.parametrize("config", [{}, {"pruner": None}, {"pruner": {"rounds": 1}}, {"pruner": [1]}])
def test_configs_that_say_nothing_of_it_stay_as_they_are(config: dict[str, Any]) -> None:
    assert with_present_keys(config) == config
