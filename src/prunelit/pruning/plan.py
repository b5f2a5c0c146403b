"""How scores determine masks: rounds, their schedule, and which parameters compete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt
from typing_extensions import Doc

from prunelit.amount import sets_density
from prunelit.declared import Says, check_fields
from prunelit.former_options import refuse_former
from prunelit.pruning.allocation import (
    erdos_renyi_densities,
    layer_masks,
    pattern_masks,
    pattern_of,
    rounded_up_masks,
)
from prunelit.pruning.masks import SCOPES, Masks, Scores, make_masks, num_kept, threshold_masks
from prunelit.pruning.schedules import SCHEDULES, constant, rounds_to_reach
from prunelit.pruning.ties import Ties
from prunelit.request import BadRequest


@dataclass(frozen=True)
class Plan:
    """How scores determine masks."""

    rounds: Annotated[
        int,
        Ge(1),
        Doc(
            "The number of times that the weights are scored and masked. The schedule `constant` "
            "ignores it and uses as many rounds as needed."
        ),
    ] = 1
    schedule: Annotated[
        Literal["exponential", "linear", "cubic", "constant"],
        Doc(
            "How the density decreases over the rounds. `constant` removes `share` of what remains in "
            "each round, until the requested density is reached or exceeded."
        ),
    ] = "exponential"
    share: Annotated[
        float,
        Gt(0),
        Lt(1),
        Doc("The share of what remains that the schedule `constant` removes in each round."),
    ] = 0.1
    scope: Annotated[
        Literal["global", "layer", "erk", "er", "isomorphic"],
        Doc(
            "Which parameters compete. `global`: all prunable parameters. `layer`: those of each "
            "tensor, with the same density for all tensors. `erk`: those of each tensor, with its "
            "Erdős-Rényi-kernel density. `er`: the same without the kernel sizes. `isomorphic`, with "
            "granularity `unit`: the units of all groups of one kind, such as the hidden layers of residual "
            "blocks, with the same density for all kinds."
        ),
    ] = "global"
    pattern: Annotated[
        str | None,
        Says("a pattern N:M with N <= M, such as 2:4, or null"),
        Doc(
            "Keep N of every M consecutive inputs, for example `2:4` as sparse tensor cores require. "
            "The pattern determines the density. null: no pattern."
        ),
    ] = None
    train_mode: Annotated[
        bool, Doc("Score in train mode (batch statistics, dropout) instead of eval mode.")
    ] = False
    invert: Annotated[bool, Doc("Keep the lowest scores instead of the highest.")] = False
    shuffle: Annotated[
        bool,
        Doc("Move the mask of each layer to random positions within the layer. The counts do not change."),
    ] = False
    reinitialize: Annotated[bool, Doc("Draw new weights after pruning. The masks do not change.")] = False
    threshold: Annotated[
        float | None,
        Doc(
            "Keep the parameters whose score is at least this value, instead of a given number of parameters."
        ),
    ] = None
    keep_at_least: Annotated[int, Ge(0), Doc("The minimum number of parameters to keep in each tensor.")] = 0
    layer_densities: Annotated[
        Mapping[str, float] | None,
        Says("a density for each tensor, or null"),
        Doc("A density for each tensor, by name. These densities determine the density of the network."),
    ] = None
    unit_scores: Annotated[
        Literal["sum", "mean", "max"],
        Doc(
            "With granularity `unit`: how the scores of a unit's parts in several parameters become one. "
            "Within each parameter they are summed."
        ),
    ] = "sum"
    normalize: Annotated[
        Literal["none", "mean", "max"],
        Doc(
            "With granularity `unit`: what the scores of each group of units are divided by, so that groups "
            "of different sizes compete with scope `global`."
        ),
    ] = "mean"
    round_to: Annotated[
        int,
        Ge(1),
        Doc(
            "With granularity `unit`: a number that the widths left are multiples of, such as 8; the nearest "
            "multiple is taken, and at least one."
        ),
    ] = 1
    rounding: Annotated[
        Literal["nearest", "up"],
        Doc(
            "How the number of kept parameters is rounded in each round. `nearest`: to the nearest "
            "integer. `up`: to n - int((1 - density) * n), as in SynFlow's published code."
        ),
    ] = "nearest"

    def __post_init__(self) -> None:
        refuse_former({"scope": self.scope})
        check_fields(self)
        for name, density in (self.layer_densities or {}).items():
            if not 0 <= density <= 1:
                raise BadRequest("layer_densities", f"{{{name}: {density:.4g}}}", "densities from 0 to 1")
        if self.pattern is not None:
            pattern_of(self.pattern)
        self._check_what_sets_the_density()
        if self.rounding == "up" and self.scope not in SCOPES:
            raise BadRequest("rounding", "up", f"nearest with scope={self.scope}")

    def _check_what_sets_the_density(self) -> None:
        """Raise BadRequest if a pattern or layer densities are combined with options that contradict them."""
        if not sets_density(vars(self)):
            return
        if self.pattern is not None and self.layer_densities is not None:
            raise BadRequest("pattern", self.pattern, "null", "layer_densities is given too")
        name = "layer_densities" if self.pattern is None else f"pattern={self.pattern}"
        why = f"{name} determines the density"
        if self.threshold is not None:
            raise BadRequest("threshold", self.threshold, "null", why)
        if self.scope not in SCOPES:
            raise BadRequest("scope", self.scope, "global or layer", why)
        if self.rounding == "up":
            raise BadRequest("rounding", "up", "nearest", why)

    def check_units(self) -> None:
        """Raise BadRequest where the plan is for single weights and not for whole units."""
        why = "whole units are removed (granularity is unit)"
        for key in ("pattern", "layer_densities"):
            if (value := getattr(self, key)) is not None:
                raise BadRequest(key, value, "null", why)
        if self.scope not in (*SCOPES, "isomorphic"):
            raise BadRequest("scope", self.scope, "global, layer or isomorphic", why)
        if self.rounding == "up":
            raise BadRequest("rounding", "up", "nearest", why)

    def check_weights(self) -> None:
        """Raise BadRequest where the plan is for whole units and not for single weights."""
        if self.scope == "isomorphic":
            why = "single weights are removed (granularity is weight)"
            raise BadRequest("scope", self.scope, "global, layer, erk or er", why)

    @property
    def decides_density(self) -> bool:
        """Whether the plan itself determines how much is kept."""
        return self.threshold is not None or sets_density(vars(self))

    def targets(self, density: float | None, start: float = 1.0) -> list[float | None]:
        """Return the density after each round, from ``start`` down; None where the plan decides."""
        if density is None:
            return [None] * self.rounds
        if density >= start:
            return [density]
        if self.schedule == "constant":
            rounds = rounds_to_reach(density, self.share, start)
            return [constant(r, self.share, start) for r in range(1, rounds + 1)]
        schedule = SCHEDULES[self.schedule]
        return [schedule(r, self.rounds, density, start) for r in range(1, self.rounds + 1)]

    def number_kept(self, density: float | None, n: int) -> int | None:
        """Return how many of ``n`` parameters are kept where all compete and the highest scores are kept.

        None where that alone does not determine the masks.
        """
        if density is None or self.scope != "global" or self.invert or self.keep_at_least:
            return None
        return num_kept(num_kept(density, n, "up") / n if self.rounding == "up" else density, n)

    def masks(
        self, scores: Scores, density: float | None, previous: Masks, ties: Ties | None = None
    ) -> Masks:
        """Return the masks of one round; ``ties`` records where scores do not decide."""
        if self.invert:
            scores = {name: -score for name, score in scores.items()}
        if density is not None:
            if self.rounding == "up":
                return rounded_up_masks(scores, density, self.scope, previous, self.keep_at_least, ties)
            if self.scope not in ("er", "erk"):
                return make_masks(scores, density, self.scope, previous, self.keep_at_least, ties)
            shapes = {name: score.shape for name, score in scores.items()}
            densities = erdos_renyi_densities(shapes, density, kernel=self.scope == "erk")
            return layer_masks(scores, densities, previous, self.keep_at_least, ties)
        if self.layer_densities is not None:
            return layer_masks(scores, self.layer_densities, previous, self.keep_at_least, ties)
        if self.pattern is not None:
            return pattern_masks(scores, *pattern_of(self.pattern), previous, ties)
        assert self.threshold is not None
        return threshold_masks(scores, self.threshold, previous, self.keep_at_least)
