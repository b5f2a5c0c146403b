"""Every key of a composed config with its declaration, and the check of all of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from typing_extensions import Doc

from prunelit.declared import Option, Says, options_of
from prunelit.former_options import refuse_former
from prunelit.pruning.growth import Growth
from prunelit.pruning.parameters import Selection
from prunelit.pruning.plan import Plan
from prunelit.request import BadRequest, nearest, within
from prunelit.training.config.foreign_options import DECLARED, SET_BY_PRUNELIT
from prunelit.training.config.instantiate import check_target
from prunelit.training.config.run_logger import check_logger
from prunelit.training.data.options import Options as DataOptions
from prunelit.training.fit.retraining import Retraining
from prunelit.training.fit.threshold_list import THRESHOLDS
from prunelit.training.fit.timing import Timing
from prunelit.training.scoring.training_batches import Sample

NAME = Option(
    "name", Annotated[str | int, Says("a name"), Doc("The name in the record.")], inspect.Parameter.empty
)
TARGET = Option(
    "_target_", Annotated[str, Says("the dotted path of a class"), Doc("The class to instantiate.")], None
)
OF_PRUNER = (
    Option(
        "compression",
        Annotated[
            Annotated[float, Ge(0)] | None,
            Doc("The compression to use if no amount is given at the top level."),
        ],
        0.5,
    ),
    Option(
        "densities_from",
        Annotated[
            str | None,
            Says("the folder of a complete run, its masks.safetensors, or null"),
            Doc(
                "A run whose density each tensor takes over. These densities determine the density of "
                "the network."
            ),
        ],
        None,
    ),
    Option(
        "criterion",
        Annotated[
            Any,
            Says("_target_ and its arguments, the name of a criterion, or null"),
            Doc(
                "The criterion: `_target_` and its arguments, or the name of a criterion, which is "
                "then used with its defaults. null: train the dense network."
            ),
        ],
        None,
    ),
)
GIVEN = {"num_classes", "input_shape", "params", "optimizer"}
"""Arguments that prunelit passes to networks, optimizers and schedules."""
NOT_PRUNER = {
    "layer_densities": "pruner.densities_from",
    "pre_epochs": "pre_epochs",
    "rewound_to": "pruner.rewind",
}
"""Fields of the pruner's dataclasses that other keys set."""


@dataclass(frozen=True)
class Node:
    """A node of the config: its path, the declarations of its keys, and further arguments of its class."""

    path: str
    options: Mapping[str, Option]
    others: frozenset[str] = frozenset()
    takes_any: bool = False

    def check(self, node: DictConfig) -> None:
        """Raise BadRequest for a key that is unknown, or whose value is wrong."""
        for key in map(str, node):
            with within(self.path, (key,)):
                value = node[key]
                if option := self.options.get(key):
                    option.check(OmegaConf.to_container(value) if OmegaConf.is_config(value) else value)
                elif self.path == "trainer" and key in SET_BY_PRUNELIT:
                    raise BadRequest(key, value, f"left out (use {SET_BY_PRUNELIT[key]})", "prunelit sets it")
                elif key not in self.others and not self.takes_any:
                    if key == "density":
                        raise BadRequest(key, value, "left out", "give sparsity, which is 1 - density")
                    known = {*self.options, *self.others} - {"_target_", "_partial_"}
                    raise BadRequest(key, value, nearest(key, known), "there is no such key")


def check_config(cfg: DictConfig) -> None:
    """Check every key of the groups of a composed config.

    Raises:
        BadRequest: the first key that is unknown, or whose value is wrong.
    """
    check_logger(cfg.logger)
    refuse_former(dict(cfg.pruner.items_ex(resolve=False)), "pruner.")
    grow = cfg.pruner.get("grow")
    if not isinstance(grow, DictConfig):
        raise BadRequest("pruner.grow", grow, "a group of keys, such as pruner.grow.at=random")
    for node in nodes_of(cfg):
        node.check(OmegaConf.select(cfg, node.path))


def nodes_of(cfg: DictConfig) -> Iterator[Node]:
    """Yield the nodes of a composed config whose keys are declared."""
    yield Node("pruner", _by_name(*OF_PRUNER, *pruner_options(), NAME, TARGET), frozenset({"grow"}))
    yield Node("pruner.grow", options_of(Growth))
    if isinstance(cfg.pruner.get("criterion"), DictConfig):
        yield _made_by("pruner.criterion", cfg.pruner.criterion)
    yield Node("data", _by_name(*options_of(DataOptions).values(), NAME, TARGET))
    for group in ("model", "optimizer", "scheduler", "trainer", "logger"):
        yield _made_by(group, cfg[group], NAME)


def pruner_options() -> list[Option]:
    """Return the options of the pruning callback that are keys of ``pruner``."""
    found: dict[str, Option] = {}
    for kind in (Selection, Plan, Timing, Sample, Retraining):
        for name, option in options_of(kind).items():
            found[name] = option
    found["threshold"] = Option("threshold", Annotated[THRESHOLDS.kind, found["threshold"].documented], None)
    return [option for name, option in found.items() if name not in NOT_PRUNER]


def _made_by(path: str, node: DictConfig, *more: Option) -> Node:
    """Return the node whose ``_target_`` is a class with declared or own arguments."""
    target = node.get("_target_")
    partial = Option("_partial_", bool, False)
    if target is None:
        return Node(path, _by_name(*more))
    check_target(node)
    owner: Any = get_object(str(target))
    parameters = inspect.signature(owner).parameters.values()
    known = options_of(DECLARED.get(str(target), owner))
    return Node(
        path,
        {**known, **_by_name(*more, TARGET, partial)},
        frozenset(parameter.name for parameter in parameters) - GIVEN,
        any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters),
    )


def _by_name(*options: Option) -> dict[str, Option]:
    return {option.name: option for option in options}
