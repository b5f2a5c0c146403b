"""Whole filters by L1 norm, each with its bias and its BatchNorm; linear layers by magnitude."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunelit import BadRequest, L1Filter, Mag, Objective, Plan, Pruning, Selection, prune
from prunelit.pruning.masks import Masks, density_of
from prunelit.training.models.resnet import CifarResNet

WHOLE = Selection(bias=True, norm=True)


def images(network: nn.Module, *shape: int) -> Objective:
    return Objective(lambda batch: torch.zeros(()), [], (torch.rand(shape),))


def bits(masks: Masks) -> dict[str, list[int]]:
    return {name: mask.int().flatten().tolist() for name, mask in masks.items()}


def hand_made() -> nn.Sequential:
    """Filters of norms 3, 2.5, 2 and 4; linear weights 1, -4, 2, 0.5, -3 and 0."""
    network = nn.Sequential(
        nn.Conv2d(1, 4, (1, 2)), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)
    )
    network[0].weight.data = torch.tensor([[-1.0, 2.0], [0.0, 2.5], [1.0, 1.0], [-4.0, 0.0]]).view(4, 1, 1, 2)
    network[4].weight.data = torch.tensor([[1.0, -4.0, 2.0, 0.5], [-3.0, 0.0, 0.1, 0.2]])
    network[4].bias.data = torch.tensor([0.3, -0.4])
    return network


def test_by_hand() -> None:
    network = hand_made()
    parameters = WHOLE.of(network)
    scores = L1Filter().scores(network, parameters, images(network, 1, 1, 1, 2))
    norms = [3.0, 2.5, 2.0, 4.0]
    assert scores["0.weight"].flatten(1).tolist() == [[norm, norm] for norm in norms]
    for name in ("0.bias", "1.weight", "1.bias"):
        assert scores[name].tolist() == norms
    torch.testing.assert_close(scores["4.weight"], network[4].weight.detach().abs())
    masks = prune(network, L1Filter(), 0.5, objective=images(network, 1, 1, 1, 2)).masks
    assert bits(masks) == {
        "0.weight": [1, 1, 0, 0, 0, 0, 1, 1],
        "0.bias": [1, 0, 0, 1],
        "1.weight": [1, 0, 0, 1],
        "1.bias": [1, 0, 0, 1],
        "4.weight": [1, 1, 1, 0, 1, 0, 0, 0],
        "4.bias": [0, 1],
    }


def test_a_pruned_filter_emits_exactly_zero_behind_its_batch_norm() -> None:
    network = hand_made()
    network[1].running_mean.normal_()
    network[1].bias.data.fill_(0.7)
    prune(network, L1Filter(), 0.5, objective=images(network, 1, 1, 1, 2))
    network.eval()
    out = network[1](network[0](torch.randn(9, 1, 3, 4)))
    assert out.ne(0).all(3).all(2).all(0).tolist() == [True, False, False, True]
    assert out[:, 1:3].eq(0).all()


@pytest.mark.parametrize("density", [0.9, 0.5, 10**-0.5, 0.13])
def test_a_share_of_each_layer_through_residual_blocks(density: float) -> None:
    network = CifarResNet(10, (3, 8, 8), depth=8)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    plan = Plan(rounds=3, scope="global")
    masks = prune(network, L1Filter(), density, plan=plan, objective=images(network, 1, 3, 8, 8)).masks
    for name, mask in masks.items():
        module = network.get_submodule(name.rpartition(".")[0])
        if isinstance(module, nn.Conv2d):
            rows = mask.flatten(1)
            assert torch.equal(rows.any(1), rows.all(1)), "filters are kept or removed whole"
            kept = rows.all(1)
            assert int(kept.sum()) == round(density * len(kept))
            norms = before[name].abs().flatten(1).sum(1)
            assert norms[kept].min() >= norms[~kept].max()
        elif isinstance(module, nn.BatchNorm2d):
            assert int(mask.sum()) == round(density * len(mask))
        else:
            assert int(mask.sum()) == round(density * mask.numel())
    for bn, conv in (("bn", "conv"), ("stage2.0.shortcut.bn", "stage2.0.shortcut.conv")):
        assert torch.equal(masks[f"{bn}.bias"], masks[f"{conv}.weight"].flatten(1).all(1))


def test_of_equal_filters_the_first_are_kept_and_one_at_least_if_asked() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 2), nn.Conv2d(4, 3, 1))
    for parameter in network.parameters():
        parameter.data.fill_(-1)
    network[0].weight.data[3] = -2
    masks = prune(network, L1Filter(), 0.5, objective=images(network, 1, 1, 4, 4)).masks
    assert bits(masks)["0.bias"] == [1, 0, 0, 1]
    assert bits(masks)["1.bias"] == [1, 1, 0]
    masks = prune(network, L1Filter(), 0.1, objective=images(network, 1, 1, 4, 4)).masks
    assert density_of(masks) == 0
    guarded = nn.Sequential(nn.Conv2d(1, 4, 2), nn.Conv2d(4, 3, 1))
    plan = Plan(keep_at_least=1)
    masks = prune(guarded, L1Filter(), 0.1, plan=plan, objective=images(guarded, 1, 1, 4, 4)).masks
    assert [int(masks[f"{i}.bias"].sum()) for i in range(2)] == [1, 1]
    assert masks["0.weight"].sum() == 4


def test_shuffled_filters_are_still_whole() -> None:
    network = nn.Sequential(nn.Conv2d(2, 16, 3), nn.BatchNorm2d(16))
    first = prune(network, L1Filter(), 0.5, objective=images(network, 1, 2, 4, 4)).masks
    again = nn.Sequential(nn.Conv2d(2, 16, 3), nn.BatchNorm2d(16))
    again.load_state_dict(network.state_dict())
    plan = Plan(shuffle=True)
    masks = prune(again, L1Filter(), 0.5, plan=plan, objective=images(again, 1, 2, 4, 4)).masks
    kept = masks["1.weight"]
    assert int(kept.sum()) == 8
    assert not torch.equal(kept, first["1.weight"])
    assert torch.equal(masks["0.weight"].flatten(1), kept[:, None].expand(16, 18))


def test_filters_of_a_network_that_lost_weights_before() -> None:
    network = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8))
    first: dict[str, Tensor] = prune(network, Mag(), 0.3).masks
    masks = prune(network, L1Filter(), 0.5, objective=images(network, 1, 2, 4, 4)).masks
    kept = masks["1.bias"]
    assert int(kept.sum()) == 4
    assert torch.equal(masks["0.weight"], first["0.weight"] & kept.view(8, 1, 1, 1))


@pytest.mark.parametrize("option", [{"bias": False}, {"norm": False}, {"scope": "global"}], ids=str)
def test_what_would_leave_a_part_of_a_filter_is_refused(option: dict[str, object]) -> None:
    (key,) = option
    with pytest.raises(BadRequest, match=f"^{key}="):
        Pruning(L1Filter(), 0.5, **option)
    assert Pruning(L1Filter(), 0.5).selection == WHOLE
