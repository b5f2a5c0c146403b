"""A run's network becomes a smaller program that PyTorch runs alone; no images are needed."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from prunelit import export, train

NETWORK = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, input_shape):
        layers = [nn.Conv2d(input_shape[0], 12, 3), nn.ReLU(), nn.Conv2d(12, 12, 3), nn.ReLU()]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(192, num_classes))
"""


def write_images(root: Path) -> np.ndarray:
    """Write a folder of colour images of two classes, and return the training images."""
    pixels = np.random.default_rng(0).integers(20, 220, (16, 12, 12, 3), dtype=np.uint8)
    pixels[8:] //= 2
    for number, image in enumerate(pixels):
        for split in ("train", "test"):
            path = root / split / ("bright", "dark")[number // 8] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return pixels


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Iterator[tuple[Path, np.ndarray]]:
    """Yield the folder of a run of an own network, whose images are gone, and what they were."""
    start = tmp_path_factory.mktemp("start")
    pixels = write_images(start / "images")
    (start / "exported_net.py").write_text(NETWORK)
    asked = ["data=folder", "data.root=images", "model=custom", "model._target_=exported_net.Net", "epochs=1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(start)
        patch.syspath_prepend(start)
        patch.setattr(
            sys,
            "argv",
            ["train", *asked, "pruner=l1_filter", "compression=0.4", "pruner.rounds=1", "logger=none"],
        )
        with pytest.raises(SystemExit) as ended:
            train.main()
    assert ended.value.code == 0
    del sys.modules["exported_net"]
    shutil.rmtree(start / "images")
    (folder,) = start.glob("outputs/default/folder*")
    yield folder, pixels
    sys.modules.pop("exported_net", None)


@pytest.fixture
def run(trained, tmp_path, monkeypatch) -> Path:
    """A copy of the run's folder, in another current folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(trained[0], tmp_path / trained[0].name))


def said(capsys, status: int, *arguments: object) -> list[str]:
    """Return the lines on standard error of an export that ends with ``status``."""
    assert export.main([str(argument) for argument in arguments]) == status
    return capsys.readouterr().err.splitlines()


def test_the_program_is_smaller_and_gives_the_network_s_logits(run: Path, trained, capsys) -> None:
    assert export.main([str(run)]) == 0
    printed = capsys.readouterr().out
    assert "timed    batches of 64 on the cpu with 1 thread" in printed
    assert f"written  {run / 'compact.pt2'}" in printed
    assert "exported_net" not in sys.modules  # another run may have another module of this name
    images = torch.randint(256, (7, 3, 12, 12), dtype=torch.uint8)
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
    names: dict = {}
    exec(NETWORK, names)
    network = names["Net"](2, (3, 12, 12)).eval()
    network.load_state_dict(load_file(run / "weights.safetensors"))
    assert int(done.stdout) < 0.8 * sum(p.numel() for p in network.parameters())
    pixels = torch.from_numpy(trained[1] / 255)
    mean, std = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2), unbiased=False)
    normalised = ((images.double() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)).float()
    expected = network(normalised).detach()
    torch.testing.assert_close(torch.load(run / "images.pt"), expected, rtol=1e-3, atol=1e-4)


def test_both_networks_are_timed_in_turns_after_a_warm_up() -> None:
    from prunelit.training.measuring.latency import compare_latency

    calls: list[str] = []
    networks = {name: torch.nn.Identity() for name in "ab"}
    for name, network in networks.items():
        network.register_forward_hook(lambda *_, name=name: calls.append(name))
    latency = compare_latency(networks, torch.zeros(4, 1), seconds=0)
    assert "".join(calls) == "aaabbb" + "abba" * 2 + "ab"
    assert (latency.passes, latency.batch_size, latency.threads) == (5, 4, torch.get_num_threads())


def test_the_record_says_what_the_network_takes(run: Path) -> None:
    described = json.loads((run / "network.json").read_text())
    assert described["class_names"] == ["bright", "dark"]
    assert (described["num_classes"], described["input_shape"]) == (2, [3, 12, 12])
    assert described["model"]["_target_"] == "exported_net.Net"


@pytest.mark.parametrize("name", ["weights.safetensors", "network.json"])
def test_a_run_whose_files_were_changed_is_not_exported(name: str, run: Path, capsys) -> None:
    path = run / name
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    (line,) = said(capsys, 1, run)
    assert line.startswith(f"damaged: {run}: {name}")
    assert not (run / "compact.pt2").exists()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"mean": [0.5]}, "numbers of channels"),
        ({"input_shape": "3x12x12"}, "describes no network"),
        ({"model": None}, "describes no network"),
    ],
)
def test_a_description_of_nothing_is_a_damage(wrong: dict, why: str, run: Path, capsys) -> None:
    described = json.loads((run / "network.json").read_text())
    (run / "network.json").write_text(json.dumps(described | wrong))
    (run / "files.json").unlink()
    (line,) = said(capsys, 1, run)
    assert line.startswith(f"damaged: {run}: network.json")
    assert why in line


def test_a_network_whose_class_is_gone_is_one_line(run: Path, capsys) -> None:
    described = json.loads((run / "network.json").read_text())
    (run / "network.json").write_text(json.dumps(described | {"working_folder": "/nowhere"}))
    (run / "files.json").unlink()
    (line,) = said(capsys, 2, run)
    assert line.startswith("model._target_=exported_net.Net: ")


def test_a_run_of_an_earlier_version_takes_its_images_where_they_are(run: Path, trained, capsys) -> None:
    (run / "network.json").unlink()
    (run / "files.json").unlink()
    (line,) = said(capsys, 2, run)
    assert line.startswith(f"RUN={run}: data.root=images: ")
    assert "network.json" in line
    start = trained[0].parents[2]
    write_images(start / "images")
    try:
        assert export.main([str(run)]) == 0
    finally:
        shutil.rmtree(start / "images")


def test_of_several_paths_the_runs_are_exported(run: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "multirun.yaml").write_text("hydra: {}\n")
    (tmp_path / "report").mkdir()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "status.json").write_text('{"status": "interrupted"}')
    programs = tmp_path / "programs"
    paths = sorted(tmp_path.iterdir())
    lines = said(capsys, 2, *paths, "--out", programs)
    assert [line for line in lines if line.startswith("skipped: ")] == [
        f"skipped: {tmp_path / name} is not the folder of a run" for name in ("multirun.yaml", "report")
    ]
    assert [line for line in lines if line.startswith(f"RUN={tmp_path / 'half'}: ")]
    assert [path.name for path in programs.iterdir()] == [f"{run.name}.pt2"]


def test_no_run_is_one_line(tmp_path: Path, run: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    (line,) = said(capsys, 2, tmp_path / "empty")
    assert line.startswith(f"RUN={tmp_path / 'empty'}: ")
    (line,) = said(capsys, 2, tmp_path)
    assert line.startswith(f"RUN={tmp_path}: ")
    assert str(tmp_path / "*") in line
    (line,) = said(
        capsys, 2, run, run.parent / "." / run.name / ".." / run.name, "--out", tmp_path / "programs"
    )
    assert "two of the runs are named" in line


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 kibibytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here: that takes root on Linux")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_or_read_only_disk_is_one_line_and_leaves_nothing(run: Path, disk: Path, capsys) -> None:
    (line,) = said(capsys, 2, run, "--out", disk)
    program = f"--out={disk / run.name}.pt2"
    assert line.startswith(f"{program}: No space left on device")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    (line,) = said(capsys, 2, run, "--out", disk)
    assert line.startswith(f"{program}: Read-only file system")
    assert list(disk.iterdir()) == []
