from __future__ import annotations

import gzip
import hashlib
import pickle
import shutil
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets

from prunelit.request import BadRequest
from prunelit.training.data import ImageData


def ready(dataset: str, **options: Any) -> ImageData:
    data = ImageData(dataset, **options)
    data.check()
    data.prepare_data()
    data.setup()
    return data


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def images_of(data: ImageData, name: str = "test") -> np.ndarray:
    images = data.split(name).images
    assert images is not None
    return np.asarray(images)


def test_the_digits_split_is_every_fifth_of_a_class() -> None:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    data = ready("digits", seed=5)
    assert (data.num_classes, data.input_shape) == (10, (1, 8, 8))
    assert (data.train_size, data.test_size) == (1442, 355)
    fives = pixels[labels == 5][4::5]
    ours = images_of(data)[data.split("test").labels == 5]
    np.testing.assert_array_equal(ours.reshape(-1, 64), np.rint(fives * 255 / 16))
    # nothing is in both splits, and together they are everything
    assert len(fives) == (labels == 5).sum() // 5
    assert data.train_size + data.test_size == len(labels)


def test_digits_are_normalised_by_their_training_images() -> None:
    data = ready("digits", size=28)
    assert data.input_shape == (1, 28, 28)
    images = torch.cat([images for images, _ in data.scoring_batches(None, None, 500)])
    assert abs(images.mean()) < 1e-3
    assert abs(images.std() - 1) < 1e-3


@pytest.fixture
def mnist_mirror(mirror: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror of small idx files, with torchvision's list of names and checksums made to fit."""
    (folder, address), rng = mirror, np.random.default_rng(0)
    resources = []
    for split, number in (("train", 40), ("t10k", 20)):
        labels = np.arange(number, dtype=np.uint8) % 10
        images = rng.integers(0, 256, (number, 28, 28), np.uint8)
        files = {
            f"{split}-images-idx3-ubyte": struct.pack(">iiii", 2051, number, 28, 28) + images.tobytes(),
            f"{split}-labels-idx1-ubyte": struct.pack(">ii", 2049, number) + labels.tobytes(),
        }
        for name, content in files.items():
            path = folder / f"{name}.gz"
            path.write_bytes(gzip.compress(content))
            resources.append((path.name, md5(path)))
    for name in ("MNIST", "FashionMNIST"):
        monkeypatch.setattr(getattr(torchvision.datasets, name), "resources", resources)
        monkeypatch.setattr(getattr(torchvision.datasets, name), "mirrors", [address])
    return folder


@pytest.mark.parametrize("dataset", ["mnist", "fashion_mnist"])
def test_mnist_is_fetched_checked_and_read(mnist_mirror: Path, tmp_path: Path, dataset: str) -> None:
    root = tmp_path / "data"
    data = ready(dataset, root=root)
    assert (data.num_classes, data.input_shape) == (10, (1, 28, 28))
    assert (data.train_size, data.test_size) == (40, 20)
    assert data.class_names[0] == {"mnist": "0", "fashion_mnist": "T-shirt/top"}[dataset]
    raw = (mnist_mirror / "t10k-images-idx3-ubyte.gz").read_bytes()
    assert images_of(data).tobytes() == gzip.decompress(raw)[16:]
    shutil.rmtree(mnist_mirror)  # from here on the mirror is not asked
    assert ready(dataset, root=root, download=False).test_size == 20


def test_a_failed_download_says_why_in_one_line(mnist_mirror: Path, tmp_path: Path) -> None:
    shutil.rmtree(mnist_mirror)
    data = ImageData("mnist", root=tmp_path / "data")
    data.check()
    with pytest.raises(BadRequest, match=r"HTTP Error 404.*MNIST/raw") as wrong:
        data.prepare_data()
    assert wrong.value.key == "root"
    assert "\n" not in str(wrong.value)


def test_a_damaged_download_is_refused(mnist_mirror: Path, tmp_path: Path) -> None:
    (mnist_mirror / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"else"))
    with pytest.raises(BadRequest, match=r"^root=.*train-labels-idx1-ubyte"):
        ready("mnist", root=tmp_path / "data")


def test_a_damaged_file_is_named_as_such(mnist_mirror: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    ImageData("mnist", root=root).prepare_data()
    (root / "MNIST/raw/t10k-images-idx3-ubyte").write_bytes(b"else")
    with pytest.raises(BadRequest, match=r"^root=.*damaged"):
        ready("mnist", root=root)


@pytest.fixture
def cifar(mirror: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Archives laid out like CIFAR's, with torchvision's checksums made to fit; the pixels that went in."""
    rng, pixels = np.random.default_rng(0), {}
    labels = {"CIFAR10": ("labels",), "CIFAR100": ("fine_labels", "coarse_labels")}
    for name, keys in labels.items():
        cls = getattr(torchvision.datasets, name)
        folder = mirror[0] / cls.base_folder
        folder.mkdir(parents=True)
        classes = 10 if name == "CIFAR10" else 100
        lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
        for kind in lists:
            for file, _ in getattr(cls, kind):
                pixels[f"{name}/{file}"] = rng.integers(0, 256, (20, 3072), np.uint8)
                entry: dict[str, Any] = {"data": pixels[f"{name}/{file}"]}
                entry |= {
                    key: [(i * 7) % (20 if key[0] == "c" else classes) for i in range(20)] for key in keys
                }
                (folder / file).write_bytes(pickle.dumps(entry))
                lists[kind].append([file, md5(folder / file)])
        names = {cls.meta["key"]: [f"class {i}" for i in range(classes)]}
        names["coarse_label_names"] = [f"coarse {i}" for i in range(20)]
        meta = folder / cls.meta["filename"]
        meta.write_bytes(pickle.dumps(names))
        archive = mirror[0] / cls.filename
        with tarfile.open(archive, "w:gz") as file:
            file.add(folder, cls.base_folder)
        changed: dict[str, Any] = {"url": mirror[1] + cls.filename, "tgz_md5": md5(archive)}
        changed |= lists | {"meta": cls.meta | {"md5": md5(meta)}}
        for attribute, value in changed.items():
            monkeypatch.setattr(cls, attribute, value)
    return pixels


def test_cifar10_is_fetched_checked_and_read(cifar: dict[str, np.ndarray], tmp_path: Path) -> None:
    data = ready("cifar10", root=tmp_path / "data")
    assert (data.num_classes, data.input_shape) == (10, (3, 32, 32))
    assert (data.train_size, data.test_size) == (100, 20)
    np.testing.assert_array_equal(images_of(data).reshape(20, -1), cifar["CIFAR10/test_batch"])
    assert data.class_names == [f"class {i}" for i in range(10)]


@pytest.mark.parametrize(("labels", "classes"), [("fine", 100), ("coarse", 20)])
def test_cifar100_has_two_labellings(
    cifar: dict[str, np.ndarray], tmp_path: Path, labels: str, classes: int
) -> None:
    other = "coarse" if labels == "fine" else "fine"
    ready(
        "cifar100", root=tmp_path / "data", labels=other
    )  # the other's decoded copy is not taken for this one
    data = ready("cifar100", root=tmp_path / "data", labels=labels)
    assert data.num_classes == classes
    assert data.split("test").labels.tolist() == [(i * 7) % classes for i in range(20)]
    assert data.class_names[0] == ("coarse 0" if labels == "coarse" else "class 0")
    np.testing.assert_array_equal(images_of(data, "train").reshape(20, -1), cifar["CIFAR100/train"])


def test_a_damaged_cifar_file_is_refused(cifar: dict[str, np.ndarray], tmp_path: Path) -> None:
    root = tmp_path / "data"
    ImageData("cifar10", root=root).prepare_data()
    (root / "cifar-10-batches-py/data_batch_3").write_bytes(b"else")
    with pytest.raises(BadRequest, match=r"^root=.*damaged"):
        ready("cifar10", root=root)


@pytest.mark.parametrize("dataset", ["mnist", "fashion_mnist", "cifar10", "cifar100", "tiny_imagenet"])
def test_without_download_missing_files_are_reported_at_once(dataset: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"^root=.*data\.download=false") as wrong:
        ImageData(dataset, root=tmp_path / "none", download=False).check()
    assert wrong.value.key == "root"
    assert not (tmp_path / "none").exists()
