"""``Pruning``: the callback that prunes any LightningModule, at the requested moments."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer

from prunelit.pruning.doubts import warn_of_late_weights
from prunelit.pruning.parameters import note_trainable
from prunelit.request import BadRequest
from prunelit.training.fit.early_end import warn_of_early_end, warn_of_shortfall
from prunelit.training.fit.monitors import save_pruned
from prunelit.training.fit.notification import first_rank_alone_warns
from prunelit.training.fit.retraining import current_rates
from prunelit.training.fit.same_network import remember
from prunelit.training.fit.settings import settings_of, warn_of_other_settings
from prunelit.training.fit.slimming import check_slimming, penalize_scales
from prunelit.training.fit.trainer_checks import check_batches
from prunelit.training.holding.masked_checkpoints import MaskedCheckpointIO, mask_checkpoints
from prunelit.training.lightning_classes import overrides
from prunelit.training.network_pruner import NetworkPruner
from prunelit.training.parallel.sharding import check_strategy, gathered


class Pruning(NetworkPruner):
    """Prune a LightningModule during ``fit`` and apply its masks.

        Trainer(callbacks=[Pruning(SynFlow(), compression=0.5)]).fit(module, loader)

    The module needs no changes: batches come from its training data, and the loss from its ``training_step``.
    No parameter is renamed; pruned weights are exactly 0 after every optimizer step and in every checkpoint,
    and the masks are part of the callback's state.

    One object can be used in several fits. A fit continues with the masks and the remaining rounds if all
    weights that were pruned before are 0 in its network, for example in the same module, in a copy of it, or
    in one with its weights loaded. Any other network, such as that of the next fold of a cross-validation, is
    pruned from the beginning, and so is the same module if its initial weights are loaded again.

    At each pruning the best of every ``ModelCheckpoint``, ``EarlyStopping`` and ``ReduceLROnPlateau`` is
    reset, and ``EarlyStopping`` does not end the training before the last pruning.

    Any callback of the trainer may define ``on_before_pruning(trainer, pl_module, pruning)`` and
    ``on_after_pruning(trainer, pl_module, pruning)``; they are called before and after each pruning. With
    ``repair`` or ``recalibrate``, ``on_after_repair`` and ``on_after_recalibration`` follow, with the same
    arguments.

    Args:
        criterion: computes the scores.
        compression: ``log10(prunable / kept)``; set either this or ``sparsity``.
        sparsity: removed share of the prunable parameters, in [0, 1).
        network: dotted name of the submodule to prune; empty: the whole LightningModule. Masks have the names
            of this submodule's ``named_parameters()``.
        seed: the random seed of the scoring data and of random scores.
        options: ``grow``, a :class:`~prunelit.pruning.growth.Growth` or its fields as a mapping; and, by name
            or as a whole (``plan=Plan(...)``), the fields of
            :class:`~prunelit.pruning.plan.Plan` (``rounds``, ``schedule``, ``scope``, ``train_mode``,
            ``invert``, ``shuffle``, ``reinitialize``, ``threshold`` or a list, ...),
            :class:`~prunelit.training.fit.timing.Timing` (``when``, ``pre_epochs``, ``every``),
            :class:`~prunelit.training.fit.retraining.Retraining` (``rewind``, ``restart_schedule``,
            ``masked_gradient``, ``slimming``, ``repair``, ``ridge``, ``recalibrate``, ``cut``),
            :class:`~prunelit.pruning.parameters.Selection` (``bias``, ``norm``, ``exclude``, ``only``,
            ``frozen``) and
            :class:`~prunelit.training.scoring.training_batches.Sample` (``samples_per_class``, ``batches``,
            ``batch_size``).

    Attributes:
        masks: the masks by parameter name; empty before the first pruning.
        outcome: the result of the last pruning, or None, for example after resuming.
        seconds: time spent on scores and masks.
        num_rounds: score-and-mask rounds done so far.
        steps: the plan of each pruning and the density after it.
        num_done: prunings done so far.
        score_moments: mean and variance of the last scores by parameter name.
        thresholds: the list given as ``threshold``, if any. Each is evaluated on the unpruned network; the
            first one is then applied.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse unsupported settings of the trainer; the module may not have its layers yet."""
        if self.retraining.cut:
            self._follow_checkpoints(trainer)
        if stage == "fit":
            self._timeline.begin_fit()
            check_strategy(trainer.strategy, self.criterion)
            if self.growth.at and (trainer.max_epochs or 0) < 0:
                raise BadRequest("max_epochs", -1, "a number", "grow needs to know when training ends")
            check_batches(trainer, self.criterion)
            if self.retraining.cut:
                self.cut.check_fit(trainer)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Apply the masks of a network that was pruned before; without epochs to train, prune now."""
        self._let_go()
        # The states of a resumed run are restored after this hook: here they are those of the beginning.
        self._beginning = current_rates(trainer)
        self._monitors.attach(trainer, lambda: not (self.done or self.moment.after_training))
        nothing_to_train = self._has_nothing_to_train(trainer)
        if nothing_to_train or not self._has_layers_to_come(pl_module):
            self._begin(trainer, pl_module)
        if nothing_to_train:
            trainer.fit_loop.setup_data()
            while not self.done:
                self.prune(trainer, pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prepare a network whose layers or states were created after ``on_fit_start``."""
        super().on_train_start(trainer, pl_module)
        if not self._has_begun:
            self._begin(trainer, pl_module)
        elif self.masks and not self._holder.parameters:
            self._hold_masks(trainer, pl_module)
        if self.retraining.slimming and not self.done:
            check_slimming(self.network(pl_module), self.retraining.slimming)
        time = self._timeline
        time.begin_training(trainer)
        now, end = time.now(trainer, self.num_done), time.last_epoch(trainer)
        if not self.done and not self._snapshot.weights:
            self.retraining.check(now.epoch, self.moment.upcoming(now, end))
        self._planned = warn_of_shortfall(
            self.steps,
            self.num_done,
            self.moment.shortfall(now, end, len(self.steps) - self.num_done),
            trainer.max_epochs,
            self.current_density,
        )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prune at the start of an epoch, so that saved weights are those of the logged accuracy."""
        epoch = self._timeline.epoch(trainer)
        note_trainable(self.network(pl_module))
        if epoch == self.retraining.epoch and not self._snapshot.weights:
            with gathered(pl_module):
                self._snapshot.record(self.network(pl_module), trainer)
        if not self.done:
            self._prune_if_due(trainer, pl_module)
            return
        first = self.moment.first()
        since, epochs = epoch - first, self._timeline.last_epoch(trainer) - first
        if self.growth.due(since, epochs):
            self.exchange(trainer, pl_module, self.growth.share_at(since, epochs))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Prune within an epoch if due, and apply the masks before each training batch."""
        if self._prunes_within_epochs and not self.done:
            self._prune_if_due(trainer, pl_module)
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Add the gradient of the penalty on the scales of BatchNorm, and zero those of pruned weights."""
        if self.retraining.slimming and not self.done:
            penalize_scales(self.network(pl_module), optimizer, self.retraining.slimming)
        super().on_before_optimizer_step(trainer, pl_module, optimizer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the criterion observe the epoch."""
        super().on_train_epoch_end(trainer, pl_module)
        self._timeline.end_epoch(trainer)
        self._monitors.metrics_changed(trainer)
        if self._observer:
            self._observer.epoch_ended()
        if self.done and self.masks:
            self._warn_of_late_weights(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prune after training, if due."""
        super().on_train_end(trainer, pl_module)
        if self.moment.after_training and not self.done:
            self.prune(trainer, pl_module)
            save_pruned(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notify schedules of a new metric."""
        super().on_validation_end(trainer, pl_module)
        self._monitors.metrics_changed(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warn if the requested density is not reached."""
        super().on_fit_end(trainer, pl_module)
        self._warn_if_unfinished()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Release the network, because Lightning does not call ``teardown`` in this case."""
        super().on_exception(trainer, pl_module, exception)
        if isinstance(exception, KeyboardInterrupt):
            self._warn_if_unfinished()
        self._let_go()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Release network and optimizers."""
        if stage == "fit":
            self._last_density = self.current_density
        super().teardown(trainer, pl_module, stage)
        self._let_go()
        if stage == "fit":
            self._remember(self.network(pl_module))

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Record the number of epochs trained so far."""
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        self._timeline.read(checkpoint)

    def state_dict(self) -> dict[str, Any]:
        """Return masks, counts, the state for rewinding, and the settings, to compare them on resuming."""
        return {**super().state_dict(), "settings": self.settings()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        super().load_state_dict(state_dict)
        warn_of_other_settings(state_dict.get("settings"), self.settings())

    def settings(self) -> dict[str, str]:
        """Return what decides which weights are pruned and when, as text by name."""
        return settings_of(self.criterion, self.asked, self.selection, self.plan, self.timing, self.growth)

    def before_worker_weights(self, state: dict[str, Any], pl_module: pl.LightningModule) -> None:
        """Give the network the shapes that it has in a worker process, before its weights are loaded."""
        network = dict(pl_module.named_modules()).get(self.network_name)
        if network is not None:
            self.cut.follow(network, state["state"]["cut"])

    def load_worker_state(self, state: dict[str, Any], pl_module: pl.LightningModule) -> None:
        """Take over the state of a worker process, whose network is in ``pl_module`` now."""
        super().load_worker_state(state, pl_module)
        network = dict(pl_module.named_modules()).get(self.network_name)
        if network is not None:
            self._remember(network)

    def _remember(self, network: nn.Module) -> None:
        """Note the network at the end of a fit, so that the next fit recognizes it."""
        held = self.cut.of_whole(self.masks) if self.retraining.masked_gradient else {}
        self._fingerprint = remember(network, held)

    def _warn_of_late_weights(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warn once per fit about weights that train only since the last pruning and therefore stay dense."""
        late = [n for n in self.selection.of(self.network(pl_module)) if n not in self.masks]
        if late and not self._warned_of_late:
            self._warned_of_late = True
            with first_rank_alone_warns(trainer):
                warn_of_late_weights(late)

    def _follow_checkpoints(self, trainer: pl.Trainer) -> None:
        """Give the network the shapes of a checkpoint before its weights are loaded."""

        def follow(checkpoint: dict[str, Any]) -> None:
            state = checkpoint.get("callbacks", {}).get(self.state_key)
            if state is not None:
                self.cut.follow(self.network(trainer.lightning_module), state.get("cut"))

        mask_checkpoints(trainer, self.network_name)
        if isinstance(trainer.strategy.checkpoint_io, MaskedCheckpointIO):
            trainer.strategy.checkpoint_io.before_loading = follow

    def _has_layers_to_come(self, pl_module: pl.LightningModule) -> bool:
        """Return whether the network is built, or lazy layers get their shapes, after ``on_fit_start``."""
        if any(isinstance(p, UninitializedParameter) for p in pl_module.parameters()):
            return True
        try:
            self.check(self.network(pl_module))
        except BadRequest:
            return overrides(pl_module, "on_fit_start")
        return False

    def _has_nothing_to_train(self, trainer: pl.Trainer) -> bool:
        """Return whether Lightning will skip the training and therefore all moments of pruning."""
        if 0 in (trainer.max_epochs, trainer.max_steps, trainer.limit_train_batches):
            return True
        limits = trainer.max_epochs, trainer.max_steps
        behind = self._timeline.resumed_at or (-1, -1)
        return self.moment.after_training and any(n == m != -1 for n, m in zip(behind, limits, strict=True))

    def _prune_if_due(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.moment.is_due(self._timeline.now(trainer, self.num_done)):
            self.prune(trainer, pl_module)

    def _warn_if_unfinished(self) -> None:
        if not self.done and self.num_done != self._planned:
            warn_of_early_end(self.steps, self.num_done, self.current_density)

    def _let_go(self) -> None:
        self._has_begun = False
        self._holder.release()
        self._monitors.release()
        self._stop_observing()
