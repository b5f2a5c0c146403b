"""``Pruning``: the callback that prunes any LightningModule; the only place that knows *when*."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import fields
from functools import partial
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from prunelit.pruning.criteria import Criterion
from prunelit.pruning.masks import (
    Masks,
    apply_masks,
    apply_masks_to_gradients,
    attach,
    count_all,
    density_of,
    digest,
)
from prunelit.pruning.parameters import Parameters, Selection
from prunelit.pruning.rounds import Outcome, Plan, check_density, prune
from prunelit.request import BadRequest, nearest
from prunelit.training.scoring import Sample, build_objective, undisturbed

MOMENTS = ("start",)


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
        when: ``start`` prunes before training.
        pre_epochs: epochs of training before the first pruning.
        network: dotted name of the submodule to prune; empty: the whole LightningModule. Masks
            carry the names of this part's ``named_parameters()``.
        seed: of the scoring data and of random scores.
        options: fields of :class:`~prunelit.pruning.rounds.Plan` (``rounds``, ``schedule``, ``scope``,
            ``train_mode``, ``invert``, ``shuffle``, ``reinitialize``),
            :class:`~prunelit.pruning.parameters.Selection` (``bias``, ``norm``, ``exclude``) and
            :class:`~prunelit.training.scoring.Sample` (``samples_per_class``, ``batches``,
            ``batch_size``).

    Attributes:
        masks: the masks by parameter name; empty before the first pruning.
        outcome: what the last pruning gave, or None (as after a resume).
        seconds: time spent on scores and masks.
        num_rounds: score-and-mask rounds done so far.
    """

    state_key = "prunelit.Pruning"

    def __init__(
        self,
        criterion: Criterion,
        compression: float | None = None,
        sparsity: float | None = None,
        *,
        when: str = "start",
        pre_epochs: int = 0,
        network: str = "",
        seed: int = 0,
        **options: Any,
    ) -> None:
        if when not in MOMENTS:
            raise BadRequest("pruner.when", when, nearest(str(when), MOMENTS))
        self.criterion, self.when, self.pre_epochs = criterion, when, pre_epochs
        self.density = target_density(compression, sparsity)
        self.asked = ("compression", compression or 0.0) if sparsity is None else ("sparsity", sparsity)
        self.network_name, self.seed = network, seed
        self.selection, self.plan, self.sample = _distribute(options)
        self.masks: Masks = {}
        self.outcome: Outcome | None = None
        self.seconds = 0.0
        self.num_rounds = 0
        self._hooks: list[RemovableHandle] = []
        self._held: Parameters = {}

    @property
    def done(self) -> bool:
        """Whether the network has its final density."""
        return bool(self.masks)

    def network(self, pl_module: pl.LightningModule) -> nn.Module:
        """Return the part of ``pl_module`` that is pruned."""
        try:
            return pl_module.get_submodule(self.network_name)
        except AttributeError:
            names = [name for name, _ in pl_module.named_modules() if name]
            raise BadRequest("network", self.network_name, nearest(self.network_name, names)) from None

    def check(self, network: nn.Module) -> None:
        """Raise BadRequest if nothing would be left of ``network``."""
        check_density(self.density, count_all(self.selection.of(network)), self.asked)

    # When: the hooks of a fit.

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a wrong request before any work starts."""
        if stage == "fit":
            self.check(self.network(pl_module))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take hold of a resumed network; with no epochs to come, prune now."""
        if self.done:
            self._hold(trainer, pl_module)
        elif trainer.max_epochs == 0:
            trainer.fit_loop.setup_data()
            self.prune(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prune at the start of an epoch, so that saved weights are those of the logged accuracy."""
        if not self.done and trainer.current_epoch >= self.pre_epochs:
            self.prune(trainer, pl_module)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Zero the gradients of pruned weights; gradient clipping comes after and counts kept ones only."""
        if self.masks:
            apply_masks_to_gradients(self._held, self.masks)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let go of the optimizers."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._held = [], {}

    def state_dict(self) -> dict[str, Any]:
        """Return masks and counts; they ride along in every checkpoint."""
        return {"masks": dict(self.masks), "seconds": self.seconds, "num_rounds": self.num_rounds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take masks and counts from a checkpoint."""
        self.masks = dict(state_dict["masks"])
        self.seconds, self.num_rounds = state_dict["seconds"], state_dict["num_rounds"]

    # What: one pruning.

    def prune(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score, mask and hold, now."""
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
                self.density,
                selection=self.selection,
                plan=self.plan,
                objective=objective,
                seed=self.seed,
                agree=partial(agreed, trainer),
            )
        self.masks = self.outcome.masks
        self.num_rounds += len(self.outcome.densities)
        self.seconds += time.perf_counter() - start
        self._hold(trainer, pl_module)
        _forget_best(trainer)
        _tell(trainer, "on_after_pruning", pl_module, self)

    def _hold(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Zero the pruned weights now and after every optimizer step, whatever the optimizer does."""
        root = self.network(pl_module)
        self._held = dict(root.named_parameters())
        self.masks = {name: mask.to(self._held[name].device) for name, mask in self.masks.items()}
        attach(root, self.masks)
        apply_masks(self._held, self.masks)
        if not self._hooks:
            self._hooks = [o.register_step_post_hook(self._after_step) for o in trainer.optimizers]

    def _after_step(self, *_: Any) -> None:
        apply_masks(self._held, self.masks)

    @property
    def current_density(self) -> float:
        """Kept share of the prunable parameters now."""
        return density_of(self.masks) if self.masks else 1.0


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


def target_density(compression: float | None, sparsity: float | None) -> float:
    """Return ``10 ** -compression`` or ``1 - sparsity``.

    Raises:
        BadRequest: both or neither given, or out of range.
    """
    if compression is not None and sparsity is not None:
        raise BadRequest(
            "sparsity", sparsity, "compression or sparsity, never both", f"compression={compression}"
        )
    if sparsity is not None:
        if not _is_number(sparsity) or not 0 <= sparsity < 1:
            raise BadRequest("sparsity", sparsity, "a number from 0 up to, but not including, 1")
        return 1 - sparsity
    if compression is None:
        raise BadRequest("compression", compression, "a number of 0 or more (or give sparsity)")
    if not _is_number(compression) or not 0 <= compression < float("inf"):
        raise BadRequest("compression", compression, "a number of 0 or more: log10(prunable / kept)")
    return float(10**-compression)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _distribute(options: dict[str, Any]) -> tuple[Selection, Plan, Sample]:
    """Give each option to the dataclass that has a field of its name."""
    if isinstance(options.get("exclude"), str):
        options["exclude"] = (options["exclude"],)
    if isinstance(options.get("exclude"), Iterable):
        options["exclude"] = tuple(options["exclude"])
    known = {f.name for kind in (Selection, Plan, Sample) for f in fields(kind)}
    for key in options:
        if key not in known:
            raise BadRequest(f"pruner.{key}", options[key], nearest(key, known))
    chosen = [
        kind(**{f.name: options[f.name] for f in fields(kind) if f.name in options})
        for kind in (Selection, Plan, Sample)
    ]
    return tuple(chosen)  # type: ignore[return-value]


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
