"""The folder of a run and its files, which are written atomically."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from prunelit.amount import KEYS
from prunelit.durable import remove_partial_files, write_atomically
from prunelit.study import bounded
from prunelit.study.devices import numbered
from prunelit.study.integrity import (
    CHECKPOINTS,
    DamagedRun,
    damaged_files,
    describe,
    describe_bytes,
    write_manifest,
)
from prunelit.study.process import this_process
from prunelit.study.unwritable import refused_if_unwritable

Row = Mapping[str, Any]

RESULT_FIELDS = (
    # the settings
    *("pruner", "model", "data", "seed", *(f"asked_{key}" for key in KEYS)),
    # what is kept: log10(prunable / kept), shares, numbers of parameters, multiply-accumulates
    *("compression", "sparsity", "density", "effective_density", "prunable", "kept"),
    *("flops_dense", "flops_sparse"),
    # all parameters of the network, and of the network from which emptied units are cut out
    *("parameters", "parameters_compact", "flops_compact"),
    # accuracies in percent on the test set, at the end unless the name says otherwise
    *("top1", "top5", "test_loss", "best_top1", "top1_before", "top1_after"),
    *("top1_repaired", "top1_recalibrated"),
    # epochs trained, score-and-mask rounds, names of layers with nothing kept
    *("epochs", "rounds", "collapsed"),
    # the cost, in seconds and bytes
    *("prune_seconds", "train_seconds", "test_seconds", "peak_memory_bytes"),
    # how fast it is: median milliseconds of a forward pass of 1 and of 64 inputs
    "latency_predicted",
    *("latency_dense_1", "latency_dense_64", "latency_masked_1", "latency_masked_64"),
    *("latency_cut_1", "latency_cut_64"),
    *("latency_half_1", "latency_half_64", "latency_2to4_1", "latency_2to4_64"),
    # the environment
    *("device", "precision", "threads", "versions", "git", "config_hash"),
)
"""Keys of ``result.json``. All are always present; unknown numbers are null."""

NEEDED_FIELDS = ("pruner", "model", "data", "seed", "compression", "sparsity", "density", "top1")
"""Keys that every result has; records of earlier versions may lack the others."""

WRITTEN = (
    *("metrics.csv", "rounds.csv", "thresholds.csv", "layers.csv", "details.npz"),
    *("masks.safetensors", "weights.safetensors", "network.json"),
)
"""Files of a complete run, besides its checkpoints, that are compared with what the run wrote."""


class Record:
    """The files of one run in ``folder``.

    ``result.json`` is written last: its presence means that the run is complete. ``files.json``, written just
    before it, holds the size and SHA-256 of each file, so that later damage is detected.

    If several processes execute one run, only rank 0 writes. The records of the others are not ``writable``
    and change no file.
    """

    def __init__(self, folder: str | Path, writable: bool = True) -> None:
        self.folder, self.writable = Path(folder), writable
        self._before: bytes | None = None

    @property
    def complete(self) -> bool:
        """Whether the run was completed; :meth:`check` verifies its files."""
        return os.path.lexists(self.folder / "result.json") or self._state().get("status") == "complete"

    def check(self, digests: bool = False) -> None:
        """Compare the files of a complete run with its list of files: sizes, and with ``digests`` SHA-256.

        Raises:
            DamagedRun: a file is missing, has another size or other contents, or ``result.json`` or
                ``status.json`` is not what a run writes; names the first such file.
        """
        self._read_result()
        for problem in damaged_files(self.folder, digests):
            raise DamagedRun(self.folder, problem)
        path = self.folder / "status.json"
        if os.path.lexists(path) and not path.is_file():
            raise DamagedRun(self.folder, "status.json is not a file")

    @property
    def result(self) -> dict[str, Any]:
        """The contents of ``result.json`` of a complete run.

        Raises:
            DamagedRun: they are not what a run writes.
        """
        return self._read_result()

    def _read_result(self) -> dict[str, Any]:
        try:
            result = bounded.read_object(self.folder / "result.json")
        except FileNotFoundError:
            raise DamagedRun(self.folder, "result.json is missing") from None
        except (OSError, ValueError) as error:
            raise DamagedRun(self.folder, f"result.json cannot be used: {error}") from error
        if missing := [key for key in NEEDED_FIELDS if key not in result]:
            raise DamagedRun(self.folder, f"result.json has no key {missing[0]!r}")
        return result

    def _state(self) -> dict[str, Any]:
        """Return the contents of ``status.json``, empty if the file is missing or unusable."""
        try:
            return bounded.read_object(self.folder / "status.json")
        except (OSError, ValueError):
            return {}

    def start(self) -> None:
        """Create the folder and set the status to running.

        Raises:
            BadRequest: the folder cannot be written.
        """
        if self.writable:
            with refused_if_unwritable():
                self.folder.mkdir(parents=True, exist_ok=True)
                remove_partial_files(self.folder)
                path = self.folder / "status.json"
                self._before = bounded.read_bytes(path) if path.is_file() else None
                self._status("running", **this_process())

    def under_way(self, epochs: int, device: str) -> None:
        """Record the total number of epochs and the device, for ``--watch``."""
        self._status("running", **this_process(), epochs=epochs, device=numbered(device))

    def fail(self, error: BaseException) -> Path:
        """Save the traceback, set the status to failed, and return the file of the traceback.

        On a full disk nothing is saved, so that the original error is reported.
        """
        with suppress(OSError):
            self._write("traceback.txt", "".join(traceback.format_exception(error)))
            self._status("failed", traceback="traceback.txt", error=f"{type(error).__name__}: {error}")
        return self.folder / "traceback.txt"

    def refuse(self) -> None:
        """Restore the status from before :meth:`start`, because a wrong request is not a run."""
        with suppress(OSError):
            if self._before is not None:
                self._write("status.json", self._before)
            elif self.writable:
                (self.folder / "status.json").unlink(missing_ok=True)

    def interrupt(self) -> None:
        """Set the status to interrupted, so that the run can be resumed."""
        with suppress(OSError):
            self._status("interrupted")

    def write(
        self,
        *,
        metrics: Sequence[Row],
        rounds: Sequence[Row],
        thresholds: Sequence[Row],
        layers: Sequence[Row],
        details: Mapping[str, Any],
        network: Row,
    ) -> None:
        """Write what a run found, each to the file of its name; the result comes last, in :meth:`finish`."""
        self.write_metrics(metrics)
        self.write_rounds(rounds)
        self.write_thresholds(thresholds)
        self.write_layers(layers)
        self.write_details(details)
        self.write_network(network)

    def write_metrics(self, rows: Sequence[Row]) -> None:
        """Write ``metrics.csv``: one row per epoch."""
        self._write_csv("metrics.csv", rows)

    def update_metrics(self, rows: Sequence[Row]) -> None:
        """Write ``metrics.csv`` after an epoch, not flushed to the disk: checkpoints have its rows too."""
        self._write_csv("metrics.csv", rows, flushed=False)

    def write_rounds(self, rows: Sequence[Row]) -> None:
        """Write ``rounds.csv``: one row per pruning during training."""
        self._write_csv("rounds.csv", rows)

    def write_thresholds(self, rows: Sequence[Row]) -> None:
        """Write ``thresholds.csv`` of a run with a list of thresholds: one row per threshold."""
        if rows:
            self._write_csv("thresholds.csv", rows)

    def write_layers(self, rows: Sequence[Row]) -> None:
        """Write ``layers.csv``: one row per prunable tensor."""
        self._write_csv("layers.csv", rows)

    def write_details(self, arrays: Mapping[str, Any]) -> None:
        """Write ``details.npz``: the data of figures."""
        buffer = io.BytesIO()
        import numpy as np  # not imported for refused requests

        contents: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
        np.savez_compressed(buffer, **contents)
        self._write("details.npz", buffer.getvalue())

    def write_network(self, description: Row) -> None:
        """Write ``network.json``: what is needed to construct the network without the images of the run."""
        self._write("network.json", json.dumps(description, indent=1, default=str) + "\n")

    @property
    def network(self) -> dict[str, Any] | None:
        """The contents of ``network.json``; None for runs of versions that wrote none.

        Raises:
            DamagedRun: they are not what a run writes.
        """
        try:
            return bounded.read_object(self.folder / "network.json")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise DamagedRun(self.folder, f"network.json cannot be used: {error}") from error

    def finish(
        self, result: Row, keep_checkpoints: bool = True, inputs: Mapping[str, Any] | None = None
    ) -> None:
        """Write ``files.json`` and then ``result.json``, the last file of a run.

        NaN and infinity, which JSON does not support, become null. Without ``keep_checkpoints`` the
        checkpoints are not listed, and are removed. ``inputs`` describes what the run read.
        """
        assert set(result) == set(RESULT_FIELDS), set(result) ^ set(RESULT_FIELDS)
        flat = {key: _json_number(result[key]) for key in RESULT_FIELDS}
        content = (json.dumps(flat, indent=1, allow_nan=False) + "\n").encode()
        if self.writable:
            written = [path for name in WRITTEN if (path := self.folder / name).is_file()]
            if keep_checkpoints:
                written += sorted(p for p in (self.folder / CHECKPOINTS).rglob("*") if p.is_file())
            files = {**describe(written, self.folder), "result.json": describe_bytes(content)}
            write_manifest(self.folder, files, inputs)
        self._write("result.json", content)
        self.settle()
        if self.writable and not keep_checkpoints:
            shutil.rmtree(self.folder / CHECKPOINTS, ignore_errors=True)

    @property
    def settled(self) -> bool:
        """Whether the run and its status are complete."""
        return self.complete and self._state().get("status") == "complete"

    def settle(self) -> None:
        """Finish the work after the result is written, also for a run that was killed at this moment."""
        if self.writable and not self.settled:
            remove_partial_files(self.folder)
            (self.folder / "traceback.txt").unlink(missing_ok=True)
            self._status("complete")

    def put_aside(self) -> Path:
        """Move the folder of a complete run to ``.previous/`` in the same folder and return its new path."""
        attic = self.folder.parent / ".previous"
        attic.mkdir(exist_ok=True)
        number = 1
        while (target := attic / f"{self.folder.name}-{number}").exists():
            number += 1
        self.folder.rename(target)
        return target

    def _status(self, status: str, **more: Any) -> None:
        self._write("status.json", json.dumps({"status": status, **more}) + "\n")

    def _write_csv(self, name: str, rows: Sequence[Row], flushed: bool = True) -> None:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self._write(name, buffer.getvalue(), flushed)

    def _write(self, name: str, content: str | bytes, flushed: bool = True) -> None:
        if self.writable:
            write_atomically(self.folder / name, content, flushed)


def _json_number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
