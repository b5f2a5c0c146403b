"""Mean and standard deviation: of all training images, whichever way they are read, or as given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from prunelit.request import BadRequest
from prunelit.training.data import ImageData
from prunelit.training.data.decode import Decoder

MakeTree = Callable[..., Path]


def ready(root: Path, dataset: str = "folder", **options: Any) -> ImageData:
    data = ImageData(dataset, root=root, workers=0, **options)
    data.setup()
    return data


def moments(data: ImageData) -> tuple[list[float], list[float]]:
    """The mean and the standard deviation that images are normalised by."""
    std = 1 / (255 * data.normalise.factor.double())
    return (-data.normalise.shift.double() * std).flatten().tolist(), std.flatten().tolist()


@pytest.mark.slow
def test_streamed_images_have_the_statistics_of_all_of_very_many(tmp_path: Path) -> None:
    """8,300 images that are dark and bright in turn: every second one would say that all are dark."""
    for split, number in (("train", 4150), ("test", 1)):
        for name in "ab":
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                (folder / f"{i:04}.pgm").write_bytes(b"P5\n1 1\n255\n" + bytes([255 * (i % 2)]))
    mean, std = moments(ready(tmp_path, in_memory=False))
    assert mean == pytest.approx([0.5])
    assert std == pytest.approx([0.5])


@pytest.mark.parametrize("options", [{}, {"size": 5}, {"validation": 0.5}])
def test_both_ways_have_one_statistic(make_tree: MakeTree, options: dict[str, Any]) -> None:
    root = make_tree()
    one, other = (ready(root, in_memory=in_memory, **options) for in_memory in (True, False))
    assert torch.equal(one.normalise.factor, other.normalise.factor)
    assert torch.equal(one.normalise.shift, other.normalise.shift)


def test_the_statistics_of_streamed_images_are_kept_until_an_image_changes(
    make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, computed = make_tree(), []
    statistics = Decoder.statistics

    def noted(decoder: Decoder, paths: Any) -> Any:
        computed.append(len(paths))
        return statistics(decoder, paths)

    monkeypatch.setattr(Decoder, "statistics", noted)
    first = moments(ready(root, in_memory=False))
    assert moments(ready(root, in_memory=False)) == first
    assert computed == [21]
    Image.new("RGB", (12, 12), (255, 255, 255)).save(root / "train/a/000.png")
    second = moments(ready(root, in_memory=False))
    assert second[0] > first[0]
    (kept,) = (root / "prunelit-cache").glob("*.json")
    kept.write_text(json.dumps([[1], "damaged"]))
    assert moments(ready(root, in_memory=False)) == second
    assert computed == [21] * 3


@pytest.mark.parametrize("in_memory", [True, False])
def test_given_values_are_used(make_tree: MakeTree, in_memory: bool) -> None:
    root = make_tree()
    given = ready(root, in_memory=in_memory, mean=[0.1, 0.2, 0.3], std=[0.5, 1, 2.0])
    assert moments(given)[0] == pytest.approx([0.1, 0.2, 0.3], rel=1e-5)
    assert moments(given)[1] == pytest.approx([0.5, 1, 2], rel=1e-5)
    only_mean = ready(root, in_memory=in_memory, mean=[0.1, 0.2, 0.3])
    assert moments(only_mean)[0] == pytest.approx([0.1, 0.2, 0.3], rel=1e-5)
    assert moments(only_mean)[1] == pytest.approx(moments(ready(root))[1])
    (images, _), *_ = given.test_dataloader()
    pixel = Image.open(root / "test/a/000.png").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    expected = [(v / 255 - m) / s for v, m, s in zip(pixel, (0.1, 0.2, 0.3), (0.5, 1, 2), strict=True)]
    assert images[0, :, 0, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_given_values_replace_those_of_the_literature() -> None:
    data = ImageData("digits", mean=[0.25], std=[0.75])
    data.setup()
    assert moments(data) == (pytest.approx([0.25]), pytest.approx([0.75]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": [0.5]}, r"^mean=\[0\.5\]: .* 3\b"),
        ({"std": [0.5, 0.5]}, r"^std=\[0\.5,0\.5\]: .* 3\b"),
        ({"std": [0.5, 0.5, 0]}, r"^std=\[0\.5, 0\.5, 0\]: .*> 0"),
        ({"std": [0.5, 0.5, float("inf")]}, r"^std="),
        ({"mean": [0.5, 0.5, float("nan")]}, r"^mean="),
        ({"mean": [123.675, 116.28, 103.53]}, r"^mean=\[123\.675, 116\.28, 103\.53\]: .*\[0, 1\]"),
        ({"mean": []}, r"^mean=\[\]"),
        ({"mean": ["0.5", 0.5, 0.5]}, r"^mean="),
        ({"std": 0.5}, r"^std=0\.5: "),
    ],
)
def test_values_that_cannot_be_are_refused(
    make_tree: MakeTree, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadRequest, match=message):
        ready(make_tree(), **options)


def test_gray_images_have_one_value(make_tree: MakeTree) -> None:
    root = make_tree(mode="L")
    with pytest.raises(BadRequest, match=r"^mean=\[0\.4,0\.5,0\.6\]: .* 1\b"):
        ready(root, mean=[0.4, 0.5, 0.6])
    assert moments(ready(root, mean=[0.4]))[0] == pytest.approx([0.4])
