"""The shares of connections that input pixels keep, against numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest

from prunelit.study.report.charts.run_arrays import RunArrays
from prunelit.study.report.figures import pixels


@pytest.mark.parametrize(("inputs", "side"), [(16, 4), (48, 4), (784, 28), (50, None), (9, None)])
def test_inputs_are_an_image_only_if_they_can_be_one(inputs: int, side: int | None) -> None:
    found = pixels.pixel_rows(RunArrays({"kept_by_input/fc": np.arange(inputs)}, {"fc": 1000 * inputs}))
    assert len(found) == (0 if side is None else side * side)


def test_colour_channels_of_a_pixel_are_added() -> None:
    kept = np.zeros(48, int)
    kept[[5, 16 + 5, 32 + 5]] = (10, 20, 0)
    arrays = RunArrays({"kept_by_input/fc": kept}, {"fc": 480})  # ten outputs: 30 connections a pixel
    found = pixels.pixel_rows(arrays)
    assert found.set_index(["row", "column"]).loc[(1, 1), "kept"] == 100
    assert found["kept"].sum() == 100
