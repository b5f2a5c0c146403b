"""The options of a pruning: their types by name, and which dataclass each of them belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Annotated, Any, Literal, TypedDict

from annotated_types import Len

from prunelit.declared import Option, Says
from prunelit.pruning.allocation import pattern_of
from prunelit.pruning.growth import Growth
from prunelit.pruning.parameters import Selection
from prunelit.pruning.plan import Plan
from prunelit.request import BadRequest, nearest
from prunelit.training.retraining import Retraining
from prunelit.training.timing import Timing
from prunelit.training.training_batches import Sample

THRESHOLDS = Option(
    "threshold",
    Annotated[
        float | Annotated[tuple[float, ...], Len(1)] | None, Says("a number, a list of numbers, or null")
    ],
    None,
)


def listed_thresholds(options: dict[str, Any]) -> tuple[float, ...]:
    """Return the thresholds if ``options["threshold"]`` lists several, and leave the first in their place.

    Raises:
        BadRequest: not finite numbers; a list where several rounds follow each other.
    """
    asked = THRESHOLDS.check(options.get("threshold"))
    if not isinstance(asked, tuple):
        return ()
    options["threshold"] = asked[0]
    if options.get("when") == "epoch" or options.get("rounds", 1) != 1:
        raise BadRequest("threshold", list(asked), "one number", "a list is for a single pruning")
    return asked


WHOLE = {"scope": "layer", "bias": True, "norm": True, "grow": None}
"""What holds where whole filters are pruned."""


def for_filters(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a criterion of whole filters.

    Raises:
        BadRequest: an option that would leave a part of a filter, or let layers compete.
    """
    why = "whole filters go with all their parts, a share a layer"
    for key, value in WHOLE.items():
        if options.get(key, value) != value:
            raise BadRequest(key, options[key], "null" if value is None else str(value).lower(), why)
    return {**options, **WHOLE}


KINDS: tuple[Any, ...] = (Selection, Plan, Growth, Sample, Timing, Retraining)
"""The dataclasses whose fields are the options of :class:`~prunelit.training.callback.Pruning`."""


class PruningOptions(TypedDict, total=False):
    """What :class:`~prunelit.training.callback.Pruning` takes by name, for editors and type checkers.

    The meaning of each stands beside the field of the same name of ``Selection``, ``Plan``, ``Growth``,
    ``Sample``, ``Timing`` or ``Retraining``.
    """

    bias: bool
    norm: bool
    frozen: bool
    exclude: str | Sequence[str]
    only: str | Sequence[str]
    rounds: int
    schedule: Literal["exponential", "linear", "cubic", "constant"]
    share: float
    scope: str
    train_mode: bool
    invert: bool
    shuffle: bool
    reinitialize: bool
    threshold: float | Sequence[float] | None
    keep_at_least: int
    layer_densities: Mapping[str, float] | None
    rounding: Literal["nearest", "up"]
    grow: Literal["random", "gradient"] | None
    every: int
    decay: Literal["none", "cosine"]
    stop: float
    regrow: bool
    samples_per_class: int | None
    batches: int | None
    batch_size: int | None
    when: Literal["start", "epoch", "end"]
    pre_epochs: int | None
    rewind: Literal["none", "init"] | int
    restart_schedule: bool
    masked_gradient: bool


Options = tuple[Selection, Plan, Growth, Sample, Timing, Retraining]


def distribute(options: dict[str, Any]) -> Options:
    """Give each option to the dataclass that has a field of its name."""
    known = {f.name for kind in KINDS for f in fields(kind)} - {"rewound_to"}
    for key in options:
        if key == "density":
            raise BadRequest("density", options[key], "sparsity, which is 1 - density, or compression")
        if key not in known:
            raise BadRequest(key, options[key], nearest(key, known | {"compression", "sparsity"}))
    chosen: Any = [
        kind(**{f.name: options[f.name] for f in fields(kind) if f.name in options}) for kind in KINDS
    ]
    _check_growth(*chosen)
    selection, plan, growth, sample, timing, retraining = chosen
    timing = replace(timing, rewound_to=retraining.epoch or 0)
    return selection, plan, growth, sample, timing, retraining


def _check_growth(
    selection: Selection, plan: Plan, growth: Growth, sample: Sample, timing: Timing, retraining: Retraining
) -> None:
    """Raise BadRequest where weights that change places do not fit what else is asked for."""
    if growth.grow is None:
        return
    if timing.when != "start":
        raise BadRequest("when", timing.when, "start", f"grow is {growth.grow}")
    if not retraining.masked_gradient:
        raise BadRequest("masked_gradient", False, "true", f"grow is {growth.grow}")
    if pattern_of(plan.scope) is not None:
        allowed = "global, layer, er or erk (weights cannot move inside an N:M pattern)"
        raise BadRequest("scope", plan.scope, allowed, f"grow is {growth.grow}")
