"""The k highest of many scores, beside a stable sort; and the k-th highest as it is found on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prunelit.pruning import highest as module
from prunelit.pruning import loops, score_pieces
from prunelit.pruning.highest import highest
from prunelit.pruning.kth_highest_by_bits import kth_highest_by_bits
from prunelit.pruning.score_pieces import Memory


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38]) | st.floats(width=32), min_size=1),
    st.sampled_from([torch.float32, torch.float64]),
    st.data(),
)
def test_the_bits_of_values_tell_the_kth_highest(
    values: list[float], dtype: torch.dtype, data: st.DataObject
) -> None:
    tensor = torch.tensor([value for value in values if value == value] or [0.0], dtype=dtype)
    k = data.draw(st.integers(1, len(tensor)))
    assert kth_highest_by_bits(tensor.clone(), k) == tensor.sort(descending=True).values[k - 1]


@pytest.fixture(params=["loop", "operations"])
def in_both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare scores by a compiled loop, and as where there was no compiler."""
    if request.param == "operations":
        monkeypatch.setattr(loops, "available", lambda: False)
    elif not loops.available():
        pytest.skip("the loops are not compiled")


def by_sorting(scores: list[Tensor], k: int, candidates: list[Tensor]) -> Tensor:
    """Mark the highest by a stable sort of all candidates."""
    row = torch.cat([score.double().flatten() for score in scores])
    places = torch.cat([mask.flatten() for mask in candidates]).nonzero()[:, 0]
    order = row[places].argsort(descending=True, stable=True)
    marked = torch.zeros(len(row), dtype=torch.bool)
    marked[places[order[:k]]] = True
    return marked


def check(scores: list[Tensor], k: int, candidates: list[Tensor]) -> None:
    found = highest(scores, k, candidates)
    assert found is not None
    expected = by_sorting(scores, k, candidates)
    assert torch.equal(torch.cat([mask.flatten() for mask in found.masks]), expected)
    assert [mask.shape for mask in found.masks] == [score.shape for score in scores]
    row, marked = (torch.cat([each.flatten() for each in tensors]) for tensors in (scores, candidates))
    assert found.num_competing == int(marked.sum())
    if not 0 < k < found.num_competing:
        assert found.threshold is None
        return
    assert found.threshold == float(row[expected].double().min())
    tied = (row.double() == found.threshold) & marked
    assert found.num_lost == int((tied & ~expected).sum())
    sizes = [score.numel() for score in scores]
    assert (found.num_tied or []) == ([int(t.sum()) for t in tied.split(sizes)] if found.num_lost else [])


DRAWS = {
    "distinct": lambda n, draw: torch.randn(n, generator=draw),
    "few values": lambda n, draw: torch.randint(5, (n,), generator=draw).float(),
    "half zeros": lambda n, draw: torch.rand(n, generator=draw).sub(0.5).relu(),
    "all equal": lambda n, draw: torch.ones(n),
    "in order": lambda n, draw: torch.arange(n).float(),
    "one column high": lambda n, draw: torch.arange(n).remainder(64).eq(0) * torch.rand(n, generator=draw),
}


@pytest.mark.usefixtures("in_both_ways")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("draw", DRAWS)
def test_the_highest_are_those_of_a_stable_sort(
    draw: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small pieces and samples stand for many scores, so that every step of the search is taken."""
    monkeypatch.setattr(score_pieces, "PIECE", 97)
    monkeypatch.setattr(module, "FEW", 200)
    generator = torch.Generator().manual_seed(0)
    scores = [
        DRAWS[draw](n, generator).to(dtype).view(-1, shape) for n, shape in ((1200, 40), (7, 1), (900, 9))
    ]
    full = [torch.ones_like(score, dtype=torch.bool) for score in scores]
    some = [torch.rand(score.shape, generator=generator) < 0.3 for score in scores]
    for candidates in (full, some):
        n = sum(int(mask.sum()) for mask in candidates)
        for k in (0, 1, 2, n // 100, n // 3, n // 2, n - 2, n - 1, n, n + 5):
            check(scores, k, candidates)


@pytest.mark.usefixtures("in_both_ways")
@pytest.mark.parametrize("margins", [(0.0, float("inf")), (float("inf"),)])
def test_a_sample_that_misleads_costs_another_pass_alone(
    margins: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEW", 20)
    monkeypatch.setattr(module, "MARGINS", margins)
    generator = torch.Generator().manual_seed(1)
    scores = [torch.randn(3000, generator=generator)]
    for k in range(1, 3000, 100):
        check(scores, k, [torch.ones(3000, dtype=torch.bool)])


@pytest.mark.usefixtures("in_both_ways")
def test_several_threads_mark_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_pieces, "PIECE", 50)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)  # of the process, which tests fork
    scores = [torch.randint(9, (30, 70), generator=torch.Generator().manual_seed(2)).float()]
    for k in (1, 500, 2000):
        check(scores, k, [torch.rand(30, 70) < 0.7])


@pytest.mark.usefixtures("in_both_ways")
def test_scores_in_another_memory_format_go_in_row_major_order() -> None:
    scores = torch.randint(3, (4, 3, 5, 5)).float().to(memory_format=torch.channels_last)
    check([scores], 100, [torch.ones(4, 3, 5, 5, dtype=torch.bool)])


@pytest.mark.usefixtures("in_both_ways")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_scores_that_are_not_finite_are_found(value: float, k: int) -> None:
    scores = [torch.tensor([1.0, value, 2.0])]
    assert highest(scores, k, [torch.tensor([True, False, True])]) is None


@pytest.mark.parametrize("length", [0, 7, 8, 64, 1001, 4096])
def test_places_of_few_are_those_of_numpy(length: int) -> None:
    random = np.random.default_rng(length)
    for share in (0.0, 0.01, 0.5, 1.0):
        marks = random.random(length) < share
        assert score_pieces.places_of_few(marks).tolist() == np.flatnonzero(marks).tolist()


@pytest.mark.skipif(not loops.available(), reason="the loops are not compiled")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("compete", ["all", "some", "one for all"])
@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 1000])
def test_a_loop_finds_what_operations_find(length: int, compete: str, dtype: Any) -> None:
    random = np.random.default_rng(length)
    values = random.integers(-4, 5, length).astype(dtype)
    candidates = {
        "all": None,
        "some": random.random(length) < 0.5,
        "one for all": np.broadcast_to(np.array(False), length),
    }[compete]
    for low, high in ((-1, 2), (0, 0), (-np.inf, np.inf), (5, 6), (4, 4)):
        found = []
        for look in (score_pieces.look_by_loop, score_pieces.look_by_operations):
            marks = random.random(length) < 0.5
            number, near, places = look(values, candidates, marks, dtype(low), dtype(high), Memory())
            found.append((number, near.tolist(), places.tolist(), marks.tolist()))
        assert found[0] == found[1]


@pytest.mark.skipif(not loops.available(), reason="the loops are not compiled")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 40, 69])
def test_a_loop_finds_a_value_that_is_not_finite(value: float, place: int) -> None:
    values = np.zeros(70, np.float32)
    values[place] = value
    none = np.zeros(70, bool)
    number, *_ = score_pieces.look_by_loop(values, none, none.copy(), np.float32(0), np.float32(1), Memory())
    assert number == -1


def test_scores_that_are_one_value_for_all() -> None:
    scores = [torch.zeros(()).expand(40, 30), torch.rand(50)]
    empty = torch.zeros(()).expand(0, 3)
    check(scores, 300, [torch.ones(40, 30, dtype=torch.bool), torch.rand(50) < 0.5])
    check(scores, 30, [torch.zeros((), dtype=torch.bool).expand(40, 30), torch.ones(50, dtype=torch.bool)])
    check([empty, scores[1]], 30, [empty.bool(), torch.ones(50, dtype=torch.bool)])
