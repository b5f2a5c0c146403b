"""A data worker that is killed while its run ends cannot keep the run from saying how it ended."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from prunelit.study.record import Record
from prunelit.study.recording import noting_the_end

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="waits for a process by its number")


@pytest.fixture(autouse=True)
def _signal_handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let PyTorch install its handler again, which it does once per process."""
    monkeypatch.setattr("torch.utils.data._utils.signal_handling._SIGCHLD_handler_set", False)
    before = signal.getsignal(signal.SIGCHLD)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize(
    ("end", "status"), [(ValueError("first"), "failed"), (SystemExit(143), "interrupted")]
)
def test_a_worker_that_is_killed_while_a_failure_is_recorded_changes_nothing(
    end: BaseException, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: Any = iter(DataLoader(TensorDataset(torch.zeros(64, 1)), num_workers=1))
    next(batches)
    (worker,) = batches._workers
    write = Record._write

    def kill_first(record: Record, *arguments: Any) -> None:
        if worker.is_alive():
            os.kill(worker.pid, signal.SIGKILL)
            os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        write(record, *arguments)

    def ends_while_a_worker_dies(record: Record) -> None:
        with noting_the_end(record, "outputs", keep_refused=False):
            monkeypatch.setattr(Record, "_write", kill_first)
            raise end

    record = Record(tmp_path / "run")
    with pytest.raises(type(end)) as raised:
        ends_while_a_worker_dies(record)
    assert raised.value is end
    assert not worker.is_alive()
    assert json.loads((record.folder / "status.json").read_text())["status"] == status
