"""A cut network is a folder from which it is loaded again, and goes on from there."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torchvision import models

import prunelit
from prunelit import BadRequest, L1Filter, Objective, Selection, compact, prune
from prunelit.pruning.masks import attach, attached
from prunelit.training.models import CifarResNet

OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8, tied=True):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3), nn.PReLU(width), nn.BatchNorm2d(width))
        self.recurrent = nn.LSTM(width, 6)
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        if tied:
            self.second.weight = self.first.weight
        self.register_buffer("scale", torch.ones(()), persistent=False)

    def forward(self, x):
        x = self.body(x).flatten(2).permute(2, 0, 1)
        return self.second(self.first(self.recurrent(x)[0][-1])) * self.scale

def annotated(width: int) -> Net:
    return Net(width)

def silent(width):
    return Net(width)
"""
RESNET = partial(CifarResNet, num_classes=4, input_shape=(3, 12, 12), depth=8)


@pytest.fixture
def own(tmp_path: Path, monkeypatch):
    (tmp_path / "own_saved.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    import own_saved

    yield own_saved
    sys.modules.pop("own_saved")


def cut(network: nn.Module, example: torch.Tensor) -> nn.Module:
    """Return the network without half of the filters of the layers that can be cut."""
    last = list(network.named_children())[-1][0]
    objective = Objective(inputs=(example,))
    prune(network, L1Filter(), 0.5, selection=Selection(exclude=(last,)), objective=objective)
    return compact(network.eval(), example)


def same(one: nn.Module, other: nn.Module, example: torch.Tensor) -> None:
    torch.testing.assert_close(one.eval()(example), other.eval()(example), rtol=0, atol=0)
    assert list(one.state_dict()) == list(other.state_dict())


@pytest.mark.parametrize("build", [RESNET, partial(models.mobilenet_v2, num_classes=4, width_mult=0.25)])
def test_a_cut_network_is_loaded_trained_pruned_and_saved_again(build, tmp_path: Path) -> None:
    example = torch.randn(2, 3, 12, 12)
    small = cut(build(), example)
    folder = prunelit.save(small, tmp_path / "cut", build)
    loaded = prunelit.load(folder)
    same(loaded, small, example)
    size = sum(p.numel() for p in loaded.parameters())
    assert size == sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in build().parameters())
    optimizer = torch.optim.SGD(loaded.train().parameters(), 0.01)
    loaded(example).sum().backward()
    optimizer.step()
    smaller = cut(loaded, example)
    assert sum(p.numel() for p in smaller.parameters()) < size
    again = prunelit.load(prunelit.save(smaller, tmp_path / "cut again"))
    same(again, smaller, example)


def test_layers_say_their_new_widths_and_masks_come_along(tmp_path: Path) -> None:
    example = torch.randn(2, 3, 12, 12)
    small = cut(RESNET(), example)
    weight = "fc.weight"
    attach(small, {weight: torch.rand(small.get_parameter(weight).shape) > 0.5})
    loaded = prunelit.load(prunelit.save(small, tmp_path, RESNET))
    for module in loaded.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.shape[:2] == (module.out_channels, module.in_channels // module.groups)
        if isinstance(module, nn.BatchNorm2d):
            assert module.num_features == len(module.weight) == len(module.running_mean)
    masks, before = attached(loaded), attached(small)
    assert masks is not None
    assert before is not None
    assert all(torch.equal(masks[name], before[name]) for name in before)


def test_an_own_network_keeps_ties_frozen_parts_and_what_replaced_its_modules(own, tmp_path: Path) -> None:
    network = own.Net(4).eval()
    network.body[1] = nn.Identity()
    network.body[2] = nn.GroupNorm(2, 4, eps=0.5)
    network.body.append(nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.Hardtanh(-2.0, float("inf"))))
    network.first.bias = None
    network.second.weight.requires_grad_(False)
    network.scale.fill_(3)
    network.double()
    example = torch.randn(2, 3, 6, 6).double()
    loaded = prunelit.load(prunelit.save(network, tmp_path / "own", own.Net))
    same(loaded, network, example)
    assert loaded.first.weight is loaded.second.weight
    assert not loaded.first.weight.requires_grad
    assert loaded.body[0].weight.requires_grad
    assert loaded.first.bias is None
    assert [type(module) for module in loaded.body] == [type(module) for module in network.body]


def test_parametrized_and_lazy_layers_are_loaded(tmp_path: Path) -> None:
    network = models.MNASNet(0.25, 3).eval()
    lazy = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2))
    example = torch.randn(2, 3, 32, 32)
    lazy(example)
    network.classifier[1] = nn.Linear(1280, 3)
    same(
        prunelit.load(prunelit.save(network, tmp_path / "a", partial(models.MNASNet, 0.25, 3))),
        network,
        example,
    )
    whole = partial(nn.Sequential, *[])
    with pytest.raises(BadRequest, match="ParametrizedLinear"):
        prunelit.save(nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 2))), tmp_path / "b", whole)
    same(prunelit.load(prunelit.save(lazy.eval(), tmp_path / "c", whole)), lazy, example)


def test_functions_are_called_only_if_they_say_that_they_return_a_module(own, tmp_path: Path) -> None:
    network = own.Net(4)
    prunelit.save(network, tmp_path / "a", partial(own.annotated, width=4))
    assert isinstance(prunelit.load(tmp_path / "a"), own.Net)
    for wrong in (own.silent, partial(own.silent, 4), print, lambda: network, "own_saved.Net", None, 3):
        with pytest.raises(BadRequest, match=r"^build"):
            prunelit.save(network, tmp_path / "b", wrong)
    with pytest.raises(BadRequest, match=r"^build=own_saved\.Net: .*Linear"):
        prunelit.save(nn.Linear(2, 2), tmp_path / "b", own.Net)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"build": {"_target_": "os.system", "command": "touch TOUCHED"}}, "os.system"),
        ({"build": {"_target_": "own_saved.silent", "width": 4}}, "does not say what it returns"),
        ({"build": {"_target_": "prunelit.load", "folder": "."}}, "prunelit.load"),
        ({"build": {"_target_": "own_saved.Net", "width": {"_target_": "os.getpid"}}}, "os.getpid"),
        ({"build": {"_target_": "nowhere.Net"}}, "no module nowhere"),
        ({"build": {"_target_": "own_saved.Net", "wide": 4}}, "unexpected keyword argument 'wide'"),
        ({"modules": {"body": {"attributes": {"_forward_hooks": 1}}}}, "no attribute that a file may set"),
        ({"modules": {"tail": {"class": "torch.nn.Identity"}}}, "no place for a module 'tail'"),
        ({"modules": {"first": {"class": "torch.jit.load"}}}, "subclass of torch.nn.Module"),
        ({"tensors": {}}, "no values of"),
        ({"files": 3}, "has no files"),
        ({"format": "another"}, "another program or version"),
    ],
)
def test_a_structure_from_elsewhere_is_one_line_and_calls_nothing(change, why, own, tmp_path: Path) -> None:
    folder = prunelit.save(own.Net(4), tmp_path / "net", partial(own.Net, 4))
    described = json.loads((folder / "structure.json").read_text())
    touched = tmp_path / "touched"
    (folder / "structure.json").write_text(json.dumps(described | change).replace("TOUCHED", str(touched)))
    with pytest.raises(BadRequest) as refused:
        prunelit.load(folder)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not touched.exists()


def test_damaged_files_are_one_line(own, tmp_path: Path) -> None:
    folder = prunelit.save(own.Net(4), tmp_path / "net", partial(own.Net, 4))
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"\x7f")
    with pytest.raises(BadRequest, match=r"^folder=.*/net: model\.safetensors "):
        prunelit.load(folder)
    weights.unlink()
    with pytest.raises(BadRequest, match=r"^folder=.*/net: .*no model\.safetensors"):
        prunelit.load(folder)
    weights.write_bytes(whole)
    (folder / "structure.json").write_text("[" * 100_000)
    with pytest.raises(BadRequest, match=r"^folder=.*/net: structure\.json: "):
        prunelit.load(folder)
    with pytest.raises(BadRequest, match=r"^folder=.*: .*no structure\.json"):
        prunelit.load(tmp_path)
