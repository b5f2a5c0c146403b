"""The options of a data set, and their checks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from typing_extensions import Doc

from prunelit.declared import Says, check_fields, options_of
from prunelit.request import BadRequest, nearest
from prunelit.training.data.sources import SOURCES

DATASETS = tuple(SOURCES)
"""The names of all data sets."""

if TYPE_CHECKING:
    Dataset = str
else:
    Dataset = Literal[DATASETS]

OWN_OPTIONS = {
    option: [name for name, source in SOURCES.items() if option in source.own_options]
    for option in sorted({option for source in SOURCES.values() for option in source.own_options})
}
"""Options that only some data sets read, and these data sets; for the others they must be omitted."""


@dataclass(frozen=True)
class Options:
    """The options of a data set, as the yaml files in ``conf/data`` list them."""

    dataset: Annotated[Dataset, Doc("The data set to read.")] = "digits"
    root: Annotated[
        str | Path | None,
        Says("a folder"),
        Doc("The folder of the data, relative to the current folder."),
    ] = "data"
    download: Annotated[bool, Doc("Download missing files to `root`.")] = True
    size: Annotated[
        Annotated[int, Ge(1)] | None,
        Doc(
            "The height and width to which images are resized when they are decoded (bilinear, "
            "antialiased). null: no resizing."
        ),
    ] = None
    in_memory: Annotated[
        bool | Literal["auto"],
        Doc(
            "Keep decoded images in the memory of the training device. `auto`: if they fit in a "
            "quarter of its free memory."
        ),
    ] = "auto"
    validation: Annotated[
        Annotated[int, Ge(0)] | Annotated[float, Ge(0), Lt(1)],
        Says("a share in [0, 1), or a number of images"),
        Doc(
            "The share or number of training images for the validation set, drawn by seed and "
            "stratified by class."
        ),
    ] = 0
    augment: Annotated[
        bool | None,
        Doc(
            "Augment the training images. null: as usual for the data set (crops and flips for CIFAR "
            "and Tiny ImageNet, resized crops and flips for ImageNet, otherwise none)."
        ),
    ] = None
    workers: Annotated[
        Annotated[int, Ge(0)] | None,
        Doc("The number of processes that decode streamed images. null: one per core."),
    ] = None
    batch_size: Annotated[
        int,
        Ge(1),
        Doc("The number of training images per step and process. The last step of an epoch may have fewer."),
    ] = 64
    eval_batch_size: Annotated[
        int, Ge(1), Doc("The number of test and validation images per step and process.")
    ] = 256
    seed: Annotated[
        int,
        Ge(0),
        Doc("The random seed of the order, the augmentation, the validation split and the scoring batches."),
    ] = 0
    mean: Annotated[
        tuple[Annotated[float, Ge(0), Le(1)], ...] | None,
        Says("a list with one number in [0, 1] per channel, or null"),
        Doc(
            "The mean to subtract from each channel of pixels in [0, 1], such as "
            "`[0.485,0.456,0.406]`. null: the value used in the literature, or the mean of the "
            "training images."
        ),
    ] = None
    std: Annotated[
        tuple[Annotated[float, Gt(0)], ...] | None,
        Says("a list with one number > 0 per channel, or null"),
        Doc("The standard deviation by which each channel is divided. null: as for `mean`."),
    ] = None
    bits: Annotated[
        Annotated[int, Ge(8), Le(32)] | None,
        Doc(
            "The number of bits used by pixels of more than 8 bits; the upper 8 of them are kept. "
            "null: 16, and images that appear to use fewer bits are refused."
        ),
    ] = None
    test_share: Annotated[
        Annotated[float, Gt(0), Lt(1)] | None,
        Says("a share in (0, 1), or null"),
        Doc(
            "The share of each class that becomes the test set, the same for every seed, if the "
            "folder has no test set. null: such a folder is refused."
        ),
    ] = None
    labels: Annotated[
        Literal["fine", "coarse"], Doc("Use the 100 fine classes or the 20 coarse classes.")
    ] = "fine"

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("mean", "std"):
            if getattr(self, name) == ():
                raise BadRequest(name, "[]", options_of(Options)[name].expected)
        for name, readers in OWN_OPTIONS.items():
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
