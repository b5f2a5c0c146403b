"""The moments of a Trainer at which masks are applied and checked.

Steps of optimizers, forward passes and ``state_dict()`` are handled by
:class:`~prunelit.training.holding.mask_holder.MaskHolder` itself. This class handles writes that cannot be
detected, through ``parameter.data``, such as the copy of averaged weights into a module.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn
from torch.optim import Optimizer

from prunelit.pruning.coupling.narrowing import Narrowing
from prunelit.pruning.masks import Masks, attach, attached, detach
from prunelit.pruning.rounds import Outcome
from prunelit.training.fit.retraining import Retraining
from prunelit.training.holding.averages import averages_of
from prunelit.training.holding.mask_holder import MaskHolder, MasksLost, count_nonzero_pruned
from prunelit.training.holding.masked_checkpoints import mask_checkpoints
from prunelit.training.parallel.returned_states import bring_back_states

bring_back_states()  # a spawned worker process imports this file but creates no callback
TRUSTED = ("torch", "lightning", "pytorch_lightning", "prunelit")
BETWEEN_BATCHES = ("on_train_batch_start", "on_train_batch_end", "on_before_zero_grad")
IN_A_STEP = ("optimizer_step", "lr_scheduler_step", "configure_gradient_clipping", "backward")


class HoldingCallback(Callback):
    """Applies and checks the masks of ``self._holder`` during a fit; it does not compute masks."""

    network_name = ""

    masks: Masks
    outcome: Outcome | None
    retraining: Retraining

    def __init__(self) -> None:
        bring_back_states()
        self._holder = MaskHolder()
        self._loaded: dict[str, Any] | None = None  # the checkpoint passed to a test or another entry point
        self._others_write_in_a_step = self._others_write_between_batches = False

    def without_masks(self) -> AbstractContextManager[None]:
        """Allow other values of pruned weights in the block, to evaluate the network with them."""
        return self._holder.paused()

    @property
    def held_bits(self) -> Masks:
        """The masks of the parameters with pruned weights, as integers with all bits set where kept."""
        return self._holder.bits

    def hold_everywhere(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set pruned weights to 0 in the network and in its averages."""
        self._holder.follow_layers()
        self._holder.apply()
        if self._holder.holds_any:
            for average in averages_of(trainer, pl_module, self.network_name):
                self._holder.apply_to_copy(average)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find where code outside of torch and Lightning can write to weights undetected."""
        mask_checkpoints(trainer, self.network_name)
        network = pl_module.get_submodule(self.network_name)
        if not self.masks and attached(network) and self.retraining.masked_gradient:
            self._holder.hold(network, {}, pl_module)  # pruned in an earlier fit or later in this one
        hooks = [getattr(owner, name, None) for owner in _owners(trainer) for name in BETWEEN_BATCHES]
        self._others_write_between_batches = not all(_is_trusted(hook) for hook in hooks)
        steps = [getattr(pl_module, name) for name in IN_A_STEP]
        steps += [type(optimizer) for optimizer in trainer.optimizers]
        manual = not pl_module.automatic_optimization
        self._others_write_in_a_step = manual or not all(_is_trusted(step) for step in steps)
        self._holder.unnoticed_writes_in_steps = manual

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Apply the masks before a training batch."""
        self._holder.follow_layers()
        self._holder.apply(everywhere=batch_idx == 0 or self._others_write_between_batches)

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Zero the gradients of pruned weights before code with its own steps reads them."""
        if not pl_module.automatic_optimization:
            self._holder.clear_gradients()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Zero the gradients of pruned weights; gradient clipping follows and only includes kept weights."""
        self._holder.clear_gradients()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Apply the masks after an update that was not made by an optimizer of torch."""
        self._holder.apply(everywhere=self._others_write_in_a_step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Apply the masks before weights and their averages are swapped."""
        if trainer.state.fn == "validate":
            self._settle(trainer, pl_module)
        self.hold_everywhere(trainer, pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Apply the masks of the weights to be tested."""
        self._settle(trainer, pl_module)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Apply the masks of the weights used for prediction."""
        self._settle(trainer, pl_module)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Record that the weights come from a checkpoint."""
        self._loaded = checkpoint.get("callbacks", {}).get(self.state_key) or {}

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Apply the masks before a validation, whose weights may be an average."""
        self._holder.apply(everywhere=batch_idx == 0)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Apply the masks after a validation, which may have swapped weights."""
        self._holder.apply()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Apply and check the masks at the end of an epoch."""
        self._hold_and_check(trainer, pl_module, f"at the end of epoch {trainer.current_epoch}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Apply the masks after the training."""
        self.hold_everywhere(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Apply and check the masks at the end of the training, after other callbacks have set averages."""
        self._hold_and_check(trainer, pl_module, "at the end of the fit")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Apply and check the masks before a checkpoint is written."""
        self._hold_and_check(trainer, pl_module, "before a checkpoint is saved")

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Release parameters and optimizers."""
        self._holder.release()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Apply the masks a last time, and release parameters and optimizers."""
        self._loaded = None
        self._holder.apply()
        self._holder.release()

    def worker_state(self) -> dict[str, Any]:
        """Return the state for the main process after a worker process has pruned."""
        return {"state": self.state_dict(), "outcome": self.outcome}

    def before_worker_weights(self, state: dict[str, Any], pl_module: pl.LightningModule) -> None:
        """Prepare the network for the weights of a worker process, which may have other shapes."""

    def load_worker_state(self, state: dict[str, Any], pl_module: pl.LightningModule) -> None:
        """Take over the state of a worker process, and attach its masks to the network."""
        self.load_state_dict(state["state"])
        self.outcome = state["outcome"]
        if self.masks and self.retraining.masked_gradient:
            # A network that was built in the worker does not exist here.
            network = dict(pl_module.named_modules()).get(self.network_name)
            if network is not None:
                attach(network, masks_in(state["state"]))

    def _settle(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Attach the masks of the present weights, outside of a fit."""
        network = pl_module.get_submodule(self.network_name)
        if self._loaded and attached(network) is not None:
            detach(network)
            attach(network, masks_in(self._loaded))
        broken = count_nonzero_pruned(network)
        if not broken:
            return
        if self._loaded is not None:
            detach(network)  # a checkpoint of other weights, without masks
            return
        name, count = next(iter(broken.items()))
        rank_zero_warn(
            f"{name}: {count} pruned weights are not 0, since other weights were loaded; they are set to 0."
            " To use all of the weights, load them into a module that was not pruned"
        )
        self._holder.hold(network, {}, pl_module)

    def _hold_and_check(self, trainer: pl.Trainer, pl_module: pl.LightningModule, when: str) -> None:
        self.hold_everywhere(trainer, pl_module)
        check_zeros(trainer, self._holder, when)


def masks_in(state: dict[str, Any]) -> Masks:
    """Return the masks in the state of a callback, in the shapes that the network had when it was saved."""
    masks: Masks = state["masks"]
    if not state.get("cut"):
        return masks
    narrowing = Narrowing.from_state(state["cut"])
    return {name: narrowing.narrowed(name, mask) for name, mask in masks.items()}


def check_zeros(trainer: pl.Trainer, holder: MaskHolder, when: str) -> None:
    """Compare the weights of ``holder`` with its masks, on all ranks together.

    Raises:
        MasksLost: on every rank, if a pruned weight is not exactly 0 on one rank.
    """
    counts = holder.count_violations()
    if not counts:
        return
    found = torch.stack([count.to(trainer.strategy.root_device) for count in counts.values()])
    if trainer.world_size > 1:
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
    for name, count in zip(counts, found.tolist(), strict=True):
        if count:
            raise MasksLost(
                f"{name}: {count} pruned weights are not 0 {when}: "
                "write to weights in an earlier hook, or set Pruning(masked_gradient=False) to allow this"
            )


def _owners(trainer: pl.Trainer) -> list[Any]:
    return [trainer.lightning_module, *trainer.callbacks]  # type: ignore[attr-defined]


def _is_trusted(code: Any) -> bool:
    return code is None or str(code.__module__).partition(".")[0] in TRUSTED
