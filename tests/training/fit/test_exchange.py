"""Weights that change places while training goes on: through the Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from prunelit import BadRequest, Growth, Pruning, Rand
from prunelit.pruning.masks import Masks, digest
from stock import trainer

SET = {"scope": "er", "grow": Growth(at="random", share=0.3)}
RIGL_GROWTH = {"at": "gradient", "share": 0.3, "decay": "cosine", "stop": 0.75, "regrow": True}
RIGL = {"scope": "erk", "grow": RIGL_GROWTH}


class Module(pl.LightningModule):
    def __init__(self, optimizer: str = "Adam") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 4)
        )
        self.optimizer = optimizer

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.layers(batch[0]), batch[1])

    def configure_optimizers(self):
        return getattr(torch.optim, self.optimizer)(self.parameters(), lr=0.01, weight_decay=0.01)


class Watch(pl.Callback):
    """Notes the masks that each epoch trains with, and the optimizer's moments where weights have grown."""

    def __init__(self, pruning: Pruning) -> None:
        self.pruning = pruning
        self.masks: list[Masks] = []
        self.moments: list[Tensor] = []

    def on_after_pruning(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning) -> None:
        self.masks.append(dict(pruning.masks))
        if len(self.masks) > 1:
            for name, mask in pruning.masks.items():
                grown = mask & ~self.masks[-2][name]
                assert pl_module.get_parameter(name)[grown].eq(0).all()
                state = trainer.optimizers[0].state[pl_module.get_parameter(name)]
                self.moments += [state[key][grown] for key in ("exp_avg", "exp_avg_sq")]
                assert state["exp_avg"][mask & self.masks[-2][name]].ne(0).any()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        for name, mask in self.pruning.masks.items():
            assert pl_module.get_parameter(name)[~mask].eq(0).all()


def loader() -> DataLoader:
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(48, 12, generator=generator)
    return DataLoader(TensorDataset(images, torch.arange(48) % 4), batch_size=16, shuffle=False)


@pytest.mark.parametrize(("options", "times"), [(SET, 8), (RIGL, 6)], ids=["set", "rigl"])
def test_counts_stay_and_places_change(options: dict[str, Any], times: int) -> None:
    pruning = Pruning(Rand(), sparsity=0.8, **options)
    watch = Watch(pruning)
    trainer(pruning, watch, max_epochs=8).fit(Module(), loader())
    assert len(watch.masks) == pruning.num_rounds == times
    counts = [[int(mask.sum()) for mask in masks.values()] for masks in watch.masks]
    assert counts == [counts[0]] * times
    assert sum(counts[0]) == round(0.2 * (360 + 900 + 120))
    assert len({digest(masks) for masks in watch.masks}) == times
    assert all(moment.eq(0).all() for moment in watch.moments)
    assert sum(moment.numel() for moment in watch.moments) > 100


def test_the_places_of_rigl_settle() -> None:
    """By cosine, fewer weights change places each time."""
    pruning = Pruning(Rand(), sparsity=0.5, scope="erk", grow={**RIGL_GROWTH, "regrow": False})
    watch = Watch(pruning)
    trainer(pruning, watch, max_epochs=8).fit(Module(), loader())
    pairs = zip(watch.masks, watch.masks[1:], strict=False)
    changed = [sum(int((new[n] & ~old[n]).sum()) for n in new) for old, new in pairs]
    assert changed == sorted(changed, reverse=True)
    assert changed[0] > 4 * changed[-1] > 0


@pytest.mark.parametrize("options", [SET, RIGL], ids=["set", "rigl"])
def test_a_resumed_run_ends_as_an_undisturbed_one(options: dict[str, Any], tmp_path: Path) -> None:
    def fit(epochs: int, resume: Path | None = None) -> tuple[Module, Pruning]:
        pruning, module = Pruning(Rand(), sparsity=0.8, **options), Module()
        saving = pl.callbacks.ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
        run = trainer(pruning, saving, max_epochs=epochs, enable_checkpointing=True)
        run.fit(module, loader(), ckpt_path=resume, weights_only=True)
        return module, pruning

    whole, masks = fit(6)
    resumed, again = fit(6, tmp_path / "epoch=2.ckpt")
    assert digest(masks.masks) == digest(again.masks)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_nothing_grows_before_the_pruning_or_without_epochs() -> None:
    late = Pruning(Rand(), sparsity=0.8, pre_epochs=2, **SET)
    trainer(late, watch := Watch(late), max_epochs=4).fit(Module(), loader())
    assert len(watch.masks) == 2
    none = Pruning(Rand(), sparsity=0.8, **SET)
    trainer(none, max_epochs=0).fit(Module(), loader())
    assert none.num_rounds == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"when": "epoch"}, r"^when=epoch: "),
        ({"masked_gradient": False}, r"^masked_gradient=false: "),
        ({"scope": "global", "pattern": "2:4"}, r"^pattern=2:4: "),
        ({"share": 0.3}, r"^share=0\.3: .*grow\.share"),
        ({"every": 2}, r"^every=2: .*grow\.every"),
        ({"grow": {"at": "random", "share": 2.0}}, r"^grow\.share=2\.0: "),
        ({"grow": {"at": "random", "shares": 0.2}}, r"^grow\.shares=0\.2: .*\bshare\?"),
    ],
)
def test_what_does_not_fit_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        Pruning(Rand(), sparsity=0.5, **{**SET, **more})


def test_training_without_an_end_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"^max_epochs=-1: "):
        trainer(Pruning(Rand(), sparsity=0.5, **SET), max_epochs=-1, max_steps=3).fit(Module(), loader())
