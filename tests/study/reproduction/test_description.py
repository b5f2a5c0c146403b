"""The descriptions of the reports cover every published number, and their commands are what they say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import DictConfig, OmegaConf

from prunelit.amount import Amount
from prunelit.request import BadRequest
from prunelit.study.identity import folder as run_folder
from prunelit.study.report.records.study import Study
from prunelit.study.report.tables.literature import VALUES, parse_setting, published_texts
from prunelit.study.reproduction.cells import runs_of, sweeps_of
from prunelit.study.reproduction.description import (
    Question,
    Report,
    Sweep,
    describe,
    read_report,
    report_names,
)
from prunelit.study.reproduction.figures import MAKERS
from prunelit.study.reproduction.listing import number_of_runs
from prunelit.study.reproduction.requests import Request, commands
from prunelit.study.reproduction.tables import NAMES
from prunelit.study.reproduction.values import COUNTED_AS_PUBLISHED

Composed = Callable[..., DictConfig]
REPORTS = ["butler2022", "evani2023", "khanal2018", "mikler2019", "shi2022"]


def test_the_five_reports_are_there() -> None:
    assert report_names() == REPORTS
    assert {read_report(name).key for name in REPORTS} == set(published_texts()["report"])
    with pytest.raises(BadRequest, match=r"\bbutler2022\?"):
        read_report("butler2021")


def test_every_published_number_has_a_table_a_metric_and_a_doubt_or_none() -> None:
    facts = published_texts()
    assert len(facts) >= 373
    for name in REPORTS:
        report = read_report(name)
        own = facts[facts["report"] == report.key].to_dict("records")
        assert {fact["table"] for fact in own} <= set(report.tables)
        assert {fact["metric"] for fact in own} <= {*VALUES, *COUNTED_AS_PUBLISHED}
        assert {fact["metric"] for fact in own} <= set(NAMES)
        assert all(report.doubt(fact) for fact in own if not fact["value"])
        for remark in (*report.doubtful, *report.reasons):
            assert any(remark.fits(fact) for fact in own), remark


def values(texts: str) -> list[str]:
    return texts.split(",") if not texts.startswith("[") else [texts]


def combinations(sweep: Sweep) -> Iterator[list[str]]:
    """Yield the overrides of each run of a sweep with one seed."""
    found: list[list[str]] = [[]]
    for text in sweep.overrides(1.0):
        key, _, value = text.partition("=")
        if not key.startswith("+"):
            found = [[*before, f"{key}={one}"] for before in found for one in values(value)]
    yield from found


def planned(sweep: Sweep, folder: Path, composed: Composed) -> Study:
    """Return the study that a sweep leaves, as far as its commands say what it is.

    The number of its runs that ``--list`` prints is checked on the way.
    """
    rows, folders = [], set()
    for number, overrides in enumerate(combinations(sweep)):
        config = composed(*overrides)
        folders.add(run_folder(config))
        density, place = Amount.of(config).density, folder / f"{sweep.name}{number}"
        names = {group: config[group].name for group in ("pruner", "data", "model")}
        known = {"status": "complete", "asked": "so", "asked_density": density, "density": density}
        rows.append({**names, **known, "label": names["pruner"], "folder": place})
        if OmegaConf.is_list(config.pruner.threshold):
            place.mkdir()
            tried = [f"{threshold},50.0" for threshold in config.pruner.threshold]
            (place / "thresholds.csv").write_text("\n".join(["threshold,top1", *tried, ""]))
    assert number_of_runs(replace(sweep, seeds=1), Request()) == len(folders), sweep.name
    index = [str(number) for number in range(len(rows))]
    runs = pd.DataFrame(rows, index).astype({"asked_density": float, "density": float})
    return Study(runs, pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), [], {})


def matched(report: Report, study: Study, fact: dict[str, str]) -> int:
    return len(runs_of(report, study, fact))


@pytest.mark.parametrize("name", REPORTS)
def test_a_sweep_repeats_each_published_number(name: str, tmp_path: Path, composed: Composed) -> None:
    report, studies = read_report(name), {}
    facts = published_texts()
    missing = []
    for fact in facts[facts["report"] == report.key].to_dict("records"):
        sweeps = sweeps_of(report, fact["table"])
        for sweep in sweeps:
            if sweep not in studies:
                studies[sweep] = planned(report.sweeps[sweep], tmp_path, composed)
        if not any(matched(report, studies[sweep], fact) for sweep in sweeps):
            missing.append((fact["table"], fact["method"], fact["setting"], fact["metric"]))
    assert missing == []


@pytest.mark.parametrize("name", REPORTS)
def test_counts_of_epochs_at_full_scale_are_those_of_the_experiments(name: str, composed: Composed) -> None:
    for sweep in read_report(name).sweeps.values():
        config = composed(*next(combinations(sweep)))
        for key, full in sweep.epochs.items():
            if config.pruner.name != "none" or not key.startswith("pruner."):
                assert OmegaConf.select(config, key) == full, (sweep.name, key)


def test_a_scale_makes_smaller_what_the_description_says() -> None:
    sweep = Sweep(
        "s", "", "pruner=mag pre_epochs=0", 3, {"epochs": 10}, shrinks=("epochs", "seeds", "images")
    )
    assert sweep.overrides(1.0) == ["pruner=mag", "pre_epochs=0"]
    expected = ["pruner=mag", "pre_epochs=0", "epochs=2", "+trainer.limit_train_batches=0.2"]
    assert sweep.overrides(0.2) == expected
    assert (sweep.seeds_at(1.0), sweep.seeds_at(0.2)) == ([0, 1, 2], [0])
    assert Sweep("s", "", "pruner=mag", 3, {"epochs": 10}).overrides(0.2) == ["pruner=mag"]
    scored = Sweep("s", "", "pruner=snip", batches={"pruner.batches": 60}, shrinks=("batches",))
    assert scored.overrides(1.0) == ["pruner=snip"]
    assert scored.overrides(0.1) == ["pruner=snip", "pruner.batches=6"]


def test_figures_are_drawn_here_or_by_the_report_of_a_study() -> None:
    pictures = {
        *("weights", "density_by_layer", "training_accuracy", "training_loss", "rounds_by_epoch"),
        *("rounds_by_sparsity", "pareto_kept", "units", "kernel_places", "confusion"),
    }
    for name in REPORTS:
        used = {picture.picture for picture in read_report(name).pictures.values()}
        assert used <= {*pictures, *MAKERS}, name


def test_a_description_with_a_wrong_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    start = "key: k\ntitle: t\nabout: a\n"
    path.write_text(f"{start}sweeps: {{}}\ntables: {{I: {{title: t, sweeps: [none]}}}}\n")
    with pytest.raises(ValueError, match="not described: none"):
        describe("x", path)
    path.write_text(f"{start}sweeps: {{s: {{what: w, run: r, sedes: 3}}}}\ntables: {{}}\n")
    with pytest.raises(ValueError, match="Sweep has no sedes"):
        describe("x", path)


def test_a_sweep_starts_from_the_weights_of_the_same_seed(tmp_path: Path) -> None:
    report: Report = read_report("shi2022")
    request = Request(scale=0.4, output_dir=tmp_path)
    (dense,) = commands(report, request, [report.sweeps["dense"]])
    (oneshot,) = commands(report, request, [report.sweeps["oneshot"]])
    assert f"checkpoint={dense.runs[0].folder}/weights.safetensors" in oneshot.overrides
    assert {"epochs=36", "scheduler.T_max=80", "seed=0"} <= set(oneshot.overrides)
    assert len(oneshot.runs) == len(oneshot.left) == 3


def test_settings_of_published_numbers_can_be_read() -> None:
    for fact in published_texts().to_dict("records"):
        setting = parse_setting(fact["setting"])
        assert bool(setting) == bool(fact["setting"])
        assert fact["value"] == "" or not math.isnan(float(fact["value"]))
        assert isinstance(fact, dict)
        assert pd.notna(fact["note"])


def test_a_question_has_no_answer_before_its_sweep_was_run() -> None:
    asked = Question("Why?", "The table says it.", sweep="s")
    assert asked.text(run=True) == "The table says it."
    assert asked.text(run=False) == "Not explained: the sweep s has not been run."
    assert Question("Why?", "Because.").text(run=False) == "Because."
