"""What a pruning says of itself: scores that decide nothing, layers that end empty, a density not reached."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from prunelit.pruning.criteria import SNIP, Criterion, L1Filter, Mag, ThiNet
from prunelit.pruning.masks import Scores, attached, count_kept, density_of
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters, Selection
from prunelit.pruning.plan import Plan
from prunelit.pruning.rounds import prune
from prunelit.pruning.ties import UndecidedScores
from prunelit.request import PruningWarning


class Given(Criterion):
    """Scores that are given."""

    def __init__(self, *scores: Tensor) -> None:
        self.given = {f"{number}.weight": score for number, score in enumerate(scores)}

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        return self.given


def layers(*sizes: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes)))


def said(work: Callable[[], object]) -> list[str]:
    """The warnings of pruning that ``work`` gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
    return [str(w.message) for w in caught if issubclass(w.category, PruningWarning)]


@pytest.mark.parametrize("scope", ["global", "layer", "erk", "2:4"])
@pytest.mark.parametrize("value", [0.0, 3.0])
@pytest.mark.parametrize("spared", [0, 2])
def test_equal_scores_are_an_error_before_anything_is_pruned(scope: str, value: float, spared: int) -> None:
    network = layers(10, 10, 10)
    before = [p.clone() for p in network.parameters()]
    criterion = Given(*torch.full((2, 10, 10), value))
    if scope == "2:4":
        density, plan = None, Plan(pattern=scope, keep_at_least=spared)
    else:
        density, plan = 0.3, Plan(scope=scope, keep_at_least=spared)
    with pytest.raises(UndecidedScores, match=rf"all scores of Given that compete are equal \({value:.0f}\)"):
        prune(network, criterion, density, plan=plan)
    assert attached(network) is None
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_where_nothing_has_to_be_decided_equal_scores_do_no_harm() -> None:
    network = layers(10, 10, 10)
    criterion = Given(*torch.zeros(2, 10, 10))
    assert said(lambda: prune(network, criterion, 1.0)) == []
    # Which weights of a layer are kept is drawn after all: only how many counts.
    plan = Plan(scope="layer", shuffle=True)
    assert said(lambda: prune(network, criterion, 0.5, plan=plan)) == []
    assert said(lambda: prune(network, criterion, None, plan=Plan(threshold=0.0))) == []


def test_the_remedy_fits_the_network() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    network[1].weight.data.zero_()
    objective = Objective.of_classifier(network, [(torch.randn(6, 4), torch.tensor([0, 1] * 3))])
    with pytest.raises(UndecidedScores, match=r"train_mode=True.*pre_epochs"):
        prune(network, SNIP(), 0.5, objective=objective)
    with pytest.raises(UndecidedScores) as caught:
        prune(network, SNIP(), 0.5, objective=objective, plan=Plan(train_mode=True))
    assert "train_mode" not in str(caught.value)
    for weight in (network[0].weight, network[2].weight):
        nn.init.ones_(weight)
    with pytest.raises(UndecidedScores) as caught:
        prune(network.to(torch.bfloat16), Mag(), 0.5)
    assert "train_mode" not in str(caught.value)
    assert "float32" in str(caught.value)


def test_ties_that_decide_are_counted_and_named_once() -> None:
    """40 scores lie above 0; in the last of three rounds 60 of those at 0 are kept by order."""
    network = layers(10, 10, 10)
    scores = torch.zeros(2, 10, 10)
    scores[1, :4] = torch.rand(4, 10) + 1
    criterion = Given(*scores)
    (line,) = said(lambda: prune(network, criterion, 0.5, plan=Plan(rounds=3, schedule="linear")))
    assert line.startswith(
        "60 of 100 weights are kept only because they come before others with the same score"
    )
    assert "(0) in 0.weight;" in line


@pytest.mark.parametrize(("scope", "names"), [("global", ["1.weight"]), ("layer", ["0.weight", "1.weight"])])
def test_scores_that_are_constant_in_each_layer(scope: str, names: list[str]) -> None:
    network = layers(10, 10, 10)
    criterion = Given(torch.full((10, 10), 2.0), torch.full((10, 10), 1.0))
    if scope == "layer":
        with pytest.raises(UndecidedScores, match=r"\(1 or 2\)"):
            prune(network, criterion, 0.7, plan=Plan(scope="layer"))
    else:
        (line,) = said(lambda: prune(network, criterion, 0.7))
        assert line.startswith("40 of 140 weights")
        assert "in 1.weight;" in line


def test_a_few_ties_among_many_go_without_a_word() -> None:
    network = layers(100, 100)
    score = torch.arange(10_000.0).view(100, 100)
    score.view(-1)[4990:5010] = 5000
    assert said(lambda: prune(network, Given(score), 0.5)) == []
    assert said(lambda: prune(layers(64, 64, 10), Mag(), 0.1)) == []


def test_ties_of_a_pattern() -> None:
    score = torch.tensor([[1.0, 1.0, 1.0, 0.0], [4.0, 3.0, 2.0, 1.0]]).repeat(2, 1)
    (line,) = said(lambda: prune(layers(4, 4), Given(score), None, plan=Plan(pattern="2:4")))
    assert line.startswith("2 of 8 weights")


def test_layers_that_end_empty_are_named_with_what_helps() -> None:
    network = layers(10, 10, 10, 10)
    network[0].weight.data *= 1000
    network[2].weight.data.zero_()
    (line,) = said(lambda: prune(network, Mag(), 0.2))
    assert line.startswith("nothing is kept in 1.weight, 2.weight (keep_at_least=1 prevents this)")
    assert "remedies" not in line
    assert said(lambda: prune(network, Mag(), 0.1)) == []  # it was said already
    again = layers(10, 10, 10)
    again[1].weight.data.zero_()
    (line,) = said(lambda: prune(again, Mag(), 0.3))
    assert line.startswith("nothing is kept in 1.weight (keep_at_least=1 prevents this): all scores of Mag")
    assert "exclude" in line


def test_the_half_of_an_adapter_that_starts_at_zero_is_not_emptied_in_silence() -> None:
    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(8, 8).requires_grad_(False)
            self.down, self.up = nn.Linear(8, 4, bias=False), nn.Linear(4, 8, bias=False)
            nn.init.zeros_(self.up.weight)

        def forward(self, x: Tensor) -> Tensor:
            return self.base(x) + self.up(self.down(x))

    network = Adapted()
    lines = said(lambda: prune(network, Mag(), 0.5))
    assert len(lines) == 2
    assert "base.weight (they do not require a gradient; frozen=True prunes them)" in lines[0]
    assert lines[1].startswith("nothing is kept in up.weight")
    fresh = Adapted()
    objective = Objective.of_classifier(fresh, [(torch.randn(6, 8), torch.arange(6))])
    with pytest.raises(UndecidedScores, match="SNIP"):
        prune(fresh, SNIP(), 0.5, objective=objective, reports=("density",))


def test_a_network_that_is_cut_already_is_pruned_on_with_a_word() -> None:
    """An empty layer lets no gradient through: all scores are 0, and no error ends the training."""
    network = nn.Sequential(nn.Linear(6, 20, bias=False), nn.ReLU(), nn.Linear(20, 6, bias=False))
    network[2].weight.data *= 1e-4
    said(lambda: prune(network, Mag(), 0.5))
    objective = Objective.of_classifier(network, [(torch.randn(6, 6), torch.arange(6))])
    lines = said(lambda: prune(network, SNIP(), 0.25, objective=objective))
    assert any("come before others with the same score of SNIP (0)" in line for line in lines)
    assert density_of(attached(network) or {}) == 0.25


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.outer, self.head = nn.Conv2d(16, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((x + self.outer(self.inner(x).relu())).mean((2, 3)))


def images(network: nn.Module) -> Objective:
    batch = (torch.randn(4, 3, 8, 8), torch.arange(4))
    return Objective(lambda b: nn.functional.cross_entropy(network(b[0]), b[1]), [batch], (batch[0][:1],))


def test_filters_that_cannot_be_cut_out_are_named() -> None:
    network = Residual()
    (line,) = said(lambda: prune(network, L1Filter(), 0.5, objective=images(network)))
    assert "stem (its outputs go several ways)" in line
    assert "outer (its outputs go through Add)" in line
    assert "inner" not in line


def test_a_density_that_filters_cannot_reach_is_said() -> None:
    network = Residual()
    lines = said(lambda: prune(network, ThiNet(), 0.5, objective=images(network)))
    reached = density_of(attached(network) or {})
    assert reached > 0.6
    (line,) = lines
    assert line.startswith(f"ThiNet reached a density of {reached:.4g} instead of the requested 0.5")
    assert "stem.weight, outer.weight, head.weight cannot lose whole units" in line
    chain = nn.Sequential(nn.Conv2d(3, 9, 3), nn.ReLU(), nn.Conv2d(9, 5, 3), nn.Flatten(), nn.Linear(80, 4))
    assert said(lambda: prune(chain, L1Filter(), 0.5, objective=images(chain))) == []


def test_l1_filter_prunes_the_projections_of_attention_weight_by_weight() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.attention = nn.Conv2d(3, 8, 3), nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x).flatten(2).transpose(1, 2)
            return self.attention(x, x, x)[0].mean(1)

    network = Attends()
    with pytest.warns(PruningWarning, match="conv \\(its outputs go through Transpose\\)"):
        masks = prune(network, L1Filter(), 0.5, objective=images(network)).masks
    assert int(masks["attention.in_proj_weight"].sum()) == 96


def test_what_stays_dense_is_said_once_with_its_share() -> None:
    network = nn.Sequential(nn.Linear(10, 10, bias=False), nn.LSTM(10, 5, bias=False))
    (line,) = said(lambda: prune(network, Mag(), 0.5, plan=Plan(rounds=3)))
    assert line == (
        "75 % of the parameters are weights that stay dense: "
        "1.weight_ih_l0, 1.weight_hh_l0 (recurrent layers)"
    )
    assert said(lambda: prune(network, Mag(), 0.4, reports=("density",))) == []
    assert said(lambda: prune(network, Mag(), 0.3, selection=Selection(exclude=()))) == [line]
    many = nn.Sequential(nn.Embedding(4, 4), *layers(100, 100))
    assert said(lambda: prune(many, Mag(), 0.5)) == []  # 16 of 10,016 are no surprise
    assert count_kept(attached(many) or {}) == 5000
