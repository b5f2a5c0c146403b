"""What cannot be held is refused or ends the fit with one line; what is over is let go."""

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from prunelit import BadRequest, Mag, Pruning
from prunelit.training.holding.mask_holder import MasksLost
from prunelit.training.parallel.sharding import check_strategy
from reading import Clipping, Reader, nonzero
from stock import loader, trainer


@pytest.mark.parametrize("change", ["parametrized", "other shape"])
def test_a_layer_that_no_longer_has_the_pruned_parameter_ends_the_fit(change: str) -> None:
    class Changing(Reader):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 1 and change == "parametrized":
                parametrize.register_parametrization(self.backbone[6], "weight", nn.Tanh())
            elif self.current_epoch == 1:
                self.backbone[6] = nn.Linear(24, 11)

    with pytest.raises(MasksLost, match=r"^backbone\.6\.weight .*mask has the shape \(10, 24\)"):
        trainer(Pruning(Mag(), compression=0.5), max_epochs=3).fit(Changing(), loader())


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_flat_parameters_are_refused_under_both_names_of_the_package(package: str) -> None:
    strategies = pytest.importorskip(f"{package}.strategies")
    with pytest.raises(BadRequest, match=r"^trainer\.strategy=fsdp: .*flat parameters.*fully_shard"):
        check_strategy(strategies.FSDPStrategy(), Mag())


def test_weights_that_grow_back_unheld_end_the_fit_at_the_end_of_the_epoch() -> None:
    class Forgetting(pl.Callback):
        def on_train_epoch_start(self, *_: Any) -> None:
            self.block = pruning.without_masks()
            self.block.__enter__()

    pruning = Pruning(Mag(), compression=1.0)
    with pytest.raises(
        MasksLost, match=r"^backbone\.0\.weight: \d+ pruned weights are not 0 at the end of epoch 0"
    ):
        trainer(pruning, Forgetting()).fit(Clipping(), loader())


def test_what_trains_on_after_an_interrupted_fit_is_not_held() -> None:
    class Interrupted(Reader):
        def on_train_epoch_end(self) -> None:
            raise RuntimeError("stop here")

    module, pruning = Interrupted(), Pruning(Mag(), compression=1.0)
    with pytest.raises(RuntimeError, match="stop here"):
        trainer(pruning).fit(module, loader())
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    F.cross_entropy(module.backbone(torch.randn(4, 3, 8, 8)), torch.arange(4)).backward()
    optimizer.step()
    assert nonzero(module.named_parameters(), pruning.masks) > 1000
    assert not any(part._forward_pre_hooks for part in module.modules())
