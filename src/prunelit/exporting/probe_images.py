"""The images that check an export: the run's own images if they are available, or random ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from prunelit.exporting.recorded_run import config_of
from prunelit.request import BadRequest
from prunelit.study.integrity import DamagedRun

if TYPE_CHECKING:
    from prunelit.training.data import ImageData
    from prunelit.training.export.recorded_network import NetworkDescription

CALIBRATION = 256
"""The number of training images that calibrate the ranges of an eight-bit program."""
MADE = 64
"""The number of random images if the run's own are not available."""


@dataclass(frozen=True)
class ProbeImages:
    """Images as uint8 tensors of shape (n, channels, height, width).

    Attributes:
        test: evenly spaced over the test set, or random.
        labels: the labels of ``test``; None for random images.
        training: a random part of the training images; None if they are not available.
        source: a description of the images for users.
    """

    test: Tensor
    labels: Tensor | None
    training: Tensor | None
    source: str

    @property
    def real(self) -> bool:
        """Whether they are the run's own images."""
        return self.labels is not None

    def accuracy(self, program: Callable[[Tensor], Tensor]) -> float | None:
        """Return a program's accuracy on the test images in percent; None if they are random."""
        if self.labels is None:
            return None
        found = torch.cat([program(part).argmax(1) for part in self.test.split(64)])
        return 100 * float((found == self.labels).double().mean())


def probe_images(run: Path, description: NetworkDescription, count: int) -> ProbeImages:
    """Return the images of a run, or random ones if its own are not available or have changed.

    Args:
        run: the run's folder, whose config says where the images lie.
        description: their size, mean and standard deviation.
        count: the number of test images; if there are fewer, all of them.
    """
    try:
        data = _read(run, description)
    except (BadRequest, DamagedRun, OSError) as error:
        return made_images(description, " ".join(str(error).split()))
    test, labels = data.spread_test_images(count)
    training = data.scoring_batches(None, 1, min(CALIBRATION, data.train_size))[0][0]
    pixels = description.normalise.pixels
    source = f"{len(test):,} of the run's {data.test_size:,} test images"
    return ProbeImages(pixels(test), labels, pixels(training), source)


def made_images(description: NetworkDescription, why: str) -> ProbeImages:
    """Return random images, always the same, with the mean and standard deviation of the run's images."""
    draw = torch.Generator().manual_seed(0)
    shape = (MADE, *description.input_shape)
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (description.mean, description.std))
    images = (255 * (mean + std * torch.randn(shape, generator=draw))).round().clamp(0, 255).to(torch.uint8)
    source = f"{MADE} random images with the mean and deviation of the run's, which are not at hand ({why})"
    return ProbeImages(images, None, None, source)


def _read(run: Path, description: NetworkDescription) -> ImageData:
    from prunelit.training.export.recorded_network import data_at_hand

    data = data_at_hand(*config_of(run))
    ours = (list(data.class_names), tuple(data.input_shape), data.normalise.mean, data.normalise.std)
    theirs = (description.class_names, description.input_shape, description.mean, description.std)
    if ours != theirs:
        raise BadRequest("data.root", data.options.root, "the run's images", "other images lie there now")
    return data
