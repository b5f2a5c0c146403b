"""Folders with something wrong are refused in one line, before an epoch is trained."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

ASKED = ("data=folder", "data.root=images", "epochs=1", "logger=none", "model=convnet")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes of black and white images."""
    for split in ("train", "test"):
        for label, colour in (("a", 0), ("b", 255)):
            (tmp_path / "images" / split / label).mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (32, 32), (colour,) * 3).save(
                    tmp_path / "images" / split / label / f"{i}.png"
                )
    return tmp_path / "images"


def pipe(root: Path) -> None:
    os.mkfifo(root / "train/b/x.png")


def dangling(root: Path) -> None:
    (root / "test/b/x.png").symlink_to("nowhere")


def broken_with_an_odd_name(root: Path) -> None:
    Path(os.fsdecode(os.path.join(os.fsencode(root), b"train/a/\xff\n.png"))).write_bytes(b"no image")


def one_class(root: Path) -> None:
    shutil.rmtree(root / "train/b")


def odd_class(root: Path) -> None:
    os.mkdir(os.path.join(os.fsencode(root), b"train/\xff"))


def a_pipe_for_a_folder(root: Path) -> None:
    shutil.rmtree(root)
    os.mkfifo(root)


def a_loop_for_a_folder(root: Path) -> None:
    shutil.rmtree(root)
    root.symlink_to("images")


def floats(root: Path) -> None:
    Image.new("F", (32, 32), 0.5).save(root / "test/b/x.tif")


WRONG: dict[Callable[[Path], None], str] = {
    pipe: "train/b/x.png is neither a file nor a folder: remove it",
    dangling: "test/b/x.png is a link without a target: remove it",
    broken_with_an_odd_name: "train/a/\\udcff\\n.png cannot be read (not an image)",
    one_class: "train/a is the only class folder",
    odd_class: "train/\\udcff: the name of a class is not UTF-8",
    a_pipe_for_a_folder: "not a folder",
    a_loop_for_a_folder: "not a folder",
    floats: "test/b/x.tif: its pixels are floating-point numbers",
}


@pytest.mark.parametrize("spoil", WRONG)
def test_a_wrong_folder_is_one_line_and_no_run(cli, images, spoil) -> None:
    spoil(images)
    status, out, err = cli(*ASKED)
    assert (status, out, len(err)) == (2, "", 1), err
    assert err[0].startswith("data.root=images: ")
    assert WRONG[spoil] in err[0]
    assert not list(Path("outputs").rglob("metrics.csv"))


def test_hidden_folders_are_no_class_of_a_run(cli, images) -> None:
    shutil.copytree(images / "train/a", images / "train/.ipynb_checkpoints")
    status, _, err = cli(*ASKED, "epochs=0")
    assert status == 0
    assert len([line for line in err if "left out" in line]) == 1
    assert "1 hidden, or files of the operating system (train/.ipynb_checkpoints)" in err[0]
