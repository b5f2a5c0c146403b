"""Histograms of weights in a checkpoint."""

from __future__ import annotations

import torch

from prunelit.training.measuring.histograms import histogram, stacked, unstacked


def histograms() -> dict[str, torch.Tensor]:
    found = {}
    for name in ("fc1.weight", "fc2.weight"):
        counts, edges = histogram(torch.randn(50), None)
        found |= {f"before/{name}": counts, f"edges/{name}": edges, f"after/{name}": counts // 2}
    return found


def test_they_come_back_from_a_checkpoint_in_few_tensors() -> None:
    given = histograms()
    state = stacked(given)
    assert [len(tensor) for tensor in state["tensors"]] == [4, 2]
    found = unstacked(state)
    assert list(found) == list(given)
    assert all(torch.equal(found[name], given[name]) for name in given)
    assert unstacked(stacked({})) == {}


def test_those_of_an_earlier_version_are_taken_as_they_are() -> None:
    given = histograms()
    assert unstacked(given) == given
