"""What a run read is described, and differences from what lies there now are named."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from prunelit.study import inputs
from prunelit.study.inputs import ChangedInputs, Inputs, describe, weights_of
from prunelit.study.integrity import DamagedRun, write_manifest


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that read ``images/train`` and ``images/test``."""
    for name in ("train/a/0.png", "train/a/1.png", "train/b/0.png", "test/a/0.png", "test/b/0.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    remember(tmp_path)
    return tmp_path / "run"


def remember(tmp_path: Path) -> None:
    root = tmp_path / "images"
    (tmp_path / "run").mkdir(exist_ok=True)
    read = describe({"data.root": ("images", root, [root / "train", root / "test"])})
    write_manifest(tmp_path / "run", {}, read)


def add(root: Path) -> None:
    (root / "train/a/2.png").write_bytes(b"new")


def remove(root: Path) -> None:
    (root / "test/b/0.png").unlink()


def add_class(root: Path) -> None:
    shutil.copytree(root / "train/a", root / "train/c")


def remove_class(root: Path) -> None:
    shutil.rmtree(root / "train/b")


def longer(root: Path) -> None:
    (root / "train/b/0.png").write_bytes(b"another length of bytes")


def other_contents(root: Path) -> None:
    path = root / "train/b/0.png"
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, (1, 1))


def rename(root: Path) -> None:
    (root / "train/b/0.png").rename(root / "train/b/9.png")


CHANGES: dict[Callable[[Path], None], str] = {
    add: "train class a has 3 images, not 2",
    remove: "test class b is no longer there",
    add_class: "train class c is new",
    remove_class: "train class b is no longer there",
    longer: "train class b has images of other sizes",
    other_contents: "train has other contents",
    rename: "train has images of other names or sizes",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_one_line_that_names_it_and_what_to_type(
    run: Path, change: Callable[[Path], None]
) -> None:
    Inputs().check(run)
    change(run.parent / "images")
    with pytest.raises(ChangedInputs) as raised:
        Inputs().check(run)
    line = str(raised.value)
    assert line.startswith(f"changed: {run} is a run on other inputs: data.root=images: {CHANGES[change]} (")
    assert "rerun=true" in line
    assert "\n" not in line
    assert str(pickle.loads(pickle.dumps(raised.value))) == line


def touch(root: Path) -> None:
    os.utime(root / "train/a/0.png", (1, 1))


def copy(root: Path) -> None:
    shutil.copytree(root, root.parent / "copy")
    shutil.rmtree(root)
    (root.parent / "copy").rename(root)


def hidden(root: Path) -> None:
    (root / "train/.DS_Store").touch()
    (root / "train/a/notes.txt").touch()
    (root / "prunelit-cache").mkdir()


def gone(root: Path) -> None:
    shutil.rmtree(root)


def unmounted(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


@pytest.mark.parametrize("change", [touch, copy, hidden, gone, unmounted])
def test_what_is_the_same_or_not_there_any_more_is_no_change(
    run: Path, change: Callable[[Path], None]
) -> None:
    change(run.parent / "images")
    Inputs().check(run)


def test_large_folders_are_compared_by_names_and_sizes(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MOST_BYTES", 10)
    remember(run.parent)
    other_contents(run.parent / "images")
    Inputs().check(run)
    longer(run.parent / "images")
    with pytest.raises(ChangedInputs):
        Inputs().check(run)


def test_a_relative_root_is_looked_for_from_the_current_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read = describe({"data.root": ("images", Path("images"), [Path("images/train").absolute()])})
    write_manifest(run, {}, read)
    assert str(tmp_path) not in json.dumps(read)
    Inputs().check(run)
    add(tmp_path / "images")
    with pytest.raises(ChangedInputs, match="class a has 3"):
        Inputs().check(run)


@pytest.mark.parametrize("name", ["weights.safetensors", "best.ckpt"])
def test_weights_and_the_masks_beside_them_are_compared(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    for file in (name, "masks.safetensors"):
        (tmp_path / file).write_bytes(b"12345")
    given = weights_of(str(tmp_path / name))
    assert given
    write_manifest(tmp_path / "run", {}, describe({"checkpoint": given}))
    Inputs().check(tmp_path / "run")
    (tmp_path / "masks.safetensors").write_bytes(b"1234")
    if name == "best.ckpt":  # such a file holds its masks itself
        Inputs().check(tmp_path / "run")
    else:
        with pytest.raises(ChangedInputs, match=r"masks\.safetensors has 4 bytes, not 5"):
            Inputs().check(tmp_path / "run")
    (tmp_path / name).write_bytes(b"54321")
    os.utime(tmp_path / name, (1, 1))
    with pytest.raises(ChangedInputs, match=rf"checkpoint=.*{name} has other contents"):
        Inputs().check(tmp_path / "run")


def test_many_runs_look_once_at_the_same_folder(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    entries_below = inputs.entries_below
    monkeypatch.setattr(inputs, "entries_below", lambda path: looked.append(path) or entries_below(path))  # type: ignore[func-returns-value]
    known = Inputs()
    for _ in range(5):
        known.check(run)
    assert len(looked) == 2


@pytest.mark.parametrize(
    "entry",
    [
        [],
        {"data.root": 5},
        {"data.root": {"root": "x"}},
        {"data.root": {"root": 5, "given": "x", "parts": {"train": {}}}},
        {"data.root": {"root": "/dev", "given": "x", "parts": {"zero": {"names": 1}}}},
    ],
)
def test_a_damaged_description_is_one_line_or_nothing(tmp_path: Path, entry: object) -> None:
    (tmp_path / "files.json").write_text(json.dumps({"files": {}, "inputs": entry}))
    try:
        Inputs().check(tmp_path)
    except DamagedRun as damaged:
        assert "does not describe what the run read" in str(damaged)  # noqa: PT017


def test_runs_without_a_description_are_taken_as_they_are(tmp_path: Path) -> None:
    Inputs().check(tmp_path)
    write_manifest(tmp_path, {})
    Inputs().check(tmp_path)
