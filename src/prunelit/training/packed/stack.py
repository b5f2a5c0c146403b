"""Several runs as one stacked network, which trains on a batch of each run at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from prunelit.pruning.masks import apply_masks
from prunelit.training.module import CHECK_EVERY
from prunelit.training.packed.linear_chains import forward_of_chain
from prunelit.training.packed.stacked_optimizer import StackedOptimizer
from prunelit.training.packed.stretch import Stretch


class Diverged(ArithmeticError):
    """The loss of some runs is not finite; ``runs`` are their numbers in the stack."""

    def __init__(self, runs: list[int]) -> None:
        super().__init__(f"runs {runs}")
        self.runs = runs


class Stack:
    """The networks, masks and optimizer states of ``stretches``, stacked along a first dimension.

    The runs stay independent: no sum goes over this dimension. A run's numbers differ from those of the run
    alone by the rounding of sums in matrix products only.
    """

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        # Runs with the same hyperparameters become neighbors.
        order = {update: number for number, update in enumerate(dict.fromkeys(s.update for s in stretches))}
        self.stretches = sorted(stretches, key=lambda stretch: order[stretch.update])
        first = self.stretches[0]
        self._network = _bare(first.module.network)
        self._smoothing = first.module.label_smoothing
        with torch.no_grad():
            self.parameters = {name: self._stacked("parameters", name) for name in first.parameters}
            self.buffers = {name: self._stacked("buffers", name) for name in first.buffers}
        self._trained = {n: self.parameters[n] for n, p in first.parameters.items() if p.requires_grad}
        for parameter in self._trained.values():
            parameter.requires_grad_()
        self._bits = self._stacked_bits()
        self._optimizer = StackedOptimizer(self.stretches, self._trained)
        self._totals = _Totals(len(self.stretches), first.batch[0].device)
        self._forward = forward_of_chain(self._network) or torch.vmap(self._call)

    def train(self, may_go_on: Callable[[], bool]) -> None:
        """Train to the end of the stretches, or until ``may_go_on`` returns False after a batch.

        Raises:
            Diverged: the loss of some runs is not finite. No run is trained on its present batch.
        """
        try:
            while True:
                self._step()
                for stretch in self.stretches:
                    stretch.done += 1
                first = self.stretches[0]
                if first.done == len(first.sizes) or not may_go_on():
                    return
                for stretch in self.stretches:
                    stretch.fetch()
        finally:
            self._give_back()

    def _step(self) -> None:
        images = torch.stack([stretch.batch[0] for stretch in self.stretches])
        labels = torch.stack([stretch.batch[1] for stretch in self.stretches])
        before = {name: buffer.clone() for name, buffer in self.buffers.items()}
        try:
            with torch.enable_grad():
                logits = self._forward(self.parameters, self.buffers, images)
                losses = self._losses(logits, labels)
            self._check_finite(losses)
            found = torch.autograd.grad(losses.sum(), list(self._trained.values()), allow_unused=True)
        except BaseException:
            for name, buffer in self.buffers.items():
                buffer.copy_(before[name])
            raise
        # Fused optimizers read the memory of gradients in the order of the weights, whatever their strides.
        gradients = {n: g.contiguous() for n, g in zip(self._trained, found, strict=True) if g is not None}
        with torch.no_grad():
            apply_masks(gradients, {n: bits for n, bits in self._bits.items() if n in gradients})
            self._optimizer.step(gradients)
            apply_masks(self._trained, self._bits)
            self._totals.update(losses.detach(), logits.detach(), labels)

    def _call(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
        logits: Tensor = functional_call(self._network, (parameters, buffers), (images,))
        return logits

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of each run, of shape (runs,)."""
        smoothing = self._smoothing
        each = F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=smoothing
        )
        return each.view(labels.shape).mean(1)

    def _check_finite(self, losses: Tensor) -> None:
        first = self.stretches[0]
        number, last = first.first + first.done, first.done + 1 == len(first.sizes)
        if losses.device.type == "cpu" or number % CHECK_EVERY == 0 or last:
            finite = losses.isfinite()
            if not finite.all():
                raise Diverged([run for run, is_finite in enumerate(finite.tolist()) if not is_finite])

    def _stacked(self, kind: str, name: str) -> Tensor:
        return torch.stack([getattr(stretch, kind)[name].detach() for stretch in self.stretches])

    def _stacked_bits(self) -> dict[str, Tensor]:
        """Return the masks of the parameters that some run has pruned; all bits are set for other runs."""
        found = {}
        for name in self._trained:
            masks = [stretch.masks.get(name) for stretch in self.stretches]
            some = next((mask for mask in masks if mask is not None), None)
            if some is not None:
                full = torch.full_like(some, -1)
                found[name] = torch.stack([full if mask is None else mask for mask in masks])
        return found

    @torch.no_grad()
    def _give_back(self) -> None:
        """Copy weights, buffers, optimizer states and counts to the runs."""
        for number, stretch in enumerate(self.stretches):
            for name, parameter in self._trained.items():
                stretch.parameters[name].copy_(parameter[number])
            for name, buffer in self.buffers.items():
                stretch.buffers[name].copy_(buffer[number])
            self._totals.give(number, stretch.module)
        self._optimizer.give_back()


class _Totals:
    """Loss, hits and number of images of each run, as in :class:`~prunelit.training.metrics.Totals`."""

    def __init__(self, runs: int, device: torch.device) -> None:
        self.loss = torch.zeros(runs, dtype=torch.float64, device=device)
        self.hits = torch.zeros(runs, 5, dtype=torch.int64, device=device)
        self.count = 0

    def update(self, losses: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: ``losses`` (runs,), ``logits`` (runs, images, classes), ``labels`` (runs, images)."""
        images, classes = logits.shape[1:]
        best = logits.topk(min(5, classes)).indices
        self.hits[:, : best.shape[2]].add_(best.eq(labels[:, :, None]).sum(1))
        self.loss.add_(losses, alpha=images)
        self.count += images

    def give(self, number: int, module: Any) -> None:
        """Add the sums of run ``number`` to those of its module."""
        module.train_totals.add(self.loss[number], self.hits[number], self.count)


def _bare(network: nn.Module) -> nn.Module:
    """Return a copy without values and without hooks, to be called with other parameters."""
    bare = copy.deepcopy(network).to("meta")
    for part in bare.modules():
        part._forward_pre_hooks.clear()
        part._forward_hooks.clear()
    return bare
