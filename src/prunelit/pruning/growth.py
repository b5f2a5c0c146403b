"""Drop and grow: weights move to other positions while the number of weights in each layer stays the same.

SET: Mocanu, Mocanu, Stone, Nguyen, Gibescu and Liotta, Scalable training of artificial neural networks with
adaptive sparse connectivity inspired by network science, https://arxiv.org/abs/1707.04780
RigL: Evci, Gale, Menick, Castro and Elsen, Rigging the lottery: making all tickets winners,
https://arxiv.org/abs/1911.11134

Of the k weights that a layer keeps, the ``share * k`` of least magnitude are dropped and the same number is
grown: at random (SET) or where the loss has its largest gradient (RigL). Grown weights start at 0. SET's
paper drops the smallest positive and the largest negative weights apart; here, as in RigL's comparison, by
magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn
from typing_extensions import Doc

from prunelit.declared import check_fields
from prunelit.pruning.earlier_masks import starting_masks
from prunelit.pruning.masks import (
    Masks,
    Scores,
    apply_masks,
    attach,
    attached,
    count_kept,
    density_of,
    make_masks,
)
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters, Selection
from prunelit.pruning.preserve import preserved, random_state
from prunelit.pruning.rounds import Outcome


@dataclass(frozen=True)
class Growth:
    """The options of weight exchanges during training."""

    at: Annotated[
        Literal["random", "gradient"] | None,
        Doc(
            "Where weights are grown in place of dropped ones: at `random` positions, or where the "
            "`gradient` of the loss is largest. null: weights are not exchanged."
        ),
    ] = None
    every: Annotated[int, Ge(1), Doc("The number of epochs between two exchanges.")] = 1
    share: Annotated[
        float,
        Gt(0),
        Lt(1),
        Doc("The share of the kept weights of each layer that is dropped and grown in an exchange."),
    ] = 0.1
    decay: Annotated[
        Literal["none", "cosine"],
        Doc(
            "How `share` changes during training: it stays constant (none), or decreases to 0 at "
            "`stop` (cosine)."
        ),
    ] = "none"
    stop: Annotated[
        float, Ge(0), Le(1), Doc("The fraction of the training after which weights are no longer exchanged.")
    ] = 1.0
    regrow: Annotated[
        bool, Doc("A weight may be grown in the exchange in which it was dropped. It then keeps its value.")
    ] = False

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def needs(self) -> str:
        """What an exchange needs of an objective: ``batches`` or ``nothing``."""
        return "batches" if self.at == "gradient" else "nothing"

    def due(self, epoch: int, epochs: int) -> bool:
        """Whether to exchange weights at the start of ``epoch``, of ``epochs`` since the masks were made."""
        return self.at is not None and 0 < epoch < self.stop * epochs and epoch % self.every == 0

    def share_at(self, epoch: int, epochs: int) -> float:
        """Return the share to exchange at the start of ``epoch``."""
        if self.decay == "none":
            return self.share
        return self.share / 2 * (1 + math.cos(math.pi * epoch / (self.stop * epochs)))

    def scores(self, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return what decides where weights grow: absolute gradients, or random numbers in float64."""
        if self.at == "gradient":
            assert objective is not None
            return {name: gradient.abs() for name, gradient in objective.gradients(parameters).items()}
        return {name: torch.rand(p.shape, dtype=torch.float64).to(p.device) for name, p in parameters.items()}


def drop_and_grow(
    weights: Mapping[str, Tensor], masks: Masks, scores: Scores, share: float, regrow: bool = False
) -> Masks:
    """Return masks that keep as many of each tensor, after an exchange of ``round(share * kept)``.

    The kept weights of least magnitude are dropped, the last of equal ones; those of the highest
    ``scores`` among all that were not kept (with ``regrow`` also among the dropped) are grown, of equal
    ones the first. Without ``regrow`` a tensor with fewer free places exchanges as many as it has.
    """
    new: Masks = {}
    for name, mask in masks.items():
        size, kept = mask.numel(), int(mask.sum())
        number = min(round(share * kept), kept if regrow else size - kept)
        magnitudes = {name: weights[name].detach().abs()}
        staying = make_masks(magnitudes, (kept - number) / size, "layer", {name: mask})[name]
        free = ~staying if regrow else ~mask
        grown = make_masks({name: scores[name]}, number / size, "layer", {name: free})[name]
        new[name] = staying | grown
    assert count_kept(new) == count_kept(masks)
    return new


def exchange(
    network: nn.Module,
    growth: Growth,
    share: float,
    *,
    selection: Selection = Selection(),
    objective: Objective | None = None,
    train_mode: bool = False,
    seed: int = 0,
    agree: Callable[[Masks], Masks] | None = None,
) -> Outcome:
    """Drop ``share`` of each tensor's kept weights of the pruned ``network`` and grow as many, in place.

    Args:
        network: a network that was pruned, so that its masks are known.
        growth: where weights grow.
        share: of the kept weights of each tensor that changes places.
        selection: what is prunable.
        objective: batches and loss, for gradients.
        train_mode: take gradients in train mode instead of eval mode.
        seed: of random places.
        agree: makes the masks the same on several processes.
    """
    # Weights that began to train after the pruning have no mask and stay dense.
    parameters = {n: p for n, p in selection.of(network).items() if n in (attached(network) or {})}
    masks = starting_masks(network, parameters)
    with random_state(seed):
        with preserved(network, parameters.values()):
            network.train(train_mode)
            scores = growth.scores(parameters, objective)
        new = drop_and_grow(parameters, masks, scores, share, growth.regrow)
    if agree:
        new = agree(new)
    attach(network, new)
    apply_masks(parameters, new)
    return Outcome(new, scores, [density_of(new)])
