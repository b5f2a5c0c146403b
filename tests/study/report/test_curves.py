"""The curves of a study say of few and of many seeds what its tables say."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import vl_convert

from prunelit.study.report.figures.curves import figures
from prunelit.study.report.statistics import summarise
from prunelit.study.report.vega import VEGA_LITE


def drawn(seeds: list[int], accuracies: list[float]) -> str:
    """Return the SVG of the curves of one method and amount; its marks tell what hovering shows."""
    one = {
        "setting": "fc on digits",
        "setting_order": 1,
        "method": "snip",
        "asked": "compression 1",
        "name": "r",
    }
    cost = {"compression": 1.0, "flops_sparse": 100.0, "dense": False}
    runs = pd.DataFrame({"seed": seeds, "top1": accuracies}).assign(**one, **cost)
    figure = figures({"runs": runs}, ["snip"])[0]
    rows = runs.to_dict("records")
    return str(vl_convert.vegalite_to_svg({**figure.spec, "datasets": {"runs": rows}}, vl_version=VEGA_LITE))


def test_the_interval_of_40_seeds_is_student_s() -> None:
    values = list(np.linspace(50, 90, 40))
    found = summarise(values)
    svg = drawn(list(range(40)), values)
    assert f"95 % interval: ± {found.high - found.mean:.2f}; seeds: 40" in svg
    # 1.96 would be seen: the interval is wider.
    assert found.high - found.mean == pytest.approx(2.0227 * found.sd / 40**0.5, rel=1e-4)


def test_runs_that_share_a_seed_count_once() -> None:
    svg = drawn([0, 0, 1], [80.0, 84.0, 83.0])
    half = summarise([82.0, 83.0]).high - 82.5
    assert re.search(rf"test accuracy, mean \(%\): 82.50; 95 % interval: ± {half:.2f}; seeds: 2", svg)
