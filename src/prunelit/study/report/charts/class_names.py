"""The names of classes in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import altair as alt
import numpy as np
import pandas as pd

from prunelit.study.report.records.arrays import class_names


def names_of_classes(details: Mapping[str, np.ndarray]) -> list[str]:
    """Return the class names, with the number added if two are equal."""
    names = class_names(details)
    counts = Counter(names)
    return [f"{name} ({number})" if counts[name] > 1 else name for number, name in enumerate(names)]


def name_axis(names: pd.Series[str]) -> alt.Axis:
    """Return an axis with short names horizontal and others rotated."""
    return alt.Axis(labelAngle=0 if names.str.len().max() <= 3 else -45, labelLimit=110)
