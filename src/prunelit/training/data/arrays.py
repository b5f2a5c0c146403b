"""The data sets that come as arrays: scikit-learn's digits, MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from prunelit.training.data.decode import resize, statistics
from prunelit.training.data.source import Contents, Preview, Source, Split


class Digits(Source):
    """1,797 handwritten digits of 8 x 8 pixels in 17 grays, inside scikit-learn.

    Every fifth image of each class (the 5th, 10th, … in scikit-learn's order) is a test image, whatever the
    seed: 1,442 training and 355 test images. The grays 0 … 16 are spread over 0 … 255.
    """

    def present(self) -> bool:
        """They come with scikit-learn."""
        return True

    def preview(self) -> Preview:
        """Ten digits of 8 x 8."""
        return self.resized(10, 1, 8)

    def raw_files(self) -> list[Path]:
        """None: reading them takes milliseconds."""
        return []

    def decode(self) -> Contents:
        """The split above; mean and std from the training images."""
        pixels, labels = _read_digits()
        images = np.rint(pixels.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
        images = resize(images, self.options.size)
        test = np.zeros(len(labels), bool)
        for label in range(10):
            test[np.flatnonzero(labels == label)[4::5]] = True
        splits = [Split(labels[rows].astype(np.int64), images[rows]) for rows in (~test, test)]
        return Contents(splits[0], splits[1], [str(digit) for digit in range(10)], *statistics(images[~test]))


class Torchvision(Source):
    """A data set that torchvision downloads and reads, with its official split."""

    class_name: str
    """Its class in ``torchvision.datasets``."""
    side: int
    """Pixels a side."""
    num_classes = 10

    def preview(self) -> Preview:
        """Mean and standard deviation in the literature."""
        assert self.constants is not None
        return self.resized(self.num_classes, len(self.constants[0]), self.side)

    def _dataset(self) -> Any:
        import torchvision.datasets

        return getattr(torchvision.datasets, self.class_name)

    def present(self) -> bool:
        """Whether all files exist."""
        return all(path.is_file() for path in self.raw_files())

    def download(self) -> None:
        """Let torchvision download, check and unpack the files."""
        self._dataset()(self.options.folder, download=True)

    def decode(self) -> Contents:
        """Read the files, resize them, and add the usual constants."""
        try:
            parts = [self._dataset()(self.options.folder, train=train) for train in (True, False)]
            labels = [np.asarray(part.targets, np.int64) for part in parts]
            splits = [
                Split(label, resize(_nchw(part.data), self.options.size))
                for part, label in zip(parts, labels, strict=True)
            ]
            class_names = self.class_names(parts[0])
        except Exception as fault:  # torchvision's readers raise many kinds of errors for a damaged file
            reason = " ".join(str(fault).split()) or type(fault).__name__
            raise self.wrong_root(
                f"a file is damaged ({reason}); remove it, and it is downloaded again"
            ) from fault
        assert self.constants is not None
        mean, std = self.constants
        return Contents(splits[0], splits[1], class_names, list(mean), list(std))

    def class_names(self, part: Any) -> list[str]:
        """The classes' names in the order of their numbers."""
        return list(part.classes)


class Mnist(Torchvision):
    """http://yann.lecun.com/exdb/mnist: 60,000 and 10,000 gray images of 28 x 28."""

    class_name = "MNIST"
    side = 28
    constants = ((0.1307,), (0.3081,))
    layout = "a folder with MNIST/raw/train-images-idx3-ubyte and its three companions"

    def raw_files(self) -> list[Path]:
        """The four idx files."""
        raw = self.options.folder / self.class_name / "raw"
        return [raw / Path(url).with_suffix("").name for url, _ in self._dataset().resources]

    def class_names(self, part: Any) -> list[str]:
        """Digits as digits, garments by name."""
        return [name.split(" - ")[0] for name in part.classes]


class FashionMnist(Mnist):
    """https://arxiv.org/abs/1708.07747: 60,000 and 10,000 gray images of 28 x 28."""

    class_name = "FashionMNIST"
    constants = ((0.2860,), (0.3530,))
    layout = "a folder with FashionMNIST/raw/train-images-idx3-ubyte and its three companions"


class Cifar10(Torchvision):
    """https://www.cs.toronto.edu/~kriz/cifar.html: 50,000 and 10,000 images of 32 x 32."""

    class_name = "CIFAR10"
    side = 32
    augmentation = "crop"
    constants = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    layout = "a folder with cifar-10-batches-py (the unpacked cifar-10-python.tar.gz)"

    def raw_files(self) -> list[Path]:
        """The batches and the names of the classes."""
        cls = self._dataset()
        names = [name for name, _ in cls.train_list + cls.test_list] + [cls.meta["filename"]]
        return [self.options.folder / cls.base_folder / name for name in names]


class Cifar100(Cifar10):
    """The same with 100 fine or 20 coarse classes (``data.labels``)."""

    class_name = "CIFAR100"
    own_options = ("labels",)
    constants = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
    layout = "a folder with cifar-100-python (the unpacked cifar-100-python.tar.gz)"

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """The number of classes of the labels."""
        return 100 if self.options.labels == "fine" else 20

    @property
    def name(self) -> str:
        """The name depends on the labels."""
        return f"{self.options.dataset}-{self.options.labels}"

    def decode(self) -> Contents:
        """As torchvision reads them, with the coarse labels if requested."""
        contents = super().decode()
        if self.options.labels == "fine":
            return contents
        # torchvision has just compared these files' checksums, so they may be unpickled
        train, test, meta = (_unpickle(path) for path in self.raw_files())
        splits = [
            Split(np.asarray(entry["coarse_labels"], np.int64), split.images)
            for entry, split in ((train, contents.train), (test, contents.test))
        ]
        class_names = list(meta["coarse_label_names"])
        return Contents(splits[0], splits[1], class_names, contents.mean, contents.std)


def _read_digits() -> tuple[np.ndarray, np.ndarray]:
    """The grays (1797, 64) and labels of scikit-learn's table, as its ``load_digits`` gives them.

    Read without importing scikit-learn, which takes longer than everything else before the first step.
    """
    package = find_spec("sklearn")
    folders = (package.submodule_search_locations if package else None) or []
    for table in (Path(folder) / "datasets" / "data" / "digits.csv.gz" for folder in folders):
        if table.is_file():
            rows = np.loadtxt(table, np.uint8, delimiter=",")
            return rows[:, :-1], rows[:, -1]
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return pixels, labels


def _unpickle(path: Path) -> Any:
    with path.open("rb") as file:
        return pickle.load(file, encoding="latin1")


def _nchw(images: Any) -> np.ndarray:
    pixels = np.asarray(images)
    return pixels[:, None] if pixels.ndim == 3 else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
