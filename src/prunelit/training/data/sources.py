"""Which class reads which data set: the one list of their names."""

from __future__ import annotations

from prunelit.training.data.arrays import Cifar10, Cifar100, Digits, FashionMnist, Mnist
from prunelit.training.data.imagenets import ImageNet, TinyImageNet
from prunelit.training.data.read_options import ReadOptions
from prunelit.training.data.source import Source
from prunelit.training.data.trees import Tree

SOURCES: dict[str, type[Source]] = {
    "digits": Digits,
    "mnist": Mnist,
    "fashion_mnist": FashionMnist,
    "cifar10": Cifar10,
    "cifar100": Cifar100,
    "tiny_imagenet": TinyImageNet,
    "imagenet": ImageNet,
    "folder": Tree,
}


def source_of(options: ReadOptions) -> Source:
    """Return the data set that ``options`` names, once they are checked."""
    return SOURCES[options.dataset](options)
