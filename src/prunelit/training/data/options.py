"""What a user may ask of a data set, and which requests are wrong."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Gt, Le, Lt
from typing_extensions import Doc

from prunelit.declared import Says, check_fields, options_of
from prunelit.request import BadRequest, nearest

Dataset = Literal[
    "digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "tiny_imagenet", "imagenet", "folder"
]
DATASETS: tuple[str, ...] = get_args(Dataset)
READ_BY = {
    "bits": ("folder", "tiny_imagenet", "imagenet"),
    "test_share": ("folder",),
    "labels": ("cifar100",),
}
"""Options that only some data sets read: for the others they must be left out."""


@dataclass(frozen=True)
class Options:
    """The options of a data set, as the yaml files in ``conf/data`` list them."""

    dataset: Annotated[Dataset, Doc("Which data set is read.")] = "digits"
    root: Annotated[
        str | Path | None,
        Says("a folder"),
        Doc("The folder that holds the data, relative to the current folder."),
    ] = "data"
    download: Annotated[
        bool, Doc("Fetch what is missing below `root`, where the data set can be fetched.")
    ] = True
    size: Annotated[
        Annotated[int, Ge(1)] | None,
        Doc(
            "Resize images to this many pixels a side when decoding (bilinear, antialiased); null: leave "
            "their sizes."
        ),
    ] = None
    in_memory: Annotated[
        bool | Literal["auto"],
        Doc("Keep decoded images on the training device; `auto`: if a quarter of its free memory is enough."),
    ] = "auto"
    validation: Annotated[
        Annotated[int, Ge(0)] | Annotated[float, Ge(0), Lt(1)],
        Says("a share in [0, 1), or a number of images"),
        Doc("The share or number of training images put aside for validation, by seed, stratified by class."),
    ] = 0
    augment: Annotated[
        bool | None,
        Doc(
            "Augment the training images; null: as is usual for the data set (crops and flips for CIFAR and "
            "Tiny ImageNet, resized crops and flips for ImageNet, else none)."
        ),
    ] = None
    workers: Annotated[
        Annotated[int, Ge(0)] | None,
        Doc("How many processes decode images that are streamed; null: one for each core."),
    ] = None
    batch_size: Annotated[
        int,
        Ge(1),
        Doc("How many training images a step and process takes; an epoch's last may be fewer."),
    ] = 64
    eval_batch_size: Annotated[
        int, Ge(1), Doc("How many test and validation images a step and process takes.")
    ] = 256
    seed: Annotated[
        int, Ge(0), Doc("Decides the order, the augmentation, the validation split and the scoring batches.")
    ] = 0
    mean: Annotated[
        tuple[Annotated[float, Ge(0), Le(1)], ...] | None,
        Says("a list with a number in [0, 1] for each channel, or null"),
        Doc(
            "What is subtracted from each channel, pixels counted from 0 to 1, such as "
            "`[0.485,0.456,0.406]`; null: the literature's, or the mean of the training images."
        ),
    ] = None
    std: Annotated[
        tuple[Annotated[float, Gt(0)], ...] | None,
        Says("a list with a number > 0 for each channel, or null"),
        Doc("What each channel is then divided by; null: as for `mean`, the standard deviation."),
    ] = None
    bits: Annotated[
        Annotated[int, Ge(8), Le(32)] | None,
        Doc(
            "How many bits pixels of more than 8 bits use, of which the upper 8 are kept, of image folders; "
            "null: 16, and images that look darker are refused."
        ),
    ] = None
    test_share: Annotated[
        Annotated[float, Gt(0), Lt(1)] | None,
        Says("a share in (0, 1), or null"),
        Doc(
            "The share of the images of each class that becomes the test set, the same for every seed, of a "
            "`folder` without a test set; null: such a folder is refused."
        ),
    ] = None
    labels: Annotated[Literal["fine", "coarse"], Doc("100 or 20 classes, of `cifar100` only.")] = "fine"

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("mean", "std"):
            if getattr(self, name) == ():
                raise BadRequest(name, "[]", options_of(Options)[name].expected)
        for name, readers in READ_BY.items():
            if self.dataset not in readers and getattr(self, name) != options_of(Options)[name].default:
                why = f"only data={' and data='.join(readers)} read it"
                raise BadRequest(name, getattr(self, name), "left out", why)

    @classmethod
    def of(cls, **given: Any) -> Options:
        """The options with ``given`` set; raises ``BadRequest`` for a wrong value or an unknown name."""
        known = [field.name for field in fields(cls)]
        for key, value in given.items():
            if key not in known:
                raise BadRequest(key, value, nearest(key, known), "no such option")
        return cls(**given)

    @property
    def folder(self) -> Path:
        """``root`` as an absolute path."""
        return Path(self.root or ".").expanduser().absolute()
