from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from prunelit.request import BadRequest
from prunelit.training.data import ImageData
from prunelit.training.data.imagenets import TinyImageNet

MakeTree = Callable[..., Path]


def ready(dataset: str = "folder", **options: Any) -> ImageData:
    data = ImageData(dataset, **options)
    data.check()
    data.prepare_data()
    data.setup()
    return data


def test_a_folder_is_read_as_image_folder_reads_it(make_tree: MakeTree) -> None:
    root = make_tree()
    (root / "train/a/deeper").mkdir()
    shutil.copy(root / "train/b/000.png", root / "train/a/deeper/x.PNG")
    (root / "train/a/notes.txt").write_text("not an image")
    data = ready(root=root)
    assert data.class_names == ["a", "b", "c"]
    for name in ("train", "test"):
        theirs, ours = ImageFolder(root / name), data.split(name)
        assert ours.images is not None
        assert ours.labels.tolist() == theirs.targets
        for (picture, _), image in zip(theirs, ours.images, strict=True):
            np.testing.assert_array_equal(image, np.asarray(picture).transpose(2, 0, 1))


def test_val_is_the_test_set_where_there_is_no_test(make_tree: MakeTree) -> None:
    assert ready(root=make_tree(held="val")).test_size == 9


def test_gray_images_keep_one_channel_only_if_all_are_gray(make_tree: MakeTree) -> None:
    root = make_tree(mode="L")
    assert ready(root=root).input_shape == (1, 12, 12)
    assert ready(root=root, in_memory=False).input_shape == (1, 12, 12)
    Image.new("RGB", (12, 12), (255, 0, 0)).save(root / "test/c/002.png")
    for in_memory in (True, False):
        data = ready(root=root, in_memory=in_memory, workers=0)
        assert data.input_shape == (3, 12, 12)
        assert sum(len(labels) for _, labels in data.test_dataloader()) == 9


def test_sixteen_bit_grays_keep_their_upper_bits(make_tree: MakeTree) -> None:
    root = make_tree(mode="L")
    deep = (np.arange(144, dtype=np.uint16) * 400).reshape(12, 12)
    Image.fromarray(deep).save(root / "test/a/000.png")
    images = ready(root=root).split("test").images
    assert images is not None
    np.testing.assert_array_equal(images[0, 0], deep >> 8)


def test_resizing_is_pillows_bilinear(make_tree: MakeTree) -> None:
    root = make_tree(side=30)
    images = ready(root=root, size=16).split("test").images
    assert images is not None
    picture = Image.open(root / "test/a/000.png").resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(images[0], np.asarray(picture).transpose(2, 0, 1))


def remove_train(root: Path) -> None:
    shutil.rmtree(root / "train")


def remove_test(root: Path) -> None:
    shutil.rmtree(root / "test")


def empty(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def remove_classes(root: Path) -> None:
    for name in "abc":
        shutil.rmtree(root / "train" / name)


def empty_class(root: Path) -> None:
    shutil.rmtree(root / "train/b")
    (root / "train/b/deeper").mkdir(parents=True)
    (root / "train/b/readme.txt").touch()


def extra_class(root: Path) -> None:
    shutil.copytree(root / "test/a", root / "test/zebra")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, r"^root=\S+/tree: \S+/tree "),
        (empty, r"train/"),
        (remove_train, r"train/"),
        (remove_test, r"test/ or val/"),
        (remove_classes, r"/tree/train "),
        (empty_class, r"/tree/train/b .*\.txt"),
        (extra_class, "test/zebra .*train/"),
    ],
)
def test_a_tree_with_something_missing_is_refused_before_it_is_read(
    make_tree: MakeTree, spoil: Callable[[Path], None], message: str
) -> None:
    root = make_tree()
    spoil(root)
    with pytest.raises(BadRequest, match=message) as wrong:
        ImageData("folder", root=root).check()
    assert wrong.value.key == "root"
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize("root", [None, ""])
def test_a_folder_needs_a_root(root: str | None) -> None:
    with pytest.raises(BadRequest, match=r"^root="):
        ImageData("folder", root=root).check()


@pytest.mark.parametrize("dataset", ["folder", "mnist", "tiny_imagenet"])
def test_a_root_that_is_a_file_is_refused(dataset: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadRequest, match=r"^root=\S+/file: "):
        ImageData(dataset, root=tmp_path / "file").check()


@pytest.mark.parametrize("content", [b"no image at all", None])
def test_an_unreadable_image_is_named(make_tree: MakeTree, content: bytes | None) -> None:
    root = make_tree(side=40)
    path = root / "test/b/001.png"
    path.write_bytes(path.read_bytes()[:600] if content is None else content)
    with pytest.raises(BadRequest, match=r"^root=.*test/b/001\.png "):
        ready(root=root)
    streamed = ready(root=root, in_memory=False, workers=1)
    with pytest.raises(BadRequest, match=r"^root=.*test/b/001\.png "):
        list(streamed.test_dataloader())


def test_images_of_several_sizes_need_a_size(make_tree: MakeTree) -> None:
    root = make_tree()
    Image.new("RGB", (20, 10)).save(root / "test/b/001.png")
    with pytest.raises(BadRequest, match=r"test/b/001\.png .*20 x 10") as wrong:
        ready(root=root)
    assert wrong.value.key == "size"
    with pytest.raises(BadRequest, match=r"test/b/001\.png .*20 x 10"):
        list(ready(root=root, in_memory=False, workers=0).test_dataloader())
    assert ready(root=root, size=8).input_shape == (3, 8, 8)


@pytest.fixture
def tiny(mirror: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small archive laid out like Tiny ImageNet's; the folder it lies in."""
    base, rng = mirror[0] / "tiny-imagenet-200", np.random.default_rng(0)
    wnids = ["n01443537", "n01629819", "n02002724"]

    def save(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(path, format="JPEG")

    for wnid in wnids:
        for i in range(4):
            save(base / "train" / wnid / "images" / f"{wnid}_{i}.JPEG")
        (base / "train" / wnid / f"{wnid}_boxes.txt").touch()
    lines = [f"val_{i}.JPEG\t{wnids[(i * 2) % 3]}\t0\t32\t44\t62" for i in range(6)]
    for i in range(6):
        save(base / "val/images" / f"val_{i}.JPEG")
    (base / "val/val_annotations.txt").write_text("\n".join(lines) + "\n")
    save(base / "test/images/test_0.JPEG")
    (base / "wnids.txt").write_text("\n".join(reversed(wnids)) + "\n")
    (base / "words.txt").write_text(
        "n01443537\tgoldfish, Carassius auratus\nn01629819\tEuropean fire salamander\n"
    )
    archive = shutil.make_archive(str(base), "zip", base.parent, base.name)
    monkeypatch.setattr(TinyImageNet, "url", mirror[1] + Path(archive).name)
    monkeypatch.setattr(TinyImageNet, "md5", hashlib.md5(Path(archive).read_bytes()).hexdigest())
    return base


def test_tiny_imagenet_is_fetched_checked_and_read(tiny: Path, tmp_path: Path) -> None:
    data = ready("tiny_imagenet", root=tmp_path / "data")
    assert (data.num_classes, data.input_shape) == (3, (3, 64, 64))
    assert (data.train_size, data.test_size) == (12, 6)
    assert data.class_names == ["goldfish", "European fire salamander", "n02002724"]
    assert data.split("test").labels.tolist() == [0, 2, 1, 0, 2, 1]
    images = data.split("test").images
    assert images is not None
    np.testing.assert_array_equal(
        images[1].transpose(1, 2, 0), np.asarray(Image.open(tiny / "val/images/val_1.JPEG"))
    )
    names = {path.name for path in (tmp_path / "data").iterdir() if not path.name.startswith(".")}
    assert names == {"tiny-imagenet-200", "tiny-imagenet-200.zip", "prunelit-cache"}


def test_tiny_imagenet_with_another_checksum_is_refused(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinyImageNet, "md5", "0" * 32)
    with pytest.raises(BadRequest, match=r"^root=.*corrupted"):
        ready("tiny_imagenet", root=tmp_path / "data")
    assert not (tmp_path / "data/tiny-imagenet-200").exists()


def test_an_annotation_of_an_unknown_class_is_refused(tiny: Path) -> None:
    with (tiny / "val/val_annotations.txt").open("a") as file:
        file.write("val_9.JPEG\tn99999999\t0\t0\t0\t0\n")
    with pytest.raises(BadRequest, match=r"^root=.*\bn99999999\b"):
        ImageData("tiny_imagenet", root=tiny.parent).check()


def test_imagenet_streams_resized_crops_and_tests_on_the_middle(make_tree: MakeTree) -> None:
    root = make_tree(held="val", side=40)
    Image.fromarray(np.arange(60 * 40 * 3, dtype=np.uint8).reshape(40, 60, 3)).save(root / "val/a/000.png")
    data = ready("imagenet", root=root, size=28, workers=0)
    assert data.input_shape == (3, 28, 28)
    assert (data.train_size, data.test_size) == (21, 9)
    (images, _), *_ = data.train_dataloader()
    assert images.shape == (21, 3, 28, 28)
    (test, labels), *_ = data.test_dataloader()
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    picture = Image.open(root / "val/a/000.png")
    theirs = v2.Compose([v2.Resize(32), v2.CenterCrop(28), v2.PILToTensor()])(picture)
    torch.testing.assert_close(test[0], data.normalise(theirs[None])[0])
    (clean, _), *_ = data.scoring_batches(None, None, 4)
    assert clean.shape == (4, 3, 28, 28)


def test_imagenet_says_what_it_needs(make_tree: MakeTree) -> None:
    root = make_tree(held="val")
    with pytest.raises(BadRequest, match=r"^size=null"):
        ImageData("imagenet", root=root).check()
    with pytest.raises(BadRequest, match=r"^in_memory=true: "):
        ImageData("imagenet", root=root, size=8, in_memory=True).check()
    assert ready("imagenet", root=root, size=8, in_memory=True, augment=False).input_shape == (3, 8, 8)
    shutil.rmtree(root / "val")
    with pytest.raises(BadRequest, match=r"^root=\S+: \S+/tree .*val/"):
        ImageData("imagenet", root=root, size=8).check()
