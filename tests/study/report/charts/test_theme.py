"""What the docs promise of the colours."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from prunelit.study.report.charts.theme import CATEGORIES, INK, PAPER

# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision
# Deficiency", IEEE TVCG 15(6), 2009: linear RGB as seen at full severity.
SEEN = {
    "all": np.eye(3),
    "no red cones": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green cones": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "no blue cones": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ],
}


def linear(colour: str) -> np.ndarray:
    """Linear RGB of ``#rrggbb``."""
    values = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    """The ratio of WCAG 2."""
    low, high = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(colour)) for colour in (a, b))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ rgb.clip(0, 1) / np.array([0.95047, 1.0, 1.08883])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("name", ["light", "dark"])
def test_marks_and_text_stand_out_from_the_paper(name: str) -> None:
    assert min(contrast(colour, PAPER[name]) for colour in CATEGORIES[name]) >= 3
    assert contrast(INK[name][0], PAPER[name]) >= 7


@pytest.mark.parametrize("eye", SEEN)
@pytest.mark.parametrize("name", ["light", "dark"])
def test_methods_are_told_apart_by_every_eye(name: str, eye: str) -> None:
    seen = [lab(np.asarray(SEEN[eye]) @ linear(colour)) for colour in CATEGORIES[name]]
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) > 10
