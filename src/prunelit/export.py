"""The door from runs to programs: each network, cut to what pruning left, in one file that PyTorch runs.

python -m prunelit.export outputs/default/RUN
python -m prunelit.export outputs/small/* --out programs
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunelit.durable import is_full, write_atomically
from prunelit.notice import warn
from prunelit.request import BadRequest
from prunelit.study.integrity import DamagedRun
from prunelit.study.record import Record
from prunelit.study.whole_words import WholeWords, wrapped

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor, nn

    from prunelit.training.export.recorded_network import NetworkDescription

DESCRIPTION = "Write the network of each run, cut to what pruning left, as a program that PyTorch runs."
EXAMPLES = """\
examples:
  python -m prunelit.export outputs/default/RUN
  python -m prunelit.export outputs/small/* --out programs
"""
BATCH_SIZE = 64
"""Inputs of the batch that is timed."""


def export(run: Path, out: Path | None = None) -> dict[str, Any]:
    """Write the network of a complete run without the units that pruning emptied, and say what that saves.

    The file is a ``torch.export`` program from images, uint8 of shape (n, channels, height, width) with any
    n, to logits; normalisation is part of it. ``torch.export.load(FILE).module()`` runs it without
    prunelit. The images that the run was trained on are not needed.

    Args:
        run: the run's folder.
        out: the file to write, or an existing folder, which then gets a file named after the run;
            ``compact.pt2`` in the run's folder if not given.

    Returns:
        ``file``, and for ``dense`` (the network as trained, zeros and all) and ``compact`` the
        ``parameters``, the ``flops`` of one input (None where they cannot be counted), and the median
        ``milliseconds`` of a batch; ``timing`` says how these were measured: ``batch_size``, ``passes``,
        ``threads`` and ``device``.

    Raises:
        DamagedRun: a file of the run is not the one that it wrote.
        BadRequest: not the folder of a complete run, a network of which nothing can be cut out or that
            torch.export does not take, or no place to write to.
    """
    if not (run / "result.json").is_file():
        raise _no_run(run)
    record = Record(run)
    record.check(digests=True)
    from prunelit.training.export.recorded_network import importable_from

    description = _describe(record)
    with importable_from(description.working_folder):
        return _export(record, description, out)


def _export(record: Record, description: NetworkDescription, out: Path | None) -> dict[str, Any]:
    import torch

    from prunelit.pruning.compact import compact
    from prunelit.training.export.latency import compare_latency
    from prunelit.training.export.program import program_of

    network = _network(record, description)
    images = torch.randint(256, (2, *description.input_shape), dtype=torch.uint8)
    example = description.normalise(images)
    try:
        small = compact(network, example)
        content = program_of(small, description.normalise, description.input_shape)
    except ValueError as error:
        allowed = "a run whose network can be made smaller and exported"
        raise BadRequest("RUN", record.folder, allowed, str(error)) from error
    batch = example[:1].repeat(BATCH_SIZE, *[1] * (example.ndim - 1))
    networks = {"dense": network, "compact": small}
    latency = compare_latency(networks, batch)
    target = _write(content, record.folder, out)
    costs = {
        name: {**_size(each, example[:1]), "milliseconds": latency.milliseconds[name]}
        for name, each in networks.items()
    }
    how = ("batch_size", "passes", "threads", "device")
    return {"file": target, **costs, "timing": {key: getattr(latency, key) for key in how}}


def _no_run(path: Path) -> BadRequest:
    """Say why a path is not the folder of a complete run."""
    allowed, why = "the folder of a complete run", ""
    if (path / "status.json").is_file():
        why = "the run is not complete"
    elif next(path.glob("*/result.json"), None):
        why = f"it is a folder of runs, which are {path / '*'}"
    elif not path.exists():
        why = "there is no such folder"
    return BadRequest("RUN", path, allowed, why)


def _describe(record: Record) -> NetworkDescription:
    """Return what is needed to make the network of a run again."""
    from prunelit.training.export.recorded_network import NetworkDescription, describe_from_images

    recorded = record.network
    if recorded is not None:
        try:
            return NetworkDescription.from_record(recorded)
        except ValueError as error:
            raise DamagedRun(record.folder, f"network.json {error}") from error
    if not (record.folder / ".hydra" / "config.yaml").is_file():
        why = "neither network.json nor .hydra/config.yaml is there"
        raise BadRequest("RUN", record.folder, "the folder of a complete run", why)
    try:
        return describe_from_images(*_config(record.folder))
    except BadRequest as error:
        allowed = "a run with a network.json, or its images where they were"
        raise BadRequest("RUN", record.folder, allowed, f"{error}, and there is no network.json") from error


def _config(run: Path) -> tuple[DictConfig, str]:
    """Return the config of a run, and the folder where it was started."""
    from omegaconf import OmegaConf

    from prunelit.study import command  # noqa: F401  (its resolvers stand in configs)
    from prunelit.study.report.records.run_files import load_yaml

    try:
        config = OmegaConf.create(load_yaml(run / ".hydra" / "config.yaml"))
        hydra = run / ".hydra" / "hydra.yaml"
        runtime = load_yaml(hydra)["hydra"]["runtime"] if hydra.is_file() else {}
        return config, str(runtime.get("cwd", Path.cwd()))
    except Exception as error:  # of two libraries, for what is no config
        reason = next(iter(str(error).strip().splitlines()), "")
        raise DamagedRun(run, f".hydra cannot be read: {reason[:200]}") from error


def _network(record: Record, description: NetworkDescription) -> nn.Module:
    """Return the trained network of a run."""
    try:
        return description.network_with(record.folder / "weights.safetensors")
    except BadRequest:
        raise
    except Exception as error:  # own classes may raise anything
        reason = next(iter(str(error).strip().splitlines()), "")
        name = description.model.get("_target_")
        raise BadRequest(
            *("RUN", record.folder, "a run whose network can be made again"),
            f"{name} raises {type(error).__name__}: {reason[:200]}",
        ) from error


def _size(network: nn.Module, example: Tensor) -> dict[str, Any]:
    """Return the number of parameters, and of multiply-accumulates for one input."""
    from prunelit.pruning.flops import count_flops

    flops = None
    try:
        flops = count_flops(network, example).total
    except Exception as error:  # fvcore traces the network, which may raise anything
        warn(f"FLOPs cannot be counted: {type(error).__name__}: {error}")
    return {"parameters": sum(p.numel() for p in network.parameters()), "flops": flops}


def _write(content: bytes, run: Path, out: Path | None) -> Path:
    """Write the program and return its file."""
    target = out or run / "compact.pt2"
    if out is not None and out.is_dir():
        target = out / f"{run.resolve().name}.pt2"
    try:
        write_atomically(target, content)
    except OSError as error:
        allowed = f"a file on a disk with {len(content):,} bytes free" if is_full(error) else ""
        raise BadRequest(
            "--out", target, allowed or "a file that can be written", error.strerror or ""
        ) from error
    return target


def export_all(paths: Sequence[Path], out: Path | None = None) -> int:
    """Export each of ``paths``, print what that saves, and return the exit status.

    Of several paths, those that are no runs (files, reports, folders of another kind) are skipped with a
    line on standard error, as long as one is a run; a run that fails stops no other.
    """
    paths = list(dict.fromkeys(paths))
    runs = [path for path in paths if (path / "result.json").exists() or (path / "status.json").exists()]
    if not runs:
        runs = paths[:1]
    for path in paths:
        if path not in runs:
            print(f"skipped: {path} is not the folder of a run", file=sys.stderr)
    if len(runs) > 1 and out is not None:
        _check_folder(out, runs)
    return max(_export_one(run, out, named=len(paths) > 1) for run in runs)


def _check_folder(out: Path, runs: Sequence[Path]) -> None:
    """Make the folder that the programs of several runs go to."""
    names = [run.resolve().name for run in runs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadRequest("--out", out, "left out", f"two of the runs are named {twice}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        allowed = "a folder that can be written, as there are several runs"
        raise BadRequest("--out", out, allowed, error.strerror or "") from error


def _export_one(run: Path, out: Path | None, named: bool) -> int:
    """Export one run and return the exit status: 0 for success, 1 for a damaged run, 2 for a wrong
    request."""
    try:
        done = export(run, out)
    except BadRequest as error:
        print(error, file=sys.stderr)
        return 2
    except DamagedRun as error:
        print(error, file=sys.stderr)
        return 1
    if named:
        print(f"run      {run}")
    _show(done)
    return 0


def _show(done: dict[str, Any]) -> None:
    timing = done["timing"]
    threads = f"{timing['threads']} thread" + "s" * (timing["threads"] > 1)
    for name in ("dense", "compact"):
        cost = done[name]
        flops = "unknown" if cost["flops"] is None else f"{cost['flops']:,.0f}"
        size = f"{cost['parameters']:>12,} parameters {flops:>15} FLOPs"
        print(f"{name:8} {size} {cost['milliseconds']:9.2f} ms")
    how = f"the median of {timing['passes']} passes of each, in turns, after a warm-up"
    print(f"timed    batches of {timing['batch_size']} on the {timing['device']} with {threads}: {how}")
    print(f"written  {done['file']}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status: 0 for success, 1 for a damaged run, 2 for a wrong
    request."""
    parser = argparse.ArgumentParser(
        "python -m prunelit.export",
        description=wrapped(DESCRIPTION),
        epilog=EXAMPLES,
        formatter_class=WholeWords,
    )
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="folder of a complete run")
    parser.add_argument(
        "--out",
        type=Path,
        help="file to write, or a folder for programs named after their runs; default: compact.pt2 in RUN",
    )
    given = parser.parse_args(argv)
    try:
        return export_all(given.runs, given.out)
    except BadRequest as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
