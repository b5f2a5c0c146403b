"""``trainer.compile`` and ``trainer.channels_last``: the same results, and no compilation for new masks."""

from __future__ import annotations

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch._dynamo.utils import counters

from faulty_network import start_program, write_faulty_network
from prunelit.training import compiled_forward
from prunelit.training.compiled_forward import CompiledForward, with_channels_last
from runs import csv_rows, folders, power_cut

MANY_MASKS = ("pruner=iterative", "pruner.share=0.3", "compression=0.45", "epochs=4", "logger=none")


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The graphs that were compiled; they run in Python, so that a test needs no C++ compiler."""
    found: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        found.append(graph)
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(compiled_forward.torch, "compile", partial(torch.compile, backend=backend))
    return found


def test_new_masks_need_no_compilation(cli, graphs: list[Any]) -> None:
    assert cli(*MANY_MASKS, "pre_epochs=1", "trainer.compile=true")[0] == 0
    assert len(csv_rows("rounds.csv")) >= 3
    assert len(graphs) <= 4, "of training and of testing, each for whole batches and for other sizes"


def test_compilation_of_a_sharded_network_is_refused(cli) -> None:
    status, _, err = cli("pruner=rand", "epochs=1", "trainer=fsdp", "trainer.compile=true")
    assert status == 2
    assert err[0].startswith("trainer.compile=true: trainer.strategy")


def test_hooks_run_outside_of_compiled_code(graphs: list[Any]) -> None:
    network, calls = nn.Sequential(nn.Linear(4, 3), nn.ReLU()), []
    network.register_forward_pre_hook(lambda *_: calls.append("before"))
    network.register_forward_hook(lambda *_: calls.append("after"))
    compiled, images = CompiledForward(), torch.rand(2, 4)
    assert torch.equal(compiled(network, images), network(images))
    assert calls == ["before", "after"] * 2
    assert len(graphs) == 1
    assert "forward" not in vars(network)
    other = copy.deepcopy(network)
    nn.init.zeros_(other[0].weight)
    assert torch.equal(copy.deepcopy(compiled)(other, images), other(images))


def test_channels_last_keeps_values_and_names() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 36, 2))
    expected, images = copy.deepcopy(network), torch.rand(2, 3, 8, 8)
    with_channels_last(network)
    assert network[0](images).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(network(images), expected(images))
    assert network.state_dict().keys() == expected.state_dict().keys()


def test_a_resumed_run_is_the_whole_run(cli, graphs: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    request = ("trainer.compile=true", "pruner=grasp", "epochs=3", "batch_size=256", "logger=none")
    assert cli(*request, "name=whole")[0] == 0
    with power_cut(monkeypatch):
        assert cli(*request, "name=broken")[0] == 1
    assert cli(*request, "name=broken")[0] == 0
    whole, resumed = (load_file(folder / "weights.safetensors") for folder in reversed(folders()))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_with_the_compiler_that_torch_uses_by_default(cli, precision: str) -> None:
    given = (*MANY_MASKS, "pre_epochs=1", f"trainer.precision={precision}", "trainer.channels_last=true")
    torch._dynamo.reset()
    counters.clear()
    assert cli(*given, "model=lenet5", "data.size=28", "name=compiled", "trainer.compile=true")[0] == 0
    assert 1 <= counters["stats"]["unique_graphs"] <= 4
    assert cli(*given, "model=lenet5", "data.size=28", "name=plain")[0] == 0
    compiled, plain = (json.loads((folder / "result.json").read_text()) for folder in folders())
    assert compiled["density"] == plain["density"]
    assert abs(compiled["top1"] - plain["top1"]) < 5


@pytest.mark.slow
def test_two_processes_that_compile_train_as_those_that_do_not(tmp_path: Path) -> None:
    results = []
    for name in ("compiled", "plain"):
        folder = tmp_path / name
        folder.mkdir()
        write_faulty_network(folder, rank="1")
        given = ("trainer=ddp", "trainer.accelerator=cpu", "pre_epochs=1", *MANY_MASKS)
        program = start_program(folder, *given, f"trainer.compile={str(name == 'compiled').lower()}")
        _, errors = program.communicate(timeout=600)
        assert program.returncode == 0, errors
        (result,) = folder.glob("outputs/default/*/result.json")
        results.append(json.loads(result.read_text()))
    compiled, plain = results
    assert compiled["density"] == plain["density"]
    assert abs(compiled["top1"] - plain["top1"]) < 5
