"""Loss and accuracies of a classifier over an epoch, with one cheap update per batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

SUMS = ("loss", "hits", "count")
LOGITS_AT_ONCE = 2**15
"""The number of logits on a CPU from which batches are counted; fewer take longer to call than to count."""


class Totals(Metric):
    """Sums over images: loss, top-1 hits, top-5 hits, count; summed over ranks.

    With fewer than five classes top 5 means the best of all classes, which is always a hit.
    """

    full_state_update = False
    loss: Tensor
    hits: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        # float64 sums losses without drift.
        self.add_state("loss", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        # How often the best, second best, … fifth best class is correct.
        self.add_state("hits", torch.zeros(5, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add one batch: mean ``loss``, ``logits`` of shape (n, classes), ``labels`` of shape (n,)."""
        self._waiting.append((loss.detach(), logits.detach(), labels))
        if logits.device.type != "cpu" or len(self._waiting) * logits.numel() >= LOGITS_AT_ONCE:
            self._count_waiting()

    @torch.no_grad()
    def _count_waiting(self) -> None:
        """Add the batches that were given to ``update`` to the sums, in their order."""
        if not self._waiting:
            return
        losses, logits, labels = zip(*self._waiting, strict=True)
        self._waiting = []
        best = torch.cat(logits).topk(min(5, logits[0].shape[1])).indices
        # add_, not +=: an assignment to a module's attribute takes longer than the addition.
        self.hits[: best.shape[1]].add_(best.eq(torch.cat(labels)[:, None]).sum(0))
        for loss, each in zip(losses, labels, strict=True):
            self.loss.add_(loss, alpha=len(each))
        self.count.add_(len(best))

    def reset(self) -> None:
        """Forget all batches."""
        self._waiting = []
        super().reset()

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Add the sums of all ranks."""
        self._count_waiting()
        super().sync(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state, with all batches counted."""
        self._count_waiting()
        return super().__getstate__()

    def add(self, loss: Tensor, hits: Tensor, count: int) -> None:
        """Add sums over several batches: of the ``loss`` times its images, of ``hits``, and of images."""
        self.loss.add_(loss)
        self.hits.add_(hits)
        self.count.add_(count)
        self._update_count += 1
        self._computed = None

    def compute(self) -> dict[str, float]:
        """Return mean ``loss``, ``top1`` and ``top5`` in percent; NaN without images."""
        return self.so_far()

    def sums(self) -> dict[str, Tensor]:
        """Return a copy of the sums over all ranks, for a checkpoint within an epoch."""
        self._count_waiting()
        with self.sync_context():
            return {name: getattr(self, name).detach().cpu().clone() for name in SUMS}

    def restore(self, sums: Mapping[str, Tensor]) -> None:
        """Restore ``sums``."""
        self._waiting = []
        for name in SUMS:
            setattr(self, name, sums[name].to(self.device).clone())

    def so_far(self) -> dict[str, float]:
        """Return what ``compute`` does, for this process only and without synchronization."""
        self._count_waiting()
        count, hits = int(self.count), self.hits.tolist()
        if not count:
            return dict.fromkeys(("loss", "top1", "top5"), float("nan"))
        return {
            "loss": float(self.loss) / count,
            "top1": 100 * hits[0] / count,
            "top5": 100 * sum(hits) / count,
        }
