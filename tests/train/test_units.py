"""Whole units are pruned from the command line, under every kind of criterion."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from prunelit import compact
from prunelit.training.models import FC
from runs import QUICK, only_folder, result


@pytest.mark.parametrize("pruner", ["mag", "snip", "l1_filter"])
def test_units_of_each_layer_go_with_all_their_parts(cli, pruner: str) -> None:
    options = ("pruner.granularity=unit", "pruner.scope=layer", "compression=0.30103", "epochs=2")
    status, _, err = cli(f"pruner={pruner}", *options, *QUICK)
    assert (status, err) == (0, [])
    weights = load_file(only_folder() / "weights.safetensors")
    network = FC(num_classes=10, input_shape=(1, 8, 8))
    network.load_state_dict(weights)
    small = compact(network, torch.randn(2, 1, 8, 8))
    widths = [p.shape[0] for name, p in small.named_parameters() if name.endswith("weight")]
    assert widths == [50] * 5 + [10]
    assert result()["kept"] == sum(p.numel() for p in small.parameters())


def test_what_is_for_single_weights_is_refused(cli) -> None:
    status, _, err = cli("pruner=rigl", "pruner.granularity=unit", *QUICK)
    assert (status, len(err)) == (2, 1)
    assert err[0].startswith("pruner.scope=erk: ")
