"""Masks come back from worker processes and in copies, and go with the weights of each checkpoint."""

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn import functional as F

from prunelit import Mag, Pruning, Rand
from prunelit.pruning.masks import attached, density_of, digest
from reading import Reader, nonzero
from stock import loader, trainer


@pytest.mark.parametrize(("strategy", "devices"), [("ddp_fork", 2), ("ddp_notebook", 1), ("ddp_spawn", 1)])
def test_a_fit_in_worker_processes_leaves_the_masks_in_this_one(strategy: str, devices: int) -> None:
    """A spawned process takes seconds to import torch; it is the only one that gets a pickled callback."""
    module, pruning = Reader(), Pruning(Mag(), sparsity=0.9, rounds=2)
    trainer(pruning, strategy=strategy, devices=devices, max_epochs=1).fit(module, loader())
    assert pruning.current_density == pytest.approx(0.1, abs=1e-3)
    assert pruning.done
    assert pruning.num_rounds == 2
    assert pruning.outcome is not None
    assert len(pruning.outcome.densities) == 2
    assert nonzero(module.named_parameters(), pruning.masks) == 0
    second = Pruning(Rand(), sparsity=0.95)
    trainer(second, max_epochs=1).fit(module, loader())
    assert nonzero(module.named_parameters(), pruning.masks) == 0
    assert second.current_density == pytest.approx(0.05, abs=1e-3)


def test_copies_made_during_a_fit_keep_masks_and_train_on_their_own() -> None:
    class Copying(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.module = copy.deepcopy(pl_module.backbone)
            self.pickled = pickle.loads(pickle.dumps(pl_module.backbone))
            self.pruning = copy.deepcopy(pruning)

    pruning, copying = Pruning(Mag(), sparsity=0.9, network="backbone"), Copying()
    module = Reader()
    trainer(pruning, copying).fit(module, loader())
    assert digest(copying.pruning.masks) == digest(pickle.loads(pickle.dumps(pruning)).masks)
    for network in (copying.module, copying.pickled, copy.deepcopy(module.backbone)):
        masks = attached(network)
        assert masks is not None
        assert digest(masks) == digest(pruning.masks)
        assert nonzero(network.named_parameters(), masks) == 0
        F.cross_entropy(network(torch.randn(4, 3, 8, 8)), torch.arange(4)).backward()
    assert nonzero(module.backbone.named_parameters(), pruning.masks) == 0


def fit_in_rounds(folder: Path) -> tuple[Reader, Pruning, pl.Trainer]:
    """Prune at the start of the second and of the third epoch, and save after each."""
    module, pruning = Reader(), Pruning(Mag(), sparsity=0.9, when="epoch", rounds=2, pre_epochs=1)
    saving = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
    run = trainer(pruning, saving, max_epochs=3, enable_checkpointing=True)
    run.fit(module, loader(), loader(False))
    return module, pruning, run


@pytest.mark.parametrize("stage", ["test", "validate", "predict"])
def test_weights_of_a_checkpoint_are_evaluated_under_its_own_masks(stage: str, tmp_path: Path) -> None:
    module, pruning, run = fit_in_rounds(tmp_path)
    sparse = density_of(pruning.masks)
    options: Any = {"verbose": False} if stage != "predict" else {}
    expected = [(0, 1.0), (1, 0.1**0.5), (2, sparse)]
    for epoch, density in expected:
        path = tmp_path / f"epoch={epoch}.ckpt"
        getattr(run, stage)(module, loader(False), ckpt_path=path, weights_only=True, **options)
        saved = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.equal(saved[name], value) for name, value in module.state_dict().items())
        assert density_of(attached(module) or {"all": torch.ones(1)}) == pytest.approx(density, abs=1e-3)
        assert nonzero(module.named_parameters(), attached(module) or {}) == 0


def test_dense_weights_in_a_pruned_module_are_masked_with_a_warning() -> None:
    module, pruning = Reader(), Pruning(Mag(), sparsity=0.9)
    dense = copy.deepcopy(module.state_dict())
    run = trainer(pruning)
    run.fit(module, loader())
    module.load_state_dict(dense)
    with pytest.warns(UserWarning, match=r"backbone\.0\.weight: \d+ pruned weights are not 0"):
        run.test(module, loader(False), verbose=False)
    assert nonzero(module.named_parameters(), pruning.masks) == 0
    other = Reader()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*pruned weights are not 0")
        run.test(other, loader(False), verbose=False)
    assert other.backbone[4].weight.ne(0).all(), "another module is not touched"


def test_a_fit_that_prunes_later_holds_the_masks_of_an_earlier_one_until_then() -> None:
    module, first = Reader(), Pruning(Mag(), sparsity=0.9)
    trainer(first).fit(module, loader())
    second = Pruning(Mag(), sparsity=0.95, pre_epochs=1)
    trainer(second, max_epochs=3).fit(module, loader())
    assert module.violations == 0
    for name, mask in second.masks.items():
        assert not (mask & ~first.masks[name]).any()
    assert nonzero(module.named_parameters(), second.masks) == 0
