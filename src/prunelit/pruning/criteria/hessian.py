"""Hessian: optimal brain damage, score(w) = w^2 * d2L/dw2 / 2.

LeCun, Denker and Solla, Optimal brain damage, Advances in Neural Information Processing Systems 2,
1989, https://proceedings.neurips.cc/paper/1989/hash/6c9882bbac1c7093bd25041881277658-Abstract.html

The change of the mean loss L when w is removed at a minimum, to second order and without cross
terms. The highest are kept: where a diagonal entry is negative the score is negative, and such a
weight is removed before one without curvature. With piecewise linear activations (ReLU, max
pooling) and cross-entropy no entry is. The factor 1/2 changes no order.

There are three ways to compute the diagonal:

* ``gauss_newton``: the exact diagonal of the Gauss-Newton matrix, by one backward pass per class and sample.
  For networks with piecewise linear activations it equals the Hessian's; for others it leaves out the
  second derivatives of the network, and no entry is negative. Where the loss is not of a kind that
  ``gauss_newton.py`` knows, it falls back to ``hutchinson`` with a warning.
* ``exact``: by one Hessian-vector product per parameter.
* ``hutchinson``: estimated as in Bekas, Kokiopoulou and Saad, An estimator for the diagonal of a
  matrix (2007): the mean of z * (H z) over random vectors z of signs. Its variance for entry j is the
  sum of H_jk^2 over k != j, divided by the number of vectors.
"""

from __future__ import annotations

import logging
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from typing_extensions import Doc

from prunelit.declared import checked
from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.gauss_newton import gauss_newton_diagonal
from prunelit.pruning.hessian_diagonal import estimated_diagonal, exact_diagonal
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Batch, Objective
from prunelit.pruning.parameters import Parameters
from prunelit.request import BadRequest

log = logging.getLogger(__name__)

LARGEST_EXACT = 100_000
"""Parameters up to which the exact diagonal is computed."""

DEFAULT_PROBES = 100
"""Random vectors of an estimate."""

FALLBACK = (
    f"Hessian estimates the diagonal from {DEFAULT_PROBES} random vectors: the loss is not one "
    "cross-entropy, softmax, squared error or binary cross-entropy of the network's outputs, sample by "
    "sample, as method=gauss_newton requires; probes=N uses N vectors, and probes=null computes the "
    "exact diagonal"
)


class Hessian(Criterion):
    """Second-order saliency in float64."""

    needs = "batches"

    @checked
    def __init__(
        self,
        probes: Annotated[
            Annotated[int, Ge(1)] | Literal["auto"] | None,
            Doc(
                "The number of random vectors of Hutchinson's estimate. auto: 100 for "
                "method=hutchinson, otherwise none. null: none, with method=exact."
            ),
        ] = "auto",
        method: Annotated[
            Literal["auto", "gauss_newton", "exact", "hutchinson"],
            Doc(
                "How the diagonal is computed: exactly for the Gauss-Newton matrix (gauss_newton), "
                "exactly for the Hessian (exact), or as an estimate for the Hessian (hutchinson). "
                "auto: as `probes` implies; gauss_newton for probes=auto."
            ),
        ] = "auto",
    ) -> None:
        implied = "exact" if probes is None else "gauss_newton" if probes == "auto" else "hutchinson"
        self.method = implied if method == "auto" else method
        self._by_probes = method == "auto"
        if probes is None and self.method != "exact":
            raise BadRequest("probes", None, f"an integer >= 1, or auto, with method={method}")
        if isinstance(probes, int) and self.method != "hutchinson":
            raise BadRequest("probes", probes, f"auto with method={method}, which uses no random vectors")
        self.probes = probes if isinstance(probes, int) else DEFAULT_PROBES

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return ``w^2 / 2`` times the diagonal of the mean loss's Hessian."""
        assert objective is not None
        count = sum(p.numel() for p in parameters.values())
        if self.method == "exact" and count > LARGEST_EXACT:
            allowed = f"auto, gauss_newton or hutchinson with more than {LARGEST_EXACT} prunable parameters"
            key, value = ("probes", None) if self._by_probes else ("method", "exact")
            raise BadRequest(key, value, allowed, f"there are {count}")
        seed = int(torch.randint(2**62, ()))  # one for all batches and ranks: each sees the same vectors

        def diagonal(batch: Batch) -> dict[str, Tensor]:
            if self.method == "gauss_newton":
                found = gauss_newton_diagonal(objective, batch, parameters)
                if found is not None:
                    return found
                if batch is objective.batches[0]:
                    log.warning(FALLBACK)
            gradients = objective.batch_gradients(batch, parameters, create_graph=True)
            curved = {name: g for name, g in gradients.items() if g.requires_grad}  # not where L is linear
            if self.method == "exact":
                return {name: exact_diagonal(g, parameters[name]) for name, g in curved.items()}
            return estimated_diagonal(curved, parameters, self.probes, seed) if curved else {}

        found = objective.mean(diagonal, parameters, objective.batches, torch.float64)
        return {name: p.detach().double().square() * found[name] / 2 for name, p in parameters.items()}
