"""Residual networks for small images: ``resnet18``, ``resnet20`` to ``resnet110``, and the wide ones.

He et al. 2016, https://arxiv.org/abs/1512.03385. All begin with a 3x3 convolution instead of ImageNet's
7x7 and pooling, and end with an average over the whole image, so they take images of any size.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Literal

from annotated_types import Ge, Predicate
from torch import Tensor, nn
from typing_extensions import Doc

from prunelit.declared import Says, checked
from prunelit.training.models.checks import Shape
from prunelit.training.models.init import Init, Network

Shortcut = Annotated[
    Literal["conv", "pad"],
    Doc(
        "The shortcut of a block that changes the shape: a 1x1 convolution with BatchNorm (conv, "
        "option B), or padding with zeros (pad, option A)."
    ),
]


class PadShortcut(nn.Module):
    """The paper's option A: keep every ``stride``-th pixel, and add ``extra`` channels of zeros."""

    def __init__(self, stride: int, extra: int) -> None:
        super().__init__()
        self.stride, self.extra = stride, extra

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + extra, ceil(H / stride), ceil(W / stride))."""
        x = x[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(x, (0, 0, 0, 0, 0, self.extra))

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        return f"stride={self.stride}, extra={self.extra}"


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm, and a shortcut around them."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module
        if stride == 1 and inputs == outputs:
            self.shortcut = nn.Identity()
        elif shortcut == "pad":
            self.shortcut = PadShortcut(stride, outputs - inputs)
        else:
            conv = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs)))
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, ceil(H / stride), ceil(W / stride))."""
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(residual + self.shortcut(x))


class ResNet(Network):
    """A 3x3 convolution, stages of basic blocks, an average over the image, and a linear classifier.

    Weights are Kaiming-normal unless ``init`` is set. Convolutions have no biases: BatchNorm follows each.
    The first block of every stage but the first halves the image.

    Args:
        num_classes: outputs of the classifier.
        input_shape: channels, height and width of one input; the network depends on the channels only.
        init: `prunelit.training.models.init`.
        widths: channels of each stage; the first convolution has the channels of the first stage.
        blocks: blocks in each stage.
        shortcut: where a block changes the shape, ``conv`` puts a 1x1 convolution and BatchNorm around it
            (the paper's option B), and ``pad`` adds zeros and no parameters (option A).
    """

    default_init: Init = "kaiming_normal"

    @checked
    def __init__(
        self,
        num_classes: int,
        input_shape: Shape,
        init: Init = "default",
        widths: tuple[Annotated[int, Ge(1)], ...] = (64, 128, 256, 512),
        blocks: tuple[Annotated[int, Ge(1)], ...] = (2, 2, 2, 2),
        shortcut: Shortcut = "conv",
    ) -> None:
        layers: dict[str, nn.Module] = {
            "conv": nn.Conv2d(input_shape[0], widths[0], 3, padding=1, bias=False),
            "bn": nn.BatchNorm2d(widths[0]),
            "relu": nn.ReLU(),
        }
        inputs = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True), start=1):
            strides = [1 if stage == 1 else 2] + [1] * (count - 1)
            row = [BasicBlock(width if i else inputs, width, s, shortcut) for i, s in enumerate(strides)]
            layers[f"stage{stage}"] = nn.Sequential(*row)
            inputs = width
        layers.update(
            avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(inputs, num_classes)
        )
        super().__init__(layers, init)


class ResNet18(ResNet):
    """Four stages of two blocks, 64 to 512 wide: 20 convolutions, three of them shortcuts.

    11,173,962 parameters for three channels and ten classes.
    """

    @checked
    def __init__(
        self, num_classes: int, input_shape: Shape, init: Init = "default", shortcut: Shortcut = "conv"
    ) -> None:
        super().__init__(num_classes, input_shape, init, shortcut=shortcut)


class CifarResNet(ResNet):
    """The paper's networks for CIFAR: three stages of ``(depth - 2) / 6`` blocks, 16, 32 and 64 wide.

    The shortcuts that change the shape are 1x1 convolutions with BatchNorm (option B), as in most pruning
    papers' code; the paper itself used ``shortcut="pad"`` (option A) here. The depth counts neither.

    Args:
        num_classes: outputs of the classifier.
        input_shape: channels, height and width of one input.
        init: `prunelit.training.models.init`.
        depth: 8, 14, 20 and so on: 6n + 2.
        width: multiplies every stage's channels; 2 in the networks called wide.
        shortcut: ``conv`` or ``pad``.
    """

    @checked
    def __init__(
        self,
        num_classes: int,
        input_shape: Shape,
        init: Init = "default",
        depth: Annotated[
            int,
            Ge(8),
            Predicate(lambda depth: depth % 6 == 2),
            Says("6n + 2: 8, 14, 20, 26, 32 and so on"),
            Doc("The number of convolutions and linear layers, without those of the shortcuts."),
        ] = 20,
        width: Annotated[int, Ge(1), Doc("The factor of the number of channels of every stage.")] = 1,
        shortcut: Shortcut = "conv",
    ) -> None:
        widths = (16 * width, 32 * width, 64 * width)
        super().__init__(num_classes, input_shape, init, widths, ((depth - 2) // 6,) * 3, shortcut)
