"""A run's folder and its files: written aside and renamed, so that none is ever half there."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from prunelit.durable import remove_partial_files, write_atomically
from prunelit.study import bounded
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
    # what was asked for
    *("pruner", "model", "data", "seed", "asked_compression", "asked_sparsity"),
    # what was kept: log10(prunable / kept), shares, numbers of parameters, multiply-accumulates
    *("compression", "sparsity", "density", "effective_density", "prunable", "kept"),
    *("flops_dense", "flops_sparse"),
    # accuracies in percent on the test set, at the end unless the name says otherwise
    *("top1", "top5", "test_loss", "best_top1", "top1_before", "top1_after"),
    # what was done: epochs trained, score-and-mask rounds, names of layers with nothing kept
    *("epochs", "rounds", "collapsed"),
    # what it cost, in seconds and bytes
    *("prune_seconds", "train_seconds", "test_seconds", "peak_memory_bytes"),
    # where it ran and with what
    *("device", "precision", "threads", "versions", "git", "config_hash"),
)
"""Keys of ``result.json``, all always there; unknown numbers are null."""

NEEDED_FIELDS = ("pruner", "model", "data", "seed", "compression", "sparsity", "density", "top1")
"""Keys without which a result is not one; records of earlier versions may lack others."""

WRITTEN = (
    *("metrics.csv", "rounds.csv", "thresholds.csv", "layers.csv", "details.npz"),
    *("masks.safetensors", "weights.safetensors", "network.json"),
)
"""Files of a complete run, beside its checkpoints, that are compared with what the run wrote."""


class Record:
    """The files of one run in ``folder``.

    ``result.json`` is written last: its presence means that the run is complete. ``files.json``, written
    just before it, holds the size and SHA-256 of each file, so that later damage is noticed.

    Of several processes that do one run, only the first writes; the others' records are not
    ``writable`` and change no file.
    """

    def __init__(self, folder: str | Path, writable: bool = True) -> None:
        self.folder, self.writable = Path(folder), writable
        self._before: bytes | None = None

    @property
    def complete(self) -> bool:
        """Whether the run was completed; :meth:`check` says whether its files are whole."""
        return os.path.lexists(self.folder / "result.json") or self._state().get("status") == "complete"

    def check(self, digests: bool = False) -> None:
        """Compare the files of a complete run with what it wrote: sizes, and with ``digests`` SHA-256.

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
        """Return the contents of ``status.json``, empty if there is none that can be used."""
        try:
            return bounded.read_object(self.folder / "status.json")
        except (OSError, ValueError):
            return {}

    def start(self) -> None:
        """Make the folder and say that the run is under way.

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
        """Say how many epochs the run has in all, and where it runs, for those who watch it."""
        self._status("running", **this_process(), epochs=epochs, device=device)

    def fail(self, error: BaseException) -> Path:
        """Keep the traceback, say that the run failed, and return the traceback's file.

        Nothing is kept on a full disk: the run's own error is what counts.
        """
        with suppress(OSError):
            self._write("traceback.txt", "".join(traceback.format_exception(error)))
            self._status("failed", traceback="traceback.txt", error=f"{type(error).__name__}: {error}")
        return self.folder / "traceback.txt"

    def refuse(self) -> None:
        """Say again what was said before :meth:`start`: a wrong request is no run."""
        with suppress(OSError):
            if self._before is not None:
                self._write("status.json", self._before)
            elif self.writable:
                (self.folder / "status.json").unlink(missing_ok=True)

    def interrupt(self) -> None:
        """Say that the run was asked to end, and can be resumed."""
        with suppress(OSError):
            self._status("interrupted")

    def write_metrics(self, rows: Sequence[Row]) -> None:
        """Write ``metrics.csv``: a row an epoch."""
        self._write_csv("metrics.csv", rows)

    def write_rounds(self, rows: Sequence[Row]) -> None:
        """Write ``rounds.csv``: a row a pruning during training."""
        self._write_csv("rounds.csv", rows)

    def write_thresholds(self, rows: Sequence[Row]) -> None:
        """Write ``thresholds.csv``: a row a threshold, of a run that was given a list of them."""
        if rows:
            self._write_csv("thresholds.csv", rows)

    def write_layers(self, rows: Sequence[Row]) -> None:
        """Write ``layers.csv``: a row a prunable parameter tensor."""
        self._write_csv("layers.csv", rows)

    def write_details(self, arrays: Mapping[str, Any]) -> None:
        """Write ``details.npz``: what pictures need."""
        buffer = io.BytesIO()
        import numpy as np  # a request that is refused is answered sooner without it

        contents: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
        np.savez_compressed(buffer, **contents)
        self._write("details.npz", buffer.getvalue())

    def write_network(self, description: Row) -> None:
        """Write ``network.json``: what it takes to make the network again without the run's images."""
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

        NaN and infinity, which JSON does not have, become null. Checkpoints that the run is about to remove
        (``keep_checkpoints=False``) are not listed among its files. ``inputs`` describes what the run read.
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

    @property
    def settled(self) -> bool:
        """Whether the run is complete, and its status says so."""
        return self.complete and self._state().get("status") == "complete"

    def settle(self) -> None:
        """Do what is left to do once the result is written, also for a run that was killed just then."""
        if self.writable and not self.settled:
            remove_partial_files(self.folder)
            (self.folder / "traceback.txt").unlink(missing_ok=True)
            self._status("complete")

    def put_aside(self) -> Path:
        """Move the whole folder of a complete run to ``.previous/`` beside it and return where it lies."""
        attic = self.folder.parent / ".previous"
        attic.mkdir(exist_ok=True)
        number = 1
        while (target := attic / f"{self.folder.name}-{number}").exists():
            number += 1
        self.folder.rename(target)
        return target

    def _status(self, status: str, **more: Any) -> None:
        self._write("status.json", json.dumps({"status": status, **more}) + "\n")

    def _write_csv(self, name: str, rows: Sequence[Row]) -> None:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self._write(name, buffer.getvalue())

    def _write(self, name: str, content: str | bytes) -> None:
        if self.writable:
            write_atomically(self.folder / name, content)


def _json_number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
