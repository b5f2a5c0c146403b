"""The options of a pruning: their types, and the dataclass to which each belongs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal, TypedDict

from prunelit.amount import KEYS
from prunelit.declared import options_of
from prunelit.former_options import refuse_former
from prunelit.pruning.growth import Growth
from prunelit.pruning.parameters import Selection
from prunelit.pruning.plan import Plan
from prunelit.request import BadRequest, nearest, within
from prunelit.training.fit.retraining import Retraining
from prunelit.training.fit.timing import Timing, When
from prunelit.training.fit.unused_options import warn_of_unused
from prunelit.training.scoring.training_batches import Sample

WHOLE = {"scope": "layer", "pattern": None, "layer_densities": None, "bias": True, "norm": True}
"""The fixed options of pruners of whole filters."""


def for_filters(options: dict[str, Any], across_layers: bool = False) -> dict[str, Any]:
    """Return the options of a criterion of whole filters.

    ``across_layers`` is whether it compares units of different layers: with granularity ``unit``, their scope
    is a choice.

    Raises:
        BadRequest: an option would keep a part of a filter, or let layers compete.
    """
    why = "whole filters are pruned with all their parts, with the same share in each layer"
    chosen = across_layers and options.get("granularity") == "unit"
    fixed = {key: value for key, value in WHOLE.items() if not (chosen and key == "scope")}
    for key, value in fixed.items():
        if options.get(key, value) != value:
            raise BadRequest(key, options[key], "null" if value is None else str(value).lower(), why)
    if growth_of(options).at is not None:
        raise BadRequest("grow.at", growth_of(options).at, "null", why)
    return {**options, **fixed}


def growth_of(options: Mapping[str, Any]) -> Growth:
    """Return ``options["grow"]`` as a Growth; without it nothing grows.

    Raises:
        BadRequest: it has another type, or one of its keys is unknown or has a wrong value.
    """
    asked = options.get("grow")
    if isinstance(asked, Growth):
        return asked
    if asked is not None and not isinstance(asked, Mapping):
        raise BadRequest("grow", asked, "a Growth, or its fields by name")
    given, known = dict(asked or {}), options_of(Growth)
    with within("grow", given):
        for key in given:
            if key not in known:
                raise BadRequest(key, given[key], nearest(key, known))
        return Growth(**given)


PARTS: dict[str, Any] = {
    "selection": Selection,
    "plan": Plan,
    "sample": Sample,
    "timing": Timing,
    "retraining": Retraining,
}
"""The names under which whole dataclasses of options can be given."""


def by_name(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options by name; some may be given as a whole, such as ``plan=Plan(...)``.

    Raises:
        BadRequest: a part of another class; an option that is given by name and in a part.
    """
    refuse_former(options)
    found = {key: value for key, value in options.items() if key not in PARTS}
    for name, kind in PARTS.items():
        part = options.get(name, kind())
        if not isinstance(part, kind):
            raise BadRequest(name, part, f"a {kind.__name__}")
        for key, option in options_of(kind).items():
            if (value := getattr(part, key)) == option.default:
                continue
            if key in found:
                raise BadRequest(key, found[key], "given once", f"{name} has {key}={value}")
            found[key] = value
    return found


KINDS: tuple[Any, ...] = (*PARTS.values(), Growth)
"""The dataclasses whose fields are the options of :class:`~prunelit.training.callback.Pruning`."""


class PruningOptions(TypedDict, total=False):
    """The keyword arguments of :class:`~prunelit.training.callback.Pruning`, for editors and type checkers.

    The meaning of each is given at the field of the same name of ``Selection``, ``Plan``, ``Growth``,
    ``Sample``, ``Timing`` or ``Retraining``.
    """

    flops: float | None
    params: float | None
    speedup: float | None
    latency: float | str | None
    granularity: Literal["weight", "unit"]
    cut_normalized: bool
    bias: bool
    norm: bool
    frozen: bool
    exclude: str | Sequence[str]
    only: str | Sequence[str]
    rounds: int
    schedule: Literal["exponential", "linear", "cubic", "constant"]
    share: float
    scope: Literal["global", "layer", "erk", "er", "isomorphic"]
    pattern: str | None
    train_mode: bool
    invert: bool
    shuffle: bool
    reinitialize: bool
    threshold: float | Sequence[float] | None
    keep_at_least: int
    layer_densities: Mapping[str, float] | None
    unit_scores: Literal["sum", "mean", "max"]
    normalize: Literal["none", "mean", "max"]
    round_to: int
    rounding: Literal["nearest", "up"]
    grow: Growth | Mapping[str, Any] | None
    samples_per_class: int | None
    batches: int | None
    batch_size: int | None
    when: When
    pre_epochs: int | None
    every: int
    rewind: Literal["none", "init"] | int
    restart_schedule: bool
    masked_gradient: bool
    cut: bool
    slimming: float
    repair: int | None
    ridge: float
    recalibrate: int | None
    selection: Selection
    plan: Plan
    sample: Sample
    timing: Timing
    retraining: Retraining


Options = tuple[Selection, Plan, Growth, Sample, Timing, Retraining]


def distribute(options: dict[str, Any]) -> Options:
    """Pass each option to the dataclass that has a field of its name."""
    known = {f.name for kind in PARTS.values() for f in fields(kind)} - {"rewound_to"} | {"grow"}
    for key in options:
        if key == "density":
            raise BadRequest("density", options[key], "sparsity, which is 1 - density, or compression")
        if key not in known:
            raise BadRequest(key, options[key], nearest(key, known | set(KEYS)))
    chosen: Any = [
        kind(**{f.name: options[f.name] for f in fields(kind) if f.name in options})
        for kind in PARTS.values()
    ]
    growth = growth_of(options)
    if chosen[0].granularity == "unit":
        chosen[1].check_units()
        if growth.at is not None:
            raise BadRequest("grow.at", growth.at, "null", "whole units are removed (granularity is unit)")
    else:
        chosen[1].check_weights()
    selection, plan, sample, timing, retraining = chosen
    if selection.cut_normalized and not retraining.cut:
        why = "units that enter a normalization take part in it even when they are 0"
        raise BadRequest("cut_normalized", True, "false, or cut=true", why)
    if retraining.cut and selection.granularity != "unit":
        raise BadRequest("cut", True, "false, or granularity=unit", "single weights cannot be cut out")
    if retraining.repair:
        _check_repair(retraining.repair, selection, plan)
    if growth.at is not None:
        _check_growth(growth, plan, timing, retraining)
    warn_of_unused(selection, plan, growth, timing, retraining)
    timing = replace(timing, rewound_to=retraining.epoch or 0)
    return selection, plan, growth, sample, timing, retraining


def _check_repair(repair: int, selection: Selection, plan: Plan) -> None:
    """Raise BadRequest if there are no layers behind removed units, or their weights are drawn again."""
    if selection.granularity != "unit":
        why = "only layers behind removed units are repaired"
        raise BadRequest("repair", repair, "null, or granularity=unit", why)
    if selection.cut_normalized:
        why = "repair compares with the whole network, in which zeros do not stand for removed units"
        raise BadRequest("repair", repair, "null with cut_normalized", why)
    if plan.reinitialize:
        raise BadRequest("repair", repair, "null", "new weights are drawn (reinitialize is true)")


def _check_growth(growth: Growth, plan: Plan, timing: Timing, retraining: Retraining) -> None:
    """Raise BadRequest if weight exchanges are not compatible with the other options."""
    why = f"grow.at is {growth.at}"
    timing.check_growth(why)
    if not retraining.masked_gradient:
        raise BadRequest("masked_gradient", False, "true", why)
    if plan.pattern is not None:
        raise BadRequest("pattern", plan.pattern, "null", f"{why}, but weights stay inside a pattern")
    if plan.share != 0.1 and plan.schedule != "constant":
        raise BadRequest("share", plan.share, "0.1 (the share of exchanges is grow.share)", why)
