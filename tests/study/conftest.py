"""Studies made by the record itself, as a sweep leaves them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from prunelit.study.configs import CONFIGS
from prunelit.study.record import RESULT_FIELDS, Record

MakeRun = Callable[..., Record]


@pytest.fixture(scope="session")
def composed() -> Callable[..., DictConfig]:
    """Return the config of a list of overrides; what needs no composing is set in a copy, to save time."""
    from hydra import compose, initialize_config_dir

    @cache
    def base(overrides: tuple[str, ...]) -> DictConfig:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return compose("config", list(overrides))

    def config(*overrides: str) -> DictConfig:
        values = [item for item in overrides if item.split("=")[0] in SET]
        found = base(tuple(item for item in overrides if item not in values)).copy()
        found.merge_with_dotlist(values)
        return found

    return config


SET = ("seed", "compression", "sparsity", "epochs", "batch_size", "name")


@pytest.fixture
def make_run(tmp_path: Path, recording: Callable[[Path], MakeRun]) -> MakeRun:
    """Return a function that records a run below ``tmp_path``, see :func:`recording_in`."""
    return recording(tmp_path)


@pytest.fixture(scope="session")
def recording(composed: Callable[..., DictConfig]) -> Callable[[Path], MakeRun]:
    """Return a function from a folder to one that records runs there, see :func:`recording_in`."""
    return lambda root: recording_in(root, composed)


def recording_in(root: Path, composed: Callable[..., DictConfig]) -> MakeRun:
    """Return a function that records a run: overrides as on the command line, then the result's values.

    ``state`` is complete, running or failed.
    """
    number = 0

    def make(*overrides: str, state: str = "complete", top: str = "study", **result: Any) -> Record:
        nonlocal number
        number += 1
        config = composed(*overrides)
        record = Record(root / top / f"run{number:04}")
        record.start()
        hydra = record.folder / ".hydra"
        hydra.mkdir()
        (hydra / "config.yaml").write_text(OmegaConf.to_yaml(config))
        (hydra / "overrides.yaml").write_text("".join(f"- {override}\n" for override in overrides))
        sources = "[{path: prunelit.conf, schema: pkg, provider: main}]"
        (hydra / "hydra.yaml").write_text(f"hydra: {{runtime: {{config_sources: {sources}}}}}\n")
        epoch = {"epoch": 0, "phase": "train", "test_top1": result.get("top1", 50.0), "density": 0.1}
        record.write_metrics([{**epoch, "epoch": number, "seconds": 1.5} for number in range(2)])
        if state == "failed":
            record.fail(ValueError(str(result.get("error", "boom"))))
        if state == "complete":
            record.write_rounds([{"round": 1, "epoch": 0, "sparsity_before": 0.0, "sparsity_after": 0.9}])
            record.write_layers([layer("fc1.weight", "100", 100, 10), layer("fc2.weight", "10x10", 100, 5)])
            record.write_details({"class_names": np.array(["a", "b"])})
            record.finish(outcome(config, **result))
            # Tests go on to fill the record: it is then one of a version that listed no files.
            (record.folder / "files.json").unlink()
        return record

    return make


def layer(name: str, shape: str, total: int, kept: int) -> dict[str, Any]:
    """Return a row of ``layers.csv``."""
    return {
        "layer": name,
        "shape": shape,
        "total": total,
        "kept": kept,
        "density": kept / total,
        "flops_dense": total,
        "flops_sparse": float(kept),
        "score_mean": 1.0,
        "score_var": 0.0,
    }


def outcome(config: Any, **values: Any) -> dict[str, Any]:
    """Return a whole result for a config."""
    compression = config.compression if config.compression is not None else 1.0
    if config.sparsity is not None:
        compression = -float(np.log10(1 - config.sparsity))
    if config.pruner.criterion is None:
        compression = 0.0
    density = 10.0**-compression
    known = {
        **{group: config[group].name for group in ("pruner", "model", "data")},
        "seed": config.seed,
        "compression": compression,
        "density": density,
        "sparsity": 1 - density,
        "effective_density": density,
        "prunable": 1000,
        "kept": round(1000 * density),
        "top1": 90.0,
        "flops_dense": 1000.0,
        "flops_sparse": 1000 * density,
        "top5": 99.0,
        "best_top1": 91.0,
        "collapsed": [],
        "versions": {"prunelit": "0.1.0"},
        "device": "cpu",
        "precision": "32-true",
        "git": None,
        "config_hash": "0123456789",
        "prune_seconds": 0.5,
        "train_seconds": 3.0,
        "test_seconds": 0.1,
        "epochs": config.epochs,
        "rounds": 1,
    }
    return {**dict.fromkeys(RESULT_FIELDS), **known, **values}
