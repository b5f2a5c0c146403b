"""When a fit prunes: modules that are built late, fits without limit or training, fits that end early."""

import warnings

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunelit import SNIP, BadRequest, Mag, Pruning
from stock import Stranger, Watch, loader, network, trainer


class Late(pl.LightningModule):
    """Builds its network in the hook that it is named."""

    def __init__(self, hook: str) -> None:
        super().__init__()
        self.backbone = None
        self.hook = hook

    def build(self, hook: str) -> None:
        if hook == self.hook and self.backbone is None:
            self.backbone = network().to(self.device)

    def setup(self, stage):
        self.build("setup")

    def configure_model(self):
        self.build("configure_model")

    def on_fit_start(self):
        self.build("on_fit_start")
        if self.hook == "on_fit_start":
            self.optimizers().add_param_group({"params": list(self.backbone.parameters())})

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.backbone(batch[0]), batch[1])

    def configure_optimizers(self):
        own = list(self.parameters()) or [nn.Parameter(torch.zeros(()))]
        return torch.optim.SGD(own, 0.01, momentum=0.9)


@pytest.mark.parametrize("hook", ["setup", "configure_model", "on_fit_start"])
@pytest.mark.parametrize("name", ["", "backbone"])
def test_a_network_that_is_built_late_is_pruned_before_the_first_step(hook: str, name: str) -> None:
    pruning, module = Pruning(SNIP(), sparsity=0.9, network=name), Late(hook)
    prefix = "" if name else "backbone."

    class Look(pl.Callback):
        steps = 0

        def on_train_batch_end(self, *_):
            self.steps += 1
            for name, mask in pruning.masks.items():
                assert module.backbone.get_parameter(name.removeprefix(prefix))[~mask].eq(0).all()

    trainer(pruning, look := Look(), max_epochs=1).fit(module, loader())
    assert look.steps == 4
    assert pruning.current_density == pytest.approx(0.1, abs=1e-3)


def test_a_module_without_layers_is_refused_in_terms_of_what_was_given() -> None:
    class Empty(Stranger):
        def __init__(self):
            super().__init__(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192)))

    with pytest.raises(BadRequest) as caught:
        trainer(Pruning(Mag(), sparsity=0.9)).fit(Empty(), loader())
    assert not str(caught.value).startswith(("only", "exclude", "pruner"))


def test_lazy_layers_are_pruned_once_they_have_shapes() -> None:
    """The sanity check of the validation runs before training."""

    class Lazy(Stranger):
        def __init__(self):
            super().__init__(nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(10)))

        def validation_step(self, batch, batch_idx):
            self.log("loss", F.cross_entropy(self.backbone(batch[0]), batch[1]))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.01)

    pruning, module = Pruning(SNIP(), sparsity=0.9), Lazy()
    trainer(pruning, watch := Watch(pruning), max_epochs=1).fit(module, loader(), loader(False))
    assert watch.steps == 4
    assert pruning.current_density == pytest.approx(0.1, abs=1e-3)
    with pytest.raises(BadRequest, match=r"^model=backbone\.1: "):
        trainer(Pruning(SNIP(), sparsity=0.9), max_epochs=1).fit(Lazy(), loader())


class Moments(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_after_pruning(self, trainer, pl_module, pruning):
        self.seen.append(trainer.current_epoch)


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ({"when": "start"}, [0]),
        ({"when": "epoch", "rounds": 3}, [1, 2, 3]),
        ({"when": "epoch", "rounds": 2, "every": 2}, [2, 4]),
        ({"when": "epoch", "rounds": 2, "every": 2, "pre_epochs": 0}, [0, 2]),
        ({"when": "epoch", "rounds": 2, "every": 2, "pre_epochs": 1}, [1, 3]),
        ({"when": "epoch", "rounds": 2, "every": 2, "rewind": 1}, [3, 5]),
    ],
)
def test_rounds_come_every_few_epochs_from_the_first_on(options: dict, epochs: list[int]) -> None:
    moments = Moments()
    trainer(Pruning(Mag(), sparsity=0.9, **options), moments, max_epochs=6).fit(Stranger(), loader())
    assert moments.seen == epochs


def test_a_network_trained_without_pruning_is_pruned_at_once(tmp_path) -> None:
    """The checkpoint of a dense training: rounds begin at its epoch, and stay `every` epochs apart."""
    dense = trainer(max_epochs=2)
    dense.fit(Stranger(), loader())
    dense.save_checkpoint(tmp_path / "dense.ckpt")
    moments = Moments()
    pruning = Pruning(Mag(), sparsity=0.9, when="epoch", rounds=2, every=3)
    trainer(pruning, moments, max_epochs=6).fit(Stranger(), loader(), ckpt_path=tmp_path / "dense.ckpt")
    assert moments.seen == [2, 5]


def fit_and_warnings(pruning: Pruning, *callbacks: pl.Callback, **options) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(pruning, *callbacks, **options).fit(Stranger(), loader())
    return [str(w.message) for w in caught if "prunings" in str(w.message)]


class StopAt(pl.Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch == self.epoch


@pytest.mark.parametrize(
    ("callbacks", "options"),
    [
        ((), {"max_steps": 8, "max_epochs": -1}),
        ((StopAt(1),), {"max_epochs": 9}),
        ((StopAt(1),), {"max_epochs": -1}),
    ],
    ids=["max_steps", "should_stop", "without limit"],
)
def test_a_training_that_ends_before_its_target_says_so_once(callbacks, options: dict) -> None:
    pruning = Pruning(Mag(), sparsity=0.91, when="epoch", rounds=2, every=1)
    assert fit_and_warnings(pruning, *callbacks, **options) == [
        "the training ended after 1 of 2 prunings, so the network stays denser than requested "
        "(density 0.2999 instead of 0.09)"
    ]


def test_too_few_epochs_are_said_before_training_and_not_again() -> None:
    pruning = Pruning(Mag(), sparsity=0.9, pre_epochs=12)
    assert fit_and_warnings(pruning, max_epochs=2) == [
        "max_epochs=2 ends before the last of 1 prunings, so the network stays denser than requested "
        "(density 1 instead of 0.1): max_epochs=13 or more is needed"
    ]


def test_an_interrupted_training_says_so() -> None:
    class Interrupt(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            if trainer.current_epoch == 1:
                raise KeyboardInterrupt

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(SystemExit):
            trainer(Pruning(Mag(), sparsity=0.9, pre_epochs=3), Interrupt(), max_epochs=9).fit(
                Stranger(), loader()
            )
    assert sum("the training ended after 0 of 1 prunings" in str(w.message) for w in caught) == 1


@pytest.mark.parametrize("limit", ["max_epochs", "max_steps", "limit_train_batches"])
@pytest.mark.parametrize("when", ["start", "epoch", "end"])
def test_with_nothing_to_train_all_is_pruned_at_once(limit: str, when: str) -> None:
    pruning = Pruning(Mag(), sparsity=0.9, when=when, rounds=2)
    assert fit_and_warnings(pruning, **{limit: 0}) == []
    assert pruning.current_density == pytest.approx(0.1, abs=1e-3)


def test_without_training_batches_a_criterion_that_needs_them_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"^limit_train_batches=0: SNIP "):
        trainer(Pruning(SNIP(), sparsity=0.9), limit_train_batches=0).fit(Stranger(), loader())


@pytest.mark.parametrize("options", [{"max_epochs": 2}, {"max_steps": 6, "max_epochs": -1}], ids=str)
def test_pruning_after_training_comes_wherever_training_ends(options: dict) -> None:
    pruning, moments = Pruning(Mag(), sparsity=0.9, when="end"), Moments()
    assert fit_and_warnings(pruning, moments, **options) == []
    assert len(moments.seen) == 1
    assert pruning.done
