"""Colors and fonts of all figures, in light and dark mode."""

from __future__ import annotations

from typing import Any

CATEGORIES = {
    # Distinguishable with the common forms of color blindness, with a contrast of 3 or more;
    # dashes and shapes carry the same information.
    "light": [
        *("#0072b2", "#d55e00", "#009e73", "#8e2c84", "#4a3a00", "#e0549b"),
        *("#1d1b5c", "#962dff", "#4b001e", "#9678ff", "#e1004b", "#5a2db4"),
    ],
    "dark": [
        *("#4aa8e0", "#ff8b3d", "#1fbf92", "#e0559f", "#f5ee9a", "#8a63ff"),
        *("#c9e8ff", "#d21e3c", "#ffc300", "#96ffd2", "#4b69c3", "#e10000"),
    ],
}
DENSE = "gray"
"""The color of the dense network, which figures show as a reference line or mark."""
INK = {"light": ("#1f2329", "#d9dde3", "#8a929e"), "dark": ("#e6e9ee", "#343b46", "#76808f")}
"""Text, grid lines, axes."""
SHADES = {"light": [0.05, 0.85], "dark": [0.3, 1.0]}
"""The part of viridis that is visible on the background."""
PAPER = {"light": "#ffffff", "dark": "#171b21"}


def theme(name: str, font: str = "sans-serif") -> dict[str, Any]:
    """Return the Vega-Lite config of ``light`` or ``dark``."""
    ink, grid, line = INK[name]
    text = {"labelColor": ink, "titleColor": ink, "labelFontSize": 11, "titleFontSize": 12}
    return {
        "font": font,
        "background": PAPER[name],
        "padding": 4,
        "range": {"category": CATEGORIES[name], "ordinal": {"scheme": "viridis", "extent": SHADES[name]}},
        "view": {"stroke": grid},
        "axis": {
            **text,
            "titleFontWeight": "normal",
            "gridColor": grid,
            "domainColor": line,
            "tickColor": line,
            "labelOverlap": True,
            "labelLimit": 130,
        },
        # Labels inside the panels keep the panels of a row at the same height.
        "axisYQuantitative": {"labelFlush": True},
        "legend": {
            **text,
            "titleFontWeight": "normal",
            "symbolOpacity": 1,
            "orient": "top",
            "labelLimit": 420,
            "layout": {"top": {"direction": "vertical", "anchor": "start"}},
        },
        "header": {"labelColor": ink, "labelFontSize": 12, "labelFontWeight": 600, "labelLimit": 360},
        "title": {"color": ink, "fontSize": 15, "anchor": "start", "offset": 12},
        "facet": {"spacing": 18},
    }
