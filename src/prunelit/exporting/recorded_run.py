"""A complete run as export reads it: its record, the inputs of its network, and the network itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunelit.request import BadRequest
from prunelit.study.integrity import DamagedRun
from prunelit.study.record import Record

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import nn

    from prunelit.training.export.recorded_network import NetworkDescription

COMPLETE = "the folder of a complete run"
LOADER = "prunelit.load"
"""The builder of the network of a run that started from a cut network."""


def whole_record(run: Path) -> Record:
    """Return the record of a complete run, after a check that its files are unchanged.

    Raises:
        BadRequest: on ``RUN``; not the folder of a complete run.
        DamagedRun: a file of the run is not the one that it wrote.
    """
    if not (run / "result.json").is_file():
        raise _no_run(run)
    record = Record(run)
    record.check(digests=True)
    return record


def _no_run(path: Path) -> BadRequest:
    """Return the error that states why a path is not the folder of a complete run."""
    why = ""
    if (path / "status.json").is_file():
        why = "the run is not complete"
    elif next(path.glob("*/result.json"), None):
        why = f"it is a folder of runs, which are {path / '*'}"
    elif not path.exists():
        why = "there is no such folder"
    return BadRequest("RUN", path, COMPLETE, why)


def description_of(record: Record) -> NetworkDescription:
    """Return what is needed to rebuild the network of a run, and to prepare its inputs.

    Raises:
        BadRequest: on ``RUN``; an old record does not say, and its images are gone.
        DamagedRun: the record describes no network.
    """
    from prunelit.training.export.recorded_network import NetworkDescription, describe_from_images

    recorded = record.network
    if recorded is not None:
        try:
            description = NetworkDescription.from_record(recorded)
        except ValueError as error:
            raise DamagedRun(record.folder, f"network.json {error}") from error
        if description.model.get("_target_") == LOADER:
            folder = Path(description.working_folder) / str(description.model.get("folder"))
            description.model["folder"] = str(folder)
        return description
    if not (record.folder / ".hydra" / "config.yaml").is_file():
        why = "neither network.json nor .hydra/config.yaml is there"
        raise BadRequest("RUN", record.folder, COMPLETE, why)
    try:
        return describe_from_images(*config_of(record.folder))
    except BadRequest as error:
        allowed = "a run with a network.json, or its images where they were"
        raise BadRequest("RUN", record.folder, allowed, f"{error}, and there is no network.json") from error


def config_of(run: Path) -> tuple[DictConfig, str]:
    """Return the config of a run, and the folder where it was started.

    Raises:
        DamagedRun: they cannot be read.
    """
    from omegaconf import OmegaConf

    from prunelit.study import command  # noqa: F401  (configs use its resolvers)
    from prunelit.study.report.records.run_files import load_yaml

    try:
        config = OmegaConf.create(load_yaml(run / ".hydra" / "config.yaml"))
        hydra = run / ".hydra" / "hydra.yaml"
        runtime = load_yaml(hydra)["hydra"]["runtime"] if hydra.is_file() else {}
        return config, str(runtime.get("cwd", Path.cwd()))
    except Exception as error:  # two libraries raise many kinds for invalid configs
        reason = next(iter(str(error).strip().splitlines()), "")
        raise DamagedRun(run, f".hydra cannot be read: {reason[:200]}") from error


def network_of(record: Record, description: NetworkDescription) -> nn.Module:
    """Return the trained network of a run, in evaluation mode.

    It is whole, with 0 where units were cut out; with ``cut_normalized`` it is cut.

    Raises:
        BadRequest: its class cannot be imported, or raises.
    """
    from prunelit.pruning.coupling.narrowing import Narrowing

    try:
        network = description.network_with(record.folder / "weights.safetensors")
        if description.cut and (narrowing := Narrowing.from_state(description.cut)).normalized:
            narrowing.narrow(network)
        return network
    except BadRequest:
        raise
    except Exception as error:  # classes of users may raise any exception
        reason = next(iter(str(error).strip().splitlines()), "")
        name = description.model.get("_target_")
        raise BadRequest(
            *("RUN", record.folder, "a run whose network can be made again"),
            f"{name} raises {type(error).__name__}: {reason[:200]}",
        ) from error


def builder_of(description: NetworkDescription) -> dict[str, Any]:
    """Return the builder of the network of a run before it is cut, for ``prunelit.save``."""
    model = {key: value for key, value in description.model.items() if key not in ("name", "_partial_")}
    if model.get("_target_") != LOADER:
        model |= {"num_classes": description.num_classes, "input_shape": description.input_shape}
        if "weights" in model and str(model["_target_"]).startswith("prunelit."):
            model["weights"] = None  # those that it was trained to are next to
    return model
