"""What lies among the images of a class and is none."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from prunelit.image_files import SUFFIXES
from prunelit.request import BadRequest
from prunelit.training.data import ImageData
from prunelit.training.data.decode import UNREAD_FORMATS

MakeTree = Callable[..., Path]


def ready(root: Path, **options: Any) -> ImageData:
    data = ImageData("folder", root=root, **options)
    data.check()
    data.setup()
    return data


def files(data: ImageData) -> int:
    return data.train_size + data.test_size


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    "name", [".ipynb_checkpoints", "__MACOSX", "@eaDir", ".hidden", "$RECYCLE.BIN", "lost+found"]
)
def test_hidden_folders_are_no_classes_and_hold_no_images(
    make_tree: MakeTree, capsys: pytest.CaptureFixture[str], name: str, in_memory: bool
) -> None:
    root = make_tree(train=2, test=1)
    for place in ("train", "test", "train/a"):
        (root / place / name).mkdir()
        shutil.copy(root / "train/b/000.png", root / place / name / "000-checkpoint.png")
    data = ready(root, in_memory=in_memory, workers=0)
    assert data.class_names == ["a", "b", "c"]
    assert files(data) == 9
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: left out of")
    assert "3 hidden" in line
    assert f"train/a/{name}" in line


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini", "._000.png"])
def test_hidden_files_are_left_out_and_said(
    make_tree: MakeTree, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    root = make_tree(train=2, test=1)
    (root / "test/b" / name).write_bytes(b"\0")
    assert files(ready(root)) == 9
    assert f"1 hidden, or files of the operating system (test/b/{name})" in capsys.readouterr().err


def test_files_of_other_kinds_are_counted_for_each_class(
    make_tree: MakeTree, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_tree(train=3, test=1)
    for name in ("x.heic", "y.heic", "noextension"):
        (root / "train/b" / name).touch()
    shutil.copy(root / "train/b/000.png", root / "train/loose.png")
    assert files(ready(root)) == 12
    (line,) = capsys.readouterr().err.splitlines()
    assert "3 with another suffix, 1 in no class folder" in line
    assert "train/b has 3 images and 3 others" in line


def test_a_good_folder_says_nothing(make_tree: MakeTree, capsys: pytest.CaptureFixture[str]) -> None:
    ready(make_tree(train=2, test=1))
    assert capsys.readouterr().err == ""


FORMATS = {
    "a.gif": "GIF",
    "b.jfif": "JPEG",
    "c.avif": "AVIF",
    "d.jp2": "JPEG2000",
    "e.WEBP": "WEBP",
    "f.bmp": "BMP",
    "g.ppm": "PPM",
    "h.TIFF": "TIFF",
    "i.tga": "TGA",
    "j.pcx": "PCX",
    "k.ico": "ICO",
    "l.jpe": "JPEG",
    "m.apng": "PNG",
    "n.qoi": "QOI",
    "o.sgi": "SGI",
    "p.dds": "DDS",
}


def test_every_format_that_pillow_writes_is_read(tmp_path: Path) -> None:
    Image.init()
    assert features.check("avif")
    colour = (200, 40, 90)
    for split in ("train", "test"):
        for label in "xy":
            (tmp_path / split / label).mkdir(parents=True)
            for name, kind in FORMATS.items():
                if kind in Image.SAVE:
                    Image.new("RGB", (16, 16), colour).save(tmp_path / split / label / name, kind)
    data = ready(tmp_path, size=16)
    images = data.split("train").images
    assert images is not None
    assert len(images) == 2 * len([kind for kind in FORMATS.values() if kind in Image.SAVE]) > 20
    assert np.abs(images.transpose(0, 2, 3, 1).astype(int) - colour).max() <= 8


def test_the_suffixes_are_those_of_pillow() -> None:
    Image.init()
    known = {
        suffix
        for suffix, kind in Image.registered_extensions().items()
        if kind in Image.OPEN and kind not in UNREAD_FORMATS
    }
    assert known - set(SUFFIXES) == set()


def dangling(path: Path) -> None:
    path.symlink_to("nowhere.png")


def links_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's name is short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [dangling, links_to_itself, pipe, unix_socket, device])
@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("place", ["train/b", "test/c"])
def test_what_only_looks_like_an_image_is_refused_by_name(
    make_tree: MakeTree, make: Callable[[Path], None], in_memory: bool, place: str
) -> None:
    root = make_tree(train=2, test=1)
    make(root / place / "zzz.png")
    with pytest.raises(BadRequest, match=rf"^root=.*{place}/zzz\.png is (a link|neither)") as wrong:
        ready(root, in_memory=in_memory, workers=0)
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize("target", ["..", ".", "../../train", "../b"])
def test_links_between_folders_end(
    make_tree: MakeTree, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    root = make_tree(train=2, test=1)
    (root / "train/a/link").symlink_to(target)
    labels = ready(root).split("train").labels
    extra = {"..": 0, ".": 0, "../../train": 0, "../b": 2}[target]
    assert np.bincount(labels).tolist() == [2 + extra, 2, 2]
    assert ("1 links to a parent folder" in capsys.readouterr().err) == (not extra)


def test_many_links_to_one_folder_read_it_once(make_tree: MakeTree) -> None:
    root = make_tree(train=2, test=1)
    folder = root / "train/a"
    for _ in range(30):  # 2^30 paths lead to the last folder
        (folder / "next").mkdir()
        (folder / "again").symlink_to("next")
        folder = folder / "next"
    shutil.copy(root / "train/b/000.png", folder / "last.png")
    assert np.bincount(ready(root).split("train").labels).tolist() == [3, 2, 2]


def test_names_that_are_not_utf8(make_tree: MakeTree) -> None:
    root = make_tree(train=2, test=1)
    odd = os.path.join(os.fsencode(root), b"train/a/\xff\x1b[31m\n.png")
    shutil.copy(root / "train/b/000.png", odd)
    for in_memory in (True, False):
        data = ready(root, in_memory=in_memory, workers=0)
        assert sum(len(labels) for _, labels in data.train_dataloader()) == 7
    Path(os.fsdecode(odd)).write_bytes(b"")
    with pytest.raises(BadRequest, match=r"\\udcff\\x1b\[31m\\n\.png ") as wrong:
        ready(root)
    str(wrong.value).encode()
    os.mkdir(os.path.join(os.fsencode(root), b"train/d\xff"))
    with pytest.raises(BadRequest, match=r"d\\udcff: .*UTF-8"):
        ImageData("folder", root=root).check()


def test_very_long_names(make_tree: MakeTree) -> None:
    root = make_tree(train=2, test=1)
    shutil.copy(root / "train/b/000.png", root / "train/a" / ("n" * 251 + ".png"))
    assert files(ready(root)) == 10
    (root / "train/b" / ("n" * 251 + ".png")).write_bytes(b"else")
    with pytest.raises(BadRequest, match=r"^root=.*train/b/nnn") as wrong:
        ready(root)
    assert len(str(wrong.value)) < 1000


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("place", ["train/b", "train/b/001.png", "test/c"])
def test_what_may_not_be_read_is_named(make_tree: MakeTree, place: str) -> None:
    root = make_tree(train=2, test=1)
    (root / place).chmod(0)
    with pytest.raises(BadRequest, match=rf"{place} .*Permission denied"):
        ready(root)
    (root / place).chmod(0o700)


def test_a_folder_that_cannot_be_read_is_named(make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch) -> None:
    root, scandir = make_tree(train=2, test=1), os.scandir

    def refused(folder: Any) -> Any:
        if str(folder).endswith("train/b/deeper"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    (root / "train/b/deeper").mkdir()
    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(BadRequest, match=r"train/b/deeper .*Permission denied"):
        ready(root)


def test_a_class_of_files_that_are_no_images_says_what_it_has(make_tree: MakeTree) -> None:
    root = make_tree(train=2, test=1)
    shutil.rmtree(root / "train/b")
    (root / "train/b").mkdir()
    for number in range(3):
        (root / "train/b" / f"{number}.heic").touch()
    with pytest.raises(BadRequest, match=r"train/b .*3 x \.heic"):
        ImageData("folder", root=root).check()
