"""Networks, as plain ``torch.nn.Module``s that can be used without prunelit's training.

Each is called with ``num_classes``, ``input_shape`` (channels, height, width), ``init`` and its own options,
and can draw its parameters again with ``reset_parameters()`` (torchvision's networks cannot).
"""

from prunelit.training.models.convolutional import Conv as Conv
from prunelit.training.models.convolutional import ConvNet as ConvNet
from prunelit.training.models.convolutional import LeNet5 as LeNet5
from prunelit.training.models.fully_connected import FC as FC
from prunelit.training.models.fully_connected import MLP as MLP
from prunelit.training.models.fully_connected import FullyConnected as FullyConnected
from prunelit.training.models.fully_connected import LeNet300100 as LeNet300100
from prunelit.training.models.resnet import CifarResNet as CifarResNet
from prunelit.training.models.resnet import ResNet as ResNet
from prunelit.training.models.resnet import ResNet18 as ResNet18
from prunelit.training.models.torchvision import from_torchvision as from_torchvision
from prunelit.training.models.vgg import VGG as VGG
