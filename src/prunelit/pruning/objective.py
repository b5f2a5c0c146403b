"""What data-driven criteria use: batches, a loss of one batch, and an example input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning.call import Call, cut_batch, num_samples
from prunelit.pruning.differentiable import differentiable
from prunelit.pruning.parameters import Parameters
from prunelit.request import BadRequest

Batch = Any


def _identity(tensor: Tensor) -> Tensor:
    return tensor


def _no_loss(batch: Batch) -> Tensor:
    raise ValueError("the objective has batches but no loss")


@dataclass(frozen=True)
class Objective:
    """Batches, the mean loss of one of them, and the inputs of one forward pass of the network.

    A criterion that needs an ``example`` uses the inputs alone, one that needs ``batches`` the others.

    Attributes:
        loss: maps a batch to its mean loss, a scalar tensor with a graph to the parameters.
        batches: what the loss is taken on; any structure of tensors with samples along axis 0.
        inputs: positional arguments of the network's forward pass, for their shapes and types; a tensor
            is the only argument.
        keywords: its keyword arguments.
        sum_over_ranks: adds up a tensor over the processes that share the batches; every process calls it the
            same number of times. A single process returns the tensor unchanged.
        head: where a batch is a tuple that starts with the network's only input, and the loss is
            taken on its output: maps output and batch to the mean loss, in float64 if it can.
            It lets ``Exact`` run only what follows a layer; None: it runs ``loss`` as a whole.
        first: a batch that every process has, if ``batches`` may be empty; None if it is not.
        places: the place of each of ``batches`` among those of all processes; None: 0, 1, 2, …
    """

    loss: Callable[[Batch], Tensor] = _no_loss
    batches: Sequence[Batch] = ()
    inputs: tuple[Any, ...] | Tensor = ()
    sum_over_ranks: Callable[[Tensor], Tensor] = _identity
    head: Callable[[Tensor, Batch], Tensor] | None = None
    first: Batch | None = None
    places: Sequence[int] | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict)
    _example: list[Call] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.inputs, Tensor):
            object.__setattr__(self, "inputs", (self.inputs,))
        elif not isinstance(self.inputs, (tuple, list)):
            kind = type(self.inputs).__name__
            raise BadRequest("inputs", kind, "a tuple of positional arguments (keywords holds the others)")

    @classmethod
    def of_classifier(
        cls,
        network: nn.Module,
        batches: Sequence[tuple[Tensor, Tensor]],
        loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    ) -> Objective:
        """Return the mean ``loss(network(images), labels)`` over ``(images, labels)`` batches."""

        def head(output: Tensor, batch: Batch) -> Tensor:
            labels = batch[1].double() if batch[1].is_floating_point() else batch[1]
            return loss(output.double(), labels)

        inputs = (batches[0][0],)
        return cls(lambda batch: loss(network(batch[0]), batch[1]), batches, inputs, head=head)

    def gradients(self, parameters: Parameters) -> dict[str, Tensor]:
        """Return the gradient of the mean loss over all samples, by parameter; 0 where it is unused."""
        return self.mean(lambda batch: self.batch_gradients(batch, parameters), parameters, self.batches)

    def mean(
        self,
        function: Callable[[Batch], Mapping[str, Tensor]],
        parameters: Parameters,
        batches: Sequence[Batch],
        dtype: torch.dtype | None = None,
    ) -> dict[str, Tensor]:
        """Return the mean of ``function`` over the samples of all batches, on all processes.

        It is in ``dtype``, or in the dtype of each parameter.
        """
        samples = self.count(batches, next(iter(parameters.values())).device)
        total: dict[str, Tensor] = {}
        for batch in batches:
            share = num_samples(batch) / samples
            for name, value in function(batch).items():
                if name in total:
                    total[name].add_(value, alpha=share)
                else:  # the value may belong to another parameter too, so it is not changed
                    typed = value.to(dtype or parameters[name].dtype)
                    total[name] = typed if share == 1 else typed * share
        for name, parameter in parameters.items():
            if name not in total:
                total[name] = torch.zeros_like(parameter, dtype=dtype)
        return {name: self.sum_over_ranks(total[name]) for name in parameters}

    def count(self, batches: Sequence[Batch], device: torch.device) -> float:
        """Return the number of samples in ``batches`` on all processes.

        Raises:
            ValueError: there are none.
        """
        own = torch.tensor(sum(map(num_samples, batches)), dtype=torch.float64, device=device)
        samples = float(self.sum_over_ranks(own))
        if not samples:
            raise ValueError("scores need at least one batch: the objective has none")
        return samples

    def batch_gradients(
        self, batch: Batch, parameters: Parameters, create_graph: bool = False
    ) -> dict[str, Tensor]:
        """Return the gradient of one batch's loss, by parameter; 0 where a parameter is unused."""
        with torch.enable_grad(), differentiable():
            gradients = torch.autograd.grad(
                self.loss(batch), list(parameters.values()), create_graph=create_graph, allow_unused=True
            )
        return {
            name: torch.zeros_like(p) if gradient is None else gradient
            for (name, p), gradient in zip(parameters.items(), gradients, strict=True)
        }

    def numbered(self) -> Iterator[tuple[int, Batch]]:
        """Yield each batch with its place among all processes' batches, on which random draws may depend."""
        yield from zip(self.places or range(len(self.batches)), self.batches, strict=True)

    def forward(self, batch: Batch) -> None:
        """Run the network on ``batch`` as its loss does, so that forward hooks see its activations.

        Attention runs as separate layers, whose hooks would otherwise be passed over in eval mode.
        """
        with torch.enable_grad(), differentiable():
            self.loss(batch)

    @property
    def has_example(self) -> bool:
        """Whether there are inputs of the network."""
        return len(self.inputs) > 0 or bool(self.keywords)

    def example(self, network: nn.Module) -> Call:
        """Return the network's inputs cut to one sample, as :meth:`Call.one_sample` does."""
        if not self._example:
            self._example.append(Call(tuple(self.inputs), self.keywords).one_sample(network))
        return self._example[0]

    def first_batch(self) -> Batch:
        """Return a batch that every process has."""
        return self.batches[0] if self.first is None else self.first


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """Cut every tensor of ``batch`` into ``parts`` along axis 0; no part is empty."""
    size = num_samples(batch)
    edges = [size * i // parts for i in range(parts + 1)]
    return [cut_batch(batch, size, slice(a, b)) for a, b in pairwise(edges) if b > a]
