"""A best value belongs to the density it was measured at, under both names of Lightning's package."""

import importlib

import pytest
import torch
from torch.nn import functional as F

from prunelit import Mag, Pruning
from stock import loader, network

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
LOSSES = [1.0, 0.5, 0.1, 0.9, 0.8, 0.7, 0.6, 0.65, 0.66, 0.67, 0.68]
"""The validation loss of each epoch: the dense network has the best one."""


def build(package: str, *callbacks, schedule=None, **options):
    """Return a trainer of ``package`` and a module whose validation loss is given by ``LOSSES``."""
    old = importlib.import_module(package)

    class Scripted(old.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = network()

        def training_step(self, batch, batch_idx):
            self.log("train_loss", LOSSES[self.current_epoch], on_epoch=True)
            return F.cross_entropy(self.backbone(batch[0]), batch[1])

        def validation_step(self, batch, batch_idx):
            self.log("loss", LOSSES[self.current_epoch])
            self.log("score", -LOSSES[self.current_epoch])

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), 0.01)
            return schedule(optimizer) if schedule else optimizer

    quiet = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return old.Trainer(callbacks=list(callbacks), num_sanity_val_steps=0, **(quiet | options)), Scripted()


def callbacks_of(package: str):
    return importlib.import_module(f"{package}.callbacks")


def density_of(path: str) -> float:
    weight = torch.load(path, weights_only=False)["state_dict"]["backbone.4.weight"]
    return float(weight.count_nonzero() / weight.numel())


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize(("monitor", "mode"), [("loss", "min"), ("score", "max")])
@pytest.mark.parametrize("top", [1, 3])
def test_the_best_checkpoints_have_the_final_density(package, monitor, mode, top, tmp_path) -> None:
    best = callbacks_of(package).ModelCheckpoint(
        tmp_path, "{epoch}", monitor=monitor, mode=mode, save_top_k=top
    )
    pruning = Pruning(Mag(), sparsity=0.9, scope="layer", pre_epochs=3)
    trainer, module = build(package, pruning, best, max_epochs=8)
    trainer.fit(module, loader(), loader(False))
    assert best.best_model_path.endswith("epoch=6.ckpt")
    assert abs(best.best_model_score) == pytest.approx(0.6)
    assert len(best.best_k_models) == top
    assert all(density_of(path) == pytest.approx(0.1, abs=1e-3) for path in best.best_k_models)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_metric_of_before_the_pruning_makes_no_best(when: str, tmp_path) -> None:
    """Validation in epochs 2 and 5 alone, pruning at epoch 3; the training ends before or after epoch 5."""
    callbacks = callbacks_of("lightning.pytorch")
    best = callbacks.ModelCheckpoint(tmp_path, "{epoch}", monitor="loss", save_on_train_epoch_end=True)
    stop = callbacks.EarlyStopping("loss", patience=1, check_on_train_epoch_end=True, strict=False)
    pruning = Pruning(Mag(), sparsity=0.9, scope="layer", pre_epochs=3)
    options = {"max_epochs": 5 if when == "before" else 6, "check_val_every_n_epoch": 3}
    trainer, module = build("lightning.pytorch", stop, pruning, best, **options)
    trainer.fit(module, loader(), loader(False))
    if when == "before":
        assert best.best_model_path == ""
        assert stop.best_score.isinf()
    else:
        assert best.best_model_path.endswith("epoch=5.ckpt")
        assert float(stop.best_score) == pytest.approx(0.7)
    assert trainer.current_epoch == options["max_epochs"]


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize(
    "options",
    [
        {"monitor": "loss", "patience": 2},
        {"monitor": "train_loss", "patience": 2, "check_on_train_epoch_end": True},
        {"monitor": "loss", "patience": 2, "stopping_threshold": 0.2},
    ],
    ids=["validation", "training", "threshold"],
)
def test_early_stopping_waits_for_the_last_pruning(package: str, options: dict) -> None:
    """Epoch 6 is the best at the final density; a patience of two ends the training with epoch 8."""
    stop = callbacks_of(package).EarlyStopping(**options)
    pruning = Pruning(Mag(), sparsity=0.9, when="epoch", rounds=2, every=2, pre_epochs=1)
    trainer, module = build(package, stop, pruning, max_epochs=11, enable_checkpointing=False)
    trainer.fit(module, loader(), loader(False))
    assert pruning.done
    assert trainer.current_epoch == 9
    assert stop.stopped_epoch == 8
    assert float(stop.best_score) == pytest.approx(0.6)
    assert "check_monitor_top_k" not in stop.__dict__
    assert "on_validation_end" not in stop.__dict__


def test_early_stopping_ends_a_training_before_a_pruning_at_its_end() -> None:
    stop = callbacks_of("lightning.pytorch").EarlyStopping("loss", patience=2)
    pruning = Pruning(Mag(), sparsity=0.9, when="end")
    trainer, module = build("lightning.pytorch", stop, pruning, max_epochs=-1, enable_checkpointing=False)
    trainer.fit(module, loader(), loader(False))
    assert trainer.current_epoch == 5
    assert pruning.done


def test_a_loss_that_is_not_finite_ends_the_training_at_once(monkeypatch) -> None:
    monkeypatch.setitem(globals(), "LOSSES", [1.0, float("nan")])
    stop = callbacks_of("lightning.pytorch").EarlyStopping("loss")
    pruning = Pruning(Mag(), sparsity=0.9, pre_epochs=3)
    trainer, module = build("lightning.pytorch", stop, pruning, max_epochs=8, enable_checkpointing=False)
    with pytest.warns(
        UserWarning, match=r"the training ended after 0 of 1 prunings.*density 1 instead of 0\.1"
    ):
        trainer.fit(module, loader(), loader(False))
    assert trainer.current_epoch == 2


@pytest.mark.parametrize("package", PACKAGES)
def test_a_plateau_begins_at_the_pruning(package: str) -> None:
    """The dense loss of 0.1 would be the best for ever, and lower the rate in each epoch after it."""

    def schedule(optimizer):
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "loss"}}

    pruning = Pruning(Mag(), sparsity=0.9, pre_epochs=3)
    trainer, module = build(package, pruning, schedule=schedule, max_epochs=8, enable_checkpointing=False)
    trainer.fit(module, loader(), loader(False))
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.01
    assert trainer.lr_scheduler_configs[0].scheduler.best == pytest.approx(0.6)


def test_the_last_checkpoint_is_of_the_network_pruned_after_training(tmp_path) -> None:
    last = callbacks_of("lightning.pytorch").ModelCheckpoint(tmp_path, "{epoch}", save_last=True)
    pruning = Pruning(Mag(), sparsity=0.9, when="end", scope="layer")
    trainer, module = build("lightning.pytorch", pruning, last, max_epochs=2)
    trainer.fit(module, loader(), loader(False))
    for path in (last.best_model_path, last.last_model_path):
        assert density_of(path) == pytest.approx(0.1, abs=1e-3)
