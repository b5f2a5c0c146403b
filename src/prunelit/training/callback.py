"""``Pruning``: the callback that prunes any LightningModule; the only place that knows *when*."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from prunelit.pruning.criteria import Criterion
from prunelit.pruning.masks import (
    Masks,
    apply_masks,
    apply_masks_to_gradients,
    attach,
    attached,
    bit_masks,
    count_all,
    density_of,
    detach,
    digest,
)
from prunelit.pruning.parameters import Parameters
from prunelit.pruning.rounds import Outcome, check_density, prune
from prunelit.request import BadRequest, nearest
from prunelit.training.options import distribute, target_density
from prunelit.training.retraining import restart_schedules, rewind, schedule_states, snapshot
from prunelit.training.scoring import build_objective, undisturbed


class Pruning(Callback):
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
            ``train_mode``, ``invert``, ``shuffle``, ``reinitialize``, ``threshold``, ...),
            :class:`~prunelit.training.timing.Timing` (``when``, ``pre_epochs``, ``every``),
            :class:`~prunelit.training.retraining.Retraining` (``rewind``, ``restart_schedule``,
            ``masked_gradient``),
            :class:`~prunelit.pruning.parameters.Selection` (``bias``, ``norm``, ``exclude``) and
            :class:`~prunelit.training.scoring.Sample` (``samples_per_class``, ``batches``,
            ``batch_size``).

    Attributes:
        masks: the masks by parameter name; empty before the first pruning.
        outcome: what the last pruning gave, or None (as after a resume).
        seconds: time spent on scores and masks.
        num_rounds: score-and-mask rounds done so far.
        steps: what each pruning does: its plan and the density it ends with.
        num_done: prunings done so far.
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
        self.selection, self.plan, self.sample, self.timing, self.retraining = distribute(options)
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
        self._hooks: list[RemovableHandle] = []
        self._held: Parameters = {}
        self._held_masks: Masks = {}
        self._rewind_weights: dict[str, Tensor] = {}
        self._schedules: list[dict[str, Any]] = []

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

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take hold of a resumed network; with no epochs to come, prune now."""
        # The states of a resumed run are restored after this hook: these are those of the beginning.
        self._schedules = schedule_states(trainer)
        if self.masks:
            self._hold(trainer, pl_module)
        if trainer.max_epochs == 0:
            trainer.fit_loop.setup_data()
            while not self.done:
                self.prune(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prune at the start of an epoch, so that saved weights are those of the logged accuracy."""
        epoch = trainer.current_epoch
        if epoch == self.retraining.epoch and not self._rewind_weights:
            self._rewind_weights = snapshot(self.network(pl_module))
        if not self.done and self.timing.due(epoch, self.num_done):
            self.prune(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prune after training, if that is the moment."""
        if self.timing.when == "end" and not self.done:
            self.prune(trainer, pl_module)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Zero the gradients of pruned weights; gradient clipping comes after and counts kept ones only."""
        apply_masks_to_gradients(self._held, self._held_masks)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let go of the optimizers."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._held, self._held_masks = [], {}, {}

    def state_dict(self) -> dict[str, Any]:
        """Return masks, counts and what rewinding goes back to; they ride along in every checkpoint."""
        counts = {name: getattr(self, name) for name in ("seconds", "num_rounds", "num_done")}
        return {"masks": dict(self.masks), "rewind_weights": dict(self._rewind_weights), **counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.masks = dict(state_dict["masks"])
        self._rewind_weights = dict(state_dict["rewind_weights"])
        for name in ("seconds", "num_rounds", "num_done"):
            setattr(self, name, state_dict[name])

    # What: one pruning.

    def prune(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do the next pruning now: score, mask, hold, and make ready for retraining."""
        plan, density = self.steps[self.num_done]
        _tell(trainer, "on_before_pruning", pl_module, self)
        start = time.perf_counter()
        root = self.network(pl_module)
        with undisturbed(pl_module, root):
            objective = None
            if self.criterion.needs != "nothing":
                needs = self.criterion.needs
                objective = build_objective(trainer, pl_module, root, needs, self.sample, self.seed)
            self.outcome = prune(
                root,
                self.criterion,
                density,
                selection=self.selection,
                plan=plan,
                objective=objective,
                seed=self.seed,
                agree=partial(agreed, trainer),
            )
        self.masks = self.outcome.masks
        self.num_rounds += len(self.outcome.densities)
        self.num_done += 1
        self.seconds += time.perf_counter() - start
        if self._rewind_weights:
            rewind(root, self._rewind_weights, trainer)
        if self.retraining.restart_schedule:
            restart_schedules(trainer, self._schedules)
        self._hold(trainer, pl_module)
        _forget_best(trainer)
        _tell(trainer, "on_after_pruning", pl_module, self)

    def _hold(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Zero the pruned weights now and after every optimizer step, whatever the optimizer does."""
        root = self.network(pl_module)
        self._held = parameters = dict(root.named_parameters(remove_duplicate=False))
        self.masks = {name: mask.to(parameters[name].device) for name, mask in self.masks.items()}
        if not self.retraining.masked_gradient:
            # The next round chooses among all weights again.
            detach(root)
            return
        attach(root, self.masks)
        # Masks that an earlier pruning left on other parameters are held as well.
        every = {name: mask for name, mask in (attached(root) or {}).items() if name in parameters}
        every = {name: mask.to(parameters[name].device) for name, mask in every.items()}
        self._held_masks = bit_masks(parameters, every)
        self._after_step()
        if not self._hooks:
            self._hooks = [o.register_step_post_hook(self._after_step) for o in trainer.optimizers]

    def _after_step(self, *_: Any) -> None:
        apply_masks(self._held, self._held_masks)

    @property
    def current_density(self) -> float:
        """Kept share of the prunable parameters; where they may grow back, of those that are not 0."""
        if not self.masks:
            return 1.0
        if self.retraining.masked_gradient or not self._held:
            return density_of(self.masks)
        return density_of({name: self._held[name] != 0 for name in self.masks})


def agreed(trainer: pl.Trainer, masks: Masks) -> Masks:
    """Return the masks of rank 0 on every rank.

    Raises:
        RuntimeError: a rank did not get what rank 0 sent.
    """
    devices = {name: mask.device for name, mask in masks.items()}
    sent = trainer.strategy.broadcast({name: mask.cpu() for name, mask in masks.items()})
    if digest(sent) != trainer.strategy.broadcast(digest(masks)):
        raise RuntimeError(f"rank {trainer.global_rank} holds other masks than rank 0")
    return {name: mask.to(devices[name]) for name, mask in sent.items()}


def _tell(trainer: pl.Trainer, event: str, pl_module: pl.LightningModule, pruning: Pruning) -> None:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        listener = getattr(callback, event, None)
        if listener is not None:
            listener(trainer, pl_module, pruning)


def _forget_best(trainer: pl.Trainer) -> None:
    """Let every monitoring checkpoint start anew: a best from before the pruning is none of this density."""
    for checkpoint in trainer.checkpoint_callbacks:
        if isinstance(checkpoint, ModelCheckpoint) and checkpoint.monitor is not None:
            checkpoint.best_k_models = {}
            checkpoint.best_model_score = checkpoint.current_score = None
            checkpoint.kth_value = None  # type: ignore[assignment]
            checkpoint.best_model_path = checkpoint.kth_best_model_path = ""
