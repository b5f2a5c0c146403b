"""prunelit: prune image classifiers and measure the effect of pruning.

The names below are loaded when they are first used, so that reading records does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunelit.exporting.folder import load, save
    from prunelit.pruning.call import Call
    from prunelit.pruning.compact import compact
    from prunelit.pruning.coupling.coupled_units import coupled_units
    from prunelit.pruning.coupling.explain import explain
    from prunelit.pruning.criteria import (
        LAMP,
        SNIP,
        Criterion,
        Exact,
        Fisher,
        GraSP,
        Hessian,
        Karnin,
        L1Filter,
        Mag,
        Rand,
        Std,
        SynFlow,
        Taylor,
        ThiNet,
    )
    from prunelit.pruning.growth import Growth
    from prunelit.pruning.objective import Objective
    from prunelit.pruning.parameters import Selection
    from prunelit.pruning.plan import Plan
    from prunelit.pruning.rounds import prune
    from prunelit.request import BadRequest, PruningWarning
    from prunelit.training.callback import Pruning
    from prunelit.training.fit.options import PruningOptions
    from prunelit.training.fit.retraining import Retraining
    from prunelit.training.fit.timing import Timing
    from prunelit.training.hold_masks import HoldMasks
    from prunelit.training.scoring.training_batches import Sample

_HOMES = {
    "SNIP": "prunelit.pruning.criteria",
    "Criterion": "prunelit.pruning.criteria",
    "Exact": "prunelit.pruning.criteria",
    "Fisher": "prunelit.pruning.criteria",
    "Hessian": "prunelit.pruning.criteria",
    "Karnin": "prunelit.pruning.criteria",
    "L1Filter": "prunelit.pruning.criteria",
    "LAMP": "prunelit.pruning.criteria",
    "Taylor": "prunelit.pruning.criteria",
    "ThiNet": "prunelit.pruning.criteria",
    "GraSP": "prunelit.pruning.criteria",
    "Mag": "prunelit.pruning.criteria",
    "Rand": "prunelit.pruning.criteria",
    "Std": "prunelit.pruning.criteria",
    "SynFlow": "prunelit.pruning.criteria",
    "compact": "prunelit.pruning.compact",
    "coupled_units": "prunelit.pruning.coupling.coupled_units",
    "explain": "prunelit.pruning.coupling.explain",
    "load": "prunelit.exporting.folder",
    "save": "prunelit.exporting.folder",
    "Call": "prunelit.pruning.call",
    "Objective": "prunelit.pruning.objective",
    "Plan": "prunelit.pruning.plan",
    "prune": "prunelit.pruning.rounds",
    "Selection": "prunelit.pruning.parameters",
    "BadRequest": "prunelit.request",
    "PruningWarning": "prunelit.request",
    "Pruning": "prunelit.training.callback",
    "HoldMasks": "prunelit.training.hold_masks",
    "Growth": "prunelit.pruning.growth",
    "PruningOptions": "prunelit.training.fit.options",
    "Retraining": "prunelit.training.fit.retraining",
    "Sample": "prunelit.training.scoring.training_batches",
    "Timing": "prunelit.training.fit.timing",
}

__all__ = [
    "LAMP",
    "SNIP",
    "BadRequest",
    "Call",
    "Criterion",
    "Exact",
    "Fisher",
    "GraSP",
    "Growth",
    "Hessian",
    "HoldMasks",
    "Karnin",
    "L1Filter",
    "Mag",
    "Objective",
    "Plan",
    "Pruning",
    "PruningOptions",
    "PruningWarning",
    "Rand",
    "Retraining",
    "Sample",
    "Selection",
    "Std",
    "SynFlow",
    "Taylor",
    "ThiNet",
    "Timing",
    "compact",
    "coupled_units",
    "explain",
    "load",
    "prune",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'prunelit' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
