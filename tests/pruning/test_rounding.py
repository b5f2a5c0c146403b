"""The number kept in each round: rounded to the nearest, or as SynFlow's published code counts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunelit.pruning.criteria import SynFlow
from prunelit.pruning.masks import count_kept
from prunelit.pruning.objective import Objective
from prunelit.pruning.plan import Plan
from prunelit.pruning.rounds import prune
from prunelit.request import BadRequest


def published(network: nn.Sequential, density: float, rounds: int, local: bool = False) -> list[Tensor]:
    """The masks of the published code, by a threshold: scores up to the k-th smallest are removed."""
    weights = [m.weight.detach().double() for m in network if isinstance(m, nn.Linear)]
    masks = [torch.ones_like(w) for w in weights]
    for step in range(1, rounds + 1):
        kept = density ** (step / rounds)
        positive = [(w * m).abs().requires_grad_() for w, m in zip(weights, masks, strict=True)]
        flow = torch.ones(weights[0].shape[1]).double()
        for w in positive:
            flow = w @ flow
        gradients = torch.autograd.grad(flow.sum(), positive)
        scores = [(g * w).detach() for g, w in zip(gradients, positive, strict=True)]
        for i, score in enumerate(scores):
            competing = score.flatten() if local else torch.cat([s.flatten() for s in scores])
            k = int((1 - kept) * competing.numel())
            if k:
                masks[i] = (score > torch.kthvalue(competing, k).values).double()
    return masks


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_rounding_up_gives_the_masks_of_the_published_code(scope: str) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(a, b, bias=False) for a, b in ((9, 14), (14, 11), (11, 5))]
    network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    expected = published(network, 0.47, 30, scope == "layer")
    objective = Objective(inputs=(torch.zeros(1, 9),))
    plan = Plan(rounds=30, rounding="up", scope=scope)
    masks = prune(network, SynFlow(), 0.47, plan=plan, objective=objective).masks
    for mask, right in zip(masks.values(), expected, strict=True):
        assert torch.equal(mask, right.bool())
    n = 9 * 14 + 14 * 11 + 11 * 5
    if scope == "global":
        assert count_kept(masks) == n - int((1 - 0.47) * n) == round(0.47 * n) + 1


def test_densities_of_their_own_for_each_tensor_are_not_rounded_up() -> None:
    with pytest.raises(BadRequest, match=r"^rounding=up: .*scope=erk"):
        Plan(scope="erk", rounding="up")
