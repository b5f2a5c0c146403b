"""A run's network becomes a smaller program that PyTorch runs alone."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from prunelit import export, train
from prunelit.training.models import ConvNet


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Path:
    asked = ["model=convnet", "data.size=32", "pruner=l1_filter", "compression=0.4", "pruner.rounds=1"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", *asked, "epochs=1", "logger=none"])
    with pytest.raises(SystemExit) as ended:
        train.main()
    assert ended.value.code == 0
    (folder,) = tmp_path.glob("outputs/default/digits*")
    return folder


def test_a_run_whose_weights_were_changed_is_not_exported(run: Path, capsys) -> None:
    path = run / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    assert export.main([str(run)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"damaged: {run}: weights.safetensors")
    assert not (run / "compact.pt2").exists()


def test_the_program_is_smaller_and_gives_the_network_s_logits(run: Path, capsys) -> None:
    assert export.main([str(run)]) == 0
    printed = capsys.readouterr().out
    assert "dense" in printed
    assert f"written  {run / 'compact.pt2'}" in printed
    images = torch.randint(256, (7, 1, 32, 32), dtype=torch.uint8)
    code = (
        "import sys, torch\n"
        "program = torch.export.load(sys.argv[1]).module()\n"
        "torch.save(program(torch.load(sys.argv[2])), sys.argv[2])\n"
        "assert not any(name.startswith('prunelit') for name in sys.modules)\n"
        "print(sum(p.numel() for p in program.parameters()))\n"
    )
    torch.save(images, run / "images.pt")
    called = [sys.executable, "-c", code, str(run / "compact.pt2"), str(run / "images.pt")]
    done = subprocess.run(called, capture_output=True, text=True, check=True)
    network = ConvNet(num_classes=10, input_shape=(1, 32, 32)).eval()
    network.load_state_dict(load_file(run / "weights.safetensors"))
    assert int(done.stdout) < 0.8 * sum(p.numel() for p in network.parameters())
    from prunelit.training.data import ImageData

    data = ImageData(dataset="digits", size=32)
    data.setup()
    expected = network(data.normalise(images))
    torch.testing.assert_close(torch.load(run / "images.pt"), expected.detach(), rtol=1e-3, atol=1e-4)


def test_a_wrong_request_is_one_line(tmp_path: Path, capsys) -> None:
    assert export.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"RUN={tmp_path}: must be the folder of a complete run\n"
