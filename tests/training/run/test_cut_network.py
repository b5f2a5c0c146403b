"""The record says what a network has, and how fast it is, once what pruning emptied is cut out."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from prunelit.pruning.masks import apply_masks, full_masks
from prunelit.pruning.parameters import Selection
from prunelit.training.measuring.best_effort import BestEffort
from prunelit.training.measuring.semi_structured import layers_with_pattern, semi_structured
from prunelit.training.run.cut_network import LATENCIES, cut_result, filled, may_shrink

EXAMPLE = torch.randn(1, 3, 8, 8)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval()


def test_half_of_the_filters_cut_out_are_half_of_the_products() -> None:
    pruned = network()
    masks = full_masks(Selection().of(pruned))
    masks["0.weight"][:4] = False
    apply_masks(dict(pruned.named_parameters()), masks)
    before = copy.deepcopy(pruned.state_dict())
    found = cut_result(pruned, masks, EXAMPLE, BestEffort())
    assert found["parameters"] == 8 * 27 + 288 * 4 + 4
    assert found["parameters_compact"] == 4 * 27 + 144 * 4 + 4
    assert found["flops_compact"] == 4 * 27 * 36 + 144 * 4
    measured = {key for key in LATENCIES if found[key] is not None}
    assert measured == {f"latency_{form}_{size}" for form in ("dense", "masked", "cut") for size in (1, 64)}
    assert all(found[key] > 0 for key in measured)
    assert all(torch.equal(value, before[key]) for key, value in pruned.state_dict().items())


def test_what_cannot_be_cut_is_null() -> None:
    pruned = network()
    masks = full_masks(Selection().of(pruned))
    scattered = masks | {"0.weight": masks["0.weight"].index_fill(2, torch.tensor(0), False)}
    for given, example in ((masks, None), (masks, EXAMPLE), (scattered, EXAMPLE)):
        found = cut_result(pruned, given, example, BestEffort())
        assert found.pop("parameters") == 8 * 27 + 288 * 4 + 4
        assert set(found.values()) == {None}


@pytest.mark.parametrize(("index", "emptied"), [((0,), True), ((slice(None), 1), True), ((0, 0), False)])
def test_a_network_may_shrink_if_a_unit_has_no_weight_left(index, emptied: bool) -> None:
    mask = torch.ones(4, 3, 3, 3, dtype=torch.bool)
    mask[index] = False
    assert may_shrink({"first": torch.ones(4, 1, 3, 3, dtype=torch.bool), "second": mask}) is emptied


def test_the_dense_network_that_is_timed_has_no_zero_and_draws_no_random_number() -> None:
    pruned = network()
    masks = {name: torch.rand(p.shape) > 0.5 for name, p in Selection().of(pruned).items()}
    apply_masks(dict(pruned.named_parameters()), masks)
    state = torch.get_rng_state()
    dense = filled(pruned, masks)
    assert torch.equal(torch.get_rng_state(), state)
    assert all((p != 0).all() for p in dense.parameters())
    kept = masks["0.weight"]
    assert torch.equal(dense[0].weight[kept], pruned[0].weight[kept])


def test_layers_with_two_of_four_are_found_and_need_a_gpu() -> None:
    layers = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(128, 64))
    two = torch.tensor([True, False, True, False])
    masks = {
        f"{n}.weight": two.repeat(m.out_features, m.in_features // 4) for n, m in layers.named_children()
    }
    assert layers_with_pattern(layers, masks) == ["0", "2"]
    masks["2.weight"][0, :4] = True
    assert layers_with_pattern(layers, masks) == ["0"]
    assert semi_structured(layers, masks) is None


@pytest.mark.gpu
def test_sparse_products_on_a_gpu_are_those_of_the_zeros() -> None:
    layers = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 64)).cuda()
    masks = {"0.weight": torch.tensor([True, False, True, False], device="cuda").repeat(32, 16)}
    apply_masks(dict(layers.named_parameters()), masks)
    forms = semi_structured(layers, masks)
    assert forms is not None
    inputs = torch.randn(64, 64, device="cuda").half()
    torch.testing.assert_close(forms["2to4"](inputs), forms["half"](inputs), rtol=1e-2, atol=1e-2)


def test_a_run_records_it(cli) -> None:
    asked = ("model=conv", "pruner=l1_filter", "pruner.rounds=1", "compression=0.3")
    assert cli(*asked, "epochs=0", "logger=none")[0] == 0
    (path,) = Path("outputs").glob("default/digits*/result.json")
    found = json.loads(path.read_text())
    assert found["parameters_compact"] < found["parameters"]
    assert 0 < found["flops_compact"] < found["flops_dense"]
    assert found["latency_cut_64"] > 0
    assert found["latency_2to4_64"] is None
