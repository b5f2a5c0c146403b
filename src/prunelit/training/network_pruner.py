"""Prune the network of a LightningModule inside a trainer: options, masks and state of a pruning."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import lightning.pytorch as pl
from torch import nn
from typing_extensions import Unpack

from prunelit.amount import BUDGETS, Amount
from prunelit.pruning.amount_checks import check_arguments, check_decided, check_network, check_normalized
from prunelit.pruning.call import Call
from prunelit.pruning.criteria import Criterion
from prunelit.pruning.doubts import warn_of_dense
from prunelit.pruning.earlier_masks import starting_masks
from prunelit.pruning.growth import exchange
from prunelit.pruning.masks import Masks, attached, density_of, detach
from prunelit.pruning.parameters import forget_trainable
from prunelit.pruning.rounds import Outcome, prune
from prunelit.request import BadRequest, nearest
from prunelit.training.cutting.cut_while_training import CutNetwork
from prunelit.training.fit.budget_rounds import goal_of, steps_to
from prunelit.training.fit.monitors import Monitors
from prunelit.training.fit.network_epochs import Timeline
from prunelit.training.fit.notification import first_rank_alone_warns, notify
from prunelit.training.fit.observer import Observer
from prunelit.training.fit.options import PruningOptions, by_name, distribute, for_filters
from prunelit.training.fit.recovery import Recovery
from prunelit.training.fit.retraining import Rates, Snapshot, forget_moments, set_rates
from prunelit.training.fit.same_network import drop_outdated_masks, goes_on
from prunelit.training.fit.threshold_list import check_thresholds, listed_thresholds
from prunelit.training.fit.trainer_checks import check_apart
from prunelit.training.holding.holding_callback import HoldingCallback
from prunelit.training.parallel.agreement import agreed, check_agreement, share_buffers
from prunelit.training.parallel.sharding import gathered, shard_like, whole
from prunelit.training.restoring.no_trace import undisturbed
from prunelit.training.scoring.objective import build_objective

STATE_KEY = "prunelit.Pruning"
COUNTS = ("seconds", "num_rounds", "num_done", "score_moments", "latency_predicted")


class NetworkPruner(HoldingCallback):
    """What :class:`~prunelit.training.callback.Pruning` does to a network; that class itself decides when."""

    def __init__(
        self,
        criterion: Criterion,
        compression: float | None = None,
        sparsity: float | None = None,
        *,
        network: str = "",
        seed: int = 0,
        **options: Unpack[PruningOptions],
    ) -> None:
        check_arguments(criterion=criterion, network=network, seed=seed)
        super().__init__()
        given = by_name(options)
        amount = Amount(compression, sparsity, **{key: given.pop(key, None) for key in BUDGETS})
        self.budget = amount.budget
        if self.budget is not None:
            given["granularity"] = "unit"
        given = for_filters(given, criterion.across_layers) if criterion.unit == "filter" else given
        self.thresholds = listed_thresholds(given, amount)
        chosen = distribute(given)
        self.selection, self.plan, self.growth = chosen[:3]
        self.sample, self.timing, self.retraining = chosen[3:]
        check_thresholds(self.thresholds, self.plan, self.timing)
        self.criterion, self.network_name, self.seed = criterion, network, seed
        self.density, self.asked = amount.density, amount.given
        check_decided(self.plan, self.asked[0], None if amount.is_decided else self.asked[1])
        if self.retraining.cut:
            CutNetwork.check_criterion(criterion)
        self.moment = self.timing.moment
        self.steps = steps_to(self.budget, self.density, self.plan, self.moment)
        check_normalized(self.selection, criterion, sum(plan.rounds for plan, _ in self.steps))
        self._prunes_within_epochs = self.moment.within_epochs
        self._monitors, self._timeline = Monitors(), Timeline()
        self._recovery = Recovery(self.retraining, seed)
        self._observer: Observer | None = None
        self._beginning: Rates = {}
        self._fingerprint, self._has_begun = "", False
        self._begin_network()

    def _begin_network(self) -> None:
        """Reset everything about the network pruned so far, if any."""
        self.masks: Masks = {}
        self.cut = CutNetwork()
        self._example: Call | None = None  # of the last pruning, until the network is cut
        self._last_density: float | None = None  # at the end of the last fit
        self.outcome: Outcome | None = None
        self.seconds = 0.0
        self.num_rounds = self.num_done = 0
        self.score_moments: dict[str, tuple[float, float]] = {}
        self.latency_predicted: float | None = None
        self._snapshot = Snapshot()
        self._planned = len(self.steps)
        self._timeline.begin_network()

    @property
    def state_key(self) -> str:
        """The name of the callback's state in checkpoints, one for each network that is pruned."""
        # The command line prunes the part "network" of its own module.
        return STATE_KEY if self.network_name in ("", "network") else f"{STATE_KEY}[{self.network_name}]"

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
        """Raise BadRequest if ``network`` cannot be pruned as requested."""
        chosen = self.selection.of(network), self.criterion, self.selection, self.plan
        check_network(network, *chosen, self.density, self.asked)

    def earlier_masks(self, network: nn.Module) -> Masks:
        """Return the masks of an earlier pruning, which apply until the first pruning of this callback."""
        return starting_masks(network, self.selection.of(network)) if attached(network) else {}

    def state_dict(self) -> dict[str, Any]:
        """Return masks, counts and the state for rewinding, which are part of every checkpoint."""
        return {
            "masks": dict(self.masks),
            "rewind_weights": dict(self._snapshot.weights),
            "rewind_rates": self._snapshot.rates,
            "observed": {} if self.done else self.criterion.state_dict(),
            "network": self.network_name,
            "cut": self.cut.state(),
            "timeline": self._timeline.state_dict(),
            **{name: getattr(self, name) for name in COUNTS},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.masks = dict(state_dict["masks"])
        self._snapshot = Snapshot(dict(state_dict["rewind_weights"]), state_dict.get("rewind_rates"))
        self._timeline.load_state_dict(state_dict.get("timeline", {}))
        for name in COUNTS:
            setattr(self, name, state_dict.get(name))
        if state_dict["observed"]:
            self.criterion.load_state_dict(state_dict["observed"])

    def _begin(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the network, and detect whether it is the one that this callback has pruned."""
        root = self.network(pl_module)
        forget_trainable(root)
        self.check(root)
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        others = [c for c in callbacks if isinstance(c, NetworkPruner) and c is not self]
        check_apart(self.network_name, root, ((c.network_name, c.network(pl_module)) for c in others))
        held = self.cut.of_whole(self.masks) if self.retraining.masked_gradient else {}
        known = self._timeline.is_resumed or goes_on(root, held, self._fingerprint)
        if not known:
            self._begin_network()
            drop_outdated_masks(root)
            if self.retraining.masked_gradient:
                self.masks = self.earlier_masks(root)
        if self.retraining.cut:
            self.cut.check_network(trainer, pl_module, self.network_name)
        if self.masks:
            self._hold_masks(trainer, pl_module)
        if not self.done:
            with first_rank_alone_warns(trainer):
                warn_of_dense(root, self.selection)
            # A part that is frozen now may train, and be pruned, later.
            watched = replace(self.selection, frozen=True).of(root)
            self._observer = Observer(self.criterion, watched, trainer.optimizers, known)
        self._warned_of_late = False
        self._has_begun = True

    def prune(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do the next pruning: score, mask, apply the masks, and prepare for retraining."""
        plan, share = self.steps[self.num_done]
        goal = goal_of(self.budget, share, self.plan, self.num_done + 1, len(self.steps))
        work = partial(prune, criterion=self.criterion, density=goal, plan=plan, seed=self.seed)
        # The warning about dense parameters was given at the start of the fit.
        work = partial(work, reports=("density",) if self.num_done + 1 == len(self.steps) else ())
        if self.cut.narrowing is not None:
            self._holder.release()
            self.cut.restore(self.network(pl_module), trainer)
            self._hold_masks(trainer, pl_module)
        with gathered(pl_module):
            notify(trainer, "on_before_pruning", pl_module, self)
            self._recovery.note(self.network(pl_module))
            self._score_and_mask(work, self.criterion.needs, trainer, pl_module)
            self.num_done += 1
            self._timeline.last_pruning = self._timeline.epoch(trainer)
            if self._snapshot.weights:
                self._snapshot.give_weights(self.network(pl_module), trainer.optimizers)
        rates = self.retraining.rates(self._beginning, self._snapshot.rates)
        if rates is not None:
            set_rates(trainer, rates)
        self._hold_masks(trainer, pl_module)
        if self.done:
            self._stop_observing()
        elif self._observer:
            self._observer.begin_again()
        self._monitors.forget(trainer)
        if self.selection.cut_normalized:  # the whole network, with zeros, computes something else
            self._remove_units(trainer, pl_module)
        with gathered(pl_module):
            notify(trainer, "on_after_pruning", pl_module, self)
            for hook in self._recovery.hooks(trainer, pl_module, self.network(pl_module), self.masks):
                notify(trainer, hook, pl_module, self)
        if self.retraining.cut and not self.selection.cut_normalized:
            self._remove_units(trainer, pl_module)

    def _remove_units(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Cut the units that the masks remove out of the network and the states of the optimizers."""
        assert self._example is not None
        root, start = self.network(pl_module), time.perf_counter()
        with undisturbed(trainer, pl_module, root):
            narrowing = self.cut.possible(trainer, root, self.masks, self._example)
        self._holder.release()
        self._example = None
        self.cut.cut(root, narrowing, trainer)
        self._hold_masks(trainer, pl_module)
        self.seconds += time.perf_counter() - start

    def exchange(self, trainer: pl.Trainer, pl_module: pl.LightningModule, share: float) -> None:
        """Drop ``share`` of each layer's weights now and grow the same number elsewhere."""
        before, mode, seed = self.masks, self.plan.train_mode, self.seed + (trainer.current_epoch << 32)
        work = partial(exchange, growth=self.growth, share=share, train_mode=mode, seed=seed)
        with gathered(pl_module):
            notify(trainer, "on_before_pruning", pl_module, self)
            self._score_and_mask(work, self.growth.needs, trainer, pl_module)
        held = self._holder.parameters
        grown = {held[n]: shard_like(mask & ~before[n], held[n]) for n, mask in self.masks.items()}
        forget_moments(trainer.optimizers, grown)
        self._hold_masks(trainer, pl_module)
        with gathered(pl_module):
            notify(trainer, "on_after_pruning", pl_module, self)

    def _score_and_mask(
        self, work: Callable[..., Outcome], needs: str, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> None:
        start = time.perf_counter()
        root = self.network(pl_module)
        share_buffers(trainer, pl_module)
        with self.without_masks(), undisturbed(trainer, pl_module, root):
            objective = None
            follows = self.selection.granularity == "unit"
            if follows or needs != "nothing":
                needs = "example" if needs == "nothing" else needs
                args = trainer, pl_module, root, needs, self.sample, self.seed
                objective = build_objective(*args, with_inputs=follows)
            agree = partial(agreed, trainer)
            with first_rank_alone_warns(trainer):
                self.outcome = work(root, selection=self.selection, objective=objective, agree=agree)
            if objective is not None and self.retraining.cut:
                self._example = objective.example(root)
        self.masks, self.score_moments = self.outcome.masks, self.outcome.score_moments
        self.latency_predicted = getattr(self.outcome.latency, "predicted", None)
        self.num_rounds += len(self.outcome.densities)
        self.seconds += time.perf_counter() - start

    def _hold_masks(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        root = self.network(pl_module)
        devices = {name: p.device for name, p in root.named_parameters(remove_duplicate=False)}
        self.masks = {name: mask.to(devices[name]) for name, mask in self.masks.items()}
        check_agreement(trainer, self.masks)
        if self.retraining.masked_gradient:
            self._holder.hold(root, self.cut.of_whole(self.masks), pl_module)
            self.hold_everywhere(trainer, pl_module)
        else:
            # The next round chooses among all weights again.
            detach(root)
            self._holder.watch(root)

    def _stop_observing(self) -> None:
        if self._observer:
            self._observer.close()
            self._observer = None

    @property
    def current_density(self) -> float:
        """Kept share of the prunable parameters; if they may become nonzero, the share that is not 0."""
        if not self.masks:
            return 1.0
        if self.retraining.masked_gradient:
            return density_of(self.masks)
        if not self._holder.parameters:
            return density_of(self.masks) if self._last_density is None else self._last_density
        return density_of({name: whole(self._holder.parameters[name] != 0) for name in self.masks})
