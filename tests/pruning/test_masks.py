"""Scores to masks, and what is done with masks."""

from __future__ import annotations

import copy
import hashlib
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from prunelit.pruning.finite_scores import NonFiniteScores
from prunelit.pruning.masks import (
    apply_masks,
    apply_masks_to_gradients,
    attach,
    attached,
    bit_masks,
    collapsed_layers,
    count_all,
    count_kept,
    density_of,
    digest,
    full_masks,
    layer_densities,
    make_masks,
    num_kept,
    shuffle_within_layers,
)
from prunelit.request import BadRequest

F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def bits(masks: dict[str, Tensor]) -> dict[str, list[int]]:
    return {name: mask.int().flatten().tolist() for name, mask in masks.items()}


def test_global_scope_by_hand() -> None:
    scores = {"a": torch.tensor([[1.0, 6.0], [2.0, 5.0]]), "b": torch.tensor([4.0, 3.0])}
    # Half of six: 6, 5 and 4 stay.
    masks = make_masks(scores, 0.5)
    assert bits(masks) == {"a": [0, 1, 0, 1], "b": [1, 0]}
    assert masks["a"].shape == (2, 2)
    # One more round among what is left, down to a third of six.
    assert bits(make_masks(scores, 1 / 3, previous=masks)) == {"a": [0, 1, 0, 1], "b": [0, 0]}
    # Scores of what is gone already do not count: 5 and 4 are the highest of the rest.
    previous = {"a": torch.tensor([[True, False], [True, True]]), "b": torch.tensor([True, True])}
    assert bits(make_masks(scores, 1 / 3, previous=previous)) == {"a": [0, 0, 0, 1], "b": [1, 0]}


def test_layer_scope_by_hand() -> None:
    scores = {"a": torch.tensor([[1.0, 6.0], [2.0, 5.0]]), "b": torch.tensor([-4.0, -3.0])}
    assert bits(make_masks(scores, 0.5, "layer")) == {"a": [0, 1, 0, 1], "b": [0, 1]}
    # round(0.75 * 4) = 3 and round(0.75 * 2) = 2.
    assert bits(make_masks(scores, 0.75, "layer")) == {"a": [0, 1, 1, 1], "b": [1, 1]}


def test_of_tied_scores_the_first_are_kept() -> None:
    scores = {"a": torch.tensor([1.0, 2.0, 1.0]), "b": torch.tensor([[1.0, 3.0], [1.0, 0.0]])}
    # Four of seven: 3 and 2, and the first two of four ones.
    assert bits(make_masks(scores, 4 / 7)) == {"a": [1, 1, 1], "b": [0, 1, 0, 0]}
    assert bits(make_masks(scores, 5 / 7)) == {"a": [1, 1, 1], "b": [1, 1, 0, 0]}
    # A one that is gone already takes no part in the tie.
    previous = {"a": torch.tensor([False, True, True]), "b": torch.ones(2, 2, dtype=torch.bool)}
    assert bits(make_masks(scores, 4 / 7, previous=previous)) == {"a": [0, 1, 1], "b": [1, 1, 0, 0]}
    assert bits(make_masks({"a": torch.zeros(5)}, 0.4)) == {"a": [1, 1, 0, 0, 0]}
    assert bits(make_masks({"a": torch.tensor([0.0, -0.0, 0.0])}, 1 / 3)) == {"a": [1, 0, 0]}


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_exact_count_nested_and_highest(data: st.DataObject) -> None:
    """Against a sort in plain Python, for few distinct values (many ties) in mixed types."""
    shapes = data.draw(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=4))
    scores: dict[str, Tensor] = {}
    for i, shape in enumerate(shapes):
        values = st.lists(st.integers(-2, 2), min_size=(n := torch.Size(shape).numel()), max_size=n)
        dtype = data.draw(st.sampled_from([F32, F64, BF16]))
        scores[f"layer{i}"] = torch.tensor(data.draw(values), dtype=dtype).reshape(shape)
    n = count_all(scores)
    densities = sorted(data.draw(st.lists(st.floats(0, 1), min_size=1, max_size=3)), reverse=True)
    masks, alive = full_masks(scores), list(range(n))
    flat = [float(v) for score in scores.values() for v in score.flatten()]
    for density in densities:
        smaller = make_masks(scores, density, previous=masks)
        alive = sorted(alive, key=lambda i: (-flat[i], i))[: round(density * n)]
        assert all(not (smaller[name] & ~masks[name]).any() for name in scores)
        kept = torch.cat([mask.flatten() for mask in smaller.values()])
        assert kept.nonzero().flatten().tolist() == sorted(alive)
        masks = smaller


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), density=st.floats(0, 1), order=st.permutations(range(4)))
def test_the_order_of_layers_matters_to_ties_only(seed: int, density: float, order: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = {str(i): torch.rand(3, 4 + i, generator=generator, dtype=F64) for i in range(4)}
    masks = make_masks(scores, density)
    turned = make_masks({str(i): scores[str(i)] for i in order}, density)
    assert equal(masks, {name: turned[name] for name in masks})


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtypes", [(F32, F32, F32), (F64, F32, BF16), (BF16, BF16, BF16)])
def test_exact_counts_at_compressions_0_to_4(scope: str, tied: bool, dtypes: tuple[torch.dtype, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(20, 3, 3, 3), (300, 90), (77, 51)]
    scores = {
        str(i): (torch.zeros(shape) if tied else torch.randn(shape, generator=generator)).to(dtype)
        for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))
    }
    for step in range(81):
        density = 10 ** -(0.05 * step)
        masks = make_masks(scores, density, scope)
        if scope == "global":
            assert count_kept(masks) == round(density * 31467)
        else:
            for name, mask in masks.items():
                assert int(mask.sum()) == round(density * scores[name].numel())


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_nothing_and_everything(scope: str) -> None:
    scores = {"a": torch.randn(4, 3), "b": torch.zeros(5)}
    assert count_kept(make_masks(scores, 0.0, scope)) == 0
    assert count_kept(make_masks(scores, 1.0, scope)) == 17
    half = make_masks(scores, 0.5, scope)
    again = make_masks({name: -score for name, score in scores.items()}, 0.9, scope, half)
    assert equal(again, half)
    assert all(again[name] is not half[name] for name in half)
    assert count_kept(make_masks(scores, 1e-9, scope)) == 0


def test_round_is_to_the_nearest_even_at_a_half() -> None:
    assert [num_kept(0.5, n) for n in (1, 2, 3, 5, 7)] == [0, 1, 2, 2, 4]
    assert num_kept(10**-0.5, 1000) == 316


def test_more_elements_than_float32_and_quantile_can_count() -> None:
    n = 17_000_001
    assert n > 2**24
    masks = make_masks({"a": torch.arange(n, dtype=F32) % 4096, "b": torch.full((3,), 5000.0)}, 0.1)
    assert count_kept(masks) == round(0.1 * (n + 3))
    assert masks["b"].all()
    assert not masks["a"][:2048].any()


def test_the_memory_layout_of_scores_does_not_matter() -> None:
    scores = {"a": (torch.arange(120) % 7).float().reshape(2, 3, 4, 5), "b": torch.zeros(3, 4)}
    strided = {"a": scores["a"].contiguous(memory_format=torch.channels_last), "b": torch.zeros(4, 3).T}
    for density in (0.01, 0.3, 0.5, 0.95):
        masks = make_masks(scores, density)
        assert equal(make_masks(strided, density), masks)
        laid_out = {n: m.clone().as_strided(m.shape, m.stride()) for n, m in masks.items()}
        laid_out["a"] = laid_out["a"].contiguous(memory_format=torch.channels_last)
        for layout in (masks, laid_out):
            assert equal(
                make_masks(strided, density / 2, previous=layout),
                make_masks(scores, density / 2, previous=masks),
            )
            assert digest(layout) == digest(masks)
            shuffled = shuffle_within_layers(layout, among=full_masks(strided))
            assert count_kept(shuffled) == count_kept(masks)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_scores_that_are_not_finite_are_refused_by_name(bad: float, scope: str) -> None:
    scores = {"good": torch.ones(3), "conv1.weight": torch.tensor([1.0, bad])}
    with pytest.raises(NonFiniteScores, match=r"conv1\.weight"):
        make_masks(scores, 0.5, scope)


def test_an_unknown_scope_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"^scope=local: .*global, layer"):
        make_masks({"a": torch.ones(2)}, 0.5, "local")


def test_scores_and_earlier_masks_are_left_alone() -> None:
    scores = {"a": torch.tensor([3.0, 1.0, 2.0, 1.0])}
    previous = {"a": torch.tensor([True, True, True, True])}
    make_masks(scores, 0.5, previous=previous)
    assert scores["a"].tolist() == [3, 1, 2, 1]
    assert previous["a"].all()


def test_counts_and_densities() -> None:
    masks = {"a": torch.tensor([[True, False]]), "b": torch.tensor([False, False])}
    assert (count_kept(masks), count_all(masks), density_of(masks)) == (1, 4, 0.25)
    assert layer_densities(masks) == {"a": 0.5, "b": 0.0}
    assert collapsed_layers(masks) == ["b"]


def test_applied_masks_give_exact_zeros_to_weights_and_gradients() -> None:
    layer = nn.Linear(2, 1)
    layer.weight.data = torch.tensor([[float("nan"), 2.0]])
    masks = {"weight": torch.tensor([[False, True]])}
    apply_masks_to_gradients({"weight": layer.weight}, masks)  # no gradient yet
    layer.weight.grad = torch.tensor([[float("inf"), 3.0]])
    apply_masks({"weight": layer.weight}, masks)
    apply_masks_to_gradients({"weight": layer.weight}, masks)
    assert layer.weight.tolist() == [[0, 2]]
    assert layer.weight.grad.tolist() == [[0, 3]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_bit_masks_do_what_masks_do(dtype: torch.dtype) -> None:
    weight = torch.randn(6, 4, 3, 3).to(dtype, memory_format=torch.channels_last)
    weight[0, 0] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    parameters = {"weight": nn.Parameter(weight), "dense": nn.Parameter(torch.ones(3))}
    parameters["weight"].grad = weight.clone()
    masks = {"weight": torch.rand(weight.shape) < 0.5}
    masks["weight"][0, 0] = False
    expected = torch.where(masks["weight"], weight, torch.zeros((), dtype=dtype))
    bits = bit_masks(parameters, masks)
    apply_masks(parameters, bits)
    apply_masks_to_gradients(parameters, bits)
    for result in (parameters["weight"].detach(), parameters["weight"].grad):
        assert torch.equal(result, expected)
        assert not result.signbit()[~masks["weight"]].any()


def test_shuffled_masks_keep_their_counts_and_stay_among_the_given_places() -> None:
    among = {"a": torch.rand(40, 50) < 0.5, "b": torch.ones(30, dtype=torch.bool)}
    masks = {"a": among["a"] & (torch.rand(40, 50) < 0.3), "b": torch.arange(30) < 10}
    shuffled = shuffle_within_layers(masks, among)
    for name in masks:
        assert int(shuffled[name].sum()) == int(masks[name].sum())
        assert not (shuffled[name] & ~among[name]).any()
        assert not torch.equal(shuffled[name], masks[name])
        assert shuffled[name].shape == masks[name].shape


def test_shuffled_places_are_equally_likely() -> None:
    torch.manual_seed(0)
    masks = {"a": torch.tensor([True, True, False, False, False])}
    among = {"a": torch.tensor([True, True, True, True, False])}
    total = sum(shuffle_within_layers(masks, among)["a"].double() for _ in range(2000))
    # Each of four places is kept with probability 1/2: 1000 times, give or take 22.
    assert total.tolist()[:4] == pytest.approx([1000] * 4, abs=100)
    assert total[4] == 0


def test_digest_tells_masks_apart_by_name_place_and_value() -> None:
    masks = {"a": torch.tensor([True, False]), "b": torch.tensor([[True, True]])}
    same = {"b": masks["b"].clone(), "a": masks["a"].clone()}
    assert digest(masks) == digest(same)
    # Names in order, each with its mask packed into bytes: 10000000 and 11000000.
    assert digest(masks) == hashlib.sha256(b"a\x80b\xc0").hexdigest()
    others = [
        {"a": masks["a"], "c": masks["b"]},
        {"a": ~masks["a"], "b": masks["b"]},
        {"a": masks["a"]},
    ]
    assert len({digest(other) for other in [masks, *others]}) == 4


def test_attached_masks_travel_with_the_network_but_not_in_its_state() -> None:
    network = nn.Linear(2, 1)
    names = list(network.state_dict())
    assert attached(network) is None
    masks = {"weight": torch.tensor([[True, False]])}
    attach(network, masks)
    twin = copy.deepcopy(network)
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    for other in (network, twin, torch.load(file, weights_only=False)):
        found = attached(other)
        assert found is not None
        assert equal(found, masks)
        assert list(other.state_dict()) == names
    assert attached(twin)["weight"] is not masks["weight"]


def test_attached_masks_of_other_names_stay() -> None:
    network = nn.Linear(2, 1)
    first, second = {"weight": torch.tensor([[True, False]])}, {"bias": torch.tensor([False])}
    attach(network, first)
    attach(network, second)
    assert equal(attached(network), {**first, **second})
    attach(network, {"weight": torch.tensor([[False, False]])})
    assert bits(attached(network)) == {"weight": [0, 0], "bias": [0]}
    assert list(first) == ["weight"]
