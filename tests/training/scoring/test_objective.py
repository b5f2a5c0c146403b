"""What scores are taken on: batches, precision and arguments are those that the Trainer would give."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from prunelit import SNIP, BadRequest, Exact, Fisher, GraSP, Hessian, Mag, Pruning, SynFlow, Taylor, ThiNet
from prunelit.pruning.masks import count_all, count_kept, digest
from stock import trainer
from traces import ByHand, Plain, batches, data


def masks_of(module: pl.LightningModule, loader=None, criterion=None, **options) -> str:
    """Return a digest of the masks of half of the weights."""
    pruning = Pruning(criterion or SNIP(), sparsity=0.5, batches=2)
    trainer(pruning, max_epochs=1, **options).fit(module, loader or batches())
    assert count_kept(pruning.masks) == round(0.5 * count_all(pruning.masks))
    return digest(pruning.masks)


def made(kind: type[Plain], *args) -> Plain:
    torch.manual_seed(0)
    return kind(*args)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "16-true", "bf16-mixed"])
@pytest.mark.parametrize(
    "criterion",
    [SNIP(), GraSP(), SynFlow(), Taylor(), Fisher(), Hessian(probes=2), Exact(), Mag()],
    ids=lambda c: type(c).__name__,
)
def test_every_precision_with_every_criterion(precision: str, criterion) -> None:
    pruning = Pruning(criterion, sparsity=0.5, batches=2)
    trainer(pruning, max_epochs=1, precision=precision).fit(made(Plain), batches())
    assert count_kept(pruning.masks) == round(0.5 * count_all(pruning.masks))


def test_scores_in_double_precision_are_more_exact_ones_of_the_same_network() -> None:
    single, double = made(Plain), made(Plain)
    pruning = [Pruning(SNIP(), sparsity=0.5, batches=2) for _ in range(2)]
    trainer(pruning[0], max_epochs=1).fit(single, batches())
    trainer(pruning[1], max_epochs=1, precision="64-true").fit(double, batches())
    assert digest(pruning[0].masks) == digest(pruning[1].masks)
    scores = pruning[1].outcome.scores
    assert all(score.dtype == torch.float64 for score in scores.values())
    for name, score in pruning[0].outcome.scores.items():
        torch.testing.assert_close(score.double(), scores[name], rtol=1e-4, atol=1e-7)


class Transfers(Plain):
    """Notes each batch hook with the number of its loader; each changes the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["calls"] = CALLS
        CALLS.clear()

    def on_before_batch_transfer(self, batch, dataloader_idx):
        CALLS.append(("before", dataloader_idx))
        return batch["image"] + 1, batch["label"]

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        CALLS.append(("transfer", dataloader_idx))
        images, labels = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return 2 * images, labels

    def on_after_batch_transfer(self, batch, dataloader_idx):
        CALLS.append(("after", dataloader_idx))
        return batch[0] - 1, batch[1]


CALLS: list[tuple[str, int]] = []


class InOrder(SNIP):
    """Notes what batches the scores are taken on and which hooks ran before them."""

    def scores(self, network, parameters, objective):
        self.hooks, self.batches = list(CALLS), list(objective.batches)
        return super().scores(network, parameters, objective)


def test_each_batch_hook_runs_once_and_in_order() -> None:
    samples = [{"image": image, "label": label} for image, label in data()]
    criterion = InOrder()
    masks_of(made(Transfers), DataLoader(samples, 32), criterion)
    assert criterion.hooks == [("before", 0), ("transfer", 0), ("after", 0)]
    images = torch.stack([image for image, _ in data()])
    found = criterion.batches[0][0]
    assert found.sum().item() == pytest.approx((2 * (images + 1) - 1).sum().item(), rel=1e-4)


class Arguments(Plain):
    """Has a training step with further arguments, which Lightning leaves at their defaults."""

    def training_step(self, batch, batch_idx, weight=1.0, *rest, stage="train", **more):
        assert (rest, stage, more) == ((), "train", {})
        return weight * super().training_step(batch, batch_idx)


class Keyword(Plain):
    def training_step(self, batch, *, stage="train"):
        return super().training_step(batch, 0)


class Many(Plain):
    def training_step(self, batch, batch_idx, dataloader_idx=7):
        assert dataloader_idx == 7
        return {"loss": super().training_step(batch, batch_idx).view(1), "more": None}


class Popping(Plain):
    """Changes its batch in place."""

    def training_step(self, batch, batch_idx):
        images, labels = batch.pop(), batch.pop()
        batch.extend([images, labels])
        images, labels = (labels, images) if labels.is_floating_point() else (images, labels)
        return F.cross_entropy(self(images.mul_(1)), labels)


class FromIterator(Plain):
    def training_step(self, dataloader_iter):
        (images, labels), _, _ = next(dataloader_iter)
        return F.cross_entropy(self(images), labels)


@pytest.mark.parametrize("kind", [Arguments, Keyword, Many, Popping, FromIterator])
def test_arguments_and_outputs_of_the_training_step(kind: type[Plain]) -> None:
    for criterion in (SNIP(), SynFlow()):
        assert masks_of(made(kind), criterion=criterion) == masks_of(made(Plain), criterion=criterion)


class InPlace(Plain):
    def training_step(self, batch, batch_idx):
        batch[0].add_(1)
        return super().training_step(batch, batch_idx)


def test_each_round_sees_the_batches_as_they_came() -> None:
    module = made(InPlace)
    seen = []
    module.net[0].register_forward_pre_hook(lambda _, inputs: seen.append(float(inputs[0].sum())))
    found = []

    class Looks(SNIP):
        def scores(self, network, parameters, objective):
            seen.clear()
            scores = super().scores(network, parameters, objective)
            found.append(list(seen))
            return scores

    pruning = Pruning(Looks(), sparsity=0.5, rounds=3, batches=2)
    trainer(pruning, max_epochs=1).fit(module, batches())
    assert len(found) == 3
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 2


class Skipping(Plain):
    """Skips batches whose labels begin with 0, by returning None."""

    def training_step(self, batch, batch_idx):
        return None if batch[1][0] == 0 else super().training_step(batch, batch_idx)


def test_a_skipped_batch_counts_for_nothing() -> None:
    module = made(Skipping)
    pruning = Pruning(SNIP(), sparsity=0.5, samples_per_class=None)
    trainer(pruning, max_epochs=1).fit(module, batches())
    scores = pruning.outcome.scores
    assert all(score.isfinite().all() for score in scores.values())
    assert sum(int((score > 0).sum()) for score in scores.values()) > 50


def test_a_module_that_optimises_by_hand_needs_no_loss_where_none_is_taken() -> None:
    class NoLoss(ByHand):
        pruning_loss = property(lambda self: (_ for _ in ()).throw(AttributeError("none")))

    masks_of(made(NoLoss), criterion=SynFlow())
    with pytest.raises(ValueError, match=r"NoLoss uses manual optimization.*pruning_loss\(batch\)"):
        masks_of(made(NoLoss))


class Writing(Plain):
    def training_step(self, batch, batch_idx):
        assert isinstance(self.logger, CSVLogger)
        self.logger.log_metrics({"own": 1.0}, step=self.global_step)
        self.logger.experiment.log_metrics({"raw": 1.0}, step=100 + len(self.logger.experiment.metrics))
        self.print("a step")
        return super().training_step(batch, batch_idx)


def test_nothing_is_written_to_loggers_or_printed(tmp_path, capsys) -> None:
    logger = CSVLogger(tmp_path)
    masks_of(made(Writing), logger=logger, log_every_n_steps=1)
    text = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text()
    rows = [line.split(",") for line in text.splitlines()]
    for name in ("own", "raw"):
        assert sum(bool(row[rows[0].index(name)]) for row in rows[1:]) == 4
    assert capsys.readouterr().out.count("a step") == 4


def test_training_without_batches_is_refused_where_scores_need_them() -> None:
    pruning = Pruning(SNIP(), sparsity=0.5)
    with pytest.raises(BadRequest, match=r"limit_train_batches=0: .*batches"):
        trainer(pruning, max_epochs=0, limit_train_batches=0).fit(made(Plain), batches())


def test_scores_see_only_the_data_that_training_sees() -> None:
    criterion = InOrder()
    loader = batches(shuffle=False)
    trainer(Pruning(criterion, sparsity=0.5), max_epochs=1, overfit_batches=1).fit(made(Plain), loader)
    images, _ = next(iter(loader))
    found = criterion.batches[0][0]
    assert found.shape == images.shape
    assert found.sum((1, 2, 3)).sort().values.equal(images.sum((1, 2, 3)).sort().values)


def test_filters_in_half_precision() -> None:
    class Convolutions(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 2), nn.Flatten())
            self.head = nn.Linear(4, 4)

    for precision in ("64-true", "bf16-true"):
        pruning = Pruning(ThiNet(), sparsity=0.5)
        trainer(pruning, max_epochs=1, precision=precision).fit(made(Convolutions), batches())
        assert pruning.current_density < 1
