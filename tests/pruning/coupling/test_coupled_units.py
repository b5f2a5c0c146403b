"""Units that belong together are found and cut together, whatever joins them."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from couplings import SHAPES, Attention, Decoder, Dense, Grouped, Residual, settled
from prunelit import L1Filter, Mag, Objective, Plan, Rand, Selection, compact, prune
from prunelit.request import BadRequest

UNIT = Selection(granularity="unit")


def halved(network: nn.Module, x: torch.Tensor, **plan: object) -> nn.Module:
    prune(
        network,
        Mag(),
        0.5,
        selection=UNIT,
        plan=Plan(scope="layer", **plan),
        objective=Objective(inputs=(x,)),
    )
    return compact(network, x)


@pytest.mark.parametrize("kind", SHAPES)
def test_half_of_all_units_go_and_the_outputs_stay(kind: type[nn.Module]) -> None:
    network = settled(kind)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    small = halved(network, torch.randn(2, *SHAPES[kind]))
    x = torch.randn(5, *SHAPES[kind])
    with torch.no_grad():
        torch.testing.assert_close(small(x), network(x), rtol=1e-4, atol=1e-5)
    assert [name for name, p in network.state_dict().items() if p.shape != state[name].shape] == []
    sizes = {name: tuple(p.shape) for name, p in small.named_parameters()}
    for name, shape in WIDTHS[kind].items():
        assert sizes[name] == shape, name


WIDTHS = {
    Residual: {"stem.weight": (4, 3, 3, 3), "depthwise.weight": (4, 1, 3, 3), "prelu.weight": (4,)},
    Dense: {"second.weight": (2, 3, 3, 3), "squeeze.weight": (2, 5, 1, 1), "fc.weight": (5, 45)},
    Grouped: {"stem.weight": (8, 3, 3, 3), "narrow.weight": (8, 2, 3, 3), "wide.weight": (16, 4, 1, 1)},
    Decoder: {"scale": (4, 1, 1), "up.weight": (4, 6, 2, 2), "last.weight": (3, 1, 1, 1)},
    Attention: {"qkv.weight": (36, 8), "proj.weight": (8, 12), "bias": (2, 1, 1), "mlp.1.weight": (5, 8)},
}  # fmt: skip


def test_modules_know_their_new_sizes() -> None:
    x = torch.randn(2, 3, 8, 8)
    small = halved(settled(Grouped), x)
    assert (small.narrow.groups, small.narrow.in_channels, small.wide.groups) == (4, 8, 2)
    assert (small.norm.num_groups, small.norm.num_channels) == (2, 8)
    assert halved(settled(Attention), torch.randn(2, 8, 3, 3)).num_heads == 2


def test_a_smaller_network_trains_and_is_pruned_again() -> None:
    x = torch.randn(4, 3, 8, 8)
    small = halved(settled(Residual), x)
    small.train()(x).sum().backward()
    smaller = halved(small.eval(), x)
    assert smaller.stem.out_channels == 2


def test_auxiliary_heads_that_only_training_uses_are_cut_too() -> None:
    class Helped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last, self.auxiliary = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> object:
            x = self.first(x)
            return (self.last(x), self.auxiliary(x)) if self.training else self.last(x)

    small = halved(Helped(), torch.randn(2, 4))
    assert small.auxiliary.weight.shape == (3, 3)
    assert small.train()(torch.randn(2, 4))[1].shape == (2, 3)


def test_widths_are_multiples() -> None:
    network = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 2))
    small = halved(network, torch.randn(2, 4), round_to=8)
    assert (small[0].out_features, small[2].out_features) == (8, 16)


def test_groups_of_all_sizes_compete_when_scores_are_normalized() -> None:
    """A wide layer's units have larger sums; of each layer some are above its own mean."""
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
    x = torch.randn(2, 4)
    widths = {}
    for normalize in ("mean", "none"):
        pruned = copy.deepcopy(network)
        plan = Plan(normalize=normalize)
        prune(pruned, Mag(), 0.5, selection=UNIT, plan=plan, objective=Objective(inputs=(x,)))
        small = compact(pruned, x)
        widths[normalize] = small[0].out_features, small[2].out_features
        assert sum(widths[normalize]) == 36
    assert widths["none"][0] == 8
    assert 2 <= widths["mean"][0] <= 6


def test_filters_by_l1_are_those_of_the_layer_itself() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Flatten())
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, -4, 3, 2]).view(4, 1, 1, 1))
        network[2].weight[:, 0] = 100
    x = torch.randn(1, 1, 2, 2)
    masks = prune(network, L1Filter(), 0.5, selection=UNIT, objective=Objective(inputs=(x,))).masks
    assert masks["0.weight"].flatten().tolist() == [False, True, True, False]
    assert masks["2.weight"][0].flatten().tolist() == [False, True, True, False]
    assert compact(network, x)[2].in_channels == 2


def test_an_excluded_layer_keeps_its_own_units_only() -> None:
    network = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(2, 4)
    chosen = Selection(granularity="unit", exclude=("2",))
    prune(network, Mag(), 0.5, selection=chosen, objective=Objective(inputs=(x,)))
    assert compact(network, x)[2].weight.shape == (8, 3)


@pytest.mark.parametrize(
    ("plan", "line"),
    [
        (Plan(scope="erk"), "^scope=erk: "),
        (Plan(pattern="2:4"), "^pattern=2:4: "),
    ],
)
def test_plans_for_single_weights_are_refused(plan: Plan, line: str) -> None:
    objective = Objective(inputs=(torch.randn(1, 3, 8, 8),))
    density = None if plan.pattern else 0.5
    with pytest.raises(BadRequest, match=line):
        prune(settled(Residual), Rand(), density, selection=UNIT, plan=plan, objective=objective)


def test_a_network_that_export_does_not_take_is_refused() -> None:
    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x) if x.sum() > 0 else x

    with pytest.raises(BadRequest, match=r"^granularity=unit: .*\bChooses\b"):
        prune(Chooses(), Mag(), 0.5, selection=UNIT, objective=Objective(inputs=(torch.ones(1, 2),)))


FORKED = """
import os
import torch
from torch import nn
from prunelit import coupled_units


def backward():
    torch.ones(2, requires_grad=True).sum().backward()


coupled_units(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.rand(2, 3))
backward()
child = os.fork()
if not child:
    backward()
    os._exit(0)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_process_that_has_followed_a_network_can_be_forked() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
