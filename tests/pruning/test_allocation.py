"""Densities by layer and N:M patterns."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prunelit import BadRequest, Mag, Plan, prune
from prunelit.pruning.allocation import (
    erdos_renyi_densities,
    layer_masks,
    pattern_mask,
)
from prunelit.pruning.finite_scores import NonFiniteScores
from prunelit.pruning.masks import count_kept, full_masks


def shapes(*sizes: tuple[int, ...]) -> dict[str, torch.Size]:
    return {str(index): torch.Size(size) for index, size in enumerate(sizes)}


def test_erdos_renyi_by_hand() -> None:
    """Raw densities (4 + 2) / 8 = 0.75 and (8 + 8) / 64 = 0.25: epsilon 18 / (6 + 16) keeps 18 of 72."""
    found = erdos_renyi_densities(shapes((4, 2), (8, 8)), 0.25)
    assert found == pytest.approx({"0": 0.75 * 18 / 22, "1": 0.25 * 18 / 22})


def test_a_kernel_counts_its_sizes() -> None:
    """With the kernel (2 + 2 + 3 + 3) / 36, without it (2 + 2) / 4, as a layer of 2 x 2."""
    only = shapes((2, 2, 3, 3), (30, 30))
    with_kernel = erdos_renyi_densities(only, 0.05)
    assert with_kernel["0"] / with_kernel["1"] == pytest.approx((10 / 36) / (60 / 900))
    without = erdos_renyi_densities(only, 0.05, kernel=False)
    assert without["0"] / without["1"] == pytest.approx((4 / 4) / (60 / 900))


def test_a_layer_that_would_exceed_one_is_dense_and_the_others_share_the_rest() -> None:
    found = erdos_renyi_densities(shapes((2, 1), (10, 10), (20, 20)), 0.5)
    assert found["0"] == 1
    assert 2 + 100 * found["1"] + 400 * found["2"] == pytest.approx(0.5 * 502)
    assert found["1"] / found["2"] == pytest.approx((20 / 100) / (40 / 400))


sizes = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=5)


@settings(max_examples=25, deadline=None)
@example([(1, 3), (1, 3), (3, 3)], 0.5)
@given(sizes, st.floats(0.01, 1))
def test_layer_counts_add_up_exactly(layers: list[tuple[int, int]], density: float) -> None:
    scores = {name: torch.randn(shape) for name, shape in shapes(*layers).items()}
    densities = erdos_renyi_densities({name: s.shape for name, s in scores.items()}, density)
    assert all(0 <= d <= 1 + 1e-12 for d in densities.values())
    masks = layer_masks(scores, densities, full_masks(scores))
    assert count_kept(masks) == round(density * sum(s.numel() for s in scores.values()))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(4, 6), st.integers(1, 13), st.integers(0, 99))
def test_a_pattern_holds_in_every_group(n: int, m: int, inputs: int, seed: int) -> None:
    score = torch.rand(3, inputs, 2, generator=torch.Generator().manual_seed(seed))
    mask = pattern_mask(score, n, m, torch.ones_like(score, dtype=torch.bool))
    for group in range(0, inputs, m):
        kept = mask[:, group : group + m]
        size = kept.shape[1]
        assert kept.sum(1).eq(min(n, size)).all()
        lowest_kept = score[:, group : group + m].masked_fill(~kept, 2).amin(1)
        highest_cut = score[:, group : group + m].masked_fill(kept, -1).amax(1)
        assert (lowest_kept >= highest_cut).all()


def test_two_of_four_by_hand_with_ties() -> None:
    score = torch.tensor([[1.0, 3.0, 3.0, 3.0, 5.0, 0.0]])
    mask = pattern_mask(score, 2, 4, torch.ones_like(score, dtype=torch.bool))
    assert mask.tolist() == [[False, True, True, False, True, True]]


def test_patterns_through_prune() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(8, 4, 3), torch.nn.Linear(16, 4))
    masks = prune(net, Mag(), None, plan=Plan(pattern="2:4")).masks
    assert all(int(mask.sum()) * 2 == mask.numel() for mask in masks.values())


def test_wrong_patterns_and_scores() -> None:
    with pytest.raises(BadRequest, match=r"^pattern=4:2: "):
        Plan(pattern="4:2")
    with pytest.raises(BadRequest, match=r"^pattern=2-4: "):
        Plan(pattern="2-4")
    net = torch.nn.Linear(4, 4)
    net.weight.data[0, 0] = float("inf")
    with pytest.raises(NonFiniteScores, match="weight"):
        prune(net, Mag(), None, plan=Plan(pattern="2:4"))
