"""What holds on a GPU: pytest -m gpu."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional as F

from forked_runs import KINDS, SMALL, findings, finish, kill_at
from prunelit import Criterion, Mag, Pruning, SynFlow, compact, prune
from prunelit.pruning import criteria
from prunelit.pruning.masks import count_all, make_masks
from prunelit.pruning.objective import Objective
from prunelit.pruning.plan import Plan
from prunelit.study.configs import CONFIGS
from prunelit.training.checkpoints.last_checkpoint import checkpoint_to_resume
from prunelit.training.run.from_config import build_optimizer
from runs import result
from stock import Stranger, Watch, loader, trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CRITERIA = [getattr(criteria, name)() for name in criteria.__all__ if name != "Criterion"]
OPTIMIZERS = sorted((CONFIGS / "optimizer").glob("*.yaml"))
EXACT = ("trainer=gpu", "trainer.deterministic=true")


class Residual(nn.Module):
    """Convolutions, BatchNorm, a residual sum and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(512, 20), nn.ReLU(), nn.Linear(20, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(F.relu(x + self.block(x)))


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda criterion: type(criterion).__name__)
def test_scores_and_masks_are_those_of_the_cpu(criterion: Criterion) -> None:
    torch.manual_seed(0)
    network = Residual().double()
    images, labels = torch.randn(12, 3, 8, 8, dtype=torch.float64), torch.arange(12) % 10
    outcomes = []
    for device in ("cpu", "cuda"):
        here = copy.deepcopy(network).to(device)
        batches = [
            (images[:8].to(device), labels[:8].to(device)),
            (images[8:].to(device), labels[8:].to(device)),
        ]
        objective = Objective.of_classifier(here, batches)
        outcomes.append(prune(here, criterion, 0.3, plan=Plan(rounds=3), objective=objective, seed=5))
    cpu, gpu = outcomes
    for name, score in cpu.scores.items():
        assert gpu.scores[name].is_cuda
        torch.testing.assert_close(gpu.scores[name].cpu(), score, rtol=1e-5, atol=1e-12)
        assert torch.equal(gpu.masks[name].cpu(), cpu.masks[name]), name


@pytest.mark.parametrize("density", [0.001, 0.5, 0.93])
def test_ties_are_broken_as_on_the_cpu(density: float) -> None:
    scores = {f"{n}": torch.randint(5, (40, 30)).float() for n in range(3)}
    previous = {name: torch.rand(40, 30) < 0.95 for name in scores}
    chosen = make_masks(scores, density, previous=previous)
    there, before = ({n: t.cuda() for n, t in tensors.items()} for tensors in (scores, previous))
    on_gpu = make_masks(there, density, previous=before)
    assert all(torch.equal(on_gpu[name].cpu(), mask) for name, mask in chosen.items())


@pytest.mark.parametrize("path", OPTIMIZERS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "options",
    [
        {"gradient_clip_val": 0.1},
        {"accumulate_grad_batches": 3},
        {"precision": "16-mixed", "gradient_clip_val": 0.1},
        {"precision": "bf16-mixed"},
        {"precision": "bf16-true"},
    ],
    ids=["clipped", "accumulated", "16-mixed", "bf16-mixed", "bf16-true"],
)
def test_pruned_weights_are_exactly_zero_after_every_step(path: Path, options: dict) -> None:
    trained = {"precision": "32-true", "gradient_clip_val": None} | options
    config = OmegaConf.create({"optimizer": OmegaConf.load(path), "trainer": trained})
    config.optimizer.lr, config.optimizer.weight_decay = 0.05, 0.1
    pruning = Pruning(Mag(), compression=0.5)
    watch = Watch(pruning)
    module = Stranger(optimizer=lambda parameters, **_: build_optimizer(config, parameters))
    trainer(pruning, watch, accelerator="gpu", devices=1, **options).fit(module, loader())
    assert watch.steps == 8
    assert sum(int((p == 0).sum()) for p in module.parameters()) >= count_all(pruning.masks) * 0.68


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_or_asked_to_end_goes_on_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    """Dropout's random numbers are drawn on the GPU: their state is saved too."""
    run = (*SMALL, *KINDS[kind], *EXACT)
    assert finish(tmp_path / "whole", *run) == 0, (tmp_path / "whole" / "said.txt").read_text()
    step = "prunelit.training.module.Classifier.training_step"
    broken = tmp_path / "broken"
    assert finish(broken, *run, patch=partial(kill_at, step, 30, signal.SIGKILL)) == -signal.SIGKILL
    assert finish(broken, *run, patch=partial(kill_at, step, 10, signal.SIGTERM)) == 128 + signal.SIGTERM
    assert finish(broken, *run) == 0
    assert findings(broken) == findings(tmp_path / "whole")


def test_a_module_of_ones_own_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    from prunelit.interruption import Interruption
    from prunelit.training.checkpoints.last_checkpoint import LastCheckpoint

    def fit(folder: Path, epochs: int, resume: Path | None = None) -> Stranger:
        module = Stranger()
        callbacks = (Pruning(SynFlow(), compression=1), LastCheckpoint(folder, Interruption()))
        options = {"accelerator": "gpu", "devices": 1, "deterministic": True, "max_epochs": epochs}
        data = loader(shuffle=False)
        trainer(*callbacks, enable_checkpointing=True, **options).fit(module, data, ckpt_path=resume)
        return module

    whole = fit(tmp_path / "whole", 4)
    fit(tmp_path / "broken", 2)
    resumed = fit(tmp_path / "broken", 4, checkpoint_to_resume(tmp_path / "broken"))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def program(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the program in a process of its own, as a user does."""
    command = [sys.executable, "-m", "prunelit.train", "logger=none", *arguments]
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_the_record_names_the_gpu_and_its_memory(cli) -> None:
    status, _, err = cli("trainer=gpu", "trainer.precision=bf16-mixed", "epochs=1", "logger=none")
    assert (status, err) == (0, [])
    assert result()["device"] == torch.cuda.get_device_name()
    assert result()["precision"] == "bf16-mixed"
    assert 0 < result()["peak_memory_bytes"] < torch.cuda.mem_get_info()[1]


def test_streamed_images_train_the_network_that_resident_ones_do(cli) -> None:
    found = []
    for name, in_memory in (("resident", "true"), ("streamed", "false")):
        told = cli(*EXACT, f"data.in_memory={in_memory}", f"output_dir={name}", "epochs=2", "logger=none")
        assert told[::2] == (0, [])
        (path,) = Path(name).glob("default/*/result.json")
        found.append(json.loads(path.read_text()))
    assert found[0]["test_loss"] == pytest.approx(found[1]["test_loss"], rel=1e-4)


@pytest.mark.parametrize(
    "launcher", [(), ("hydra/launcher=joblib", "sweep.runs_per_gpu=3"), ("hydra/launcher=submitit_local",)]
)
def test_each_run_of_a_sweep_is_forked_and_uses_a_gpu(launcher: tuple[str, ...], tmp_path: Path) -> None:
    told = program(tmp_path, "-m", *launcher, "pruner=snip,none", "seed=0,1", "epochs=1")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "4 done" in told.stdout
    results = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/*/*/result.json")]
    assert [found["device"] for found in results] == 4 * [torch.cuda.get_device_name()]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_one_rank_over_nccl_finds_what_one_process_finds(strategy: str, tmp_path: Path) -> None:
    run = ("pruner=snip", "compression=1", "epochs=2", "trainer.deterministic=true")
    losses = []
    for chosen in ("gpu", strategy):
        more = () if chosen == "gpu" else ("trainer.devices=1", "trainer.accelerator=gpu")
        told = program(tmp_path, f"trainer={chosen}", *more, f"output_dir={chosen}", *run)
        assert told.returncode == 0, told.stderr
        (path,) = (tmp_path / chosen).glob("default/*/result.json")
        losses.append(json.loads(path.read_text())["test_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_network_on_a_gpu_is_made_compact() -> None:
    network = Residual().cuda().eval()
    with torch.no_grad():
        network.head[1].weight[::2] = 0
        network.head[1].bias[::2] = 0
    images = torch.randn(4, 3, 8, 8, device="cuda")
    small = compact(network, images)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in network.parameters())
    torch.testing.assert_close(small(images), network(images), rtol=1e-3, atol=1e-3)
