"""Compute and check the scores of a criterion; errors are reported in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import nn

from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters
from prunelit.request import BadRequest

NO_SECOND_DERIVATIVE = re.compile(r"derivative for aten::(?:_)?(\w+?)_backward is not implemented")


def checked_scores(
    criterion: Criterion,
    network: nn.Module,
    parameters: Parameters,
    objective: Objective | None,
    previous: Scores | None = None,
) -> Scores:
    """Return the scores of ``criterion``; the scores of the previous round may be overwritten.

    Raises:
        BadRequest: the loss has no second derivative, and the criterion takes one.
        ValueError: there is not one score of each weight, or the network has a loss in train mode alone.
    """
    try:
        if previous:
            scores = criterion.scores_again(network, parameters, objective, previous)
        else:
            scores = criterion.scores(network, parameters, objective)
    except Exception as error:
        if missing := NO_SECOND_DERIVATIVE.search(str(error)):
            allowed = "a criterion that only uses first derivatives, such as SNIP or Taylor"
            why = f"torch has no second derivative of {missing[1]}"
            raise BadRequest("criterion", type(criterion).__name__, allowed, why) from error
        if objective is None or network.training or not _has_loss_in_train_mode(network, objective):
            raise
        lines = str(error).strip().splitlines() or [""]
        raise ValueError(
            f"{type(network).__name__} has a loss in train mode but not in eval mode, in which it is scored "
            f"({type(error).__name__}: {lines[0]}); score it in train mode: train_mode=True in code, "
            "pruner.train_mode=true on the command line"
        ) from error
    _check_scores(criterion, scores, parameters)
    return dict(scores)  # giving these up must not empty what the criterion itself keeps


def _has_loss_in_train_mode(network: nn.Module, objective: Objective) -> bool:
    """Return whether the loss can be computed in train mode, and only there."""
    if not objective.batches:
        return False
    runs = {}
    for mode in (False, True):
        network.train(mode)
        try:
            runs[mode] = bool(objective.loss(objective.batches[0]).requires_grad)
        except Exception:
            runs[mode] = False
    return runs[True] and not runs[False]


def _check_scores(criterion: Criterion, scores: Scores, parameters: Parameters) -> None:
    """Raise ValueError unless there is a score of each weight."""
    said = f"{type(criterion).__name__}.scores must return a tensor of each parameter's shape by name"
    if not isinstance(scores, Mapping) or scores.keys() != parameters.keys():
        found = sorted(scores) if isinstance(scores, Mapping) else type(scores).__name__
        raise ValueError(f"{said}: {found} is not {sorted(parameters)}")
    for name, parameter in parameters.items():
        shape = getattr(scores[name], "shape", None)
        if shape != parameter.shape:
            raise ValueError(f"{said}: {name} has {shape}, not {parameter.shape}")
