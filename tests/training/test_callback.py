"""Masks hold: in every step of every optimizer, through checkpoints, resumes and tests, in any module."""

import copy
import math
import random
import warnings
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import torchmetrics
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from prunelit import SNIP, BadRequest, GraSP, Mag, Pruning, Rand, SynFlow, prune
from prunelit.pruning.masks import attached, count_all, count_kept, digest
from prunelit.training.build import build_optimizer

OPTIMIZERS = sorted(Path("conf/optimizer").glob("*.yaml"))
CRITERIA = [Rand(), Mag(), SNIP(), GraSP(), SynFlow()]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 24),
        nn.ReLU(), nn.Linear(24, 10),
    )  # fmt: skip


class Stranger(pl.LightningModule):
    """A module that has never heard of prunelit: logs, counts and holds its network under its own name."""

    def __init__(self, net: nn.Module | None = None, optimizer=torch.optim.AdamW) -> None:
        super().__init__()
        self.backbone = net or network()
        self.accuracy = torchmetrics.classification.MulticlassAccuracy(10)
        self.make = optimizer

    def training_step(self, batch, batch_idx):
        images, labels = batch
        logits = self.backbone(images)
        self.log("accuracy", self.accuracy(logits, labels))
        return F.cross_entropy(logits, labels)

    def test_step(self, batch, batch_idx):
        self.log("test_loss", F.cross_entropy(self.backbone(batch[0]), batch[1]))

    def configure_optimizers(self):
        return self.make(self.parameters(), lr=0.05, weight_decay=0.1)


def loader(shuffle: bool = True) -> DataLoader:
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(64, 3, 8, 8, generator=generator)
    return DataLoader(
        TensorDataset(images, torch.randint(10, (64,), generator=generator)), batch_size=16, shuffle=shuffle
    )


class Batches:
    """An iterable of batches that is no torch DataLoader."""

    def __init__(self, batches) -> None:
        self.batches = list(batches)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


def trainer(*callbacks: pl.Callback, **options) -> pl.Trainer:
    defaults = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(callbacks=list(callbacks), **(defaults | options))


class Watch(pl.Callback):
    """Looks at every pruned weight after every optimizer step."""

    def __init__(self, pruning: Pruning) -> None:
        self.pruning, self.steps = pruning, 0

    def on_train_batch_end(self, trainer, pl_module, *_):
        parameters = dict(pl_module.named_parameters())
        for name, mask in self.pruning.masks.items():
            assert parameters[name][~mask].eq(0).all()
        self.steps += 1


@pytest.mark.parametrize("path", OPTIMIZERS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "options",
    [
        {"gradient_clip_val": 0.1},
        {"accumulate_grad_batches": 3, "gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"},
        {"precision": "bf16-mixed", "gradient_clip_val": 0.1},
        {"precision": "bf16-true"},
    ],
    ids=["clipped", "accumulated", "bf16-mixed", "bf16-true"],
)
def test_pruned_weights_are_exactly_zero_after_every_step(path: Path, options: dict) -> None:
    trained = {"precision": "32-true", "gradient_clip_val": None} | options
    config = OmegaConf.create({"optimizer": OmegaConf.load(path), "trainer": trained})
    config.optimizer.lr, config.optimizer.weight_decay = 0.05, 0.1
    if "momentum" in config.optimizer:
        config.optimizer.momentum = 0.9
    pruning = Pruning(Mag(), compression=0.5)
    watch = Watch(pruning)
    module = Stranger(optimizer=lambda parameters, **_: build_optimizer(config, parameters))
    trainer(pruning, watch, **options).fit(module, loader())
    assert watch.steps == 8
    assert sum(int((p == 0).sum()) for p in module.parameters()) >= count_all(pruning.masks) * 0.68


def test_momentum_gathered_before_the_pruning_moves_no_pruned_weight() -> None:
    pruning = Pruning(Mag(), compression=1, pre_epochs=1)
    watch = Watch(pruning)
    module = Stranger(optimizer=lambda p, **_: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True))
    trainer(pruning, watch, max_epochs=3).fit(module, loader())
    assert watch.steps == 12
    assert pruning.current_density == pytest.approx(0.1, abs=1e-3)


class Multiplied(nn.Module):
    """A layer whose forward multiplies its weight by a mask."""

    def __init__(self, layer: nn.Module, mask: torch.Tensor) -> None:
        super().__init__()
        self.layer, self.mask = layer, mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.layer.weight * self.mask
        if isinstance(self.layer, nn.Linear):
            return F.linear(x, weight, self.layer.bias)
        return F.conv2d(x, weight, self.layer.bias)


def test_training_equals_a_network_whose_forward_multiplies_by_the_mask() -> None:
    """Same start, same data, same optimizer with weight decay and clipping: the same kept weights."""
    module = Stranger(network().double(), optimizer=torch.optim.SGD)
    pruning = Pruning(SynFlow(), compression=0.5)
    data = loader(shuffle=False)
    data = Batches((images.double(), labels) for images, labels in data)
    trainer(pruning, max_epochs=0).fit(module, data)
    other = copy.deepcopy(module.backbone)
    for index in (0, 4, 6):
        other[index] = Multiplied(other[index], pruning.masks[f"backbone.{index}.weight"])
    options = {"max_epochs": 3, "gradient_clip_val": 0.2}
    trainer(pruning, **options).fit(module, data)
    trainer(**options).fit(reference := Stranger(other, torch.optim.SGD), data)
    for index in (0, 4, 6):
        mask = pruning.masks[f"backbone.{index}.weight"]
        ours = module.backbone[index].weight[mask]
        assert torch.allclose(ours, reference.backbone[index].layer.weight[mask], rtol=1e-10, atol=1e-12)


def test_clipping_counts_kept_weights_only() -> None:
    """The gradient norm that clipping sees leaves out pruned weights."""
    norms = []

    class Look(Stranger):
        def configure_gradient_clipping(
            self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None
        ):
            masks = pruning.masks
            for name, p in self.named_parameters():
                if name in masks:
                    norms.append(float(p.grad[~masks[name]].norm()))

    pruning = Pruning(Rand(), compression=0.5)
    trainer(pruning, gradient_clip_val=1.0).fit(Look(), loader())
    assert norms
    assert max(norms) == 0


def test_checkpoint_resume_and_test_keep_masks_and_names(tmp_path: Path) -> None:
    names = list(Stranger().state_dict())
    pruning = Pruning(SNIP(), compression=1.0, seed=3)
    saving = pl.callbacks.ModelCheckpoint(tmp_path, filename="saved")
    module = Stranger()
    trainer(pruning, saving, enable_checkpointing=True).fit(module, loader())
    path = tmp_path / "saved.ckpt"
    content = torch.load(path, weights_only=True)
    assert list(content["state_dict"]) == names
    Stranger().load_state_dict(content["state_dict"], strict=True)
    plain = {name.removeprefix("backbone."): v for name, v in content["state_dict"].items()}
    network().load_state_dict({k: v for k, v in plain.items() if "accuracy" not in k}, strict=True)

    resumed, again = Stranger(), Pruning(SNIP(), compression=1.0, seed=4)
    watch = Watch(again)
    trainer(again, watch, max_epochs=4).fit(resumed, loader(), ckpt_path=path, weights_only=True)
    assert digest(again.masks) == digest(pruning.masks), "a resumed run must not prune anew"
    assert watch.steps == 8

    before = copy.deepcopy(resumed.state_dict())
    trainer(again).test(resumed, loader(False), verbose=False)
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_deep_copy_keeps_its_masks_and_a_second_pruning_only_shrinks_them() -> None:
    first = Pruning(Mag(), compression=0.3)
    module = Stranger()
    trainer(first).fit(module, loader())
    twin = copy.deepcopy(module)
    second = Pruning(Rand(), compression=1.0)
    trainer(second, Watch(second)).fit(twin, loader())
    assert second.current_density == pytest.approx(0.1, abs=1e-3)
    for name, mask in second.masks.items():
        assert not (mask & ~first.masks[name]).any()
    assert attached(module) is not attached(twin)


def test_a_best_checkpoint_is_of_the_final_density(tmp_path: Path) -> None:
    """The dense epoch scores best; the best checkpoint must still be a pruned one."""

    class Scored(Stranger):
        def on_train_epoch_end(self):
            self.log("score", 100.0 - self.current_epoch)

    best = pl.callbacks.ModelCheckpoint(tmp_path, monitor="score", mode="max")
    pruning = Pruning(Mag(), compression=1.0, pre_epochs=1)
    trainer(pruning, best, max_epochs=3, enable_checkpointing=True).fit(Scored(), loader())
    weights = torch.load(best.best_model_path, weights_only=True)["state_dict"]
    for name, mask in pruning.masks.items():
        assert weights[name][~mask].eq(0).all()
    assert best.best_model_score == 99


def test_pruning_during_training_saves_no_pruned_weights_under_a_dense_accuracy(tmp_path: Path) -> None:
    saving = pl.callbacks.ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    pruning = Pruning(Mag(), compression=1.0, pre_epochs=1)
    trainer(pruning, saving, max_epochs=2, enable_checkpointing=True).fit(Stranger(), loader())
    dense = torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)["state_dict"]
    assert dense["backbone.4.weight"].ne(0).all()


class Order(Stranger):
    """Notes which images come in which order, and the first random number a step draws."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def training_step(self, batch, batch_idx):
        if self.trainer.fit_loop.epoch_loop.batch_progress.current.started > 0:
            self.seen += [
                float(batch[0].sum()),
                float(torch.rand(())),
                random.random(),
                float(np.random.rand()),
            ]
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda c: type(c).__name__)
def test_scoring_disturbs_neither_order_nor_randomness_nor_metrics(criterion) -> None:
    def seen(*callbacks: pl.Callback) -> list[float]:
        pl.seed_everything(7, verbose=False)
        module = Order()
        trainer(*callbacks).fit(module, loader())
        return module.seen[:16]

    assert seen(Pruning(criterion, compression=0.5, batches=3)) == seen()


def test_scoring_leaves_metrics_logs_modes_and_statistics_alone() -> None:
    class Inspect(pl.Callback):
        def on_after_pruning(self, trainer, pl_module, pruning):
            assert pl_module.accuracy._update_count == 0
            assert pl_module.training
            assert pl_module.backbone[1].num_batches_tracked == 0
            assert "forward" not in pl_module.__dict__
            assert "log" not in pl_module.__dict__
            assert not trainer.logged_metrics
            self.ran = True

    inspect = Inspect()
    pruning = Pruning(GraSP(batch_norm="batch"), compression=0.5, train_mode=True)
    trainer(pruning, inspect).fit(Stranger(), loader())
    assert inspect.ran


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda c: type(c).__name__)
def test_prunes_a_torchvision_resnet50_in_a_stock_trainer(criterion) -> None:
    import torchvision

    torch.manual_seed(0)
    module = Stranger(torchvision.models.resnet50(num_classes=10))
    names = [name for name, _ in module.named_parameters()]
    pruning = Pruning(criterion, compression=0.5)
    data = DataLoader(TensorDataset(torch.randn(4, 3, 32, 32), torch.arange(4)), batch_size=4)
    trainer(pruning, max_epochs=1).fit(module, data)
    assert [name for name, _ in module.named_parameters()] == names
    assert count_kept(pruning.masks) == round(10**-0.5 * count_all(pruning.masks))
    parameters = dict(module.named_parameters())
    assert all(parameters[name][~mask].eq(0).all() for name, mask in pruning.masks.items())


def test_no_epochs_prunes_all_the_same() -> None:
    pruning = Pruning(SNIP(), sparsity=0.9)
    trainer(pruning, max_epochs=0).fit(Stranger(), loader())
    assert pruning.current_density == pytest.approx(0.1, abs=1e-3)


def test_a_named_part_is_pruned_and_nothing_else() -> None:
    module = Stranger()
    pruning = Pruning(SynFlow(), compression=1.0, network="backbone.4")
    trainer(pruning, max_epochs=0).fit(module, loader())
    assert list(pruning.masks) == ["weight"]
    assert module.backbone[0].weight.ne(0).all()


def test_a_loss_by_hand_is_asked_for_in_one_line() -> None:
    class ByHand(Stranger):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(F.cross_entropy(self.backbone(batch[0]), batch[1]))
            optimizer.step()

    with pytest.raises(ValueError, match=r"^ByHand optimises by hand.*pruning_loss\(batch\)") as caught:
        trainer(Pruning(SNIP(), compression=0.5)).fit(ByHand(), loader())
    assert "\n" not in str(caught.value)

    class Told(ByHand):
        def pruning_loss(self, batch):
            return F.cross_entropy(self.backbone(batch[0]), batch[1])

    pruning = Pruning(SNIP(), compression=0.5)
    trainer(pruning, watch := Watch(pruning)).fit(Told(), loader())
    assert watch.steps == 8


def test_two_calls_that_share_the_network_ask_for_its_name() -> None:
    class Halves(Stranger):
        def training_step(self, batch, batch_idx):
            logits = self.backbone[3:](self.backbone[:3](batch[0]))
            return F.cross_entropy(logits, batch[1])

    with pytest.raises(ValueError, match=r"no single call in Halves\.training_step .*network="):
        trainer(Pruning(SynFlow(), compression=0.5)).fit(Halves(), loader())


def test_a_module_with_a_dict_loss_and_its_own_forward() -> None:
    class Own(Stranger):
        def forward(self, images):
            return self.backbone(images)

        def training_step(self, batch):
            return {"loss": F.cross_entropy(self(batch[0]), batch[1]), "more": 1}

    for criterion in CRITERIA:
        pruning = Pruning(criterion, compression=0.5)
        trainer(pruning, max_epochs=1).fit(Own(), loader())
        assert pruning.done


def test_loaders_of_all_kinds() -> None:
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield from ((torch.randn(3, 8, 8), i % 10) for i in range(32))

    data = loader(False)
    weighted = torch.utils.data.WeightedRandomSampler([1.0] * 64, 64, generator=torch.Generator())
    for train in (
        DataLoader(Stream(), batch_size=8),
        Batches(data),
        DataLoader(data.dataset, batch_size=16, sampler=weighted),
        DataLoader(data.dataset, batch_size=16, num_workers=1),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pruning = Pruning(SNIP(), compression=0.5, batches=2)
            trainer(pruning, max_epochs=1).fit(Stranger(), train)
        assert pruning.done


def test_one_seed_gives_one_mask_and_another_seed_another() -> None:
    def masks(seed: int) -> str:
        pruning = Pruning(SNIP(), compression=1.0, seed=seed)
        trainer(pruning, max_epochs=0).fit(Stranger(), loader())
        return digest(pruning.masks)

    assert masks(1) == masks(1)
    assert masks(1) != masks(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "compression=None: "),
        ({"compression": -1}, "compression=-1: allowed is a number of 0 or more"),
        ({"compression": math.nan}, "compression=nan: "),
        ({"compression": "abc"}, "compression=abc: "),
        ({"sparsity": 1.2}, "sparsity=1.2: allowed is a number from 0"),
        (
            {"sparsity": 0.5, "compression": 1},
            "sparsity=0.5: compression=1; allowed is compression or sparsity, never both",
        ),
        ({"compression": 1, "round": 3}, "pruner.round=3: .*did you mean rounds?"),
        ({"compression": 1, "rounds": 0}, "pruner.rounds=0: allowed is an integer"),
        ({"compression": 1, "when": "later"}, "pruner.when=later: allowed is one of end, epoch, start"),
        ({"compression": 1, "batches": 0}, "pruner.batches=0: allowed"),
    ],
)
def test_wrong_requests_name_key_value_and_what_is_allowed(options: dict, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        Pruning(Mag(), **options)


def test_a_wrong_amount_or_pattern_is_refused_before_training() -> None:
    with pytest.raises(BadRequest, match=r"compression=7: allowed is one that keeps at least 1 of the 7"):
        trainer(Pruning(Mag(), compression=7)).fit(Stranger(), loader())
    with pytest.raises(BadRequest, match=r"pruner\.exclude=head: allowed is a pattern"):
        trainer(Pruning(Mag(), compression=1, exclude="head")).fit(Stranger(), loader())
    with pytest.raises(BadRequest, match=r"network=backbonee: .*did you mean backbone\?"):
        trainer(Pruning(Mag(), compression=1, network="backbonee")).fit(Stranger(), loader())


def test_prune_without_lightning_then_train_with_the_callback_keeps_the_masks() -> None:
    module = Stranger()
    outcome = prune(module, Mag(), 0.2)
    pruning = Pruning(Rand(), sparsity=0.8)
    trainer(pruning, Watch(pruning)).fit(module, loader())
    assert digest(pruning.masks) == digest(outcome.masks)
