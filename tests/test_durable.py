"""A file is whole or not there."""

import errno
import os
import pickle
from pathlib import Path

import pytest

from prunelit.durable import DiskFull, is_full, lost_output, remove_partial_files, replacing, write_atomically


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    write_atomically(path, "old")
    with pytest.raises(TypeError), replacing(path) as file:
        file.write(5)  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    write_atomically(path, "old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    """And nothing else is."""
    (tmp_path / "checkpoints").mkdir()
    kept = tmp_path / "checkpoints" / "last.ckpt"
    write_atomically(kept, "weights")
    if (child := os.fork()) == 0:
        with replacing(kept):
            os._exit(9)
    os.waitpid(child, 0)
    assert len(list(kept.parent.iterdir())) == 2
    remove_partial_files(tmp_path)
    assert list(kept.parent.iterdir()) == [kept]


def test_a_full_disk_is_known_behind_other_errors() -> None:
    wrapped = RuntimeError("cannot save")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert is_full(wrapped)
    assert is_full(OSError(errno.EDQUOT, "quota"))
    assert not is_full(OSError(errno.EACCES, "no"))
    assert not is_full(None)


def test_the_line_on_a_full_disk_names_the_key_in_any_process() -> None:
    error = pickle.loads(pickle.dumps(DiskFull("/scratch/outputs")))
    assert str(error).startswith("output_dir=/scratch/outputs: no space left")


def test_what_a_run_can_no_longer_use_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    elsewhere = FileNotFoundError(errno.ENOENT, "No such file", str(tmp_path / "data" / "image.png"))
    assert lost_output(elsewhere, folder) is None
    assert lost_output(ValueError("no file"), folder) is None
    denied = RuntimeError("no checkpoint")
    denied.__cause__ = PermissionError(errno.EACCES, "Permission denied", str(folder / "last.ckpt"))
    found = lost_output(denied, folder)
    assert str(found) == f"output_dir={folder}: last.ckpt cannot be used: Permission denied"
    assert str(pickle.loads(pickle.dumps(found))) == str(found)
    folder.rmdir()
    assert "removed or renamed" in str(lost_output(denied, folder))
