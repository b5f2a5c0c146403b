"""The cache of Exact: an interrupted request goes on, a finished one is read, and no other one is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning import partial, suffix
from prunelit.pruning.criteria import Exact
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection
from prunelit.pruning.rounds import prune
from prunelit.request import BadRequest

Batches = list[tuple[Tensor, Tensor]]
EVERYTHING = Selection(bias=True, norm=True)


@pytest.mark.parametrize("has_head", [True, False])
def test_an_interrupted_request_goes_on_where_it_stopped(
    residual: nn.Module, images: Batches, tmp_path: Path, has_head: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suffix, "STACK", 500)
    monkeypatch.setattr(partial, "SAVE_EVERY", 0.0)
    before = {name: tensor.clone() for name, tensor in residual.state_dict().items()}
    left = calls = 0

    def head(output: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        nonlocal left, calls
        calls, left = calls + 1, left - 1
        if left == 0:
            raise KeyboardInterrupt
        return F.cross_entropy(output, batch[1])

    objective = Objective(
        lambda batch: head(residual(batch[0]), batch), images, (), head=head if has_head else None
    )

    def scores(cache: Path | None) -> dict[str, Tensor]:
        nonlocal calls
        calls = 0
        return prune(residual, Exact(cache), 1.0, objective=objective).scores

    whole, all_calls = scores(None), calls
    cache = tmp_path / "partial"
    for after in (all_calls // 3, all_calls // 3):
        left = after
        with pytest.raises(KeyboardInterrupt):
            scores(cache)
        assert len(list(cache.iterdir())) == 1
        assert all(torch.equal(tensor, before[name]) for name, tensor in residual.state_dict().items())
    left = 0
    resumed = scores(cache)
    assert calls < all_calls / 2
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    again = scores(cache)
    assert calls == 0
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_a_damaged_cache_is_started_again(residual: nn.Module, images: Batches, tmp_path: Path) -> None:
    objective = Objective.of_classifier(residual, images)
    whole = prune(residual, Exact(), 1.0, objective=objective).scores
    parameters = Selection().of(residual)
    name = partial.fingerprint(residual, parameters, objective.batches)
    (tmp_path / f"exact-{name}.pt").write_bytes(b"PK half a file")
    again = prune(residual, Exact(tmp_path), 1.0, objective=objective).scores
    assert all(torch.equal(again[key], whole[key]) for key in whole)


def test_what_is_saved_serves_the_same_request_only(residual: nn.Module, images: Batches) -> None:
    parameters = Selection().of(residual)
    prints = {partial.fingerprint(residual, parameters, images)}
    assert prints == {partial.fingerprint(residual, parameters, images)}
    prints.add(partial.fingerprint(residual, parameters, images[:1]))
    prints.add(partial.fingerprint(residual, EVERYTHING.of(residual), images))
    residual.get_parameter("fc.bias").data[0] += 1
    prints.add(partial.fingerprint(residual, parameters, images))
    residual.get_buffer("bn1.running_mean")[0] += 1
    prints.add(partial.fingerprint(residual, parameters, images))
    residual.eval()
    prints.add(partial.fingerprint(residual, parameters, images))
    assert len(prints) == 6


def test_a_cache_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for cache in (True, file):
        with pytest.raises(BadRequest, match=r"^cache="):
            Exact(cache)  # type: ignore[arg-type]
