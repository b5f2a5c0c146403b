"""Pruned weights are 0 in every forward pass and after every batch, however the weights are updated."""

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from prunelit import Mag, Pruning
from prunelit.pruning.masks import digest
from reading import Clipping, Look, Reader, nonzero
from stock import loader, trainer


class TwoPhase(torch.optim.Optimizer):
    """As sharpness-aware minimization: climbs, then descends from there with an optimizer inside."""

    def __init__(self, params: Any, lr: float, through_data: bool = False) -> None:
        super().__init__(params, {})
        self.inner = torch.optim.SGD(self.param_groups, lr=lr, momentum=0.9)
        self.through_data = through_data

    @torch.no_grad()
    def first_step(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None:
                self.state[parameter]["before"] = parameter.clone()
                (parameter.data if self.through_data else parameter).add_(parameter.grad.sign() * 0.01)
        self.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            if parameter in self.state and "before" in self.state[parameter]:
                parameter.data = self.state[parameter]["before"]
        self.inner.step()
        self.zero_grad()

    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = closure()
        self.first_step()
        with torch.enable_grad():
            closure()
        self.second_step()
        return loss


class Sharpness(Reader):
    """Both phases by hand."""

    def __init__(self, **options: Any) -> None:
        super().__init__(lambda params, lr: TwoPhase(params, lr, **options))
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for phase in (self.optimizers().first_step, self.optimizers().second_step):
            self.manual_backward(super().training_step(batch, batch_idx))
            phase()


class Parts(Reader):
    """Two optimizers in turn, as a generator and a discriminator have."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    def configure_optimizers(self) -> Any:
        half = len(list(self.parameters())) // 2
        groups = list(self.parameters())[:half], list(self.parameters())[half:]
        return [torch.optim.Adam(group, lr=0.05) for group in groups]


class OwnStep(Reader):
    """Updates weights itself."""

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        optimizer_closure()
        for parameter in self.parameters():
            parameter.data.sub_(0.1 * parameter.grad + 0.001)


class Loading(Reader):
    """Goes back to its first weights in the middle of each epoch."""

    def on_fit_start(self) -> None:
        self.first = {
            name: torch.randn_like(p) if p.is_floating_point() else p for name, p in self.state_dict().items()
        }

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 2:
            self.load_state_dict(self.first)


class Replacing(Reader):
    """Puts new parameters and a new layer in the place of pruned ones, and makes its optimizer again."""

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            torch.manual_seed(1)
            self.backbone[4].weight = nn.Parameter(torch.randn_like(self.backbone[4].weight))
            self.backbone[6] = nn.Linear(24, 10)
            self.trainer.strategy.optimizers = [torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)]


class Quasi(Reader):
    def __init__(self) -> None:
        super().__init__(
            lambda params, lr: torch.optim.LBFGS(params, lr=0.1, max_iter=3, line_search_fn="strong_wolfe")
        )


class Lookahead(torch.optim.Optimizer):
    """Every second step goes half of the way from where it was then; not in a hooked ``step``."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})
        self.inner, self.steps = torch.optim.Adam(self.param_groups, lr=lr), 0
        self.slow = [torch.randn_like(p) for p in self.param_groups[0]["params"]]

    def step(self, closure: Any = None) -> Any:
        loss = self.inner.step(closure)
        self.steps += 1
        if self.steps % 2 == 0:
            for parameter, slow in zip(self.param_groups[0]["params"], self.slow, strict=True):
                slow.lerp_(parameter.data, 0.5)
                parameter.data.copy_(slow)
        return loss


class ScheduleFree(torch.optim.Optimizer):
    """Trains at a point between a fast sequence and its average, and evaluates the average."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})
        self.k, self.averaged = 0, False

    def swap(self, averaged: bool) -> None:
        if averaged != self.averaged:
            for parameter in self.param_groups[0]["params"]:
                if "z" in self.state[parameter]:
                    parameter.data.lerp_(self.state[parameter]["z"], 1 - 1 / 0.9 if averaged else 0.1)
            self.averaged = averaged

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = closure()
        self.k += 1
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            z = state.setdefault("z", torch.randn_like(parameter))
            parameter.lerp_(z, 1 / self.k).sub_(0.05 * parameter.grad)
            z.sub_(0.05 * parameter.grad)
        return loss


class Free(Reader):
    def __init__(self) -> None:
        super().__init__(ScheduleFree)

    def on_validation_start(self) -> None:
        self.optimizers().optimizer.swap(True)

    def on_validation_end(self) -> None:
        self.optimizers().optimizer.swap(False)

    def on_train_end(self) -> None:
        self.optimizers().optimizer.swap(True)


MODULES = {
    "SAM by hand": Sharpness,
    "SAM by hand through data": lambda: Sharpness(through_data=True),
    "SAM by closure": lambda: Reader(TwoPhase),
    "two optimizers": Parts,
    "clipping": Clipping,
    "own step": OwnStep,
    "loading": Loading,
    "replacing": Replacing,
    "LBFGS": Quasi,
    "Lookahead": lambda: Reader(Lookahead),
    "schedule-free": Free,
    "fused": lambda: Reader(lambda p, lr: torch.optim.AdamW(p, lr=lr, fused=True)),
    "one by one": lambda: Reader(lambda p, lr: torch.optim.Adam(p, lr=lr, foreach=False)),
}


@pytest.mark.parametrize("pre_epochs", [0, 1])
@pytest.mark.parametrize("name", MODULES)
def test_pruned_weights_are_zero_whenever_they_are_read(name: str, pre_epochs: int) -> None:
    module = MODULES[name]()
    pruning = Pruning(Mag(), compression=1.0, pre_epochs=pre_epochs)
    trainer(pruning, max_epochs=3).fit(module, loader(), loader(False))
    assert module.reads > 12
    assert module.violations == 0
    assert nonzero(module.named_parameters(), pruning.masks) == 0
    assert pruning.current_density == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("name", ["SAM by hand", "two optimizers", "own step", "Lookahead"])
def test_callbacks_find_pruned_weights_at_zero_after_each_batch(name: str) -> None:
    pruning = Pruning(Mag(), compression=1.0, pre_epochs=1)
    look = Look(pruning)
    trainer(pruning, look, max_epochs=3).fit(MODULES[name](), loader())
    assert look.looks >= 12
    assert look.violations == 0


def test_weights_written_within_a_step_are_held_before_the_network_is_called_again() -> None:
    class ByHand(Parts):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            for _ in range(3):
                self.manual_backward(Reader.training_step(self, batch, batch_idx))
                for parameter in self.parameters():
                    parameter.data -= 0.001

    module = ByHand()
    trainer(Pruning(Mag(), compression=0.5), max_epochs=1).fit(module, loader())
    assert module.reads == 12
    assert module.violations == 0


def test_a_clip_by_hand_counts_kept_gradients_only() -> None:
    norms = []

    class ByHand(Parts):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.manual_backward(Reader.training_step(self, batch, batch_idx))
            for name, mask in pruning.masks.items():
                norms.append(float(self.get_parameter(name).grad[~mask].norm()))

    pruning = Pruning(Mag(), compression=0.5)
    trainer(pruning, max_epochs=1).fit(ByHand(), loader())
    assert len(norms) > 4
    assert max(norms) == 0


def test_a_run_that_prunes_nothing_puts_no_hooks_on_modules() -> None:
    class Hooks(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            assert not any(part._forward_pre_hooks for part in pl_module.modules())

    trainer(Pruning(Mag(), compression=0), Hooks()).fit(Reader(), loader())


def test_two_fits_with_one_callback_hold_the_same_masks() -> None:
    module, pruning = Clipping(), Pruning(Mag(), compression=1.0)
    trainer(pruning).fit(module, loader())
    first = digest(pruning.masks)
    trainer(pruning).fit(module, loader())
    assert digest(pruning.masks) == first
    assert module.violations == nonzero(module.named_parameters(), pruning.masks) == 0
