"""Read the files of many runs fast; unreadable files are skipped and reported."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from prunelit.study import bounded
from prunelit.study.bounded import LONGEST_NAME
from prunelit.study.integrity import damaged_files
from prunelit.study.record import NEEDED_FIELDS, RESULT_FIELDS
from prunelit.study.report.plain_text import plain
from prunelit.study.report.records.former_keys import with_present_keys

TEXT_FIELDS = ("pruner", "model", "data", "device", "precision", "git", "config_hash")
OTHER_FIELDS = ("collapsed", "versions")
NUMBER_FIELDS = tuple(key for key in RESULT_FIELDS if key not in (*TEXT_FIELDS, *OTHER_FIELDS))
STATUSES = ("running", "failed", "complete", "interrupted")
MOST_NAMES = 10_000
LARGEST_EXACT = 2**53
"""Up to this number, every integer is exact as a float, so that tables of floats can show integers."""
RANGES = {
    **dict.fromkeys(("density", "effective_density", "sparsity"), (0.0, 1.0)),
    **dict.fromkeys(("top1", "top5", "best_top1", "top1_before", "top1_after"), (0.0, 100.0)),
    **dict.fromkeys(("top1_repaired", "top1_recalibrated"), (0.0, 100.0)),
    **dict.fromkeys(("seed", "prunable", "kept", "epochs", "rounds", "compression"), (0.0, math.inf)),
    **dict.fromkeys(("flops_dense", "flops_sparse", "peak_memory_bytes", "threads"), (0.0, math.inf)),
    **dict.fromkeys(("parameters", "parameters_compact", "flops_compact"), (0.0, math.inf)),
    **{key: (0.0, math.inf) for key in RESULT_FIELDS if key.startswith("latency_")},
    **dict.fromkeys(("prune_seconds", "train_seconds", "test_seconds"), (0.0, math.inf)),
}
"""The range of the numbers of a result; rounding may exceed it by 1e-6."""


class Unreadable(ValueError):
    """A file of a record differs from what this version writes; the message says how."""


@dataclass
class Files:
    """The files of one run.

    Attributes:
        result: ``result.json``, None if the run is not complete.
        state: ``status.json``, empty if there is none.
        config: ``.hydra/config.yaml`` with interpolations as they stand, empty if there is none.
    """

    folder: Path
    result: dict[str, Any] | None = None
    state: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


def find_runs(folder: Path) -> Iterator[Path]:
    """Yield the folders of runs at and below ``folder``, by name.

    Hidden folders (``.previous``, ``.submitit``) are ignored, a folder that is reached twice through links
    counts once, and runs do not contain runs.
    """
    seen: set[tuple[int, int]] = set()

    def walk(place: Path) -> Iterator[Path]:
        try:
            stat = place.stat()
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError:
            return
        if (stat.st_dev, stat.st_ino) in seen:
            return
        seen.add((stat.st_dev, stat.st_ino))
        if {entry.name for entry in entries} & {"result.json", "status.json"}:
            yield place
            return
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_dir():
                yield from walk(Path(entry.path))

    yield from walk(folder)


def read_run(folder: Path) -> Files:
    """Read the small files of a run.

    Raises:
        Unreadable: ``result.json`` or ``status.json`` is truncated, foreign or of a newer version, or the
            result is not the one that the run wrote.
    """
    result = read_json(folder / "result.json")
    if result is not None:
        check_result(result)
        if problems := damaged_files(folder, digests=True, only=("result.json",)):
            raise Unreadable(problems[0])
    state = read_json(folder / "status.json")
    if state is not None and state.get("status") not in STATUSES:
        raise Unreadable(f"{folder / 'status.json'}: not a run's status: {str(state.get('status'))[:40]!r}")
    return Files(folder, result, state or {}, read_config(folder))


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, None if there is no such file."""
    try:
        return bounded.read_object(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path}: {first_line(error)}") from error


def check_result(result: Mapping[str, Any]) -> None:
    """Raise Unreadable unless ``result`` has the keys and types of a run's result."""
    if unknown := sorted(set(result) - set(RESULT_FIELDS)):
        versions = result.get("versions")
        version = versions.get("prunelit") if isinstance(versions, dict) else None
        raise Unreadable(f"written by another version ({version}): unknown key {unknown[0]!r}")
    if missing := [key for key in NEEDED_FIELDS if key not in result]:
        raise Unreadable(f"not a run's result: no key {missing[0]!r}")
    for key, value in result.items():
        if not _fits(key, value):
            raise Unreadable(f"not a run's result: {key} is {str(value)[:40]!r}")


def _fits(key: str, value: Any) -> bool:
    if value is None:
        return key not in ("pruner", "model", "data", "seed")
    if key == "collapsed":
        return isinstance(value, list) and len(value) <= MOST_NAMES and all(_is_text(name) for name in value)
    if key == "versions":
        return isinstance(value, dict)
    if key in TEXT_FIELDS:
        return _is_text(value)
    kinds = int if key == "seed" else (int, float)
    if not isinstance(value, kinds) or isinstance(value, bool) or not abs(value) <= LARGEST_EXACT:
        return False
    least, greatest = RANGES.get(key, (-math.inf, math.inf))
    return least - 1e-6 <= value <= greatest + 1e-6


def _is_text(value: Any) -> bool:
    """Whether ``value`` is valid text for files; JSON may contain surrogates."""
    return isinstance(value, str) and len(value) <= LONGEST_NAME and plain(value) == value


def read_config(folder: Path) -> dict[str, Any]:
    """Return the config of a run as Hydra wrote it, with interpolations and the present keys.

    Empty if it cannot be read.
    """
    try:
        config = load_yaml(folder / ".hydra" / "config.yaml")
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return with_present_keys(config) if isinstance(config, dict) else {}


def load_yaml(path: Path) -> Any:
    """Return the contents of a yaml file, with the C parser if available, which is ten times as fast.

    Raises:
        ValueError: it is not a regular file, is too large, or its values are too many, too deep or too large.
    """
    try:
        value = yaml.load(bounded.read_bytes(path), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except RecursionError as error:
        raise bounded.NotPlain("its values are nested too deeply") from error
    bounded.check_nodes(value, bounded.MOST_CONFIG_NODES)
    return value


def why_stopped(state: Mapping[str, Any]) -> str:
    """Return why a run stopped before it was complete."""
    status = state.get("status")
    if status == "running":
        return "its process no longer exists"
    return "interrupted; repeat the command to resume" if status == "interrupted" else "its status is unknown"


def first_line(error: object) -> str:
    """Return the first line of a message, at most 200 characters."""
    lines = str(error).strip().splitlines()
    return plain(lines[0][:200]) if lines else type(error).__name__
