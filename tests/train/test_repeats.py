"""One seed, one result: repeated, skipped, interrupted and gone on with."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from prunelit import train
from runs import QUICK, SMALLEST, folders, only_folder, power_cut, result


def test_one_seed_one_result_bit_for_bit(cli) -> None:
    for name in ("a", "b"):
        assert cli("pruner=snip", "epochs=2", "logger=none", f"name={name}")[0] == 0
    one, other = (load_file(folder / "weights.safetensors") for folder in folders())
    assert all(torch.equal(one[name], other[name]) for name in one)
    first, second = (json.loads((f / "result.json").read_text()) for f in folders())
    clocks = {key for key in first if key.endswith("seconds") or key.startswith("latency_")}
    clocks |= {"peak_memory_bytes"}
    assert {k: first[k] for k in first.keys() - clocks} == {k: second[k] for k in second.keys() - clocks}


def test_methods_of_one_seed_start_from_the_same_weights(cli) -> None:
    """Only what was pruned differs: the dense start is the same for every method."""
    for pruner in ("rand", "grasp"):
        assert cli(f"pruner={pruner}", "epochs=0", "logger=none")[0] == 0
    (one, other), masks = (
        [load_file(f / "weights.safetensors") for f in folders()],
        [load_file(f / "masks.safetensors") for f in folders()],
    )
    for name in masks[0]:
        both = masks[0][name] & masks[1][name]
        assert torch.equal(one[name][both], other[name][both])


def test_a_complete_run_is_not_done_again_unless_asked(cli) -> None:
    assert cli(*SMALLEST)[0] == 0
    written = (only_folder() / "result.json").stat().st_mtime_ns
    status, out, _ = cli(*SMALLEST)
    assert status == 0
    assert "complete already" in out
    assert (only_folder() / "result.json").stat().st_mtime_ns == written
    assert cli(*SMALLEST, "rerun=true")[0] == 0
    assert (only_folder() / "result.json").stat().st_mtime_ns != written
    assert len(list(Path("outputs/default/.previous").iterdir())) == 1, "the old record is put aside"


def test_no_rank_does_a_complete_run_again(cli, monkeypatch) -> None:
    """It would wait for rank 0, which has left."""
    assert cli(*SMALLEST)[0] == 0
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(train, "_run", None)
    assert cli(*SMALLEST)[0] == 0


def test_start_from_a_pruned_checkpoint_shrinks_its_masks(cli, tmp_path) -> None:
    assert cli("pruner=mag", "compression=0.5", "name=first", *QUICK)[0] == 0
    first = next(iter(folders()))
    for source in ("checkpoints/last.ckpt", "weights.safetensors"):
        name = source.replace("/", "_").replace(".", "_")
        arguments = ("pruner=rand", "compression=1", "epochs=0", "logger=none", f"name={name}")
        assert cli(*arguments, f"checkpoint={first / source}")[0] == 0
        second = next(folder for folder in folders() if folder.parent.name == name)
        before, after = load_file(first / "masks.safetensors"), load_file(second / "masks.safetensors")
        assert all(not (after[n] & ~before[n]).any() for n in after)
        assert sum(int(mask.sum()) for mask in after.values()) == 4740


@pytest.mark.parametrize("pruner", ["iterative", "lottery", "std"])
def test_rounds_interrupted_go_on_bit_for_bit(cli, monkeypatch, pruner: str) -> None:
    some = ("sparsity=0.3", "epochs=3", "batch_size=256", "logger=none", "optimizer=momentum")
    arguments = (f"pruner={pruner}", *some)
    assert cli(*arguments, "name=whole")[0] == 0
    with power_cut(monkeypatch):
        assert cli(*arguments, "name=cut")[0] == 1
    assert cli(*arguments, "name=cut")[0] == 0
    cut, whole = folders()
    assert (cut / "rounds.csv").read_text() == (whole / "rounds.csv").read_text()
    for name in ("weights.safetensors", "masks.safetensors"):
        one, other = load_file(cut / name), load_file(whole / name)
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_an_interrupted_run_goes_on_where_it_stopped(cli, monkeypatch) -> None:
    """Killed in the third epoch and asked for again, it ends bit for bit as an undisturbed one."""
    arguments = ("pruner=snip", "epochs=4", "batch_size=256", "logger=none")
    assert cli(*arguments, "name=whole")[0] == 0
    with power_cut(monkeypatch):
        assert cli(*arguments, "name=cut")[0] == 1
    assert cli(*arguments, "name=cut")[0] == 0
    cut, whole = folders()
    for name in ("weights.safetensors", "masks.safetensors"):
        one, other = load_file(cut / name), load_file(whole / name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert json.loads((cut / "result.json").read_text())["epochs"] == 4
    assert json.loads((cut / "status.json").read_text()) == {"status": "complete"}
    assert not (cut / "traceback.txt").exists()


def test_sparsity_asks_for_the_same_as_compression(cli) -> None:
    assert cli(*SMALLEST, "sparsity=0.9")[0] == 0
    assert result()["kept"] == 4740
