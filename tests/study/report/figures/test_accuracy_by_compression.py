"""The curves of a study say of few and of many seeds what its tables say."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import vl_convert

from prunelit.study.report.charts.figure import DrawnFigure
from prunelit.study.report.charts.mean_curves import flops_differ
from prunelit.study.report.figures import accuracy_by_compression, accuracy_by_flops
from prunelit.study.report.page.vega import VEGA_LITE
from prunelit.study.report.tables.statistics import summarise


def curves_of(runs: pd.DataFrame, methods: list[str]) -> DrawnFigure:
    figure = accuracy_by_compression.FIGURE.drawn({"runs": runs}, methods)
    assert figure is not None
    return figure


def drawn(seeds: list[int], accuracies: list[float]) -> str:
    """Return the SVG of the curves of one method and amount; its marks tell what hovering shows."""
    one = {
        "setting": "fc on digits",
        "setting_order": 1,
        "method": "snip",
        "asked": "compression 1",
        "name": "r",
    }
    cost = {"compression": 1.0, "asked_compression": 1.0, "flops_sparse": 100.0, "kept": 100, "dense": False}
    runs = pd.DataFrame({"seed": seeds, "top1": accuracies}).assign(**one, **cost)
    figure = curves_of(runs, ["snip"])
    rows = runs.to_dict("records")
    return str(vl_convert.vegalite_to_svg({**figure.spec, "datasets": {"runs": rows}}, vl_version=VEGA_LITE))


def test_the_interval_of_40_seeds_is_student_s() -> None:
    values = list(np.linspace(50, 90, 40))
    found = summarise(values)
    svg = drawn(list(range(40)), values)
    shown = f"{found.low:.2f} to {found.high:.2f} (± {found.high - found.mean:.2f})"
    assert f"95 % interval: {shown}; seeds: 40" in svg
    # 1.96 would be seen: the interval is wider.
    assert found.high - found.mean == pytest.approx(2.0227 * found.sd / 40**0.5, rel=1e-4)


def test_runs_that_share_a_seed_count_once() -> None:
    svg = drawn([0, 0, 1], [80.0, 84.0, 83.0])
    half = summarise([82.0, 83.0]).high - 82.5
    interval = rf"95 % interval: [\d.]+ to [\d.]+ \(± {half:.2f}\)"
    assert re.search(rf"test accuracy, mean \(%\): 82.50; {interval}; seeds: 2", svg)


def study_of(methods: list[str], amounts: list[float], seeds: int = 3) -> pd.DataFrame:
    """Return the runs of methods that keep almost what was asked for; FLOPs are ten times what they keep."""
    rows = [
        {
            "setting": "fc on digits",
            "setting_order": 1,
            "method": method,
            "name": f"{method}{seed}",
            "asked": f"compression {amount:g}",
            "asked_compression": amount,
            "seed": seed,
            "dense": False,
            "compression": amount + 1e-5 * seed,
            "kept": 10**4 - amount,
            "top1": 90 - 10 * amount + seed,
        }
        for method in methods
        for amount in amounts
        for seed in range(seeds)
    ]
    runs = pd.DataFrame(rows)
    return runs.assign(flops_sparse=10 * runs["kept"])


def marks_of(runs: pd.DataFrame, methods: list[str], kind: str) -> list[tuple[float, float]]:
    """Return x and y, in pixels, of the marks of one kind in the plot of accuracy over compression."""
    spec = curves_of(runs, methods).spec
    datasets = {"datasets": {"runs": runs.to_dict("records")}}
    svg = str(vl_convert.vegalite_to_svg({**spec, **datasets}, vl_version=VEGA_LITE))
    found = re.findall(rf'aria-roledescription="{kind}"[^>]*transform="translate\(([-\d.]+),([-\d.]+)\)', svg)
    return [(float(x), float(y)) for x, y in found]


def test_ticks_are_the_amounts_that_were_run() -> None:
    amounts = [0.5, 1.0, 1.5, 2.25]
    runs = study_of(["mag", "snip"], amounts)
    spec = curves_of(runs, ["mag", "snip"]).spec
    svg = str(
        vl_convert.vegalite_to_svg(
            {**spec, "datasets": {"runs": runs.to_dict("records")}}, vl_version=VEGA_LITE
        )
    )
    axis = re.findall(r"role-axis-label.*?</g>", svg, re.DOTALL)[0]
    labels = re.findall(r">([^<>]+)</(?:tspan|text)>", axis)
    assert labels == ["0.5", "31.6 %", "1", "10 %", "1.5", "3.16 %", "2.25", "0.562 %"]


def test_intervals_of_five_methods_do_not_cover_one_another() -> None:
    methods = ["grasp", "mag", "rand", "snip", "synflow"]
    runs = study_of(methods, [0.5, 1.0, 1.5])
    bars = sorted({x for x, _ in marks_of(runs, methods, "rule mark")})
    assert len(bars) == len(methods) * 3
    assert np.diff(bars).min() > 4
    # Seen from left to right, the groups of the three amounts do not mix.
    gaps = np.diff(bars)
    assert sorted(np.argsort(gaps)[-2:]) == [4, 9]


def test_flops_have_no_plot_of_their_own_where_they_follow_the_parameters() -> None:
    runs = study_of(["mag"], [0.5, 1.0])
    assert not flops_differ(runs)
    assert "no separate figure" in curves_of(runs, ["mag"]).caption
    assert accuracy_by_flops.draw({"runs": runs}, ["mag"]) is None
    runs.loc[0, "flops_sparse"] *= 1.5
    assert "no separate figure" not in curves_of(runs, ["mag"]).caption
    assert accuracy_by_flops.draw({"runs": runs}, ["mag"]) is not None
    assert not flops_differ(runs.assign(flops_sparse=np.nan))
