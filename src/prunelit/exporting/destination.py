"""Where an export is written: the names of its files, and how they are written completely."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prunelit.durable import is_full, write_atomically
from prunelit.exporting.card_text import as_markdown
from prunelit.exporting.wanted import Wanted
from prunelit.notice import warn
from prunelit.request import BadRequest

ENDINGS = {("torch", False): ".pt2", ("onnx", False): ".onnx", ("onnx", True): ".int8.onnx"}
"""The end of a program's file name, by format and whether it has eight bits."""


def target_of(run: Path, out: Path | None, wanted: Wanted) -> Path:
    """Return the file to write, or the folder for the format ``safetensors``."""
    ending = ENDINGS.get((wanted.format, wanted.int8), "")
    if out is None:
        return run / f"compact{ending}"
    return out / f"{run.resolve().name}{ending}" if out.is_dir() else out


def write(files: Mapping[str, bytes], target: Path) -> Path:
    """Write a program to a file, or the files of a network to a folder.

    Raises:
        BadRequest: on ``--out``; there is no space, or it cannot be written.
    """
    if "" not in files:
        from prunelit.exporting.folder import write_files

        return write_files(files, target, "--out")
    try:
        write_atomically(target, files[""])
    except OSError as error:
        size = len(files[""])
        allowed = f"a file on a disk with {size:,} bytes free" if is_full(error) else ""
        raise BadRequest(
            "--out", target, allowed or "a file that can be written", error.strerror or ""
        ) from error
    return target


def write_card(card: Mapping[str, Any], run: Path, target: Path, wanted: Wanted) -> Path | None:
    """Write ``card.md`` and ``card.json`` and return the first; None with a warning where that fails.

    They are in the folder that an export makes, or next to an ONNX program outside the run's folder with the
    name of the program, and otherwise in the run's folder.
    """
    if wanted.format == "safetensors":
        path = target / "card.md"
    elif wanted.format == "onnx" and target.parent.resolve() != run.resolve():
        path = target.with_name(f"{target.name}.card.md")
    else:
        path = run / "card.md"
    try:
        write_atomically(path, as_markdown(card))
        write_atomically(path.with_suffix(".json"), json.dumps(card, indent=1, default=str) + "\n")
    except OSError as error:
        warn(f"no card is written: {path}: {error.strerror}")
        return None
    return path


def check_folder(out: Path, runs: Sequence[Path]) -> None:
    """Make the folder for the programs of several runs.

    Raises:
        BadRequest: on ``--out``; two runs have one name, or it cannot be made.
    """
    names = [run.resolve().name for run in runs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadRequest("--out", out, "left out", f"two of the runs are named {twice}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        allowed = "a folder that can be written, as there are several runs"
        raise BadRequest("--out", out, allowed, error.strerror or "") from error
