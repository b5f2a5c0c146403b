"""Kernels and the places in them, against numbers by hand."""

from __future__ import annotations

import numpy as np

from prunelit.study.report.charts.run_arrays import RunArrays
from prunelit.study.report.figures import kernel_places, kernels


def test_kernels_lie_side_by_side_with_a_gap() -> None:
    layer = np.arange(17 * 4, dtype=np.float32).reshape(17, 1, 2, 2)
    found = kernels.kernel_rows(RunArrays(totals={"conv": 68}, weights={"conv": layer}))
    second = found[found["kernel"] == "output 1, input 0"]
    assert second[["x", "y"]].to_numpy().tolist() == [[3, 0], [4, 0], [3, 1], [4, 1]]
    last = found[found["kernel"] == "output 16, input 0"]
    assert last[["x", "y"]].to_numpy().tolist() == [[0, 3], [1, 3], [0, 4], [1, 4]]


def test_places_in_kernels_count_kept_weights() -> None:
    layer = np.ones((2, 2, 3, 3), np.float32)
    layer[0, :, 0, 0] = 0
    weights = {"conv": layer, "fc": np.ones((2, 2))}
    found = kernel_places.position_rows(RunArrays(totals={"conv": 36, "fc": 4}, weights=weights))
    assert found["kept"].tolist() == [50.0, *[100.0] * 8]
