"""The shares of connections that units keep, against numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest

from prunelit.study.report.charts.run_arrays import RunArrays
from prunelit.study.report.figures import units


def test_neurons_are_sorted_and_shares_are_of_their_own_connections() -> None:
    details = {"kept_by_output/fc": np.array([0, 4, 2]), "kept_by_input/fc": np.array([3, 3, 0, 0])}
    found = units.unit_rows(RunArrays(details, {"fc": 12}))
    outputs = found[found["side"] == "outputs"]
    assert outputs["kept"].tolist() == [100, 50, 0]  # of four connections each
    assert outputs["rank"].tolist() == pytest.approx([16.67, 50, 83.33])
    assert set(outputs["empty"]) == {1}
    assert found.loc[found["side"] == "inputs", "kept"].tolist() == [100, 100, 0, 0]  # of three
