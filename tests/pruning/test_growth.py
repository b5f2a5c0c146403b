"""Drop and grow, worked by hand, and what holds for any layer."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from prunelit.pruning.criteria import Rand
from prunelit.pruning.growth import Growth, drop_and_grow, exchange
from prunelit.pruning.masks import attached, count_kept
from prunelit.pruning.objective import Objective
from prunelit.pruning.plan import Plan
from prunelit.pruning.rounds import prune
from prunelit.request import BadRequest

KEPT = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0], dtype=torch.bool)
WEIGHTS = torch.tensor([0.5, -0.1, 2.0, -0.3, 0.0, 0.0, 0.0, 0.0])
GROWTH = torch.tensor([9.0, 8.0, 7.0, 3.5, 1.0, 4.0, 2.0, 3.0])


def step(share: float, regrow: bool = False, scores: Tensor = GROWTH) -> list[int]:
    masks = drop_and_grow({"w": WEIGHTS}, {"w": KEPT}, {"w": scores}, share, regrow)
    return masks["w"].int().tolist()


def test_the_smallest_are_dropped_and_the_best_of_the_others_grown() -> None:
    assert step(0.25) == [1, 0, 1, 1, 0, 1, 0, 0]
    assert step(0.5) == [1, 0, 1, 0, 0, 1, 0, 1]
    assert step(1.0) == [0, 0, 0, 0, 1, 1, 1, 1]


def test_what_was_dropped_comes_back_only_if_it_may() -> None:
    """-0.1 and -0.3 are dropped; their scores 8 and 3.5 are the first and the third among all free places."""
    assert step(0.5, regrow=True) == [1, 1, 1, 0, 0, 1, 0, 0]
    assert step(0.25, regrow=True) == [1, 1, 1, 1, 0, 0, 0, 0]


def test_nothing_to_exchange() -> None:
    assert step(0.0) == step(0.1) == KEPT.int().tolist()


def test_of_equal_weights_the_last_are_dropped_and_of_equal_scores_the_first_grown() -> None:
    masks = drop_and_grow({"w": torch.ones(6)}, {"w": torch.arange(6) < 3}, {"w": torch.zeros(6)}, 0.67)
    assert masks["w"].int().tolist() == [1, 0, 0, 1, 1, 0]


def test_a_layer_that_is_nearly_full_exchanges_as_many_as_it_has_places() -> None:
    masks = {"w": torch.arange(8) < 7, "full": torch.ones(3, dtype=torch.bool)}
    weights = {"w": torch.arange(8.0), "full": torch.ones(3)}
    new = drop_and_grow(weights, masks, {"w": torch.ones(8), "full": torch.ones(3)}, 0.5)
    assert new["w"].int().tolist() == [0, 1, 1, 1, 1, 1, 1, 1]
    assert new["full"].all()


@st.composite
def layers(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    size = draw(st.integers(1, 40))
    numbers = st.floats(-4, 4, width=16)
    weight, score = (torch.tensor(draw(st.lists(numbers, min_size=size, max_size=size))) for _ in range(2))
    mask = torch.tensor(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    return weight * mask, mask, score.abs()


@given(st.lists(layers(), min_size=1, max_size=3), st.floats(0, 1), st.booleans())
def test_counts_are_exact_and_no_dropped_weight_is_larger_than_one_that_stays(
    drawn: list[tuple[Tensor, Tensor, Tensor]], share: float, regrow: bool
) -> None:
    weights, masks, scores = ({str(i): layer[k] for i, layer in enumerate(drawn)} for k in range(3))
    new = drop_and_grow(weights, masks, scores, share, regrow)
    assert list(new) == list(masks)
    for name, mask in masks.items():
        weight, score = weights[name].abs(), scores[name]
        dropped, grown, stayed = mask & ~new[name], new[name] & ~mask, mask & new[name]
        assert new[name].sum() == mask.sum()
        assert dropped.sum() == grown.sum()
        wanted = round(share * int(mask.sum()))
        if not regrow:
            assert dropped.sum() == min(wanted, int((~mask).sum()))
            if dropped.any() and stayed.any():
                assert weight[dropped].max() <= weight[stayed].min()
        assert dropped.sum() <= wanted
        left = ~mask & ~new[name]
        if grown.any() and left.any():
            assert score[grown].min() >= score[left].max()


def test_the_share_falls_by_cosine_until_it_stops() -> None:
    growth = Growth(at="gradient", every=2, share=0.3, decay="cosine", stop=0.75)
    assert [epoch for epoch in range(17) if growth.due(epoch, 16)] == [2, 4, 6, 8, 10]
    assert growth.share_at(0, 16) == pytest.approx(0.3)
    assert growth.share_at(4, 16) == pytest.approx(0.3 / 2 * 1.5)
    assert growth.share_at(6, 16) == pytest.approx(0.15)
    assert growth.share_at(12, 16) == pytest.approx(0)


def test_a_constant_share_at_every_epoch_but_the_first() -> None:
    growth = Growth(at="random", share=0.3)
    assert [epoch for epoch in range(5) if growth.due(epoch, 5)] == [1, 2, 3, 4]
    assert growth.share_at(3, 5) == 0.3
    assert not any(Growth().due(epoch, 5) for epoch in range(5))


def sparse() -> tuple[nn.Sequential, Objective]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(12, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 4))
    batch = (torch.randn(16, 12), torch.arange(16) % 4)
    prune(network, Rand(), 0.3, plan=Plan(scope="erk"))
    return network, Objective.of_classifier(network, [batch])


def test_weights_grow_at_0_where_the_dense_gradient_is_largest() -> None:
    network, objective = sparse()
    before, twin = copy.deepcopy(attached(network)), copy.deepcopy(network)
    outcome = exchange(network, Growth(at="gradient", share=0.25), 0.25, objective=objective)
    twin.eval()
    nn.functional.cross_entropy(twin(objective.batches[0][0]), objective.batches[0][1]).backward()
    assert before is not None
    assert outcome.densities == [pytest.approx(count_kept(before) / 160)]
    for index in (0, 3):
        name, old = f"{index}.weight", twin[index].weight
        new = outcome.masks[name]
        grown, left = new & ~before[name], ~new & ~before[name]
        assert grown.sum() == round(0.25 * int(before[name].sum()))
        assert old.grad[grown].abs().min() >= old.grad[left].abs().max()
        assert network[index].weight[~new | grown].eq(0).all()
        stayed = new & before[name]
        assert torch.equal(network[index].weight[stayed], old[stayed])
    assert network.training
    assert network[1].num_batches_tracked == 0


def test_random_places_follow_the_seed_and_leave_the_random_state() -> None:
    def masks(seed: int) -> list[Tensor]:
        network, _ = sparse()
        state = torch.get_rng_state()
        found = exchange(network, Growth(at="random"), 0.3, seed=seed).masks
        assert torch.equal(torch.get_rng_state(), state)
        return list(found.values())

    assert all(map(torch.equal, masks(1), masks(1)))
    assert not all(map(torch.equal, masks(1), masks(2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at": "gradients"}, r"^at=gradients: .*\bgradient\?"),
        ({"decay": "linear"}, r"^decay=linear: .*none or cosine"),
        ({"stop": 2.0}, r"^stop=2\.0: "),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        Growth(**options)
