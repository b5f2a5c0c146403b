"""Every file of ``conf/model``, and the networks' shapes and counts as the literature has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from prunelit.request import BadRequest
from prunelit.study.configs import load_choice
from prunelit.training.models import FC, MLP, VGG, CifarResNet, Conv, ConvNet, LeNet5, LeNet300100, ResNet18

CONF = Path(__file__).parents[3] / "conf" / "model"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
OWN = [name for name in NAMES if name != "torchvision"]
DIGITS, MNIST, CIFAR = (1, 8, 8), (1, 28, 28), (3, 32, 32)
SHAPES = {"convnet": CIFAR, "lenet5": MNIST, "vgg16_mnist": (1, 32, 32)}


def build(name: str, shape: tuple[int, int, int], **options: Any) -> Any:
    """The network of ``conf/model/<name>.yaml``, as the program builds it."""
    config: Any = OmegaConf.merge(load_choice("model", name), options)
    OmegaConf.resolve(config)
    del config["name"]
    # Partial: Hydra puts what a target raises into an exception of its own, unless it is called here.
    return instantiate(config, _partial_=True)(num_classes=10, input_shape=shape)


def shape_for(name: str) -> tuple[int, int, int]:
    """A small input that the network takes."""
    return SHAPES.get(name, CIFAR if name.startswith("vgg") else DIGITS)


def layers(network: nn.Module, *kinds: type[nn.Module]) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, kinds)]


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def weights(network: nn.Module) -> int:
    """What is prunable by default: the weights of convolutions and linear layers."""
    return sum(layer.weight.numel() for layer in layers(network, nn.Conv2d, nn.Linear))


def test_every_promised_name_exists() -> None:
    small = "fc mlp conv convnet lenet300100 lenet5 vgg16_mnist resnet18 torchvision"
    vgg = [f"vgg{depth}{end}" for depth in (11, 13, 16, 19) for end in ("", "_bn")]
    resnet = [f"{start}resnet{depth}" for depth in (20, 32, 44, 56, 110) for start in ("", "wide_")]
    assert {*small.split(), *vgg, *resnet} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_forward_and_backward(name: str) -> None:
    torch.manual_seed(0)
    shape = shape_for(name)
    network = build(name, shape)
    outputs = network(torch.randn(2, *shape))
    assert outputs.shape == (2, 10)
    nn.functional.cross_entropy(outputs, torch.tensor([3, 7])).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", OWN)
def test_networks_are_the_same_from_one_seed_and_drawn_anew_by_reset(name: str) -> None:
    torch.manual_seed(5)
    first = build(name, shape_for(name))
    torch.manual_seed(5)
    second = build(name, shape_for(name))
    before = {key: tensor.clone() for key, tensor in first.state_dict().items()}
    for key, tensor in second.state_dict().items():
        assert torch.equal(tensor, before[key]), key
    with torch.no_grad():
        for tensor in first.state_dict().values():
            tensor.fill_(7)
    torch.manual_seed(6)
    first.reset_parameters()
    for layer in layers(first, nn.Conv2d, nn.Linear):
        assert not (layer.weight == 7).any()
        assert layer.weight.std() > 0
        assert layer.bias is None or not (layer.bias == 7).any()
    for layer in layers(first, nn.BatchNorm2d, nn.BatchNorm1d):
        assert (layer.weight == 1).all()
        assert (layer.running_mean == 0).all()
        assert (layer.running_var == 1).all()
        assert layer.num_batches_tracked == 0


@pytest.mark.parametrize("name", OWN)
def test_no_layer_works_in_place(name: str) -> None:
    """In-place activations would change what hooks see."""
    network = build(name, shape_for(name))
    activations = layers(network, nn.ReLU)
    assert activations or len(layers(network, nn.Conv2d, nn.Linear)) == 1
    assert not any(layer.inplace for layer in activations)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (LeNet300100(10, MNIST), 266_610),
        (LeNet5(10, MNIST), 61_706),
        (LeNet5(10, (1, 32, 32)), 61_706),
        (FC(10, MNIST), 784 * 100 + 4 * 100 * 100 + 100 * 10 + 5 * 100 + 10),
        (MLP(10, MNIST, width=1500), 784 * 1500 + 1500 + 1500 * 10 + 10),
        (Conv(10, MNIST), 9 * 32 + 32 + 9 * 32 * 32 + 32 + 28 * 28 * 32 * 10 + 10),
        (ConvNet(10, CIFAR), 760 + 4016 + 48_120 + 10_164 + 850),
        (CifarResNet(10, CIFAR), 272_474),
        (CifarResNet(10, CIFAR, depth=20, shortcut="pad"), 269_722),
        (CifarResNet(10, CIFAR, depth=32, shortcut="pad"), 464_154),
        (CifarResNet(10, CIFAR, depth=56, shortcut="pad"), 853_018),
        (CifarResNet(10, CIFAR, depth=110, shortcut="pad"), 1_727_962),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_parameter_counts(network: nn.Module, expected: int) -> None:
    assert count(network) == expected


def test_published_counts_of_the_larger_networks() -> None:
    with torch.device("meta"):
        assert weights(VGG(10, CIFAR)) == 14_715_584
        assert weights(VGG(10, CIFAR, batch_norm=True)) == 14_715_584
        # Parameters of the features, as torchvision's networks of the same depth have them.
        features = {11: 9_220_480, 13: 9_404_992, 16: 14_714_688, 19: 20_024_384}
        for depth, expected in features.items():
            assert count(VGG(10, CIFAR, depth=depth)) == expected + 512 * 10 + 10
        resnet18 = ResNet18(10, CIFAR)
        assert count(resnet18) == 11_173_962
        assert len(layers(resnet18, nn.Conv2d)) == 20
        assert len(layers(resnet18, nn.Linear)) == 1
        mnist = build("vgg16_mnist", (1, 32, 32))
        assert [layer.weight.shape for layer in layers(mnist, nn.Linear)] == [(300, 512), (10, 300)]
        assert len(layers(mnist, nn.BatchNorm1d)) == 1
        assert not layers(mnist, nn.Dropout)


def test_fc_has_six_linear_layers_of_100() -> None:
    shapes = [tuple(layer.weight.shape) for layer in layers(FC(10, DIGITS), nn.Linear)]
    assert shapes == [(100, 64), *[(100, 100)] * 4, (10, 100)]


def test_wide_resnets_have_twice_the_channels() -> None:
    narrow, wide = build("resnet20", CIFAR), build("wide_resnet20", CIFAR)
    pairs = zip(layers(narrow, nn.Conv2d), layers(wide, nn.Conv2d), strict=True)
    assert all(w.out_channels == 2 * n.out_channels for n, w in pairs)


def test_convnet_pools_twice_with_one_module() -> None:
    network = ConvNet(10, CIFAR)
    assert len(layers(network, nn.MaxPool2d)) == 1
    sizes = []
    layers(network, nn.MaxPool2d)[0].register_forward_hook(lambda _m, _x, y: sizes.append(tuple(y.shape[1:])))
    network(torch.randn(1, *CIFAR))
    assert sizes == [(10, 14, 14), (16, 5, 5)]
    assert len(layers(LeNet5(10, MNIST), nn.MaxPool2d)) == 2


def test_pad_shortcut_keeps_every_second_pixel_and_adds_channels_of_zeros() -> None:
    block = CifarResNet(10, CIFAR, depth=8, shortcut="pad").get_submodule("stage2.0.shortcut")
    x = torch.randn(2, 16, 7, 6)
    y = block(x)
    assert torch.equal(y[:, :16], x[:, :, ::2, ::2])
    assert y.shape == (2, 32, 4, 3)
    assert (y[:, 16:] == 0).all()


def test_vgg_averages_the_last_two_by_two_pixels() -> None:
    network = VGG(10, CIFAR, depth=11).eval()
    x = torch.randn(2, *CIFAR)
    features: list[torch.Tensor] = []
    network.get_submodule("relu5_2").register_forward_hook(lambda _m, _x, y: features.append(y))
    outputs = network(x)
    assert features[0].shape == (2, 512, 2, 2)
    torch.testing.assert_close(outputs, network.get_submodule("fc")(features[0].mean(dim=(2, 3))))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("vgg11", (3, 16, 16)),
        ("vgg11_bn", (3, 28, 28)),
        ("vgg11", (3, 40, 64)),
        ("lenet5", (1, 12, 12)),
        ("lenet5", (3, 31, 33)),
        ("convnet", (1, 16, 16)),
        ("convnet", (3, 28, 40)),
        ("conv", (2, 5, 7)),
        ("resnet20", (4, 1, 1)),
        ("resnet18", (3, 9, 17)),
        ("fc", (3, 1, 2)),
    ],
)
def test_other_sizes_and_channels(name: str, shape: tuple[int, int, int]) -> None:
    assert build(name, shape)(torch.randn(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "size"), [("vgg16", 8), ("vgg16_mnist", 15), ("vgg11_bn", 8), ("lenet5", 11), ("convnet", 15)]
)
def test_too_small_an_image_names_data_size(name: str, size: int) -> None:
    with pytest.raises(BadRequest, match=rf"^data\.size={size}x{size}: .* \d+$"):
        build(name, (1, size, size))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fc", {"init": "kaiming"}, r"^init=kaiming: .*\bkaiming_normal\?"),
        ("fc", {"width": 0}, r"^width=0: "),
        ("fc", {"depth": "six"}, r"^depth=six: "),
        ("mlp", {"width": True}, r"^width=true: "),
        ("conv", {"width": 1.5}, r"^width=1\.5: "),
        ("vgg16", {"depth": 15}, r"^depth=15: .*11, 13, 16 or 19"),
        ("vgg16", {"hidden": 300}, r"^hidden=300: "),
        ("vgg16", {"hidden": [0]}, r"^hidden=\[0\]: "),
        ("resnet20", {"depth": 21}, r"^depth=21: .*6n \+ 2"),
        ("resnet20", {"depth": 2}, r"^depth=2: "),
        ("resnet20", {"width": -1}, r"^width=-1: "),
        ("resnet18", {"shortcut": "padded"}, r"^shortcut=padded: .*\bpad\?"),
    ],
)
def test_wrong_options_name_their_key(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        build(name, CIFAR, **options)
