"""FLOPs by hand, and a network that is left as it was found."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning.flops import count_flops


def vgg16() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512):
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(512, 10))


def test_vgg16_as_published() -> None:
    flops = count_flops(vgg16(), torch.zeros(1, 3, 32, 32))
    assert sum(flops.by_parameter.values()) == flops.total == 313_201_664
    assert flops.biased_outputs == 276_490
    assert flops.by_parameter["0.weight"] == 27 * 64 * 32 * 32
    assert flops.outputs["0.weight"] == 64 * 32 * 32


def test_resnet50_as_published() -> None:
    torchvision = pytest.importorskip("torchvision")
    flops = count_flops(torchvision.models.resnet50(), torch.zeros(1, 3, 224, 224))
    assert flops.total == pytest.approx(4.11e9, rel=0.001)
    assert len(flops.by_parameter) == 54
    assert flops.biased == {"fc.weight"}


@pytest.mark.parametrize(
    ("layer", "shape", "count", "outputs"),
    [
        (nn.Conv1d(4, 6, 3, groups=2, padding=1), (4, 5), 6 * 2 * 3 * 5, 6 * 5),
        (nn.Conv2d(2, 3, 3, stride=2, bias=False), (2, 7, 7), 3 * 2 * 9 * 9, 3 * 9),
        (nn.Conv2d(2, 3, 3, padding="same"), (2, 7, 7), 3 * 2 * 9 * 49, 3 * 49),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), (8, 4, 4), 8 * 9 * 16, 8 * 16),
        (nn.Conv3d(1, 2, 2), (1, 3, 3, 3), 2 * 8 * 8, 2 * 8),
        (nn.ConvTranspose2d(3, 2, 2, stride=2), (3, 4, 4), 3 * 2 * 4 * 16, 2 * 64),
        (nn.Conv2d(8, 12, 3, groups=4, bias=False), (8, 5, 5), 12 * 2 * 9 * 9, 12 * 9),
        (nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), (4, 3, 3), 4 * 3 * 4 * 9, 6 * 36),
        (nn.Linear(5, 7), (5,), 35, 7),
        (nn.Linear(5, 7, bias=False), (3, 5), 3 * 35, 3 * 7),
    ],
)
def test_layer_by_hand(layer: nn.Module, shape: tuple[int, ...], count: int, outputs: int) -> None:
    flops = count_flops(layer, torch.zeros(1, *shape))
    assert flops.by_parameter == {"weight": count}
    assert flops.outputs == {"weight": outputs}
    assert flops.total == count
    assert flops.biased_outputs == (0 if layer.bias is None else outputs)


class Reused(nn.Module):
    """One convolution used twice, one layer by functional calls, one never, one through a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(2, 3)
        self.tied = nn.Linear(2, 3)
        self.tied.weight = self.head.weight
        self.unused = nn.Linear(9, 9)
        self.tail = nn.Linear(3, 4)
        self.register_buffer("mask", torch.ones(4, 3))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.pool(self.conv(self.pool(self.conv(x)))).flatten(1)
        y = F.linear(x, self.head.weight) + self.tied(x)
        return {"y": F.linear(y, self.tail.weight * self.mask, self.tail.bias)}


def test_each_use_counts_by_parameter() -> None:
    flops = count_flops(Reused(), torch.zeros(1, 2, 4, 4))
    conv = 2 * 2 * 9
    assert flops.by_parameter == {
        "conv.weight": conv * 16 + conv * 4,
        "head.weight": 6 + 6,
        "unused.weight": 0,
        "tail.weight": 12,
    }
    assert flops.outputs["conv.weight"] == 2 * 16 + 2 * 4
    assert flops.biased == {"conv.weight", "head.weight", "tail.weight"}


def test_attention_counts_its_linear_layers_in_eval_mode() -> None:
    attention = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    flops = count_flops(attention, torch.zeros(1, 3, 4))
    assert flops.by_parameter == {
        "self_attn.in_proj_weight": 3 * 4 * 12,
        "self_attn.out_proj.weight": 3 * 16,
        "linear1.weight": 3 * 32,
        "linear2.weight": 3 * 32,
    }
    assert torch.backends.mha.get_fastpath_enabled()


def test_sparse_weights_each_layer_by_its_density() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 5))
    flops = count_flops(network, torch.zeros(1, 1, 4, 4))
    conv, norm, linear = 2 * 9 * 4, 2 * 8, 40
    assert flops.total == conv + norm + linear
    assert flops.sparse({}) == flops.total
    assert flops.sparse({"0.weight": 0.25}) == conv / 4 + norm + linear
    assert flops.sparse({"0.weight": 0.0, "3.weight": 0.5, "3.bias": 0.0}) == norm + linear / 2


class Restless(nn.Module):
    """Changes a buffer, draws random numbers and, if asked, fails, in every forward pass."""

    def __init__(self, fail: bool) -> None:
        super().__init__()
        self.fail = fail
        self.layer = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(1, 3))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = x
        x = self.layer(x + torch.rand(3))
        if self.fail:
            raise KeyError("no such\nthing")
        return x


@pytest.mark.parametrize("fail", [False, True])
def test_leaves_everything_as_it_was(fail: bool) -> None:
    network = Restless(fail).train()
    network.layer[1].eval()
    modes = [module.training for module in network.modules()]
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    pointers = {name: tensor.data_ptr() for name, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    if fail:
        with pytest.raises(ValueError, match=r"^Restless can't be traced to count FLOPs: KeyError: .*$"):
            count_flops(network, torch.ones(1, 3))
    else:
        count_flops(network, torch.ones(1, 3))
    assert [module.training for module in network.modules()] == modes
    assert {name: tensor.data_ptr() for name, tensor in network.state_dict().items()} == pointers
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_keeps_the_hooks_of_others() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    seen: list[int] = []
    network[0].register_forward_hook(lambda *_: seen.append(1))
    count_flops(network, torch.ones(1, 2))
    network(torch.ones(1, 2))
    assert len(seen) == 2


def test_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings():
        warnings.simplefilter("error")
        count_flops(Reused(), torch.zeros(1, 2, 4, 4))
    assert not caplog.records


def test_wants_a_batch_of_one() -> None:
    with pytest.raises(ValueError, match=r"batch of one, got shape \(2, 3\)"):
        count_flops(nn.Linear(3, 3), torch.zeros(2, 3))
