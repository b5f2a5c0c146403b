"""torchvision's classifiers: its own names and weights, other classes, channels and sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from prunelit.request import BadRequest
from prunelit.training.models import from_torchvision

IMAGENET = (3, 224, 224)


def test_resnet50_has_the_names_and_shapes_of_torchvision() -> None:
    from torchvision.models import resnet50

    with torch.device("meta"):
        ours = from_torchvision(1000, IMAGENET)
        theirs = resnet50()
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)
    assert type(ours) is type(theirs)
    assert sum(p.numel() for p in ours.parameters()) == 25_557_032


@pytest.mark.parametrize(
    ("architecture", "size"),
    [("resnet18", 28), ("squeezenet1_1", 32), ("mobilenet_v3_small", 8), ("googlenet", 32)],
)
def test_ten_classes_of_grey_images(architecture: str, size: int) -> None:
    torch.manual_seed(0)
    network = from_torchvision(10, (1, size, size), architecture=architecture)
    assert network.training
    outputs = network(torch.randn(2, 1, size, size))
    assert outputs.shape == (2, 10)
    outputs.square().sum().backward()
    first = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    assert first.in_channels == 1
    assert first.weight.grad is not None
    assert first.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [("inception_v3", (1, 75, 75)), ("vit_b_16", (3, 32, 32)), ("maxvit_t", IMAGENET)],
)
def test_networks_with_a_shape_of_their_own(architecture: str, shape: tuple[int, int, int]) -> None:
    network = from_torchvision(10, shape, architecture=architecture).eval()
    with torch.no_grad():
        assert network(torch.randn(1, *shape)).shape == (1, 10)


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [
        ("alexnet", (3, 32, 32)),
        ("inception_v3", (3, 32, 32)),
        ("vit_b_16", (3, 40, 40)),
        ("vit_b_16", (3, 32, 48)),
        ("maxvit_t", (3, 32, 32)),
    ],
)
def test_a_size_it_cannot_take_names_data_size(architecture: str, shape: tuple[int, int, int]) -> None:
    with pytest.raises(BadRequest, match=rf"^data\.size={shape[1]}x{shape[2]}: .*{architecture}.* \d+$"):
        from_torchvision(10, shape, architecture=architecture)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "resnet51"}, r"^model\.name=resnet51: .*\bresnet50\?"),
        ({"architecture": "fcn_resnet50"}, r"^model\.name=fcn_resnet50: "),
        ({"weights": "IMAGENET1K_V3"}, r"^weights=IMAGENET1K_V3: .*\bIMAGENET1K_V[12]\?"),
        ({"weights": True}, r"^weights=true: "),
        ({"weights": "DEFAULT", "init": "xavier_normal"}, r"^init=xavier_normal: .*default$"),
        ({"init": "he"}, r"^init=he: "),
    ],
)
def test_what_does_not_exist_is_named(options: dict[str, str], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        from_torchvision(10, IMAGENET, **options)


def test_init_draws_every_layer() -> None:
    network = from_torchvision(10, (1, 32, 32), init="kaiming_normal", architecture="squeezenet1_1")
    assert all((value == 0).all() for name, value in network.named_parameters() if name.endswith("bias"))


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A network whose weights lie where torchvision keeps those it has downloaded."""
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(1)
    network = squeezenet1_1()
    path = tmp_path / "hub" / "checkpoints" / Path(SqueezeNet1_1_Weights.DEFAULT.url).name
    path.parent.mkdir(parents=True)
    torch.save(network.state_dict(), path)
    return network.eval()


@pytest.mark.parametrize("name", ["DEFAULT", "IMAGENET1K_V1", "SqueezeNet1_1_Weights.IMAGENET1K_V1"])
def test_weights_load_whole_for_their_own_classes(trained: nn.Module, name: str) -> None:
    network = from_torchvision(1000, (3, 64, 64), architecture="squeezenet1_1", weights=name)
    for key, value in trained.state_dict().items():
        assert torch.equal(network.state_dict()[key], value), key


def test_weights_with_other_classes_and_grey_images(trained: nn.Module) -> None:
    network = from_torchvision(10, (1, 64, 64), architecture="squeezenet1_1", weights="DEFAULT").eval()
    x = torch.randn(2, 1, 64, 64)
    assert network(x).shape == (2, 10)
    with torch.no_grad():
        grey = network.get_submodule("features")(x)
        colour = trained.get_submodule("features")(x.expand(-1, 3, -1, -1))
    torch.testing.assert_close(grey, colour, rtol=1e-4, atol=1e-5)


def test_weights_that_cannot_be_downloaded_say_where_to_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # Nothing listens there; the opener that earlier downloads may have left would not look.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr("urllib.request._opener", None)
    with pytest.raises(
        OSError, match=rf"SqueezeNet1_1.*put https://\S+\.pth into {tmp_path}/hub/checkpoints"
    ):
        from_torchvision(10, (3, 64, 64), architecture="squeezenet1_1", weights="DEFAULT")
