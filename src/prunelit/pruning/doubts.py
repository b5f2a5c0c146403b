"""Checks of a pruning: an error if the scores decide nothing, otherwise warnings."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from prunelit.pruning.coupling.competition import Competition
from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.layers import EMBEDDING, OTHER
from prunelit.pruning.masks import Masks, Scores, collapsed_layers, count_all, density_of
from prunelit.pruning.parameters import Selection, abridged, in_groups
from prunelit.pruning.ties import Ties, UndecidedScores
from prunelit.pruning.units import Groups, obstacle_to_cut
from prunelit.request import PruningWarning

SMALL = 0.01
"""The share of a network's parameters below which there is no warning about embeddings and the like."""
ROUNDING = 0.005
"""Difference of densities below which there is no warning, in addition to the rounding to whole filters."""


def warn_of_dense(network: nn.Module, selection: Selection) -> None:
    """Warn once, in one line, of the weights of ``network`` that stay dense, with the reasons.

    Embeddings and single parameters are expected to be dense and are only reported if there are many.
    """
    reasons = selection.left_dense(network)
    sizes = {name: p.numel() for name, p in network.named_parameters(remove_duplicate=False)}
    share = sum(sizes[name] for name in reasons) / sum(p.numel() for p in network.parameters())
    if share > SMALL or any(reason not in (EMBEDDING, OTHER) for reason in reasons.values()):
        _warn(f"{100 * share:.3g} % of the parameters are weights that stay dense: {in_groups(reasons)}")


def warn_of_late_weights(names: list[str]) -> None:
    """Warn of weights that began to train after the last pruning."""
    _warn(
        f"{abridged(names)} began to train after the last pruning and stay dense: prune later (pre_epochs), "
        "or with frozen=True"
    )


@dataclass
class Doubts:
    """Collects the doubtful results of one pruning.

    Attributes:
        network: the pruned network.
        criterion: computes the scores.
        scope: which parameters compete.
        train_mode: whether scores are computed in train mode.
        shuffled: whether masks are moved to random positions in their layers.
        groups: the parameters that are kept or removed together.
        ties: of the last round in which they decided a considerable number.
    """

    network: nn.Module
    criterion: Criterion
    scope: str
    train_mode: bool
    shuffled: bool
    groups: Groups | Competition | None
    ties: Ties = field(default_factory=Ties)

    def add(self, ties: Ties, previous: Masks) -> None:
        """Check one round.

        A criterion that has not observed any training yet is allowed, with a warning.

        Raises:
            UndecidedScores: all scores are equal, and not because ``previous`` cut the network already.
        """
        if self.shuffled and self.scope != "global":
            return
        if ties.all_equal and not _empty(previous) and self.criterion.observes == "never":
            values = " or ".join(f"{value + 0.0:.3g}" for value in sorted(ties.scores))
            raise UndecidedScores(
                "criterion",
                self._name,
                f"one whose scores differ; {self._remedy()}",
                f"all scores of {self._name} that compete are equal ({values}), so that they decide nothing",
            )
        if ties.considerable:
            self.ties = ties

    def warn(self, scores: Scores, density: float | None, start: Masks, masks: Masks) -> None:
        """Give one warning for each doubt about the final ``masks``."""
        if self.ties.considerable:
            self._warn_of_ties()
        empty = [name for name in _empty(masks) if name not in _empty(start)]
        if empty:
            idle = all(not scores[name].any() for name in empty)
            why = f": all scores of {self._name} are 0 there; {self._remedy()}" if idle else ""
            _warn(f"nothing is kept in {abridged(empty)} (keep_at_least=1 prevents this){why}")
        if isinstance(self.groups, Groups):
            if density is not None:
                self._warn_of_density(self.groups, min(density, density_of(start)), masks)
            self._warn_of_filters(self.groups, start, masks)

    def _warn_of_ties(self) -> None:
        ties, unit = self.ties, "weights" if self.groups is None else "units and weights"
        values = f"{min(ties.scores) + 0.0:.3g}" if len(ties.scores) == 1 else "one score"
        _warn(
            f"{ties.num_tied} of {ties.num_kept} {unit} are kept only because they come before others "
            f"with the same score of {self._name} ({values}) in {abridged(ties.layers)}; {self._remedy()}"
        )

    def _warn_of_density(self, groups: Groups, density: float, masks: Masks) -> None:
        """Warn if more is kept than requested, by more than the rounding to whole units."""
        sizes = {name: mask.numel() for name, mask in masks.items()}
        by_unit = [sum(sizes[name] for name in units.members) / units.count for units in groups.units]
        rounding = (sum(by_unit) + len(groups.alone)) / 2 / count_all(masks)
        reached = density_of(masks)
        if reached - density <= rounding + ROUNDING:
            return
        known = {units.weight for units in groups.units} | set(groups.alone)
        rest = [name for name, mask in masks.items() if mask.ndim > 1 and name not in known]
        why = f": {abridged(rest)} cannot lose whole units" if rest else ""
        _warn(f"{self._name} reached a density of {reached:.4g} instead of the requested {density:.4g}{why}")

    def _warn_of_filters(self, groups: Groups, start: Masks, masks: Masks) -> None:
        """Warn of filters that were emptied and cannot be cut out of the tensors."""
        before, after = groups.alive(start), groups.alive(masks)
        changed = [u for u in groups.units if not torch.equal(before[u.weight], after[u.weight])]
        reasons = {u.layer: why for u in changed if (why := obstacle_to_cut(self.network, u))}
        if reasons:
            _warn(f"some emptied filters cannot be removed from the network: {in_groups(reasons)}")

    @property
    def _name(self) -> str:
        return type(self.criterion).__name__

    def _remedy(self) -> str:
        """Return the possible remedies."""
        remedies = []
        uses_network = self.criterion.needs != "nothing"
        statistics = any(isinstance(m, _NormBase) and m.track_running_stats for m in self.network.modules())
        if uses_network and statistics and not self.train_mode:
            remedies.append("score with the statistics of the batch (train_mode=True)")
        if any(p.is_floating_point() and p.element_size() < 4 for p in self.network.parameters()):
            remedies.append("keep the weights in float32, where small numbers are not rounded to 0")
        remedies.append("train first (pre_epochs)")
        remedies.append("leave layers dense whose weights are initialized to one value (exclude)")
        return "remedies: " + ", ".join(remedies)


def _empty(masks: Masks) -> list[str]:
    """Return the tensors with nothing kept, but for biases: a layer without a bias still works."""
    return [name for name in collapsed_layers(masks) if not name.endswith("bias")]


def _warn(message: str) -> None:
    warnings.warn(message, PruningWarning, stacklevel=2)
