"""``Pruning``: the callback that prunes any LightningModule; the only place that knows *when*."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import lightning.pytorch as pl
from torch import Tensor, nn

from prunelit.pruning.criteria import Criterion
from prunelit.pruning.growth import exchange
from prunelit.pruning.masks import Masks, count_all, density_of, detach
from prunelit.pruning.rounds import Outcome, check_density, prune
from prunelit.request import BadRequest, nearest
from prunelit.training.holding_hooks import HoldingCallback
from prunelit.training.observation import Observation
from prunelit.training.options import distribute, for_filters, listed_thresholds, target_density
from prunelit.training.peers import agreed, check_agreement, forget_best, share_buffers, tell
from prunelit.training.retraining import forget_moments, restart_schedules, rewind, schedule_states, snapshot
from prunelit.training.scoring import build_objective
from prunelit.training.sharding import check_strategy, gathered, shard_like, whole
from prunelit.training.undisturbed import undisturbed

COUNTS = ("seconds", "num_rounds", "num_done", "score_moments")


class Pruning(HoldingCallback):
    """Prune a LightningModule during ``fit`` and hold its masks.

        Trainer(callbacks=[Pruning(SynFlow(), compression=0.5)]).fit(module, loader)

    The module needs to know nothing of pruning: batches come from its training data, the loss
    from its ``training_step``. No parameter is renamed; pruned weights are exactly 0 after every
    optimizer step and in every checkpoint, and the masks ride along in the callback's state.

    Any callback of the trainer may define ``on_before_pruning(trainer, pl_module, pruning)`` and
    ``on_after_pruning(trainer, pl_module, pruning)``; they are called around each pruning.

    Args:
        criterion: gives the scores.
        compression: ``log10(prunable / kept)``; give it or ``sparsity``.
        sparsity: removed share of the prunable parameters, in [0, 1).
        network: dotted name of the submodule to prune; empty: the whole LightningModule. Masks
            carry the names of this part's ``named_parameters()``.
        seed: of the scoring data and of random scores.
        options: fields of :class:`~prunelit.pruning.rounds.Plan` (``rounds``, ``schedule``, ``scope``,
            ``train_mode``, ``invert``, ``shuffle``, ``reinitialize``, ``threshold`` or a list, ...),
            :class:`~prunelit.pruning.growth.Growth` (``grow``, ``decay``, ``stop``, ...),
            :class:`~prunelit.training.timing.Timing` (``when``, ``pre_epochs``, ``every``),
            :class:`~prunelit.training.retraining.Retraining` (``rewind``, ``restart_schedule``,
            ``masked_gradient``),
            :class:`~prunelit.pruning.parameters.Selection` (``bias``, ``norm``, ``exclude``, ``only``) and
            :class:`~prunelit.training.training_batches.Sample` (``samples_per_class``, ``batches``,
            ``batch_size``).

    Attributes:
        masks: the masks by parameter name; empty before the first pruning.
        outcome: what the last pruning gave, or None (as after a resume).
        seconds: time spent on scores and masks.
        num_rounds: score-and-mask rounds done so far.
        steps: what each pruning does: its plan and the density it ends with.
        num_done: prunings done so far.
        score_moments: mean and variance of the last scores by parameter name.
        thresholds: those that are tried one by one on the network to be pruned, if a list of them was
            given as ``threshold``; the first is the one that holds.
    """

    state_key = "prunelit.Pruning"

    def __init__(
        self,
        criterion: Criterion,
        compression: float | None = None,
        sparsity: float | None = None,
        *,
        network: str = "",
        seed: int = 0,
        **options: Any,
    ) -> None:
        if not isinstance(criterion, Criterion):
            raise BadRequest("criterion", criterion, "a criterion instance, such as prunelit.Mag()")
        super().__init__()
        options = for_filters(options) if criterion.unit == "filter" else options
        self.thresholds = listed_thresholds(options)
        chosen = distribute(options)
        self.selection, self.plan, self.growth = chosen[:3]
        self.sample, self.timing, self.retraining = chosen[3:]
        self.criterion, self.network_name, self.seed = criterion, network, seed
        asked = compression is not None or sparsity is not None
        self.density = (
            target_density(compression, sparsity) if asked or not self.plan.decides_density else None
        )
        self.asked = ("compression", compression or 0.0) if sparsity is None else ("sparsity", sparsity)
        self.steps = self.timing.steps(self.plan, self.density)
        self.masks: Masks = {}
        self.outcome: Outcome | None = None
        self.seconds = 0.0
        self.num_rounds = self.num_done = 0
        self.score_moments: dict[str, tuple[float, float]] = {}
        self._rewind_weights: dict[str, Tensor] = {}
        self._schedules: list[dict[str, Any]] = []
        self._observation: Observation | None = None
        self._epochs_before = 0  # those that a resumed run has behind it

    @property
    def done(self) -> bool:
        """Whether the network has its final density."""
        return self.num_done >= len(self.steps)

    def network(self, pl_module: pl.LightningModule) -> nn.Module:
        """Return the part of ``pl_module`` that is pruned."""
        try:
            return pl_module.get_submodule(self.network_name)
        except AttributeError:
            names = [name for name, _ in pl_module.named_modules() if name]
            raise BadRequest("network", self.network_name, nearest(self.network_name, names)) from None

    def check(self, network: nn.Module) -> None:
        """Raise BadRequest if nothing would be left of ``network``."""
        parameters = self.selection.of(network)
        if self.density is not None:
            check_density(self.density, count_all(parameters), self.asked)

    # When: the hooks of a fit.

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a wrong request before any work starts."""
        if stage == "fit":
            self.check(self.network(pl_module))
            check_strategy(trainer.strategy, self.criterion)
            if self.growth.grow and (trainer.max_epochs or 0) < 0:
                raise BadRequest(
                    "max_epochs",
                    -1,
                    "a number",
                    "grow needs to know when training ends",
                )
            self.timing.warn_if_late(trainer.max_epochs, len(self.steps))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take hold of a resumed network, let the criterion begin; with no epochs to come, prune now."""
        # The states of a resumed run are restored after this hook: these are those of the beginning.
        self._schedules = schedule_states(trainer)
        if self.masks:
            self._hold_masks(trainer, pl_module)
        if not self.done:
            parameters = self.selection.of(self.network(pl_module))
            self._observation = Observation(self.criterion, parameters, trainer.optimizers)
        # Lightning skips a training that has no epoch left, and its end with it.
        trained = self.timing.when == "end" and self._epochs_before == trainer.max_epochs
        if trainer.max_epochs == 0 or trained:
            trainer.fit_loop.setup_data()
            while not self.done:
                self.prune(trainer, pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take hold of a resumed network that was split over ranks: its states are restored late."""
        super().on_train_start(trainer, pl_module)
        if self.masks and not self._hold.parameters:
            self._hold_masks(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prune at the start of an epoch, so that saved weights are those of the logged accuracy."""
        epoch = trainer.current_epoch
        if epoch == self.retraining.epoch and not self._rewind_weights:
            with gathered(pl_module):
                self._rewind_weights = snapshot(self.network(pl_module))
        since, epochs = self.timing.since_pruning(epoch), self.timing.since_pruning(trainer.max_epochs or 0)
        if not self.done and self.timing.due(epoch, self.num_done):
            self.prune(trainer, pl_module)
        elif self.done and self.growth.due(since, epochs):
            self.exchange(trainer, pl_module, self.growth.share_at(since, epochs))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the criterion observe the epoch; check the masks."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._observation:
            self._observation.epoch_ended()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prune after training, if that is the moment; hold the masks."""
        super().on_train_end(trainer, pl_module)
        if self.timing.when == "end" and not self.done:
            self.prune(trainer, pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let go of the network and the optimizers."""
        super().teardown(trainer, pl_module, stage)
        self._stop_observing()

    def state_dict(self) -> dict[str, Any]:
        """Return masks, counts and what rewinding goes back to; they ride along in every checkpoint."""
        observed = self.criterion.state_dict() if self._observation else {}
        weights, counts = dict(self._rewind_weights), {name: getattr(self, name) for name in COUNTS}
        return {"masks": dict(self.masks), "rewind_weights": weights, "observed": observed, **counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.masks = dict(state_dict["masks"])
        self._rewind_weights = dict(state_dict["rewind_weights"])
        for name in COUNTS:
            setattr(self, name, state_dict[name])
        if state_dict["observed"]:
            self.criterion.load_state_dict(state_dict["observed"])

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note how many epochs the run has behind it: the trainer learns that only after ``on_fit_start``."""
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        if "loops" in checkpoint:
            progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
            self._epochs_before = progress["current"]["processed"]

    # What: one pruning.

    def prune(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do the next pruning now: score, mask, hold, and make ready for retraining."""
        plan, density = self.steps[self.num_done]
        work = partial(prune, criterion=self.criterion, density=density, plan=plan, seed=self.seed)
        with gathered(pl_module):
            tell(trainer, "on_before_pruning", pl_module, self)
            self._score_and_mask(work, self.criterion.needs, trainer, pl_module)
            self.num_done += 1
            if self._rewind_weights:
                rewind(self.network(pl_module), self._rewind_weights, trainer)
        if self.retraining.restart_schedule:
            restart_schedules(trainer, self._schedules)
        self._hold_masks(trainer, pl_module)
        if self.done:
            self._stop_observing()
        elif self._observation:
            self._observation.begin_again()
        forget_best(trainer)
        with gathered(pl_module):
            tell(trainer, "on_after_pruning", pl_module, self)

    def exchange(self, trainer: pl.Trainer, pl_module: pl.LightningModule, share: float) -> None:
        """Drop ``share`` of each layer's weights now and grow as many elsewhere."""
        before, mode, seed = self.masks, self.plan.train_mode, self.seed + (trainer.current_epoch << 32)
        work = partial(exchange, growth=self.growth, share=share, train_mode=mode, seed=seed)
        with gathered(pl_module):
            tell(trainer, "on_before_pruning", pl_module, self)
            self._score_and_mask(work, self.growth.needs, trainer, pl_module)
        held = self._hold.parameters
        grown = {held[n]: shard_like(mask & ~before[n], held[n]) for n, mask in self.masks.items()}
        forget_moments(trainer.optimizers, grown)
        self._hold_masks(trainer, pl_module)
        with gathered(pl_module):
            tell(trainer, "on_after_pruning", pl_module, self)

    def _score_and_mask(
        self, work: Callable[..., Outcome], needs: str, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> None:
        start = time.perf_counter()
        root = self.network(pl_module)
        share_buffers(trainer, pl_module)
        with self.without_masks(), undisturbed(trainer, pl_module, root):
            objective = None
            if needs != "nothing":
                objective = build_objective(trainer, pl_module, root, needs, self.sample, self.seed)
            agree = partial(agreed, trainer)
            self.outcome = work(root, selection=self.selection, objective=objective, agree=agree)
        self.masks, self.score_moments = self.outcome.masks, self.outcome.score_moments
        self.num_rounds += len(self.outcome.densities)
        self.seconds += time.perf_counter() - start

    def _hold_masks(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        root = self.network(pl_module)
        devices = {name: p.device for name, p in root.named_parameters(remove_duplicate=False)}
        self.masks = {name: mask.to(devices[name]) for name, mask in self.masks.items()}
        check_agreement(trainer, self.masks)
        if self.retraining.masked_gradient:
            self._hold.take(root, self.masks, pl_module)
            self.hold_everywhere(trainer, pl_module)
        else:
            # The next round chooses among all weights again.
            detach(root)
            self._hold.watch(root)

    def _stop_observing(self) -> None:
        if self._observation:
            self._observation.close()
            self._observation = None

    @property
    def current_density(self) -> float:
        """Kept share of the prunable parameters; where they may grow back, of those that are not 0."""
        if not self.masks:
            return 1.0
        if self.retraining.masked_gradient or not self._hold.parameters:
            return density_of(self.masks)
        return density_of({name: whole(self._hold.parameters[name] != 0) for name in self.masks})
