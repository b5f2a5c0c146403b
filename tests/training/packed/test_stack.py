"""Stacked networks are trained as each network alone: compared in float64, where rounding is 1e-16."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning.masks import bit_masks
from prunelit.training.models import FC, CifarResNet, LeNet5
from prunelit.training.module import Classifier
from prunelit.training.packed.linear_chains import forward_of_chain
from prunelit.training.packed.stack import Diverged, Stack
from prunelit.training.packed.stretch import Stretch

SHAPE = (1, 12, 12)
RUNS, STEPS, IMAGES = 3, 3, 8
Batch = tuple[Tensor, Tensor]
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "fc": partial(FC, 10, SHAPE, width=12),
    "lenet5": partial(LeNet5, 10, SHAPE),
    "batch_norm": partial(CifarResNet, 10, SHAPE, depth=8),
}
OPTIMIZERS: dict[str, Any] = {
    "sgd": partial(torch.optim.SGD, lr=0.1),
    "momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, lr=0.01),
    "rmsprop": partial(torch.optim.RMSprop, lr=0.001, momentum=0.5),
}


def batches(seed: int) -> list[Batch]:
    draw = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(IMAGES, *SHAPE, generator=draw, dtype=torch.float64),
            torch.randint(10, (IMAGES,), generator=draw),
        )
        for _ in range(STEPS)
    ]


def stretch_of(network: nn.Module, optimizer: Any, data: list[Batch], masks: dict[str, Tensor]) -> Stretch:
    rest = iter(data[1:])
    module = Classifier(network, 10, optimizer)
    bits = bit_masks(dict(network.named_parameters()), masks)
    return Stretch(
        module, optimizer(network.parameters()), bits, data[0], 0, [IMAGES] * STEPS, lambda: next(rest)
    )


def train_by_itself(network: nn.Module, optimizer: Any, data: list[Batch], masks: dict[str, Tensor]) -> Any:
    own = optimizer(network.parameters())
    parameters = dict(network.named_parameters())
    for images, labels in data:
        own.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        for name, mask in masks.items():
            parameters[name].grad.mul_(mask)
        own.step()
        with torch.no_grad():
            for name, mask in masks.items():
                parameters[name].mul_(mask)
    return own


def pruned(network: nn.Module, share: float) -> dict[str, Tensor]:
    """Masks of the matrices, which are applied."""
    weights = {name: p for name, p in network.named_parameters() if p.ndim > 1}
    masks = {name: torch.rand(weight.shape) >= share for name, weight in weights.items()}
    with torch.no_grad():
        for name, mask in masks.items():
            weights[name].mul_(mask)
    return masks


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_each_run_ends_where_it_ends_alone(name: str, kind: str) -> None:
    torch.manual_seed(0)
    networks = [NETWORKS[name]().double() for _ in range(RUNS)]
    masks = [{}, *(pruned(network, 0.5) for network in networks[1:])]
    data, alone = [batches(seed) for seed in range(RUNS)], copy.deepcopy(networks)
    # Learning rates differ from run to run, and the first and the last are equal.
    rates = (1.0, 0.5, 1.0)
    makes = [partial(OPTIMIZERS[kind], lr=OPTIMIZERS[kind].keywords.get("lr", 1e-3) * r) for r in rates]
    stretches = [stretch_of(*each) for each in zip(networks, makes, data, masks, strict=True)]
    Stack(stretches).train(lambda: True)
    for number, network in enumerate(alone):
        own = train_by_itself(network, makes[number], data[number], masks[number])
        assert stretches[number].done == STEPS
        close = partial(torch.testing.assert_close, atol=1e-9, rtol=1e-7)
        close(networks[number].state_dict(), network.state_dict())
        close(stretches[number].optimizer.state_dict(), own.state_dict())


def test_a_loss_that_is_not_finite_leaves_all_runs_before_that_batch() -> None:
    networks = [CifarResNet(10, SHAPE, depth=8).double() for _ in range(RUNS)]
    data = [batches(seed) for seed in range(RUNS)]
    data[1][1][0][0] = float("nan")
    wanted = copy.deepcopy(networks)
    stretches = [stretch_of(n, OPTIMIZERS["sgd"], d, {}) for n, d in zip(networks, data, strict=True)]
    with pytest.raises(Diverged) as found:
        Stack(stretches).train(lambda: True)
    assert found.value.runs == [1]
    for number, network in enumerate(wanted):
        train_by_itself(network, OPTIMIZERS["sgd"], data[number][:1], {})
        assert stretches[number].done == 1
        assert stretches[number].batch is data[number][1]
        torch.testing.assert_close(networks[number].state_dict(), network.state_dict())


def test_it_stops_after_a_batch_where_it_is_asked_to() -> None:
    networks = [FC(10, SHAPE, width=12).double() for _ in range(RUNS)]
    data = [batches(seed) for seed in range(RUNS)]
    stretches = [stretch_of(n, OPTIMIZERS["adam"], d, {}) for n, d in zip(networks, data, strict=True)]
    Stack(stretches).train(lambda: False)
    assert [stretch.done for stretch in stretches] == [1] * RUNS
    totals = stretches[0].module.train_totals.so_far()
    assert totals["loss"] == pytest.approx(float(F.cross_entropy(*_first(data, networks))), rel=0.5)


def _first(data: list[list[Batch]], networks: list[nn.Module]) -> Batch:
    images, labels = data[0][0]
    return networks[0](images).detach(), labels


def test_a_network_that_is_no_chain_of_layers_is_not_computed_as_one() -> None:
    chain = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False), nn.Tanh(), nn.Linear(3, 2))
    found = forward_of_chain(chain)
    assert found is not None
    images = torch.randn(2, 5, 1, 2, 2)
    stacked = {name: torch.stack([p, p]) for name, p in chain.named_parameters()}
    torch.testing.assert_close(found(stacked, {}, images), torch.stack([chain(part) for part in images]))
    assert forward_of_chain(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Softmax(1))) is None
    assert forward_of_chain(nn.Sequential(nn.Flatten(2), nn.Linear(2, 3))) is None
    assert forward_of_chain(LeNet5(10, SHAPE)) is None
    assert forward_of_chain(nn.Linear(4, 2)) is None
