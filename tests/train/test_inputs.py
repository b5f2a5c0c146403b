"""Runs on images and weights that change, and on the same images read in different ways."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runs import folders

FOLDER = ("data=folder", "data.root=images", "epochs=1", "logger=none", "pruner=snip", "model=convnet")
WHOLE = ("weights.safetensors", "masks.safetensors", "layers.csv")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Colour images of 32 x 32 in three classes of other brightness."""
    rng = np.random.default_rng(0)
    for split, number in (("train", 6), ("test", 3)):
        for label in range(3):
            folder = tmp_path / "images" / split / "abc"[label]
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(60 * label, 60 * label + 100, (32, 32, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "images"


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_the_way_of_reading_changes_no_bit_of_a_run(cli, images) -> None:
    ways = {
        "memory": ("data.in_memory=true",),
        "streamed": ("data.in_memory=false", "data.workers=0"),
        "workers": ("data.in_memory=false", "data.workers=2"),
    }
    asked = (*FOLDER, "epochs=2", "batch_size=4", "data.augment=true", "data.validation=0.2")
    found = {}
    for name, way in ways.items():
        status, _, err = cli(*asked, *way, f"name={name}")
        assert (status, err) == (0, [])
        (found[name],) = Path("outputs", name).glob("*-seed0-*")
    names = {folder.name for folder in found.values()}
    assert len(names) == 1, "one identity"
    first = found["memory"]
    for other in (found["streamed"], found["workers"]):
        for file in WHOLE:
            assert (other / file).read_bytes() == (first / file).read_bytes(), file
        assert losses(other) == losses(first)
        with np.load(other / "details.npz") as one, np.load(first / "details.npz") as two:
            assert set(one) == set(two)
            for key in one:
                np.testing.assert_array_equal(one[key], two[key])


def losses(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if "second" not in key} for row in rows]


def test_changed_images_are_no_complete_run(cli, images) -> None:
    asked = (*FOLDER, "epochs=0")
    assert cli(*asked)[0] == 0
    (folder,) = folders()
    described = json.loads((folder / "files.json").read_text())["inputs"]["data.root"]
    assert described["given"] == "images"
    assert described["parts"]["train"]["classes"]["b"][0] == 6
    assert cli(*asked)[0] == 0
    shutil.copy(images / "train/a/0.png", images / "train/a/new.png")
    status, out, (line,) = cli(*asked)
    assert (status, out) == (1, "")
    assert line.startswith("changed: outputs/default/folder-convnet-snip")
    assert "data.root=images: train class a has 7 images, not 6 (rerun=true repeats it" in line
    status, out, _ = cli("-m", *asked, "seed=0,1")
    assert status == 1
    assert "1 done" in out
    assert "train class a has 7 images, not 6" in out
    assert cli(*asked, "rerun=true")[0] == 0
    assert cli(*asked)[0] == 0
    shutil.rmtree(images)
    status, out, err = cli(*asked)
    assert (status, err) == (0, [])
    assert out.startswith("complete already")


def test_a_changed_checkpoint_is_no_complete_run(cli) -> None:
    assert cli("epochs=0", "logger=none", "pruner=mag", "name=first")[0] == 0
    (first,) = Path("outputs/first").glob("*-seed0-*")
    shutil.copytree(first, "weights")
    asked = (
        "epochs=0",
        "logger=none",
        "pruner=mag",
        "compression=1",
        "checkpoint=weights/weights.safetensors",
    )
    assert cli(*asked)[0] == 0
    assert cli(*asked)[0] == 0
    path = Path("weights/weights.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    status, _, (line,) = cli(*asked)
    assert status == 1
    assert "checkpoint=weights/weights.safetensors: weights.safetensors has other contents" in line


def test_mean_and_std_can_be_given(cli, images) -> None:
    asked = (*FOLDER, "epochs=0")
    assert cli(*asked, "data.mean=[0.485,0.456,0.406]", "data.std=[0.229,0.224,0.225]")[0] == 0
    for override, start in (
        ("data.mean=[0.5]", "data.mean=[0.5]: "),
        ("data.std=[1,0,1]", "data.std=[1, 0, 1]: "),
        ("data.std=[1,.nan,1]", "data.std=[1"),
        ("data.mean=[123.7,116.3,103.5]", "data.mean=[123.7, 116.3, 103.5]: "),
        ("data.mean=0.5", "data.mean=0.5: "),
        ("data.mean=[]", "data.mean=[]: "),
    ):
        status, _, err = cli(*asked, override)
        assert (status, len(err)) == (2, 1), err
        assert err[0].startswith(start)
