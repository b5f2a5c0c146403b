"""The cache of Exact: an interrupted request goes on, a finished one is read, and no other one is."""

from __future__ import annotations

from functools import partial as partial_function
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning import partial, suffix
from prunelit.pruning.criteria import Exact
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters, Selection
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
    assert calls < all_calls / 10, "only the losses that the digest holds"
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def damaged(path: Path, how: str) -> None:
    """Damage a finished file in one of several ways."""
    content = bytearray(path.read_bytes())
    if how == "half":
        path.write_bytes(content[: len(content) // 2])
    elif how == "one bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        other = {"batches": 1, "total": {}, "current": {}} if how == "of another network" else [1, 2]
        torch.save(other, path)


@pytest.mark.parametrize("how", ["half", "one bit", "of another network", "other contents"])
def test_a_damaged_cache_is_started_again(
    residual: nn.Module, images: Batches, tmp_path: Path, how: str
) -> None:
    objective = Objective.of_classifier(residual, images)
    whole = prune(residual, Exact(tmp_path), 1.0, objective=objective).scores
    (file,) = tmp_path.iterdir()
    damaged(file, how)
    again = prune(residual, Exact(tmp_path), 1.0, objective=objective).scores
    assert all(torch.equal(again[key], whole[key]) for key in whole)


def test_what_is_saved_serves_the_same_request_only(residual: nn.Module, images: Batches) -> None:
    parameters = Selection().of(residual)

    def digest(parameters: Parameters = parameters, batches: Batches = images, samples: int = 8) -> str:
        return partial.fingerprint(residual, parameters, Objective.of_classifier(residual, batches), samples)

    prints = {digest()}
    assert prints == {digest()}
    prints |= {digest(batches=images[:1]), digest(EVERYTHING.of(residual)), digest(samples=9)}
    residual.get_parameter("fc.bias").data[0] += 1
    prints.add(digest())
    residual.get_buffer("bn1.running_mean")[0] += 1
    prints.add(digest())
    residual.eval()
    prints.add(digest())
    assert len(prints) == 7


class Scaled(nn.Module):
    """Multiplies by a number that is an attribute."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (nn.LeakyReLU(0.1), nn.LeakyReLU(0.5)),
        (nn.MaxPool1d(1), nn.MaxPool1d(1, dilation=2)),
        (Scaled(1.0), Scaled(2.0)),
        (nn.Identity(), nn.Flatten()),
    ],
    ids=str,
)
def test_networks_that_differ_in_more_than_weights_share_nothing(first: nn.Module, second: nn.Module) -> None:
    torch.manual_seed(0)
    layer, batches = nn.Linear(4, 3), [(torch.randn(5, 4), torch.arange(5) % 3)]
    found = set()
    for activation in (first, second):
        network = nn.Sequential(layer, activation)
        objective = Objective.of_classifier(network, batches)
        found.add(partial.fingerprint(network, Selection().of(network), objective, 5))
    assert len(found) == 2


def test_another_loss_shares_nothing(residual: nn.Module, images: Batches) -> None:
    smooth = partial_function(F.cross_entropy, label_smoothing=0.5)
    found = {
        partial.fingerprint(
            residual, Selection().of(residual), Objective.of_classifier(residual, images, loss), 8
        )
        for loss in (F.cross_entropy, smooth)
    }
    assert len(found) == 2


def test_a_cache_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for cache in (True, file):
        with pytest.raises(BadRequest, match=r"^cache="):
            Exact(cache)  # type: ignore[arg-type]


def test_a_cache_that_cannot_be_written_is_refused_before_any_work(
    residual: nn.Module, images: Batches, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    objective = Objective.of_classifier(residual, images)
    with pytest.raises(BadRequest, match=r"^cache=.*a folder that can be written"):
        prune(residual, Exact(tmp_path / "file" / "below"), 1.0, objective=objective)
