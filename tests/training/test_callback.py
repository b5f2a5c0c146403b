"""Any module: batches and loss are found, scoring disturbs nothing, a wrong request is one line."""

import math
import random
import warnings

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from prunelit import SNIP, BadRequest, GraSP, Mag, Pruning, Rand, SynFlow
from prunelit.pruning.masks import count_all, count_kept, digest
from stock import Batches, Stranger, Watch, loader, trainer

CRITERIA = [Rand(), Mag(), SNIP(), GraSP(), SynFlow()]


class Order(Stranger):
    """Notes which images come in which order, and the first random number a step draws."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def training_step(self, batch, batch_idx):
        if self.trainer.fit_loop.epoch_loop.batch_progress.current.started > 0:
            self.seen += [
                float(batch[0].sum()),
                float(torch.rand(())),
                random.random(),
                float(np.random.rand()),
            ]
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda c: type(c).__name__)
def test_scoring_disturbs_neither_order_nor_randomness_nor_metrics(criterion) -> None:
    def seen(*callbacks: pl.Callback) -> list[float]:
        pl.seed_everything(7, verbose=False)
        module = Order()
        trainer(*callbacks).fit(module, loader())
        return module.seen[:16]

    assert seen(Pruning(criterion, compression=0.5, batches=3)) == seen()


def test_scoring_leaves_metrics_logs_modes_and_statistics_alone() -> None:
    class Inspect(pl.Callback):
        def on_after_pruning(self, trainer, pl_module, pruning):
            assert pl_module.accuracy._update_count == 0
            assert pl_module.training
            assert pl_module.backbone[1].num_batches_tracked == 0
            assert "forward" not in pl_module.__dict__
            assert "log" not in pl_module.__dict__
            assert not trainer.logged_metrics
            self.ran = True

    inspect = Inspect()
    pruning = Pruning(GraSP(batch_norm="batch"), compression=0.5, train_mode=True)
    trainer(pruning, inspect).fit(Stranger(), loader())
    assert inspect.ran


@pytest.mark.parametrize("network", ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow)])
@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda c: type(c).__name__)
def test_prunes_a_network_of_torchvision_in_a_stock_trainer(criterion, network: str) -> None:
    import torchvision

    torch.manual_seed(0)
    module = Stranger(torchvision.models.get_model(network, num_classes=10))
    names = [name for name, _ in module.named_parameters()]
    pruning = Pruning(criterion, compression=0.5)
    data = DataLoader(TensorDataset(torch.randn(4, 3, 32, 32), torch.arange(4)), batch_size=4)
    trainer(pruning, max_epochs=1).fit(module, data)
    assert [name for name, _ in module.named_parameters()] == names
    assert count_kept(pruning.masks) == round(10**-0.5 * count_all(pruning.masks))
    parameters = dict(module.named_parameters())
    assert all(parameters[name][~mask].eq(0).all() for name, mask in pruning.masks.items())


def test_no_epochs_prunes_all_the_same() -> None:
    pruning = Pruning(SNIP(), sparsity=0.9)
    trainer(pruning, max_epochs=0).fit(Stranger(), loader())
    assert pruning.current_density == pytest.approx(0.1, abs=1e-3)


def test_a_named_part_is_pruned_and_nothing_else() -> None:
    module = Stranger()
    pruning = Pruning(SynFlow(), compression=1.0, network="backbone.4")
    trainer(pruning, max_epochs=0).fit(module, loader())
    assert list(pruning.masks) == ["weight"]
    assert module.backbone[0].weight.ne(0).all()


def test_a_loss_by_hand_is_asked_for_in_one_line() -> None:
    class ByHand(Stranger):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(F.cross_entropy(self.backbone(batch[0]), batch[1]))
            optimizer.step()

    with pytest.raises(
        ValueError, match=r"^ByHand uses manual optimization.*pruning_loss\(batch\)"
    ) as caught:
        trainer(Pruning(SNIP(), compression=0.5)).fit(ByHand(), loader())
    assert "\n" not in str(caught.value)

    class Told(ByHand):
        def pruning_loss(self, batch):
            return F.cross_entropy(self.backbone(batch[0]), batch[1])

    pruning = Pruning(SNIP(), compression=0.5)
    trainer(pruning, watch := Watch(pruning)).fit(Told(), loader())
    assert watch.steps == 8


def test_two_calls_that_share_the_network_ask_for_its_name() -> None:
    class Halves(Stranger):
        def training_step(self, batch, batch_idx):
            logits = self.backbone[3:](self.backbone[:3](batch[0]))
            return F.cross_entropy(logits, batch[1])

    with pytest.raises(ValueError, match=r"no single call in Halves\.training_step .*network="):
        trainer(Pruning(SynFlow(), compression=0.5)).fit(Halves(), loader())


def test_a_module_with_a_dict_loss_and_its_own_forward() -> None:
    class Own(Stranger):
        def forward(self, images):
            return self.backbone(images)

        def training_step(self, batch):
            return {"loss": F.cross_entropy(self(batch[0]), batch[1]), "more": 1}

    for criterion in CRITERIA:
        pruning = Pruning(criterion, compression=0.5)
        trainer(pruning, max_epochs=1).fit(Own(), loader())
        assert pruning.done


def test_loaders_of_all_kinds() -> None:
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield from ((torch.randn(3, 8, 8), i % 10) for i in range(32))

    data = loader(False)
    weighted = torch.utils.data.WeightedRandomSampler([1.0] * 64, 64, generator=torch.Generator())
    for train in (
        DataLoader(Stream(), batch_size=8),
        Batches(data),
        DataLoader(data.dataset, batch_size=16, sampler=weighted),
        DataLoader(data.dataset, batch_size=16, num_workers=1),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pruning = Pruning(SNIP(), compression=0.5, batches=2)
            trainer(pruning, max_epochs=1).fit(Stranger(), train)
        assert pruning.done


def test_one_seed_gives_one_mask_and_another_seed_another() -> None:
    def masks(seed: int) -> str:
        pruning = Pruning(SNIP(), compression=1.0, seed=seed)
        trainer(pruning, max_epochs=0).fit(Stranger(), loader())
        return digest(pruning.masks)

    assert masks(1) == masks(1)
    assert masks(1) != masks(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "^compression=null: "),
        ({"compression": -1}, "^compression=-1: "),
        ({"compression": math.nan}, "^compression=nan: "),
        ({"compression": "abc"}, "^compression=abc: "),
        ({"sparsity": 1.2}, r"^sparsity=1\.2: "),
        ({"sparsity": 0.5, "compression": 1}, r"^sparsity=0\.5: compression=1\.0 "),
        ({"compression": 1, "round": 3}, r"^round=3: .*\brounds\?"),
        ({"compression": 1, "rounds": 0}, "^rounds=0: "),
        ({"compression": 1, "when": "later"}, "^when=later: "),
        ({"compression": 1, "batches": 0}, "^batches=0: "),
    ],
)
def test_wrong_requests_name_key_value_and_what_is_allowed(options: dict, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        Pruning(Mag(), **options)


def test_a_wrong_amount_or_pattern_is_refused_before_training() -> None:
    with pytest.raises(BadRequest, match=r"^compression=7: .*of the 7"):
        trainer(Pruning(Mag(), compression=7)).fit(Stranger(), loader())
    with pytest.raises(BadRequest, match=r"^exclude=head: .*backbone"):
        trainer(Pruning(Mag(), compression=1, exclude="head")).fit(Stranger(), loader())
    with pytest.raises(BadRequest, match=r"^network=backbonee: .*\bbackbone\?"):
        trainer(Pruning(Mag(), compression=1, network="backbonee")).fit(Stranger(), loader())


@pytest.mark.parametrize(("wrong", "line"), [(Mag, "^criterion="), ("mag", "^criterion=mag: ")])
def test_what_is_no_criterion_is_refused(wrong, line: str) -> None:
    with pytest.raises(BadRequest, match=line):
        Pruning(wrong, sparsity=0.9)


def test_a_density_is_asked_for_as_sparsity_or_compression() -> None:
    with pytest.raises(BadRequest, match=r"^density=0\.1: .*sparsity.*compression"):
        Pruning(Mag(), density=0.1)


@pytest.mark.parametrize(("rounds", "late"), [(2, False), (3, True)])
def test_too_few_epochs_for_all_rounds_are_warned_of(rounds: int, late: bool) -> None:
    pruning = Pruning(Mag(), sparsity=0.9, when="epoch", rounds=rounds)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pl.Trainer(
            max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[pruning]
        ).fit(Stranger(), loader())
    assert any("max_epochs=4 or more" in str(warning.message) for warning in caught) == late
    assert pruning.done == (not late)
