"""Where people put their training and test images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prunelit.request import BadRequest
from prunelit.training.data import ImageData
from prunelit.training.data.options import Options


def lay(root: Path, *folders: str, number: int = 2) -> Path:
    """Write ``number`` images, each of its own brightness, into each of ``folders``."""
    for place, name in enumerate(folders):
        (root / name).mkdir(parents=True)
        for i in range(number):
            gray = np.full((4, 4), 10 * place + i, np.uint8)
            Image.fromarray(gray).save(root / name / f"{i}.png")
    return root


def ready(root: Path, dataset: str = "folder", **options: Any) -> ImageData:
    data = ImageData(dataset, root=root, **options)
    data.check()
    data.setup()
    return data


def brightness(data: ImageData, name: str) -> list[int]:
    images = data.split(name).images
    assert images is not None
    return [int(level) for level in images[:, 0, 0, 0]]


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


SPLIT = ("{0}/a", "{0}/b", "{1}/a", "{1}/b")


@pytest.mark.parametrize(
    ("train", "test", "line"),
    [
        ("train", "test", ""),
        ("Train", "Test", ""),
        ("TRAINING", "testing", ""),
        ("train", "valid", "the test set is valid/: there is no test/"),
        ("train", "val", "the test set is val/: there is no test/"),
        ("Train", "Validation", "the test set is Validation/: there is no test/"),
    ],
)
def test_folders_are_found_by_their_usual_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], train: str, test: str, line: str
) -> None:
    data = ready(lay(tmp_path / "x", *(name.format(train, test) for name in SPLIT)))
    assert brightness(data, "train") == [0, 1, 10, 11]
    assert brightness(data, "test") == [20, 21, 30, 31]
    assert said(capsys) == ([f"warning: {line}"] if line else [])


def test_test_is_the_test_set_beside_val(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = lay(tmp_path / "x", "train/a", "train/b", "test/a", "test/b", "valid/a", "valid/b", "val/a")
    assert brightness(ready(root), "test") == [20, 21, 30, 31]
    (line,) = said(capsys)
    assert line.startswith("warning: the test set is test/: val/ is not used (data.validation=0.1")


@pytest.mark.parametrize("flat", ["test", "test/test1", "Test/images/deeper"])
def test_val_is_the_test_set_beside_a_test_without_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flat: str
) -> None:
    root = lay(tmp_path / "x", "train/a", "train/b", "val/a", "val/b", flat)
    assert brightness(ready(root), "test") == [20, 21, 30, 31]
    (line,) = said(capsys)
    assert line == f"warning: the test set is val/: {flat.split('/')[0]}/ has no class folders"


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (
            ("train/a", "train/b", "val"),
            r"\bval .*data\.test_share=0\.2",
        ),
        (("train/a", "train/b"), r"test/ or val/.*data\.test_share=0\.2"),
        (("train/a", "train/b", "test/images"), r"test/images .*train/"),
        (("a", "b"), r"train/.* 2 folders .*data\.test_share=0\.2"),
        (("images/train/a", "images/train/b", "images/test/a"), r"data\.root=.*x/images\?"),
        (("train/a", "Train/a", "test/a"), r"Train/ and train/"),
        (("train/a", "train/b", "val/a", "valid/a"), r"val/ and valid/"),
        (("test/a", "test/b"), r"/x .*train/"),
        (("train", "test"), r"x/train "),
        (("train/only", "test/only"), r"train/only "),
    ],
)
def test_what_cannot_be_told_apart_is_refused_with_what_to_do(
    tmp_path: Path, folders: tuple[str, ...], message: str
) -> None:
    with pytest.raises(BadRequest, match=message) as wrong:
        ImageData("folder", root=lay(tmp_path / "x", *folders)).check()
    assert wrong.value.key == "root"
    assert "\n" not in str(wrong.value)


def test_the_training_folder_itself_leads_to_the_one_above(tmp_path: Path) -> None:
    root = lay(tmp_path / "x", "train/a", "train/b", "test/a", "test/b")
    with pytest.raises(BadRequest, match=rf"data\.root={root}\?"):
        ImageData("folder", root=root / "train").check()


def test_one_folder_for_training_and_testing_is_refused(tmp_path: Path) -> None:
    root = lay(tmp_path / "x", "train/a", "train/b")
    (root / "test").symlink_to("train")
    with pytest.raises(BadRequest, match=r"^root=.*test/ and train/"):
        ImageData("folder", root=root).check()


@pytest.mark.parametrize("folders", [("a", "b"), ("train/a", "train/b"), ("Train/a", "Train/b", "val")])
def test_a_share_of_each_class_is_the_test_set_where_that_is_asked_for(
    tmp_path: Path, folders: tuple[str, ...]
) -> None:
    root = lay(tmp_path / "x", *folders, number=10)
    data = ready(root, test_share=0.2)
    assert np.bincount(data.split("train").labels).tolist() == [8, 8]
    assert np.bincount(data.split("test").labels).tolist() == [2, 2]
    assert sorted(brightness(data, "train") + brightness(data, "test")) == list(range(20))
    for options in ({"seed": 5}, {"in_memory": False, "workers": 0}):
        other = ready(root, test_share=0.2, **options)
        assert other.split("test").labels.tolist() == data.split("test").labels.tolist()
    assert brightness(ready(root, test_share=0.2, seed=5), "test") == brightness(data, "test")
    assert len(brightness(ready(root, test_share=0.5), "test")) == 10


def test_a_share_is_refused_where_there_is_a_test_set(tmp_path: Path) -> None:
    root = lay(tmp_path / "x", "train/a", "train/b", "val/a", "val/b")
    with pytest.raises(BadRequest, match=r"^test_share=0\.2: .*\bval\b"):
        ImageData("folder", root=root, test_share=0.2).check()


def test_a_share_that_leaves_a_class_without_training_images_is_refused(tmp_path: Path) -> None:
    root = lay(tmp_path / "x", "a", "b", number=1)
    with pytest.raises(BadRequest, match=r"^test_share=0\.9: a "):
        ready(root, test_share=0.9)


def test_classes_without_test_images_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ready(lay(tmp_path / "x", "train/a", "train/b", "train/c", "test/c", "test/a"))
    assert data.split("test").labels.tolist() == [0, 0, 2, 2]
    assert said(capsys) == ["warning: 1 of 3 classes have no test images: b"]


def test_imagenet_needs_labels_in_val(tmp_path: Path) -> None:
    root = lay(tmp_path / "x", "train/a", "train/b", "val", "test/a")
    with pytest.raises(BadRequest, match=r"x/val ") as wrong:
        ImageData("imagenet", root=root, size=4).check()
    assert "test_share" not in str(wrong.value)


def test_gray_files_of_a_set_with_constants_for_colours_become_colours(tmp_path: Path) -> None:
    root = lay(tmp_path / "x", "train/a", "train/b", "val/a", "val/b")
    for in_memory in (True, False):
        data = ready(root, "imagenet", size=4, augment=False, in_memory=in_memory, workers=0)
        assert data.input_shape == (3, 4, 4)
        (images, _), *_ = data.test_dataloader()
        assert images.shape == (4, 3, 4, 4)


@pytest.mark.parametrize(("name", "value"), [("bits", 12), ("test_share", 0.2), ("labels", "coarse")])
def test_an_option_that_a_data_set_does_not_read_is_refused(name: str, value: object) -> None:
    with pytest.raises(BadRequest) as raised:
        Options(dataset="mnist", **{name: value})
    assert (raised.value.key, raised.value.value) == (name, value)
