"""Units are cut out in the middle of a fit: the training goes on as with masks, in a smaller network."""

from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import LBFGS, SGD, Adafactor, Adam

from prunelit import BadRequest, Mag, Pruning
from prunelit.pruning.criteria import Karnin
from stock import loader, trainer

HALF = {"sparsity": 0.5, "granularity": "unit", "when": "epoch", "rounds": 2, "pre_epochs": 1}


class Block(nn.Module):
    """Two convolutions with BatchNorm and a shortcut, so that units of three layers belong together."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.first = nn.Conv2d(8, 12, 3, padding=1)
        self.second = nn.Conv2d(12, 8, 3, padding=1)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        x = x + self.second(self.first(x).relu())
        return self.head(x.mean((2, 3)))


class Module(pl.LightningModule):
    def __init__(self, optimizer, network=Block) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.make, self.losses = network(), optimizer, []

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.losses.append(float(loss.detach()))
        return loss

    def test_step(self, batch, batch_idx):
        self.log("loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        norms = list(self.net.norm.parameters())
        others = [p for name, p in self.net.named_parameters() if not name.startswith("norm")]
        return self.make([{"params": others}, {"params": norms, "weight_decay": 0.0}])


def momentum(groups):
    return SGD(groups, lr=0.05, momentum=0.9, weight_decay=0.01)


def adam(groups):
    return Adam(groups, lr=0.01, weight_decay=0.01)


def fitted(optimizer, epochs=4, folder=None, resume=None, network=Block, precision="32-true", **options):
    pl.seed_everything(1, verbose=False)
    module, pruning = Module(optimizer, network), Pruning(Mag(), network="net", **HALF | options)
    done = trainer(pruning, max_epochs=epochs, gradient_clip_val=1.0, precision=precision)
    done.fit(module, loader(shuffle=False), ckpt_path=resume, weights_only=True)
    if folder is not None:
        done.save_checkpoint(folder)
    return module, pruning, done


@pytest.mark.parametrize("optimizer", [momentum, adam])
def test_the_losses_of_all_steps_are_those_of_masked_training(optimizer) -> None:
    masked, cut = (fitted(optimizer, precision="64-true", cut=choice) for choice in (False, True))
    assert masked[0].losses == pytest.approx(cut[0].losses, rel=1e-9)
    assert len(cut[0].losses) == 16
    for name, mask in masked[1].masks.items():
        assert torch.equal(mask, cut[1].masks[name])
    whole = dict(masked[0].net.named_parameters())
    with cut[1].cut.whole(cut[0].net):
        for name, parameter in cut[0].net.named_parameters():
            assert torch.allclose(parameter, whole[name], rtol=1e-6, atol=1e-9), name


def test_parameters_statistics_and_moments_become_smaller() -> None:
    module, pruning, done = fitted(adam, cut=True)
    net = module.net
    assert (net.first.out_channels, net.second.in_channels) == net.second.weight.shape[1:2] * 2
    assert 0 < net.first.out_channels < 12
    assert len(net.norm.running_mean) == net.norm.num_features == net.stem.out_channels < 8
    optimizer = done.optimizers[0]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in net.parameters()}
    for parameter in held:
        assert optimizer.state[parameter]["exp_avg"].shape == parameter.shape
    assert pruning.current_density == pytest.approx(
        sum(int(m.sum()) for m in pruning.masks.values()) / sum(p.numel() for p in Block().parameters())
    )


def test_a_resumed_training_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    straight, pruning, _ = fitted(adam, cut=True)
    for epochs in (1, 2, 3):  # before the first pruning, between both, and after the second
        path = tmp_path / f"{epochs}.ckpt"
        fitted(adam, epochs, path, cut=True)
        again, resumed, _ = fitted(adam, resume=path, cut=True)
        assert again.losses == straight.losses[4 * epochs :]
        assert all(torch.equal(mask, pruning.masks[name]) for name, mask in resumed.masks.items())
        for name, value in straight.net.state_dict().items():
            assert torch.equal(value, again.net.state_dict()[name]), name


def test_a_checkpoint_of_other_widths_is_tested(tmp_path: Path) -> None:
    module, _, done = fitted(adam, 2, tmp_path / "two.ckpt", cut=True)
    expected = done.test(module, loader(shuffle=False), verbose=False)
    module, _, done = fitted(adam, cut=True)
    assert sum(p.numel() for p in module.parameters()) < sum(p.numel() for p in Block().parameters()) / 3
    found = done.test(module, loader(shuffle=False), str(tmp_path / "two.ckpt"), verbose=False)
    assert found == expected
    saved = torch.load(tmp_path / "two.ckpt", weights_only=True)
    assert {n: v.shape for n, v in saved["state_dict"].items()} == {
        n: v.shape for n, v in module.state_dict().items()
    }


def test_another_fit_goes_on_with_the_smaller_network() -> None:
    module, pruning, _ = fitted(momentum, cut=True)
    before = {name: value.shape for name, value in module.state_dict().items()}
    trainer(pruning, max_epochs=1).fit(module, loader())
    assert {name: value.shape for name, value in module.state_dict().items()} == before
    assert pruning.num_done == 2


def test_weights_return_to_the_epoch_of_rewind_in_the_smaller_network() -> None:
    masked, cut = (fitted(momentum, cut=choice, rewind=1) for choice in (False, True))
    assert masked[0].losses == pytest.approx(cut[0].losses, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "key"),
    [({"granularity": "weight"}, "cut"), ({"masked_gradient": False}, "masked_gradient")],
)
def test_options_that_do_not_fit_are_refused(options, key) -> None:
    with pytest.raises(BadRequest) as refused:
        Pruning(Mag(), **HALF | {"cut": True} | options)
    assert refused.value.key == key


def test_a_criterion_that_observes_training_is_refused() -> None:
    with pytest.raises(BadRequest, match="Karnin observes"):
        Pruning(Karnin(), **HALF, cut=True)


@pytest.mark.parametrize(
    "optimizer", [partial(Adafactor, lr=0.01), lambda groups: LBFGS([p for g in groups for p in g["params"]])]
)
def test_an_optimizer_whose_state_cannot_be_cut_is_refused(optimizer) -> None:
    with pytest.raises(BadRequest, match="does not have the shape"):
        fitted(optimizer, cut=True)


def test_averages_of_weights_are_refused() -> None:
    average = pl.callbacks.StochasticWeightAveraging(0.1)
    with pytest.raises(BadRequest, match="average"):
        trainer(Pruning(Mag(), network="net", **HALF, cut=True), average).fit(Module(momentum), loader())


class Viewed(Block):
    """Its shortcut has its width written into the code, so that only the inner units can be cut."""

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        x = x + self.second(self.first(x).relu())
        return self.head(x.mean((2, 3)).expand(-1, 8))


def test_units_that_cannot_be_cut_stay_at_0() -> None:
    masked, cut = (fitted(momentum, network=Viewed, cut=choice) for choice in (False, True))
    assert cut[0].net.stem.out_channels == 8
    assert cut[0].net.first.out_channels < 12
    assert masked[0].losses == pytest.approx(cut[0].losses, rel=1e-4)
