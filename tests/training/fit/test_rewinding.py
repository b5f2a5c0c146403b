"""Rewinding to epoch k: weights, learning rates, momentum and schedules are those of epoch k."""

import copy

import lightning.pytorch as pl
import pytest
import torch
from torch.nn import functional as F
from torch.optim import lr_scheduler as lr
from torch.optim.swa_utils import SWALR

from prunelit import BadRequest, Mag, Pruning
from stock import loader, network, trainer

K, LEVEL = 2, 3  # weights go back to epoch 2; each level ends three epochs later
STEPS = 4  # in an epoch


def onecycle(optimizer):
    return [{"scheduler": lr.OneCycleLR(optimizer, 0.1, total_steps=100), "interval": "step"}]


def warm_up(optimizer):
    parts = [lr.LinearLR(optimizer, 0.1, total_iters=2), lr.CosineAnnealingLR(optimizer, 4)]
    return [lr.SequentialLR(optimizer, parts, [2])]


SCHEDULES = {
    "multistep": lambda o: [lr.MultiStepLR(o, [3, 4], 0.1)],
    "warm-up": warm_up,
    "one cycle": onecycle,
    "restarts": lambda o: [lr.CosineAnnealingWarmRestarts(o, 2)],
    "two": lambda o: [lr.ExponentialLR(o, 0.5), {"scheduler": lr.StepLR(o, 3), "interval": "step"}],
    "lambda": lambda o: [lr.LambdaLR(o, lambda epoch: 0.9**epoch)],
    "chained": lambda o: [lr.ChainedScheduler([lr.ConstantLR(o, 0.1, 1), lr.ExponentialLR(o, 0.9)])],
    "averaging": lambda o: [SWALR(o, 0.01, anneal_epochs=4)],
}


class Scheduled(pl.LightningModule):
    """Notes learning rate and momentum of each step."""

    def __init__(self, schedule: str) -> None:
        super().__init__()
        self.backbone, self.schedule = network(), schedule
        self.seen: list[tuple[float, float]] = []

    def on_train_batch_start(self, *_):
        group = self.trainer.optimizers[0].param_groups[0]
        self.seen.append((group["lr"], group["momentum"]))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.backbone(batch[0]), batch[1])

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)
        return [optimizer], SCHEDULES[self.schedule](optimizer)


def fit(schedule: str, epochs: int, ckpt=None, **options) -> tuple[Scheduled, pl.Trainer]:
    pl.seed_everything(1, verbose=False)
    module = Scheduled(schedule)
    own = trainer(
        Pruning(Mag(), sparsity=0.5, when="epoch", rounds=2, every=LEVEL, **options), max_epochs=epochs
    )
    own.fit(module, loader(False), ckpt_path=ckpt)
    return module, own


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_level_trains_at_the_rates_of_the_epochs_it_repeats(schedule: str) -> None:
    seen = fit(schedule, K + 3 * LEVEL, rewind=K)[0].seen
    level = seen[K * STEPS : (K + LEVEL) * STEPS]
    assert seen[(K + LEVEL) * STEPS :] == level + level


def test_the_schedule_goes_on_or_to_its_beginning_if_that_is_asked_for() -> None:
    def rates(**options) -> list[float]:
        module, _ = fit("multistep", K + 2 * LEVEL, rewind=K, **options)
        return [round(rate, 6) for rate, _ in module.seen[(K + LEVEL) * STEPS :: STEPS]]

    assert rates() == rates(restart_schedule=True) == [0.1, 0.01, 0.001]
    assert rates(restart_schedule="init") == [0.1, 0.1, 0.1]
    assert rates(restart_schedule=False) == [0.001, 0.001, 0.001]


@pytest.mark.parametrize("schedule", ["warm-up", "one cycle"])
def test_rewinding_of_the_rate_alone_begins_where_the_training_began(schedule: str) -> None:
    """A warm-up begins below the optimizer's rate."""
    seen = fit(schedule, 3 * LEVEL, restart_schedule=True)[0].seen
    assert seen[LEVEL * STEPS :] == 2 * seen[: LEVEL * STEPS]


def test_a_level_is_that_of_a_plain_loop() -> None:
    """A loop in plain PyTorch: train to the end of a level, prune, weights and schedule back to epoch k."""
    module, _ = fit("multistep", K + 2 * LEVEL, rewind=K)

    plain = network()
    optimizer = torch.optim.SGD(plain.parameters(), 0.1, momentum=0.9)
    schedule = lr.MultiStepLR(optimizer, [3, 4], 0.1)
    mask: dict[str, torch.Tensor] = {}

    def train_epoch() -> None:
        for images, labels in loader(False):
            optimizer.zero_grad()
            F.cross_entropy(plain(images), labels).backward()
            for name, kept in mask.items():
                plain.get_parameter(name).grad.mul_(kept)
            optimizer.step()
        schedule.step()

    for epoch in range(K + LEVEL):
        if epoch == K:
            weights, rates = copy.deepcopy(plain.state_dict()), copy.deepcopy(schedule.state_dict())
        train_epoch()
    layers = {name: p.detach() for name, p in plain.named_parameters() if p.ndim > 1}
    scores = torch.cat([p.abs().flatten() for p in layers.values()])
    first_level = round(0.5**0.5 * len(scores))
    limit = scores.sort(descending=True).values[first_level - 1]
    mask = {name: p.abs() >= limit for name, p in layers.items()}
    plain.load_state_dict({name: w * mask.get(name, 1) for name, w in weights.items()})
    schedule.load_state_dict(rates)
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.state.clear()
    for _ in range(LEVEL):
        train_epoch()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(module.backbone.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_a_resumed_training_goes_back_to_the_same_point(tmp_path) -> None:
    whole, _ = fit("one cycle", K + 3 * LEVEL, rewind=K)
    with pytest.warns(UserWarning, match="ends before the last of 2 prunings"):
        _, first = fit("one cycle", K + 2, rewind=K)
    first.save_checkpoint(tmp_path / "part.ckpt")
    rest, _ = fit("one cycle", K + 3 * LEVEL, ckpt=tmp_path / "part.ckpt", rewind=K)
    assert rest.seen == whole.seen[(K + 2) * STEPS :]
    for name, value in whole.state_dict().items():
        assert torch.equal(rest.state_dict()[name], value)


def test_an_epoch_that_never_comes_is_refused_before_training(tmp_path) -> None:
    with pytest.raises(BadRequest, match=r"^rewind=4: .* 1$"):
        fit("multistep", 6, rewind=4, pre_epochs=1)
    dense = trainer(max_epochs=3)
    dense.fit(Scheduled("multistep"), loader(False))
    dense.save_checkpoint(tmp_path / "dense.ckpt")
    with pytest.raises(BadRequest, match=r"^rewind=init: .*epoch 3\b"):
        fit("multistep", 6, ckpt=tmp_path / "dense.ckpt", rewind="init")
