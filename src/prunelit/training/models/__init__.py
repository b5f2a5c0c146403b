"""Networks, as plain ``torch.nn.Module``s that can be used without prunelit's training.

Each is called with ``num_classes``, ``input_shape`` (channels, height, width), ``init`` and its own options,
and can draw its parameters again with ``reset_parameters()`` (torchvision's networks cannot).
"""

from prunelit.training.models.convolutional import Conv, ConvNet, LeNet5
from prunelit.training.models.fully_connected import FC, MLP, FullyConnected, LeNet300100
from prunelit.training.models.resnet import CifarResNet, ResNet, ResNet18
from prunelit.training.models.torchvision import from_torchvision
from prunelit.training.models.vgg import VGG

__all__ = [
    "FC",
    "MLP",
    "VGG",
    "CifarResNet",
    "Conv",
    "ConvNet",
    "FullyConnected",
    "LeNet5",
    "LeNet300100",
    "ResNet",
    "ResNet18",
    "from_torchvision",
]
