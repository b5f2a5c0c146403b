"""What a user may ask of a data set, and which requests are wrong."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from prunelit.request import BadRequest, nearest

DATASETS = (
    "digits",
    "mnist",
    "fashion_mnist",
    "cifar10",
    "cifar100",
    "tiny_imagenet",
    "imagenet",
    "folder",
)


@dataclass(frozen=True)
class Options:
    """The options of a data set, as the yaml files in ``conf/data`` list them."""

    dataset: str = "digits"
    """Which data set, one of :data:`DATASETS`."""
    root: str | Path | None = "data"
    """Folder that holds the data, relative to the current folder."""
    download: bool = True
    """Fetch what is missing below ``root``, where the data set can be fetched."""
    size: int | None = None
    """Resize to ``size`` x ``size`` pixels (bilinear, antialiased) when decoding; None: as they are."""
    in_memory: bool | str = "auto"
    """Keep decoded images on the training device; ``auto``: if a quarter of its free memory is enough."""
    validation: float = 0
    """Share in [0, 1), or number, of training images put aside by seed, stratified by class."""
    augment: bool | None = None
    """Augment the training images; None does what is usual for the data set."""
    workers: int | None = None
    """Processes that decode images which are streamed; None takes a process a core."""
    batch_size: int = 64
    """Training images a step and process; the epoch's last batch may be smaller."""
    eval_batch_size: int = 256
    """Test and validation images a step and process."""
    seed: int = 0
    """Decides the order, the augmentation, the validation split and the scoring batches."""
    labels: str = "fine"
    """``fine`` (100 classes) or ``coarse`` (20), of ``cifar100`` only."""

    @classmethod
    def of(cls, **given: Any) -> Options:
        """The options with ``given`` set; raises ``BadRequest`` for one that does not exist."""
        known = [field.name for field in fields(cls)]
        for key, value in given.items():
            if key not in known:
                raise BadRequest(f"data.{key}", value, nearest(key, known), "no such option")
        return cls(**given)

    @property
    def folder(self) -> Path:
        """``root`` as an absolute path."""
        return Path(self.root or ".").expanduser().absolute()

    def check(self) -> None:
        """Raise ``BadRequest`` for the first option whose value is not allowed."""
        if self.dataset not in DATASETS:
            raise BadRequest("data.dataset", self.dataset, nearest(str(self.dataset), DATASETS))
        _whole("batch_size", self.batch_size, 1)
        _whole("data.eval_batch_size", self.eval_batch_size, 1)
        _whole("seed", self.seed, 0)
        if self.size is not None:
            _whole("data.size", self.size, 1, " or null")
        if self.workers is not None:
            _whole("data.workers", self.workers, 0, " or null")
        _one_of("data.in_memory", self.in_memory, ("auto", True, False))
        _one_of("data.augment", self.augment, (None, True, False))
        _one_of("data.download", self.download, (True, False))
        _one_of("data.labels", self.labels, ("fine", "coarse"))
        if not _is_validation(self.validation):
            allowed = "a share of the training images in [0, 1), or a whole number of them"
            raise BadRequest("data.validation", self.validation, allowed)


def _whole(key: str, value: object, least: int, other: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadRequest(key, value, f"an integer >= {least}{other}")


def _one_of(key: str, value: object, choices: tuple[object, ...]) -> None:
    # 1 == True, so compare the types as well
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        names = {True: "true", False: "false", None: "null"}
        raise BadRequest(key, value, "one of " + ", ".join(str(names.get(c, c)) for c in choices))  # type: ignore[call-overload]


def _is_validation(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value >= 0 and (isinstance(value, int) or value < 1)
