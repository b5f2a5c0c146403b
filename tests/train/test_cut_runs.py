"""Runs that cut removed units out of the network while it trains, and their records."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from prunelit import export
from runs import power_cut

CUT = (
    *("pruner=oneshot", "model=conv", "model.width=8", "pruner.granularity=unit", "sparsity=0.5"),
    *("pre_epochs=1", "epochs=2", "logger=none", "batch_size=512"),
)
SAME = ("density", "kept", "prunable", "flops_dense", "flops_sparse", "flops_compact", "parameters")


def run(cli, *more: str, name: str = "default") -> Path:
    assert cli(*CUT, *more, f"name={name}")[0] == 0
    (path,) = Path("outputs", name).glob("*/result.json")
    return path.parent.resolve()


def read(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


@pytest.fixture
def cut(cli) -> Path:
    return run(cli, "pruner.cut=true", name="cut")


def test_the_record_is_that_of_masked_training_with_smaller_weights(cli, cut: Path) -> None:
    masked = run(cli, name="masked")
    found, expected = read(cut), read(masked)
    assert {key: found[key] for key in SAME} == {key: expected[key] for key in SAME}
    assert found["flops_compact"] < found["flops_dense"]
    assert found["test_loss"] == pytest.approx(expected["test_loss"], rel=1e-4)
    for name in ("layers.csv", "rounds.csv"):
        columns = [(folder / name).read_text().count(",") for folder in (cut, masked)]
        assert columns[0] == columns[1]
    assert torch.equal(*(load_file(f / "masks.safetensors")["conv1.weight"] for f in (cut, masked)))
    weights = load_file(cut / "weights.safetensors")
    assert sum(w.numel() for w in weights.values()) == found["parameters_compact"] < found["parameters"]


def test_other_programs_read_its_weights(cli, cut: Path) -> None:
    more = ("pruner=none", "pruner.granularity=weight", "sparsity=null", "pre_epochs=0", "epochs=0")
    for number, file in enumerate(("weights.safetensors", "checkpoints/last.ckpt")):
        again = read(run(cli, *more, f"checkpoint={cut / file}", name=f"again{number}"))
        assert again["test_loss"] == pytest.approx(read(cut)["test_loss"], rel=1e-5)
        assert again["kept"] == read(cut)["kept"]
    assert export.main([str(cut)]) == 0
    program = torch.export.load(cut / "compact.pt2")
    assert sum(p.numel() for p in program.parameters()) == read(cut)["parameters_compact"]


def test_a_run_that_was_interrupted_after_the_cut_resumes_with_the_same_result(cli, cut, monkeypatch) -> None:
    with power_cut(monkeypatch, batch=1):
        assert cli(*CUT, "pruner.cut=true", "name=broken")[0] == 1
    again = run(cli, "pruner.cut=true", name="broken")
    assert read(again)["test_loss"] == read(cut)["test_loss"]
    weights = [load_file(folder / "weights.safetensors") for folder in (again, cut)]
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())


@pytest.mark.slow
def test_a_run_of_two_ranks_records_the_same_cut(cli) -> None:
    """Each rank has half of the images of a step; the network is pruned before its first."""
    start = ("pre_epochs=0", "pruner.cut=true", "trainer.accelerator=cpu")
    one, two = (run(cli, *start, f"trainer.devices={n}", name=f"of-{n}") for n in (1, 2))
    assert {key: read(two)[key] for key in SAME} == {key: read(one)[key] for key in SAME}
    shapes = [
        {name: value.shape for name, value in load_file(folder / "weights.safetensors").items()}
        for folder in (one, two)
    ]
    assert shapes[0] == shapes[1]
    assert read(two)["parameters_compact"] < read(two)["parameters"]
