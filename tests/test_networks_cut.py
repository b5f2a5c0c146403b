"""Networks of torchvision and timm lose half of the units of each group and compute the same."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn

from prunelit.pruning.call import Call
from prunelit.pruning.coupling.groups import found_groups
from prunelit.pruning.coupling.trial import cut_what_fits, masked_copy, outputs

pytestmark = pytest.mark.slow
SIZES = {"vit_": 224, "maxvit": 224, "inception": 96, "alexnet": 96, "test_": 160, "test_vit_relpos": 160}
"""The smallest images of networks that do not take 64 x 64."""


def classifiers() -> list[str]:
    return torchvision.models.list_models(module=torchvision.models)


def small_timm_networks() -> list[str]:
    return timm.list_models("test_*")


def built(name: str) -> nn.Module:
    """Return a network none of whose numbers hides a difference."""
    torch.manual_seed(0)
    if name.startswith("test_"):
        network = timm.create_model(name)
    else:
        options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        network = torchvision.models.get_model(name, weights=None, **options)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    for parameter in network.parameters():
        if parameter.numel() and parameter.abs().max() < 1e-3:
            nn.init.normal_(parameter, std=0.02 if parameter.ndim > 1 else 0.3)
    return network.eval()


@pytest.mark.parametrize("name", classifiers() + small_timm_networks())
def test_half_of_the_units_go(name: str) -> None:
    size = next((size for start, size in SIZES.items() if name.startswith(start)), 64)
    network = built(name)
    call = Call.of(torch.randn(2, 3, size, size))
    coupled = found_groups(network, call)
    assert not coupled.not_followed
    kept = {g.name: torch.rand(g.units).argsort() < (g.units + 1) // 2 for g in coupled.prunable}
    done = cut_what_fits(
        network,
        coupled,
        kept,
        call,
        lambda chosen: outputs(masked_copy(network, coupled.groups, chosen), call),
    )
    assert done.kept or not kept
    masked = masked_copy(network, coupled.groups, done.kept)
    other = Call.of(torch.randn(3, 3, size, size))
    for a, b in zip(outputs(masked, other), outputs(done.network, other), strict=True):
        assert float((a - b).abs().max() / a.abs().max()) < 1e-4
