"""``Classifier``: the LightningModule that wraps each architecture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics.classification import MulticlassConfusionMatrix

from prunelit.request import BadRequest
from prunelit.training.compiled_forward import CompiledForward
from prunelit.training.fit.distillation import Distillation
from prunelit.training.lightning_overhead import QuickHookNames, with_signature
from prunelit.training.metrics import Totals
from prunelit.training.parallel.agreement import share_buffers
from prunelit.training.parallel.sharding import FullyShard, make_whole, shard

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]
Images = tuple[Tensor, Tensor]

CHECK_EVERY = 50
"""Batches between two checks of the loss on a GPU, because each check synchronizes with it; the last batch of
an epoch is also checked."""


class NonFiniteLoss(ArithmeticError):
    """The loss became NaN or infinite; the message names the first layer with such an output."""


class Classifier(QuickHookNames, pl.LightningModule):
    """Trains ``network`` by cross-entropy and counts loss, top-1 and top-5 accuracy.

    Its state dict is the network's own, so that checkpoints load into the plain network with
    ``strict=True``.

    Args:
        network: maps images of shape (n, C, H, W) to logits of shape (n, num_classes).
        num_classes: number of classes.
        optimizer: makes the optimizer from the parameters.
        scheduler: makes the learning-rate schedule, stepped once an epoch; None: constant.
        label_smoothing: in [0, 1); of the training loss only.
        distillation: changes the training loss after the first pruning; None: nothing does.
        compiles: whether steps of training and testing run the network as compiled by ``torch.compile``.

    Attributes:
        evaluated: loss and accuracies of the last evaluation of the current epoch, under ``test`` and
            ``validation``; empty until the epoch has one, and again after a pruning, so that numbers always
            belong to the present weights.
        tested: the same of the last ``trainer.test``.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        label_smoothing: float = 0.0,
        distillation: Distillation | None = None,
        compiles: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.num_classes = num_classes
        self.optimizer, self.scheduler = optimizer, scheduler
        self.label_smoothing, self.distillation = label_smoothing, distillation
        self._compiled_forward = CompiledForward() if compiles else None
        self.train_totals, self.test_totals, self.validation_totals = Totals(), Totals(), Totals()
        self.confusion = MulticlassConfusionMatrix(num_classes, validate_args=False)
        self.evaluated: dict[str, dict[str, float]] = {}
        self.tested = self.test_totals.so_far()
        self.tested_confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    @property
    def compiles(self) -> bool:
        """Whether steps of training and testing run the network as compiled by ``torch.compile``."""
        return self._compiled_forward is not None

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's logits."""
        return self._logits(images)

    def pruning_loss(self, batch: Images) -> Tensor:
        """Return the mean cross-entropy of one batch, without label smoothing, for scores."""
        images, labels = batch
        return F.cross_entropy(self._logits(images), labels)

    def pruning_head(self, logits: Tensor, batch: Images) -> Tensor:
        """Return ``pruning_loss`` from the network's output, in float64."""
        return F.cross_entropy(logits.double(), batch[1])

    @with_signature
    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        """Return the training loss of one batch."""
        images, labels = batch
        logits = self._logits(images, self._compiled_forward)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        if self.distillation is not None:
            loss = self.distillation.loss(images, logits, loss)
        if loss.device.type == "cpu" or batch_idx % CHECK_EVERY == 0 or self.trainer.is_last_batch:
            self._check_finite(loss, images)
        self.train_totals.update(loss.detach(), logits.detach(), labels)
        return loss

    def validation_step(self, batch: Images, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Count one batch of the test set (loader 0) or of the validation split (loader 1)."""
        self._evaluate(batch, self.validation_totals if dataloader_idx else self.test_totals)

    def test_step(self, batch: Images, batch_idx: int) -> None:
        """Count one batch of the test set, and the confusion matrix."""
        logits = self._evaluate(batch, self.test_totals)
        self.confusion.update(logits, batch[1])

    def _evaluate(self, batch: Images, totals: Totals) -> Tensor:
        images, labels = batch
        logits = self._logits(images, self._compiled_forward)
        totals.update(F.cross_entropy(logits, labels), logits, labels)
        return logits

    def _logits(self, images: Tensor, compiled: CompiledForward | None = None) -> Tensor:
        logits = self.network(images) if compiled is None else compiled(self.network, images)
        if not isinstance(logits, Tensor) or logits.shape != (len(images), self.num_classes):
            shape = f" {tuple(logits.shape)}" if isinstance(logits, Tensor) else ""
            given, asked = f"{type(self.network).__name__}", f"({len(images)}, {self.num_classes})"
            why = f"it returns a {type(logits).__name__}{shape}"
            raise BadRequest(
                "model", given, f"a network that returns one tensor of logits, {asked} here", why
            )
        return logits

    def on_train_epoch_start(self) -> None:
        """Reset the counts of the epoch; earlier evaluations belong to other weights."""
        self.train_totals.reset()
        self.evaluated = {}

    def on_validation_epoch_start(self) -> None:
        """Reset the counts of the evaluation."""
        share_buffers(self.trainer, self)
        self.test_totals.reset()
        self.validation_totals.reset()

    def on_test_epoch_start(self) -> None:
        """Reset the counts of the test."""
        share_buffers(self.trainer, self)
        self.test_totals.reset()
        self.confusion.reset()

    def on_test_epoch_end(self) -> None:
        """Store the sums of all ranks, because the network leaves the device after the test."""
        self.tested = self.test_totals.compute()
        self.tested_confusion = self.confusion.compute().cpu()

    def on_validation_epoch_end(self) -> None:
        """Store the sums of all ranks, and pass them on as metrics that checkpoints may monitor."""
        for split, totals in (("test", self.test_totals), ("validation", self.validation_totals)):
            if totals.update_called:
                self.evaluated[split] = totals.compute()
                self._pass_on({f"{split}/{name}": value for name, value in self.evaluated[split].items()})

    def _pass_on(self, metrics: dict[str, float]) -> None:
        if self.trainer.state.fn == "fit":  # ``log`` takes longer than the evaluation of a small network
            found = {name: torch.tensor(value, device=self.device) for name, value in metrics.items()}
            self.trainer.callback_metrics.update(found)
        else:
            self.log_dict(metrics, logger=False, sync_dist=True)

    def configure_model(self) -> None:
        """Split the network over ranks, if that is the trainer's strategy."""
        if isinstance(self.trainer.strategy, FullyShard) and self.trainer.state.fn == "fit":
            shard(self.network, self.trainer.strategy.root_device)

    def on_fit_end(self) -> None:
        """From here on the network is whole on every rank."""
        make_whole(self)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule."""
        optimizer = self.optimizer(self.network.parameters())
        if self.scheduler is None:
            return optimizer
        return [optimizer], [self.scheduler(optimizer)]

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the network's own state dict."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load a state dict of the plain network."""
        return self.network.load_state_dict(state_dict, strict=strict, assign=assign)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the counts of the epoch so far."""
        checkpoint["train_totals"] = self.train_totals.sums()
        checkpoint["evaluated"] = self.evaluated

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the counts within an epoch; the sums are over all ranks, so rank 0 takes them."""
        self.evaluated = checkpoint.get("evaluated", {})
        if "train_totals" in checkpoint and self.global_rank == 0:
            self.train_totals.restore(checkpoint["train_totals"])

    def _check_finite(self, loss: Tensor, images: Tensor) -> None:
        value = loss.item()
        if not math.isfinite(value):
            raise NonFiniteLoss(
                f"the training loss is {value} in epoch {self.current_epoch}: "
                f"{first_non_finite(self.network, images)}"
            )


@torch.no_grad()
def first_non_finite(network: nn.Module, images: Tensor) -> str:
    """Return a message that names the first layer with a NaN or infinite parameter or output on
    ``images``."""
    found: list[str] = []
    handles = []
    for name, module in network.named_modules():
        if next(module.children(), None) is not None:
            continue

        def look(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
            if found:
                return
            if not all(torch.isfinite(p).all() for p in module.parameters()):
                found.append(f"the parameters of layer {name} are the first that are not finite")
            elif isinstance(output, Tensor) and not torch.isfinite(output).all():
                found.append(f"the output of layer {name} is the first that is not finite")

        handles.append(module.register_forward_hook(look))
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else "every layer's output is finite, so the loss itself overflows"
