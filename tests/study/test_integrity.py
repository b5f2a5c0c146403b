"""A complete run counts as complete while its files are those that it wrote."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from prunelit.study.integrity import DamagedRun, damaged_files
from prunelit.study.record import RESULT_FIELDS, Record

FILES = (
    "metrics.csv",
    "layers.csv",
    "details.npz",
    "weights.safetensors",
    "checkpoints/best.ckpt",
    "result.json",
)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    record = Record(tmp_path / "run")
    record.start()
    for name in FILES[:-1]:
        (record.folder / name).parent.mkdir(exist_ok=True)
        (record.folder / name).write_bytes(name.encode() * 10)
    record.finish(dict.fromkeys(RESULT_FIELDS, 1))
    return record


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:10])


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut": cut,
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
    "a folder": replace_by_a_folder,
}


def test_whole_files_are_whole(record: Record) -> None:
    record.check(digests=True)
    assert damaged_files(record.folder, digests=True) == []


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_damage_is_one_line_that_says_what_to_type(record: Record, name: str, damage: str) -> None:
    DAMAGES[damage](record.folder / name)
    with pytest.raises(DamagedRun) as raised:
        Record(record.folder).check()
    message = str(raised.value)
    assert name in message
    assert str(record.folder) in message
    assert "rerun=true" in message
    assert "\n" not in message
    assert str(pickle.loads(pickle.dumps(raised.value))) == message


def test_other_contents_of_the_same_size_are_noticed_by_their_digest(record: Record) -> None:
    path = record.folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[::-1])
    record.check()
    with pytest.raises(DamagedRun, match="SHA-256"):
        record.check(digests=True)


def test_a_folder_of_checkpoints_may_be_removed_as_a_whole(record: Record) -> None:
    shutil.rmtree(record.folder / "checkpoints")
    record.check(digests=True)


def test_checkpoints_that_the_run_removes_are_not_listed(tmp_path: Path) -> None:
    record = Record(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"x")
    record.finish(dict.fromkeys(RESULT_FIELDS, 1), keep_checkpoints=False)
    (tmp_path / "checkpoints" / "last.ckpt").unlink(missing_ok=True)
    record.check(digests=True)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": 5}', b'{"files": {"result.json": 5}}'])
def test_a_list_of_files_that_is_damaged_itself_is_named(record: Record, content: bytes) -> None:
    (record.folder / "files.json").write_bytes(content)
    with pytest.raises(DamagedRun, match=r"files\.json"):
        record.check()


def test_a_result_without_its_list_of_files_is_one_of_an_earlier_version(record: Record) -> None:
    (record.folder / "files.json").unlink()
    record.check(digests=True)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"{}"])
def test_a_damaged_status_of_a_whole_run_is_written_again(record: Record, content: bytes) -> None:
    (record.folder / "status.json").write_bytes(content)
    again = Record(record.folder)
    assert again.complete
    assert not again.settled
    again.check()
    again.settle()
    assert again.settled


def test_a_status_that_is_no_file_is_named(record: Record) -> None:
    replace_by_a_folder(record.folder / "status.json")
    with pytest.raises(DamagedRun, match=r"status\.json"):
        record.check()


def test_a_complete_run_without_its_result_is_damaged_not_new(record: Record) -> None:
    (record.folder / "result.json").unlink()
    assert Record(record.folder).complete
    with pytest.raises(DamagedRun, match=r"result\.json is missing"):
        _ = record.result


def test_a_result_of_an_earlier_version_with_fewer_keys_is_whole(record: Record) -> None:
    earlier = {key: value for key, value in record.result.items() if key not in ("threads", "asked_sparsity")}
    (record.folder / "result.json").write_text(json.dumps(earlier))
    (record.folder / "files.json").unlink()
    record.check(digests=True)
