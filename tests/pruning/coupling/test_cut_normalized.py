"""Widths that enter a normalization are cut if asked, to what the same architecture built small computes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ConvNeXt, SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig

from attentions import WidthOfInputs
from prunelit import SNIP, Mag, Objective, Plan, Pruning, Selection, compact, explain, prune
from prunelit.pruning.call import Call
from prunelit.pruning.coupling.narrowing import Narrowing
from prunelit.request import BadRequest

ASKED = Selection(granularity="unit", cut_normalized=True)


class Norms(nn.Module):
    """RMSNorm, GroupNorm with one group, a mean over channels, and a standardized weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem, self.group = nn.Conv2d(3, width, 3), nn.GroupNorm(1, width)
        self.standard, self.rms = nn.Conv2d(width, width, 1), nn.RMSNorm(width)
        self.scale, self.head = nn.Parameter(torch.rand(width)), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.group(self.stem(x)).relu()
        weight = self.standard.weight
        weight = (weight - weight.mean(1, keepdim=True)) / weight.std(1, keepdim=True)
        x = x + nn.functional.conv2d(x, weight, self.standard.bias)
        x = x - x.mean(1, keepdim=True)
        return self.head(self.rms((x / (x.var(1, keepdim=True) + 0.1).sqrt()).mean((2, 3))) * self.scale)


def convnext(width: int) -> nn.Module:
    blocks = [CNBlockConfig(width, 2 * width, 1), CNBlockConfig(2 * width, None, 1)]
    return ConvNeXt(blocks, num_classes=4)


BUILT: dict[str, tuple[Callable[[int], nn.Module], int]] = {
    "ViT": (lambda width: VisionTransformer(32, 16, 1, width // 4, width, 2 * width, num_classes=4), 16),
    "ConvNeXt": (convnext, 16),
    "Swin": (
        lambda width: SwinTransformer([2, 2], width, [2], [width // 4], [3, 3], num_classes=4),
        16,
    ),
    "norms": (Norms, 12),
    "attention": (lambda width: WidthOfInputs(width, width // 3), 12),
}
"""By name, what builds a network of a width, and the width."""


def built(name: str) -> tuple[nn.Module, Callable[[int], nn.Module], int, Tensor]:
    torch.manual_seed(0)
    build, width = BUILT[name]
    network, x = build(width).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network, build, width, torch.randn(2, 3, 2, 3) if name == "attention" else x


@pytest.mark.parametrize("name", BUILT)
def test_the_same_architecture_built_small_computes_the_same(name: str) -> None:
    network, build, width, x = built(name)
    prune(network, Mag(), 0.5, selection=ASKED, plan=Plan(scope="layer"), objective=Objective(inputs=(x,)))
    cut = compact(network, x)
    small = build(width // 2).eval()
    small.load_state_dict(cut.state_dict())
    y = torch.randn(3, *x.shape[1:])
    torch.testing.assert_close(cut(y), small(y))


def test_it_stays_whole_unless_asked() -> None:
    network, _, _, x = built("norms")
    assert (
        "scale: 12 units of scale, stem" in explain(network, x).partition("not by setting them to 0, stay")[2]
    )
    asked = explain(network, x, cut_normalized=True).partition("can be cut out, but not by setting")
    assert "scale: 12 units of scale, stem" in asked[0]
    assert "scale: it takes part in the mean and variance of all" in asked[2]


def test_a_cut_that_masks_ask_for_can_be_repeated() -> None:
    network, _, _, x = built("norms")
    plan, objective = Plan(scope="layer"), Objective(inputs=(x,))
    masks = prune(network, Mag(), 0.5, selection=ASKED, plan=plan, objective=objective).masks
    cut = compact(network, x)
    narrowing = Narrowing.by_masks(network, masks, Call.of(x))
    assert narrowing is not None
    again = Narrowing.from_state(narrowing.state())
    assert again.normalized
    again.narrow(network)
    torch.testing.assert_close(network(x), cut(x))


def test_masks_alone_are_refused_in_training() -> None:
    with pytest.raises(BadRequest, match=r"cut_normalized.*cut=true"):
        Pruning(Mag(), sparsity=0.5, granularity="unit", cut_normalized=True)


def test_repair_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"repair.*cut_normalized"):
        Pruning(Mag(), sparsity=0.5, granularity="unit", cut=True, cut_normalized=True, repair=1)


def test_rounds_that_score_a_masked_network_are_refused() -> None:
    network, _, _, x = built("norms")
    objective = Objective(inputs=(x,), batches=[(x, torch.tensor([0, 1]))], loss=nn.functional.cross_entropy)
    with pytest.raises(BadRequest, match=r"cut_normalized.*one round"):
        prune(network, SNIP(), 0.5, selection=ASKED, plan=Plan(rounds=2), objective=objective)
    with pytest.raises(BadRequest, match=r"cut_normalized.*one round"):
        Pruning(SNIP(), sparsity=0.5, granularity="unit", cut=True, cut_normalized=True, rounds=2)
