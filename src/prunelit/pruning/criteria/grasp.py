"""GraSP: gradient signal preservation, score(w) = w * (H g), the highest kept.

Wang, Zhang and Grosse, Picking winning tickets before training by preserving gradient flow,
https://arxiv.org/abs/2002.07376

g is the gradient and H the Hessian of the mean loss at temperature T (logits divided by T).
Removing a weight changes the squared gradient norm by about -2 w (H g): the paper's
S(-w) = -w (H g), and it removes the weights of highest S(-w), so the highest w * (H g) are kept.

Published codes differ in three choices, each a parameter here:

* ``sign``: +1 keeps the highest w * (H g), as in the paper and both codes; -1 keeps the lowest.
* ``split``: the number of parts into which each batch is divided for the gradients (the authors' code: 2;
  Tanaka et al.: 1). With running statistics this only bounds the memory.
* ``batch_norm``: ``running`` statistics (Tanaka et al.) or those of the ``batch`` (the authors).
"""

from __future__ import annotations

import pickle
import random
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import Doc

from prunelit.declared import checked
from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.logits import tempered
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Batch, Objective, split_batch
from prunelit.pruning.parameters import Parameters


class GraSP(Criterion):
    """Gradient signal preservation; a forward, a backward and a double-backward pass of each batch.

    Several batches, and modules or losses that draw random numbers, take another forward and backward pass of
    each.
    """

    needs = "batches"

    @checked
    def __init__(
        self,
        temperature: Annotated[float, Gt(0), Doc("The number by which the logits are divided.")] = 200.0,
        split: Annotated[int, Ge(1), Doc("The number of parts into which each batch is divided.")] = 1,
        batch_norm: Annotated[
            Literal["running", "batch"],
            Doc("The statistics that BatchNorm uses: the running statistics, or those of each batch."),
        ] = "running",
        sign: Annotated[Literal[1, -1], Doc("1 keeps the highest w (H g), -1 keeps the lowest.")] = 1,
    ) -> None:
        self.temperature, self.split, self.batch_norm, self.sign = temperature, split, batch_norm, sign

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return ``sign * w * (H g)``.

        Raises:
            BadRequest: the temperature is not 1, and the loss has no logits that it could divide.
        """
        assert objective is not None
        objective = replace(objective, loss=partial(tempered, objective.loss, temperature=self.temperature))
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.train(self.batch_norm == "batch")
        parts = [part for batch in objective.batches for part in split_batch(batch, self.split)]
        number = torch.tensor(float(len(parts)), device=next(iter(parameters.values())).device)
        vector = None
        if objective.sum_over_ranks(number) > 1 or _draws(network):
            vector = objective.mean(
                lambda part: objective.batch_gradients(part, parameters), parameters, parts
            )
        product = objective.mean(
            lambda part: _hessian_times(vector, objective, part, parameters), parameters, parts
        )
        return {name: self.sign * p.detach() * product[name] for name, p in parameters.items()}


def _draws(network: nn.Module) -> bool:
    """Return whether a module may give another output in another pass, as dropout does."""
    return any(module.training and not isinstance(module, _BatchNorm) for module in network.modules())


def _random_states() -> tuple[Any, ...]:
    """Return the states of the generators of torch, CUDA, NumPy and Python."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    torch_states = [state.numpy().tobytes() for state in (torch.get_rng_state(), *cuda)]
    return torch_states, pickle.dumps(np.random.get_state()), random.getstate()


def _hessian_times(
    vector: Scores | None, objective: Objective, part: Batch, parameters: Parameters
) -> Scores:
    """Return one part's Hessian times ``vector``, by differentiating <vector, gradient>.

    None stands for the gradient of this part, which needs no pass of its own unless the loss draws random
    numbers.
    """
    before = _random_states()
    gradients = objective.batch_gradients(part, parameters, create_graph=True)
    if vector is None:
        vector = {name: gradient.detach() for name, gradient in gradients.items()}
        if _random_states() != before:
            gradients = objective.batch_gradients(part, parameters, create_graph=True)
    inner = torch.stack([(vector[name] * g).sum() for name, g in gradients.items()]).sum()
    if not inner.requires_grad:  # the loss is linear: its Hessian is 0
        return {}
    products = torch.autograd.grad(inner, list(parameters.values()), allow_unused=True)
    named = zip(parameters, products, strict=True)
    return {name: product for name, product in named if product is not None}
