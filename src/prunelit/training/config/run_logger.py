"""The logger of a run: the arguments that its class accepts, and one identity for each run."""

from __future__ import annotations

import inspect
import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from filelock import FileLock
from hydra.utils import get_object
from omegaconf import DictConfig

from prunelit.durable import write_atomically
from prunelit.place import is_first
from prunelit.request import MISSING, BadRequest, nearest
from prunelit.training.config.guarded_logger import GuardedLogger
from prunelit.training.config.instantiate import build_foreign, check_target
from prunelit.training.lightning_classes import is_lightning, is_lightning_class

IDENTITY = "logger.json"
"""The file in a run's folder with the identity of its logger, for resumed runs."""
PACKAGE_OF = {
    "WandbLogger": "wandb",
    "MLFlowLogger": "mlflow",
    "CometLogger": "comet_ml",
    "NeptuneLogger": "neptune",
}
"""The package that a logger class of Lightning needs."""
FURTHER = {
    "WandbLogger": "wandb.init",
    "TensorBoardLogger": "torch.utils.tensorboard.SummaryWriter",
    "CometLogger": "comet_ml.ExperimentConfig",
}
"""The functions to which logger classes of Lightning pass arguments."""


def check_logger(node: DictConfig) -> None:
    """Check that ``logger`` names a logger, that its package is installed, and that it accepts its arguments.

    Raises:
        BadRequest: one of these checks fails.
    """
    target = node.get("_target_")
    if target is None:
        return
    check_target(node)
    kind: Any = get_object(str(target))
    allowed = "the class of a Lightning logger, such as lightning.pytorch.loggers.CSVLogger"
    if not callable(kind) or (isinstance(kind, type) and not is_lightning_class(kind, "Logger")):
        raise BadRequest("logger._target_", target, allowed)
    for name, package in PACKAGE_OF.items():
        if is_lightning_class(kind, name) and find_spec(package) is None:
            why = f"the package {package} is not installed"
            raise BadRequest(
                "logger._target_", target, f"a logger that can be created (pip install {package})", why
            )
    given = {str(key) for key in node} - {"name", "_target_", "_partial_"}
    own, takes_any = _parameters(kind)
    further = next((path for name, path in FURTHER.items() if is_lightning_class(kind, name)), None)
    if further is not None:
        more, takes_any = _parameters(get_object(further))
        own = own | more
    if not takes_any and (unknown := sorted(given - set(own))):
        raise BadRequest(
            f"logger.{unknown[0]}", node[unknown[0]], nearest(unknown[0], own), "there is no such key"
        )
    set_here = set(_arguments(kind, node, Path("run"), Path("outputs"), "study", {"id": "0"}))
    for name, required in own.items():
        if required and name not in given | set_here:
            raise BadRequest(f"logger.{name}", MISSING, "given", f"{target} needs it")


def build_logger(cfg: DictConfig, folder: Path) -> Any:
    """Return the logger of the run in ``folder``, None without one.

    It has the name of the run's folder and its own identity, under which a resumed run continues. Values of
    the user take precedence.

    Raises:
        BadRequest: it cannot be created.
    """
    node = cfg.logger
    if node.get("_target_") is None:
        return None
    check_logger(node)
    kind: Any = get_object(node._target_)
    is_mlflow = is_lightning_class(kind, "MLFlowLogger")
    outputs = Path(str(cfg.output_dir))
    with _mlflow_store(node, outputs) if is_mlflow else nullcontext():
        identity = _identity(folder) if _needs_identity(kind) else {}
        given = _arguments(kind, node, folder, outputs, str(cfg.name), identity)
        try:
            made = build_foreign(node, **given)
        except BadRequest:
            raise
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), "")
            allowed = "a logger that can be created"
            why = f"{type(error).__name__}: {reason[:200]}"
            raise BadRequest("logger._target_", node._target_, allowed, why) from error
        if not is_lightning(made, "Logger"):
            raise BadRequest(
                "logger._target_", node._target_, "a class or function that returns a Lightning logger"
            )
        logger = GuardedLogger(made, str(node.get("name", node._target_)))
        if is_mlflow and is_first() and "mlflow_run_id" not in identity and logger.experiment is not None:
            _write_identity(folder, {**identity, "mlflow_run_id": made.run_id})
    return logger


@contextmanager
def closing_loggers(trainer: pl.Trainer) -> Iterator[None]:
    """Close what loggers keep open when the block ends, so that the next run of this process starts its
    own."""
    failed = True
    try:
        yield
        failed = False
    finally:
        for logger in trainer.loggers:
            run: Any = getattr(logger, "_experiment", None)
            if is_lightning(logger, "WandbLogger") and hasattr(run, "finish"):
                with suppress(Exception):  # flush to the disk
                    run.finish(exit_code=int(failed))


def _arguments(
    kind: Any, node: DictConfig, folder: Path, outputs: Path, study: str, identity: dict[str, str]
) -> dict[str, Any]:
    """Return the arguments that identify the run for a logger, without those that the user sets."""
    label, name, own = str(node.get("name", "logger")), folder.name, identity.get("id")
    plain = os.environ.get("WANDB_PROJECT") or re.sub(r"[^\w.-]+", "-", study)
    arguments: dict[str, Any]
    if any(is_lightning_class(kind, each) for each in ("TensorBoardLogger", "CSVLogger")):
        arguments = {"save_dir": str(folder), "name": "", "version": label}
    elif is_lightning_class(kind, "WandbLogger"):
        arguments = {"save_dir": str(folder), "name": name, "version": own, "project": plain}
    elif is_lightning_class(kind, "MLFlowLogger"):
        arguments = {"save_dir": str(outputs / "mlruns"), "experiment_name": study, "run_name": name}
        arguments["run_id"] = identity.get("mlflow_run_id")
    elif is_lightning_class(kind, "CometLogger"):
        arguments = {"experiment_key": own, "name": name, "project": plain, "offline_directory": str(folder)}
    else:  # under the names that packages use
        folders = dict.fromkeys(("save_dir", "root_dir", "log_dir", "logdir", "dir"), str(folder))
        names = dict.fromkeys(("name", "run_name", "experiment_name"), name)
        usual = {**folders, **names, "version": own, "id": own}
        arguments = {key: value for key, value in usual.items() if key in _parameters(kind)[0]}
    return {key: value for key, value in arguments.items() if key == "name" or node.get(key) is None}


def _parameters(target: Any) -> tuple[dict[str, bool], bool]:
    """Return the named parameters, with whether each is required, and whether others are accepted."""
    parameters = inspect.signature(target).parameters.values()
    named = {
        p.name: p.default is p.empty
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    return named, any(p.kind is p.VAR_KEYWORD for p in parameters)


def _needs_identity(kind: Any) -> bool:
    return not any(is_lightning_class(kind, each) for each in ("TensorBoardLogger", "CSVLogger"))


def _identity(folder: Path) -> dict[str, str]:
    """Return the identity of a run's logger; the first process of a new run draws and stores it.

    It is drawn at random, because a repeated run, or the same run in another study, is a different one.
    """
    try:
        found = json.loads((folder / IDENTITY).read_text())
        if isinstance(found, dict) and re.fullmatch("[0-9a-f]{32}", str(found.get("id"))):
            return {str(key): str(value) for key, value in found.items()}
    except (OSError, ValueError):
        pass
    identity = {"id": uuid.uuid4().hex}
    if is_first():
        _write_identity(folder, identity)
    return identity


def _write_identity(folder: Path, identity: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / IDENTITY, json.dumps(identity) + "\n")


@contextmanager
def _mlflow_store(node: DictConfig, outputs: Path) -> Iterator[None]:
    """Let only one run at a time start in a file store of MLflow.

    Two runs that start at the same time would create two experiments with one name. MLflow requires a
    variable before it writes files.
    """
    address = node.get("tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI")
    if address and not str(address).startswith("file:"):
        yield
        return
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    outputs.mkdir(parents=True, exist_ok=True)
    with FileLock(outputs / ".mlruns.lock"):
        yield
