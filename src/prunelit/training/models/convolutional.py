"""Small convolutional networks: ``conv``, ``convnet`` and ``lenet5``."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import nn
from typing_extensions import Doc

from prunelit.declared import checked
from prunelit.training.models.checks import Shape, check_size
from prunelit.training.models.init import Init, Network


class Conv(Network):
    """Two 3x3 convolutions of ``width`` channels that keep the image's size, then one linear layer.

    It is the SynFlow paper's ``conv`` (Tanaka et al. 2020, https://arxiv.org/abs/2006.05467). There is no
    pooling: images of any size will do, and each pixel of each channel is an input to the linear layer.
    """

    @checked
    def __init__(
        self,
        num_classes: int,
        input_shape: Shape,
        init: Init = "default",
        width: Annotated[int, Ge(1), Doc("The number of channels of each convolution.")] = 32,
    ) -> None:
        channels, image_height, image_width = input_shape
        layers: dict[str, nn.Module] = {
            "conv1": nn.Conv2d(channels, width, 3, padding=1),
            "relu1": nn.ReLU(),
            "conv2": nn.Conv2d(width, width, 3, padding=1),
            "relu2": nn.ReLU(),
            "flatten": nn.Flatten(),
            "fc": nn.Linear(width * image_height * image_width, num_classes),
        }
        super().__init__(layers, init)


class ConvNet(Network):
    """Two 5x5 convolutions, of 10 and 16 channels, and linear layers of 120, 84 and ``num_classes``.

    One 2x2 max-pooling layer is used twice: ``pool1`` and ``pool2`` are the same module. 32 x 32 images
    leave 400 inputs to the first linear layer; larger ones leave more, and below 16 x 16 nothing is left.
    """

    def __init__(self, num_classes: int, input_shape: Shape, init: Init = "default") -> None:
        check_size("convnet", input_shape, least=16, example=32)
        pool = nn.MaxPool2d(2)
        super().__init__(_lenet(num_classes, input_shape, (10, 16), 0, (pool, pool)), init)


class LeNet5(Network):
    """Two 5x5 convolutions, of 6 and 16 channels, and linear layers of 120, 84 and ``num_classes``.

    LeCun et al. 1998, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf, with ReLU, max pooling and
    fully connected channels. The paper's images are 32 x 32; smaller ones get a border of 2 pixels in the
    first convolution, so that 28 x 28 leaves the same 400 inputs to the first linear layer: 61,706
    parameters for one channel and ten classes. Below 12 x 12 nothing is left.
    """

    def __init__(self, num_classes: int, input_shape: Shape, init: Init = "default") -> None:
        check_size("lenet5", input_shape, least=12, example=28)
        padding = 2 if min(input_shape[1:]) < 32 else 0
        pools = (nn.MaxPool2d(2), nn.MaxPool2d(2))
        super().__init__(_lenet(num_classes, input_shape, (6, 16), padding, pools), init)


def _lenet(
    num_classes: int,
    input_shape: Shape,
    widths: tuple[int, int],
    padding: int,
    pools: tuple[nn.MaxPool2d, nn.MaxPool2d],
) -> dict[str, nn.Module]:
    """The layers of LeNet-5's plan; ``padding`` is the first convolution's."""
    channels, image_height, image_width = input_shape

    def left(size: int) -> int:
        """Pixels of ``size`` that the two convolutions and poolings leave."""
        return ((size + 2 * padding - 4) // 2 - 4) // 2

    return {
        "conv1": nn.Conv2d(channels, widths[0], 5, padding=padding),
        "relu1": nn.ReLU(),
        "pool1": pools[0],
        "conv2": nn.Conv2d(widths[0], widths[1], 5),
        "relu2": nn.ReLU(),
        "pool2": pools[1],
        "flatten": nn.Flatten(),
        "fc1": nn.Linear(widths[1] * left(image_height) * left(image_width), 120),
        "relu3": nn.ReLU(),
        "fc2": nn.Linear(120, 84),
        "relu4": nn.ReLU(),
        "fc3": nn.Linear(84, num_classes),
    }
