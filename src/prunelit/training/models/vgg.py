"""VGG networks for small images: ``vgg11`` to ``vgg19``, with and without BatchNorm, and ``vgg16_mnist``.

Simonyan and Zisserman 2015, https://arxiv.org/abs/1409.1556, in the plan that is usual for CIFAR: four
max poolings between five groups of 3x3 convolutions with biases, an average over what is left (2 x 2 of
32 x 32 images), and one linear classifier from 512.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from annotated_types import Ge
from torch import nn
from typing_extensions import Doc

from prunelit.declared import checked
from prunelit.training.models.checks import Shape, check_size
from prunelit.training.models.init import Init, Network

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of the convolutions in each group."""

GROUPS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Depth, as in the paper's names -> convolutions in each group."""


class VGG(Network):
    """A VGG network whose convolutions are named ``conv<group>_<number>``, as in the literature.

    Weights are Kaiming-normal and biases 0 unless ``init`` is set. 16 x 16 images are the smallest that four
    poolings leave a pixel of.

    Args:
        num_classes: outputs of the classifier.
        input_shape: channels, height and width of one input.
        init: `prunelit.training.models.init`.
    """

    default_init: Init = "kaiming_normal"

    @checked
    def __init__(
        self,
        num_classes: int,
        input_shape: Shape,
        init: Init = "default",
        depth: Annotated[
            Literal[11, 13, 16, 19],
            Doc("The number of convolutions and linear layers of the network in the paper."),
        ] = 16,
        batch_norm: Annotated[
            bool, Doc("Use BatchNorm after each convolution and each hidden linear layer.")
        ] = False,
        hidden: Annotated[
            tuple[Annotated[int, Ge(1)], ...],
            Doc("The numbers of units of the linear layers between the features and the classifier."),
        ] = (),
    ) -> None:
        check_size(f"vgg{depth}", input_shape, least=16, example=32)
        channels, image_height, image_width = input_shape
        layers = {
            **_features(channels, depth, batch_norm),
            # Each of the four poolings halves and rounds down: this averages over all that is left.
            "avgpool": nn.AvgPool2d((image_height // 16, image_width // 16)),
            "flatten": nn.Flatten(),
            **_classifier(num_classes, hidden, batch_norm),
        }
        super().__init__(layers, init)


def _features(channels: int, depth: int, batch_norm: bool) -> dict[str, nn.Module]:
    """The groups of convolutions, with a pooling between each two."""
    layers: dict[str, nn.Module] = {}
    for group, (width, count) in enumerate(zip(WIDTHS, GROUPS[depth], strict=True), start=1):
        if group > 1:
            layers[f"pool{group - 1}"] = nn.MaxPool2d(2)
        for i in range(1, count + 1):
            layers[f"conv{group}_{i}"] = nn.Conv2d(channels, width, 3, padding=1)
            if batch_norm:
                layers[f"bn{group}_{i}"] = nn.BatchNorm2d(width)
            layers[f"relu{group}_{i}"] = nn.ReLU()
            channels = width
    return layers


def _classifier(num_classes: int, hidden: Sequence[int], batch_norm: bool) -> dict[str, nn.Module]:
    """Linear layers from the last group's channels, by way of ``hidden``, to the classes."""
    layers: dict[str, nn.Module] = {}
    inputs = WIDTHS[-1]
    for i, width in enumerate(hidden, start=1):
        layers[f"fc{i}"] = nn.Linear(inputs, width)
        if batch_norm:
            layers[f"fc{i}_bn"] = nn.BatchNorm1d(width)
        layers[f"fc{i}_relu"] = nn.ReLU()
        inputs = width
    layers["fc"] = nn.Linear(inputs, num_classes)
    return layers
