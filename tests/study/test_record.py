"""A record is whole or not there."""

import json
import math
import os
import socket
from pathlib import Path

import pytest

from prunelit.study.record import RESULT_FIELDS, Record

RESULT = dict.fromkeys(RESULT_FIELDS, 1)


def test_the_result_is_written_last_and_makes_a_run_complete(tmp_path: Path) -> None:
    record = Record(tmp_path / "run")
    record.start()
    assert not record.complete
    process = {"pid": os.getpid(), "host": socket.gethostname()}
    assert json.loads((record.folder / "status.json").read_text()) == {"status": "running", **process}
    record.under_way(epochs=5, device="cuda:1")
    status = json.loads((record.folder / "status.json").read_text())
    assert status == {"status": "running", **process, "epochs": 5, "device": "cuda:1"}
    record.finish(RESULT)
    assert record.complete
    assert record.result == RESULT


def test_a_run_killed_just_after_its_result_is_settled_later(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.finish(RESULT)
    (tmp_path / "status.json").write_text('{"status": "running"}')
    (tmp_path / ".status.json.7-1.partial").write_text('{"sta')
    record.settle()
    assert json.loads((tmp_path / "status.json").read_text()) == {"status": "complete"}
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["files.json", "result.json", "status.json"]


def test_an_interrupted_run_says_so(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.start()
    record.interrupt()
    assert json.loads((tmp_path / "status.json").read_text()) == {"status": "interrupted"}


def test_a_refused_request_leaves_what_was_there(tmp_path: Path) -> None:
    for before in ([], [tmp_path / "status.json"]):
        record = Record(tmp_path)
        record.start()
        record.refuse()
        assert list(tmp_path.iterdir()) == before
        Record(tmp_path).interrupt()
    assert json.loads((tmp_path / "status.json").read_text()) == {"status": "interrupted"}


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.finish({**RESULT, "test_loss": math.nan, "top5": math.inf})
    assert (record.result["test_loss"], record.result["top5"]) == (None, None)


def test_a_result_with_a_key_too_few_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        Record(tmp_path).finish({"top1": 1})
    assert not Record(tmp_path).complete


def test_a_failure_keeps_its_traceback(tmp_path: Path) -> None:
    record = Record(tmp_path)
    try:
        raise ValueError("boom")
    except ValueError as error:
        path = record.fail(error)
    assert "ValueError: boom" in path.read_text()
    status = json.loads((tmp_path / "status.json").read_text())
    assert status == {"status": "failed", "traceback": path.name, "error": "ValueError: boom"}


def test_rows_with_different_columns_share_a_header(tmp_path: Path) -> None:
    Record(tmp_path).write_metrics([{"epoch": 0, "a": 1}, {"epoch": 1, "b": 2}])
    assert (tmp_path / "metrics.csv").read_text() == "epoch,a,b\n0,1,\n1,,2\n"


def test_a_record_of_another_rank_changes_no_file(tmp_path: Path) -> None:
    record = Record(tmp_path / "run", writable=False)
    record.start()
    record.write_metrics([{"epoch": 0}])
    record.finish(RESULT)
    assert not (tmp_path / "run").exists()


def test_a_repeated_run_is_put_aside_each_time(tmp_path: Path) -> None:
    for number in (1, 2):
        record = Record(tmp_path / "study" / "run")
        record.start()
        record.finish(RESULT)
        aside = record.put_aside()
        assert aside == tmp_path / "study" / ".previous" / f"run-{number}"
        assert Record(aside).complete
