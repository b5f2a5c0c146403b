"""Sizes in the code of a forward pass that no attribute holds follow the cut."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import torch
from torch import nn

from attentions import WidthOfInputs
from handwritten import FlattenedByNumber
from prunelit import Mag, Objective, Plan, Selection, compact, load, prune, save
from prunelit.pruning.call import Call
from prunelit.pruning.coupling.narrow_sizes import sizes_of, with_further
from prunelit.pruning.coupling.narrowing import Narrowing

IMAGES, TOKENS = torch.randn(2, 3, 10, 10), torch.randn(2, 3, 2, 3)


def pruned(network: nn.Module, x: torch.Tensor, density: float = 0.5) -> nn.Module:
    unit, plan = Selection(granularity="unit"), Plan(scope="layer")
    prune(network, Mag(), density, selection=unit, plan=plan, objective=Objective(inputs=(x,)))
    return network


def test_heads_go_where_the_width_is_that_of_the_inputs() -> None:
    small = compact(pruned(WidthOfInputs().eval(), TOKENS), TOKENS)
    assert small.qkv.weight.shape == (3 * 2 * 3, 6)
    assert small(torch.randn(5, 3, 2, 3)).shape == (5, 3)


def test_a_network_that_was_cut_is_cut_again() -> None:
    torch.manual_seed(0)
    network = pruned(compact(pruned(FlattenedByNumber().eval(), IMAGES), IMAGES), IMAGES)
    small = compact(network, IMAGES)
    assert (small.second.out_channels, small.hidden.in_features) == (2, 18)
    x = torch.randn(3, 3, 10, 10)
    torch.testing.assert_close(small(x), network(x))


def test_copies_files_and_folders_hold_it(tmp_path: Path) -> None:
    small, x = compact(pruned(FlattenedByNumber().eval(), IMAGES), IMAGES), torch.randn(3, 3, 10, 10)
    written = io.BytesIO()
    torch.save(small, written)
    written.seek(0)
    copies = [copy.deepcopy(small), torch.load(written, weights_only=False)]
    save(small, tmp_path / "small", FlattenedByNumber)
    for each in [*copies, load(tmp_path / "small")]:
        torch.testing.assert_close(each(x), small(x))


def test_a_cut_can_be_taken_back() -> None:
    network = pruned(FlattenedByNumber().eval(), IMAGES)
    whole = copy.deepcopy(network)
    masks = {name: p.detach().ne(0) for name, p in network.named_parameters()}
    narrowing = Narrowing.by_masks(network, masks, Call.of(IMAGES))
    assert narrowing is not None
    narrowing = Narrowing.from_state(narrowing.state())
    narrowing.narrow(network)
    assert sizes_of(network)
    assert network.second.weight.shape[0] == 4
    torch.testing.assert_close(network(IMAGES), whole(IMAGES))
    narrowing.widen(network)
    assert type(network) is FlattenedByNumber
    torch.testing.assert_close(network(IMAGES), whole(IMAGES))


def test_a_size_that_becomes_smaller_twice_is_replaced_once() -> None:
    first, further = ((2, 72), (2, 36)), [((5, 36), (5, 18)), ((2, 3, 8), (2, 3, 4))]
    assert with_further([first], further) == (((2, 72), (2, 18)), ((2, 3, 8), (2, 3, 4)))
