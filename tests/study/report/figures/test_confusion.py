"""Confusion matrices, against numbers by hand."""

from __future__ import annotations

import numpy as np

from prunelit.study.report.charts.run_arrays import RunArrays
from prunelit.study.report.figures import confusion


def test_confusions_are_shares_of_the_true_class() -> None:
    details = {"confusion/test": np.array([[3, 1], [0, 0]]), "class_names": np.array(["same", "same"])}
    found = confusion.confusion_rows(RunArrays(details))
    assert found["share"].tolist() == [75, 25, 0, 0]
    assert found["true"].unique().tolist() == ["same (0)", "same (1)"]
