"""What the pictures of a study say, read from their SVG files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from prunelit.study.record import Record
from prunelit.study.report.page.html import write_page
from prunelit.study.report.records.study import read_study
from prunelit.study.report.tables.metrics import METRICS
from prunelit.study.report.tables.report_tables import make_tables

MakeRun = Callable[..., Record]
Draw = Callable[[str], str]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Return a function that draws the figures of the runs so far and returns the SVG of one."""

    def drawn(figure: str) -> str:
        study = read_study([tmp_path / "study"])
        write_page(study, make_tables(study, METRICS["top1"]), tmp_path / "report")
        return (tmp_path / "report" / "figures" / f"{figure}.svg").read_text()

    return drawn


def test_each_dense_method_has_a_line_of_its_own(make_run: MakeRun, draw: Draw) -> None:
    for rate, top1 in ((0.001, 92.0), (0.00001, 12.0)):
        for seed, more in ((0, 1.0), (1, -1.0)):
            dense = ("pruner=none", f"optimizer.lr={rate}", f"seed={seed}")
            make_run(*dense, top1=top1 + more, compression=0.0)
    make_run("pruner=mag", "seed=0", "compression=0.5", top1=80.0)
    svg = draw("accuracy_by_compression")
    assert sorted(re.findall(r"mean accuracy \(%\): ([\d.]+); seeds: (\d)", svg)) == [
        ("12.00", "2"),
        ("92.00", "2"),
    ]
    assert {"none lr=0.001", "none lr=1e-05"} <= set(re.findall(r">([^<]+)</text>", svg))


def test_axes_name_the_only_value_they_have(make_run: MakeRun, draw: Draw) -> None:
    make_run("pruner=mag", "seed=0", "compression=0.5", compression=0.500006, top1=86.42)
    axes = re.findall(r"role-axis-label.*?</g>", draw("accuracy_by_compression"), re.DOTALL)
    assert [re.findall(r">([\d.]+)</t(?:ext|span)>", axis) for axis in axes] == [["0.5"], ["86.42"]]


def test_trainings_of_one_epoch_are_seen_beside_long_ones(make_run: MakeRun, draw: Draw) -> None:
    for pruner, epochs in (("mag", 1), ("snip", 150)):
        run = make_run(f"pruner={pruner}", "seed=0")
        run.write_metrics(
            [{"epoch": epoch, "test_top1": 50.0 + epoch / 10} for epoch in range(1, epochs + 1)]
        )
    svg = draw("training_accuracy")
    assert len(re.findall(r'aria-roledescription="point"', svg)) == 1  # of mag, on the test set
    axes = re.findall(r"role-axis-label.*?</g>", svg, re.DOTALL)
    assert ["1"] in [re.findall(r">([\d.]+)</text>", axis) for axis in axes]


def test_long_names_of_methods_are_told_whole(make_run: MakeRun, draw: Draw) -> None:
    for rate, epochs, size in ((0.001, 1, 64), (0.0025, 1, 64), (0.001, 2, 64), (0.001, 2, 128)):
        rest = (f"optimizer.lr={rate}", f"epochs={epochs}", f"batch_size={size}")
        make_run("pruner=snip", "seed=0", "compression=1", *rest)
    make_run("pruner=snip", "seed=0", "compression=1", "optimizer=sgd", "epochs=1")
    for figure in ("accuracy_by_compression", "times"):
        svg = draw(figure)
        assert "…" not in svg
        width = re.search(r'<svg[^>]* width="(\d+)', svg)
        assert width is not None
        assert int(width[1]) < 1000, "names that a row has no room for begin another one"


def test_networks_whose_flops_and_paths_are_not_known_are_drawn(make_run: MakeRun, draw: Draw) -> None:
    unknown = dict.fromkeys(("flops_dense", "flops_sparse", "effective_density"))
    for compression, top1 in ((0.5, 90.0), (1, 80.0)):
        make_run("pruner=mag", "seed=0", f"compression={compression}", top1=top1, **unknown)
    svg = draw("accuracy_by_compression")
    assert "90.00" in svg
    assert "80.00" in svg
    with pytest.raises(FileNotFoundError):
        draw("accuracy_by_flops")
