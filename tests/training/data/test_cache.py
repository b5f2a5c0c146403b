from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prunelit.training.data import ImageData
from prunelit.training.data.cache import FOLDER
from prunelit.training.data.source import Contents
from prunelit.training.data.trees import Tree

MakeTree = Callable[..., Path]


def loaded(root: Path, **options: int) -> np.ndarray:
    """The test images as a data module of its own sees them."""
    data = ImageData("folder", root=root, **options)
    data.setup()
    images = data.split("test").images
    assert images is not None
    return images


def copies(root: Path) -> list[Path]:
    return sorted(path for path in (root / FOLDER).iterdir() if not path.name.endswith(".lock"))


def test_images_are_decoded_once_and_mapped(make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_tree()
    first = loaded(root)
    assert isinstance(first, np.memmap)
    assert [path.name for path in copies(root)[0].iterdir() if path.name == "meta.json"]

    def decode_again(*_: object) -> None:
        raise AssertionError("decoded a second time")

    monkeypatch.setattr("prunelit.training.data.trees.Tree.decode", decode_again)
    np.testing.assert_array_equal(loaded(root), first)
    data = ImageData("folder", root=root)
    data.setup()
    assert data.class_names == ["a", "b", "c"]


def test_a_changed_image_makes_the_copy_anew(make_tree: MakeTree) -> None:
    root = make_tree()
    before = np.array(loaded(root))
    old = copies(root)
    path = root / "test/a/001.png"
    Image.new("RGB", (12, 12), (1, 2, 3)).save(path)
    after = loaded(root)
    assert after[1, :, 0, 0].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(after[2], before[2])
    assert len(copies(root)) == 1  # the stale copy is gone
    assert copies(root) != old
    os.utime(path, (1, 1))
    assert loaded(root)[1, :, 0, 0].tolist() == [1, 2, 3]
    assert len(copies(root)) == 1


def test_sizes_have_copies_of_their_own(make_tree: MakeTree) -> None:
    root = make_tree()
    assert loaded(root).shape[2:] == (12, 12)
    assert loaded(root, size=6).shape[2:] == (6, 6)
    assert loaded(root, size=60).shape[2:] == (60, 60)
    assert len(copies(root)) == 3


@pytest.mark.parametrize("name", ["meta.json", "train-images.npy", "test-labels.npy"])
def test_a_damaged_copy_is_made_anew(make_tree: MakeTree, name: str) -> None:
    root = make_tree()
    whole = np.array(loaded(root))
    (copies(root)[0] / name).write_bytes(b"{}")
    np.testing.assert_array_equal(loaded(root), whole)
    assert (copies(root)[0] / name).stat().st_size > 2


def test_what_a_killed_process_left_is_neither_used_nor_kept(make_tree: MakeTree) -> None:
    root = make_tree()
    left = root / FOLDER / ".folder-own.partial-0123"
    left.mkdir(parents=True)
    (left / "train-images.npy").touch()
    assert len(loaded(root)) == 9
    assert not left.exists()


def test_without_a_place_for_the_copy_images_are_decoded_in_memory(
    make_tree: MakeTree, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_tree()
    (root / FOLDER).touch()  # a file where the folder would go, for root may write everywhere
    with caplog.at_level(logging.WARNING, logger="prunelit"):
        assert loaded(root).shape == (9, 3, 12, 12)
    assert [
        record.getMessage().split(" (")[0].endswith("cannot be written") for record in caplog.records
    ] == [True]


def test_a_disk_that_fills_up_leaves_nothing_behind(
    make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    root = make_tree()
    monkeypatch.setattr(np, "save", full)
    assert loaded(root).shape == (9, 3, 12, 12)
    assert copies(root) == []
    assert "No space left on device" in caplog.text


def test_processes_that_start_at_once_build_one_copy(
    make_tree: MakeTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, decodings = make_tree(train=60, test=20), tmp_path / "decodings"
    decode = Tree.decode

    def noted(tree: Tree) -> Contents:
        with decodings.open("a") as file:
            file.write("once\n")
        return decode(tree)

    monkeypatch.setattr(Tree, "decode", noted)
    context = multiprocessing.get_context("fork")
    barrier, sums = context.Barrier(3), context.Queue()

    def start() -> None:
        barrier.wait(60)
        sums.put(int(loaded(root).astype(np.int64).sum()))

    running = [context.Process(target=start) for _ in range(3)]
    for process in running:
        process.start()
    found = [sums.get(timeout=600) for _ in running]
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0, 0, 0]
    assert found == [int(loaded(root).astype(np.int64).sum())] * 3
    assert decodings.read_text() == "once\n"
    assert len(copies(root)) == 1
