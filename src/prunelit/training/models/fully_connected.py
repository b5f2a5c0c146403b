"""Networks of linear layers: ``fc``, ``mlp`` and ``lenet300100``. They take images of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge
from torch import nn
from typing_extensions import Doc

from prunelit.declared import checked
from prunelit.training.models.checks import Shape
from prunelit.training.models.init import Init, Network


class FullyConnected(Network):
    """Linear layers with ReLU between them.

    Layers are named ``fc1``, ``fc2`` and so on; the last one is the classifier.

    Args:
        num_classes: outputs of the last layer.
        input_shape: channels, height and width of one input, which is flattened.
        hidden: outputs of each hidden layer.
        init: `prunelit.training.models.init`.
    """

    def __init__(
        self, num_classes: int, input_shape: Shape, hidden: Sequence[int], init: Init = "default"
    ) -> None:
        sizes = [math.prod(input_shape), *hidden, num_classes]
        layers: dict[str, nn.Module] = {"flatten": nn.Flatten()}
        for i in range(1, len(sizes)):
            layers[f"fc{i}"] = nn.Linear(sizes[i - 1], sizes[i])
            if i < len(sizes) - 1:
                layers[f"relu{i}"] = nn.ReLU()
        super().__init__(layers, init)


class FC(FullyConnected):
    """``depth`` linear layers, the hidden ones ``width`` wide: six of 100 in the SynFlow paper's ``fc``.

    Tanaka et al. 2020, https://arxiv.org/abs/2006.05467.
    """

    @checked
    def __init__(
        self,
        num_classes: int,
        input_shape: Shape,
        init: Init = "default",
        depth: Annotated[int, Ge(1), Doc("The number of linear layers, including the classifier.")] = 6,
        width: Annotated[int, Ge(1), Doc("The number of units of each hidden layer.")] = 100,
    ) -> None:
        super().__init__(num_classes, input_shape, [width] * (depth - 1), init)


class MLP(FullyConnected):
    """One hidden layer of ``width`` units."""

    @checked
    def __init__(
        self,
        num_classes: int,
        input_shape: Shape,
        init: Init = "default",
        width: Annotated[int, Ge(1), Doc("The number of units of the hidden layer.")] = 300,
    ) -> None:
        super().__init__(num_classes, input_shape, [width], init)


class LeNet300100(FullyConnected):
    """Hidden layers of 300 and 100 units: 266,610 parameters on 28 x 28 images of ten classes.

    LeCun et al. 1998, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf, with ReLU.
    """

    def __init__(self, num_classes: int, input_shape: Shape, init: Init = "default") -> None:
        super().__init__(num_classes, input_shape, [300, 100], init)
