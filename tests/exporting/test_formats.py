"""Programs of other runtimes compute what the run's network computes, and a card says what they save."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import prunelit
from prunelit import export, train

NETWORK = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, input_shape):
        layers = [nn.Conv2d(input_shape[0], 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 12, 3)]
        super().__init__(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(192, num_classes))

class Deceitful(Net):
    def forward(self, images):
        return super().forward(images) * (2 if torch.compiler.is_exporting() else 1)
"""


def train_run(start: Path, cls: str, *more: str) -> Path:
    (start / "formats_net.py").write_text(NETWORK)
    asked = ["model=custom", f"model._target_=formats_net.{cls}", "logger=none", "pruner=l1_filter", *more]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(start)
        patch.syspath_prepend(start)
        patch.setattr(sys, "argv", ["train", *asked, "compression=0.4", "pruner.rounds=1"])
        with pytest.raises(SystemExit) as ended:
            train.main()
    assert ended.value.code == 0
    sys.modules.pop("formats_net", None)
    return max(start.glob("outputs/default/digits*"), key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a run on digits, whose images are always at hand."""
    return train_run(tmp_path_factory.mktemp("start"), "Net", "epochs=2")


def without_images(run: Path, folder: Path) -> Path:
    """Return a copy of a run whose record does not say where its images lie."""
    copied = Path(shutil.copytree(run, folder / run.name))
    (copied / ".hydra" / "config.yaml").unlink()
    return copied


def network_of(run: Path) -> nn.Module:
    names: dict = {"__name__": "formats"}
    exec(NETWORK, names)
    network = names["Net"](10, (1, 8, 8)).eval()
    network.load_state_dict(load_file(run / "weights.safetensors"))
    return network


def normalised(run: Path, images: torch.Tensor) -> torch.Tensor:
    described = json.loads((run / "network.json").read_text())
    return ((images.double() / 255 - described["mean"][0]) / described["std"][0]).float()


def test_onnx_runs_on_any_number_of_images_and_eight_bits_classify_as_well(run: Path, capsys) -> None:
    import onnxruntime

    assert export.main([str(run), "--format", "onnx", "--int8"]) == 0
    printed = capsys.readouterr().out
    assert "checked  with 355 of the run's 355 test images" in printed
    card = json.loads((run / "card.json").read_text())
    assert not (run / "compact.onnx").exists()
    networks = {each["name"]: each for each in card["networks"]}
    names = ["dense", "compact", "dense ONNX", "compact ONNX", "compact int8 ONNX"]
    assert list(networks) == names
    assert networks["dense"]["top1"] == pytest.approx(card["recorded"]["top1"])
    assert networks["compact ONNX"]["top1"] == pytest.approx(networks["dense"]["top1"], abs=0.5)
    assert networks["compact ONNX"]["bytes"] < networks["dense ONNX"]["bytes"]
    assert networks["compact int8 ONNX"]["bytes"] == (run / "compact.int8.onnx").stat().st_size
    assert networks["compact"]["flops"] < networks["dense"]["flops"]
    assert {(row["batch_size"], row["name"]) for row in card["latency"]} == {
        (size, name) for size in (1, 64) for name in names
    }
    assert all(0 < row["p50_ms"] <= row["p95_ms"] and row["threads"] >= 1 for row in card["latency"])
    page = (run / "card.md").read_text()
    assert "| compact int8 ONNX | ONNX Runtime | cpu | 1 | 64 |" in page
    session = onnxruntime.InferenceSession(run / "compact.int8.onnx", providers=["CPUExecutionProvider"])
    images = torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    expected = network_of(run)(normalised(run, images)).detach()
    assert float((torch.from_numpy(found) - expected).abs().max() / expected.abs().max()) < 0.2


def test_without_the_images_programs_are_checked_on_made_ones(run: Path, tmp_path: Path, capsys) -> None:
    import onnxruntime

    copied = without_images(run, tmp_path)
    assert export.main([str(copied), "--format", "onnx", "--batch", "3", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "64 random images with the mean and deviation of the run's, which are not at hand" in printed
    assert "accuracy" not in printed
    program = tmp_path / f"{run.name}.onnx"
    card = json.loads(program.with_name(f"{program.name}.card.json").read_text())
    assert [each["top1"] for each in card["networks"]] == [None] * 4
    assert {row["batch_size"] for row in card["latency"]} == {3}
    session = onnxruntime.InferenceSession(program, providers=["CPUExecutionProvider"])
    images = torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8)
    (found,) = session.run(None, {"images": images.numpy()})
    expected = network_of(run)(normalised(run, images)).detach()
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-3, atol=1e-4)
    assert export.main([str(copied), "--format", "onnx", "--int8"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("--int8=true: ")
    assert " random images" in line


def test_a_folder_is_loaded_trained_and_exported_again_by_the_commands(
    run: Path, tmp_path, monkeypatch
) -> None:
    monkeypatch.syspath_prepend(run.parents[2])
    assert export.main([str(run), "--format", "safetensors", "--out", str(tmp_path / "cut")]) == 0
    assert (tmp_path / "cut" / "card.md").is_file()
    cut = prunelit.load(tmp_path / "cut")
    images = torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)
    expected = network_of(run)(normalised(run, images))
    torch.testing.assert_close(cut(normalised(run, images)), expected, rtol=1e-3, atol=1e-4)
    noted = json.loads((tmp_path / "cut" / "structure.json").read_text())["images"]
    assert (noted["num_classes"], noted["input_shape"], len(noted["class_names"])) == (10, [1, 8, 8], 10)
    again = ["model=custom", "model._target_=prunelit.load", "+model.folder=cut", "logger=none", "epochs=1"]
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr(
            sys, "argv", ["train", *again, "pruner=l1_filter", "compression=0.1", "pruner.rounds=1"]
        )
        with pytest.raises(SystemExit) as ended:
            train.main()
        assert ended.value.code == 0
    (second,) = tmp_path.glob("outputs/default/digits*")
    assert export.main([str(second), "--format", "safetensors"]) == 0
    smaller = prunelit.load(second / "compact")
    sizes = [sum(p.numel() for p in network.parameters()) for network in (network_of(run), cut, smaller)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_the_dense_network_of_a_run_that_was_cut_has_its_whole_size(tmp_path: Path, monkeypatch) -> None:
    run = train_run(
        tmp_path, "Net", "epochs=0", "pruner.granularity=unit", "pruner.cut=true", "pruner.when=start"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert export.main([str(run), "--format", "safetensors", "--out", str(tmp_path / "cut")]) == 0
    dense, compact = json.loads((tmp_path / "cut" / "card.json").read_text())["networks"]
    assert dense["bytes"] >= 4 * dense["parameters"]
    assert dense["bytes"] > 1.5 * compact["bytes"]


def test_what_computes_something_else_is_not_written(tmp_path: Path, capsys) -> None:
    run = train_run(tmp_path, "Deceitful", "epochs=0")
    for form in ("torch", "onnx"):
        assert export.main([str(run), "--format", form]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "RUN=" in line]
        assert "its outputs change by 1.0e+00 of the largest" in line
    assert not [*run.glob("compact*"), *run.glob("card*")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "tflite"], "--format=tflite: "),
        (["--format", "torch", "--int8"], "--int8=true: "),
        (["--batch", "0"], "--batch=0: "),
        (["--format", "safetensors", "--batch", "8"], "--batch=8: "),
        (["--images", "none"], "--images=none: "),
    ],
)
def test_wrong_options_are_one_line(arguments: list[str], said: str, run: Path, capsys) -> None:
    assert export.main([str(run), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


def test_a_missing_package_is_one_line_that_says_what_to_install(run: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export.main([str(run), "--format", "onnx"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("--format=onnx: onnxruntime ")
    assert line.endswith("pip install 'prunelit[onnx]'")


def test_eight_bits_that_cost_accuracy_are_refused(run: Path, tmp_path: Path, capsys) -> None:
    copied = Path(shutil.copytree(run, tmp_path / run.name, ignore=shutil.ignore_patterns("compact*")))
    weights = load_file(copied / "weights.safetensors")
    far = torch.zeros(10)
    far[0] = 1e4  # eight bits cannot tell the other classes apart beside this one
    weights["6.bias"] = weights["6.bias"] - far
    save_file(weights, copied / "weights.safetensors")
    (copied / "files.json").unlink()
    assert export.main([str(copied), "--format", "onnx", "--int8"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "RUN=" in line]
    assert "eight bits cost" in line
    assert not (copied / "compact.int8.onnx").exists()
