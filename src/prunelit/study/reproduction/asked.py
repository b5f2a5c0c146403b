"""The options of ``python -m prunelit.reproduce``, checked."""

from __future__ import annotations

import argparse
from pathlib import Path

from prunelit.request import MISSING, BadRequest, nearest
from prunelit.study.configs import CONFIGS
from prunelit.study.reproduction.description import report_names
from prunelit.study.reproduction.requests import Request, check_overrides


def asked_for(chosen: argparse.Namespace) -> Request:
    """Return the request of the command line, which applies to every report.

    Raises:
        BadRequest: no report is named, or a value is wrong.
    """
    if not (chosen.report or chosen.list or chosen.write_docs):
        raise BadRequest("NAME", MISSING, f"one of {', '.join(report_names())}", "no report is named")
    if "=" in chosen.report:
        raise BadRequest("NAME", chosen.report, f"one of {', '.join(report_names())}", "it comes first")
    check_overrides(chosen.overrides)
    images = dict(_folder(text) for text in chosen.images)
    overrides, seeds = tuple(chosen.overrides), _seeds(chosen.seeds)
    return Request(_scale(chosen.scale), overrides, images, Path(chosen.output_dir), seeds)


def _seeds(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise BadRequest("--seeds", text, "a number of seeds, at least 1")
    return int(text)


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= 1:
        raise BadRequest("--scale", text, "a number in (0, 1]")
    return scale


def _folder(text: str) -> tuple[str, Path]:
    data, equals, folder = text.partition("=")
    if not equals:
        raise BadRequest("--images", text, "DATA=DIR, such as cifar10=pictures")
    known = sorted(path.stem for path in (CONFIGS / "data").glob("*.yaml") if path.stem != "folder")
    if data not in known:
        raise BadRequest("--images", text, nearest(data, known), f"there is no data set {data}")
    if not Path(folder).is_dir():
        raise BadRequest("--images", text, "a data set and a folder of images", "there is no such folder")
    return data, Path(folder)
