"""Fisher: score(w) = w^2 / 2 * mean over samples of (dL_i/dw)^2, with L_i the loss of one sample.

Theis, Korshunova, Tejani and Huszar, Faster gaze prediction with dense networks and Fisher
pruning, https://arxiv.org/abs/1801.05787

The mean of the squared gradients is the diagonal of the empirical Fisher information, which near
a minimum replaces the Hessian's in the loss's second-order change, w^2 H / 2. The mean
is over single samples: over the gradients of whole batches it would be ``Taylor``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Batch, Objective, num_samples, split_batch
from prunelit.pruning.parameters import Parameters


class Fisher(Criterion):
    """Empirical diagonal Fisher in float64; one forward and backward pass per sample.

    Batch normalisation runs on its running statistics: one sample has none of its own.
    """

    needs = "batches"

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return ``w^2 / 2`` times the mean over samples of the squared gradient."""
        assert objective is not None
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()

        def squares(sample: Batch) -> dict[str, Tensor]:
            try:
                gradients = objective.batch_gradients(sample, parameters)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # a loss of the user may raise anything for a batch of one
                raise ValueError(_not_alone(error)) from error
            return {name: gradient.double().square() for name, gradient in gradients.items()}

        samples = [part for batch in objective.batches for part in split_batch(batch, num_samples(batch))]
        diagonal = objective.mean(squares, parameters, samples, torch.float64)
        return {name: p.detach().double().square() * diagonal[name] / 2 for name, p in parameters.items()}


def _not_alone(error: Exception) -> str:
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"Fisher needs the loss of each sample, but the loss of a batch of one sample fails ({said}); "
        "Taylor uses the loss of whole batches"
    )
