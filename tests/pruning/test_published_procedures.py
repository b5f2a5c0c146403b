"""Masks and densities beside slow references, written from the papers' formulas in plain Python."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunelit.pruning.allocation import erdos_renyi_densities, pattern_mask
from prunelit.pruning.criteria import L1Filter, Mag
from prunelit.pruning.growth import Growth, drop_and_grow, exchange
from prunelit.pruning.objective import Objective
from prunelit.pruning.plan import Plan
from prunelit.pruning.rounds import prune


def random_shapes(seed: int) -> list[tuple[int, ...]]:
    """Linear layers and convolutions of random sizes."""
    rng = random.Random(seed)
    return [
        (rng.randint(1, 40), rng.randint(1, 40), *([rng.choice((1, 3, 5))] * 2 if rng.random() < 0.6 else []))
        for _ in range(rng.randint(2, 7))
    ]


@pytest.mark.parametrize("kernel", [True, False], ids=["erk", "er"])
@pytest.mark.parametrize("seed", range(20))
def test_erdos_renyi_densities_by_bisection(seed: int, kernel: bool) -> None:
    """Evci et al. 2020, section 3: find the epsilon at which min(1, epsilon * raw) adds up to the whole."""
    shapes = random_shapes(seed)
    density = random.Random(seed).choice((0.02, 0.1, 0.3, 0.7, 0.95))
    sizes = [math.prod(shape) for shape in shapes]
    raw = []
    for shape in shapes:
        counted = shape if kernel else shape[:2]
        raw.append(sum(counted) / math.prod(counted))
    low, high = 0.0, 1e9
    for _ in range(200):
        epsilon = (low + high) / 2
        total = sum(size * min(1.0, epsilon * r) for size, r in zip(sizes, raw, strict=True))
        low, high = (epsilon, high) if total < density * sum(sizes) else (low, epsilon)
    found = erdos_renyi_densities(
        {str(i): torch.Size(shape) for i, shape in enumerate(shapes)}, density, kernel
    )
    assert list(found.values()) == pytest.approx([min(1.0, low * r) for r in raw], rel=1e-6)


def small_network() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 4))


def magnitudes(network: nn.Module) -> list[tuple[float, str, int]]:
    """Every prunable weight's magnitude, with its layer and its place."""
    return [
        (abs(value), name, place)
        for name, parameter in network.named_parameters()
        if name.endswith("weight")
        for place, value in enumerate(parameter.flatten().tolist())
    ]


def largest(weights: list[tuple[float, str, int]], kept: int) -> set[tuple[str, int]]:
    """Where the ``kept`` largest magnitudes are."""
    return {(name, place) for _, name, place in sorted(weights, reverse=True)[:kept]}


def nonzero(network: nn.Module) -> set[tuple[str, int]]:
    return {(name, place) for value, name, place in magnitudes(network) if value}


@pytest.mark.parametrize(("final", "rounds"), [(0.9, 10), (0.5, 4), (0.98, 7)])
def test_gradual_magnitude_pruning(final: float, rounds: int) -> None:
    """Zhu and Gupta 2017, equation 1: s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3, with s_i = 0."""
    network = small_network()
    weights = magnitudes(network)
    outcome = prune(network, Mag(), 1 - final, plan=Plan(rounds=rounds, schedule="cubic"))
    for step, density in enumerate(outcome.densities, start=1):
        sparsity = final + (0 - final) * (1 - step / rounds) ** 3
        assert density == round(len(weights) * (1 - sparsity)) / len(weights)
    assert nonzero(network) == largest(weights, round(len(weights) * (1 - final)))


def test_iterative_magnitude_pruning_of_what_remains() -> None:
    """Frankle and Carbin 2019: at each level 20 % of the remaining weights of all layers, by magnitude.

    Between levels the weights train, here by random steps; what was removed stays out.
    """
    network = small_network()
    remaining = {(name, place) for _, name, place in magnitudes(network)}
    total = len(remaining)
    for level in range(1, 9):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1 * (parameter != 0))
        alive = [item for item in magnitudes(network) if item[1:] in remaining]
        assert len(alive) == len(remaining)
        remaining = largest(alive, round(total * 0.8**level))
        prune(network, Mag(), 0.8**level)
        assert nonzero(network) == remaining, level


@pytest.mark.parametrize("regrow", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_one_exchange_of_rigl(seed: int, regrow: bool) -> None:
    """Evci et al. 2020, algorithm 1: drop by ArgTopK(-|weight|), grow by ArgTopK(|gradient|) of the rest.

    With ``regrow``, as in the paper, the rest has what was dropped just now.
    """
    rng = random.Random(seed)
    shape, share = (rng.randint(2, 9), rng.randint(2, 9)), rng.choice((0.1, 0.3, 0.5))
    size = math.prod(shape)
    weight = [rng.gauss(0, 1) for _ in range(size)]
    gradient = [rng.gauss(0, 1) for _ in range(size)]
    active = set(rng.sample(range(size), rng.randint(1, size)))
    number = min(round(share * len(active)), size if regrow else size - len(active))
    dropped = set(sorted(active, key=lambda i: abs(weight[i]))[:number])
    candidates = [i for i in range(size) if i not in active - dropped and (regrow or i not in dropped)]
    grown = set(sorted(candidates, key=lambda i: -abs(gradient[i]))[:number])

    def tensor(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64).view(shape)

    mask = tensor([i in active for i in range(size)]).bool()
    values = tensor(weight) * mask
    new = drop_and_grow({"w": values}, {"w": mask}, {"w": tensor(gradient).abs()}, share, regrow)["w"]
    assert set(new.flatten().nonzero().flatten().tolist()) == active - dropped | grown


def test_rigl_grows_by_the_gradient_of_the_dense_network_in_eval_mode() -> None:
    """The gradient at weights that are 0 counts, and dropout does not disturb it."""
    network = nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4))
    images, classes = torch.randn(20, 9), torch.arange(20) % 4
    masks = prune(network, Mag(), 0.25, plan=Plan(scope="layer")).masks
    network.eval()
    F.cross_entropy(network(images), classes).backward()
    gradients = {name: p.grad.abs().flatten().tolist() for name, p in network.named_parameters()}
    weights = {name: p.abs().flatten().tolist() for name, p in network.named_parameters()}
    network.zero_grad()
    network.train()
    objective = Objective.of_classifier(network, [(images, classes)])
    new = exchange(network, Growth(at="gradient", regrow=True), 0.3, objective=objective).masks
    for name, mask in masks.items():
        active = set(mask.flatten().nonzero().flatten().tolist())
        number = round(0.3 * len(active))
        dropped = set(sorted(active, key=lambda i: weights[name][i])[:number])
        free = [i for i in range(mask.numel()) if i not in active - dropped]
        grown = set(sorted(free, key=lambda i: -gradients[name][i])[:number])
        assert set(new[name].flatten().nonzero().flatten().tolist()) == active - dropped | grown


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (1, 3)])
@pytest.mark.parametrize("shape", [(3, 12), (2, 7), (4, 3), (2, 6, 3, 3)])
def test_n_of_m_consecutive_inputs(n: int, m: int, shape: tuple[int, ...]) -> None:
    """Zhou et al. 2021, equation 1; a group that is cut off by the end keeps N of what it has."""
    torch.manual_seed(sum(shape))
    score = torch.rand(shape)
    expected = torch.zeros(shape, dtype=torch.bool)
    positions = [()] if len(shape) == 2 else [(a, b) for a in range(shape[2]) for b in range(shape[3])]
    for out in range(shape[0]):
        for position in positions:
            for begin in range(0, shape[1], m):
                group = range(begin, min(begin + m, shape[1]))
                ranked = sorted(group, key=lambda i: -float(score[(out, i, *position)]))
                for i in ranked[:n]:
                    expected[(out, i, *position)] = True
    assert torch.equal(pattern_mask(score, n, m, torch.ones(shape, dtype=torch.bool)), expected)


@pytest.mark.parametrize("density", [0.75, 0.5, 0.2])
def test_filters_by_their_l1_norm(density: float) -> None:
    """Li et al. 2017, section 3.1: of each layer the filters with the smallest sums of magnitudes go."""
    torch.manual_seed(2)
    network = nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12))
    convolutions = {name: p.tolist() for name, p in network.named_parameters() if p.ndim == 4}
    images = torch.zeros(1, 2, 8, 8)
    masks = prune(network, L1Filter(), density, objective=Objective(inputs=(images,))).masks
    for name, filters in convolutions.items():
        norms = [sum(abs(v) for channel in kernels for row in channel for v in row) for kernels in filters]
        ranked = sorted(range(len(norms)), key=lambda i: -norms[i])
        kept = sorted(ranked[: round(density * len(norms))])
        assert masks[name].flatten(1).all(1).nonzero().flatten().tolist() == kept
        assert masks[name].flatten(1).any(1).nonzero().flatten().tolist() == kept
