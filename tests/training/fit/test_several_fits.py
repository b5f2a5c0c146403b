"""One ``Pruning`` over several fits: the same network goes on, another is pruned by its own scores."""

import copy
import warnings

import pytest
import torch
from torch import nn

from prunelit import BadRequest, Karnin, Mag, Pruning
from prunelit.pruning.masks import density_of
from stock import Stranger, Watch, loader, trainer


def weight(module: Stranger) -> torch.Tensor:
    return module.backbone[4].weight


def own_largest(first: torch.Tensor, pruning: Pruning) -> float:
    """The share of the kept weights of a layer that were among its largest ones at first."""
    mask = pruning.masks["backbone.4.weight"].flatten()
    return float(mask[first.abs().flatten().topk(int(mask.sum())).indices].float().mean())


def stranger(seed: int, width: int = 24) -> Stranger:
    torch.manual_seed(seed)
    head = nn.Linear(288, width), nn.ReLU(), nn.Linear(width, 10)
    return Stranger(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Identity(), *head))


def test_each_fold_is_pruned_by_its_own_weights() -> None:
    pruning = Pruning(Mag(), sparsity=0.5, scope="layer")
    for fold in range(3):
        module = stranger(fold)
        first = weight(module).detach().clone()
        trainer(pruning, max_epochs=1).fit(module, loader())
        assert own_largest(first, pruning) == 1
        assert (pruning.num_done, pruning.num_rounds) == (1, 1)


def test_another_architecture_is_pruned_as_the_first_was() -> None:
    pruning = Pruning(Mag(), sparsity=0.5)
    for width in (24, 40):
        module = stranger(0, width)
        trainer(pruning, watch := Watch(pruning), max_epochs=1).fit(module, loader())
        assert pruning.masks["backbone.4.weight"].shape == (width, 288)
        assert watch.steps == 4
        assert density_of(pruning.masks) == 0.5


@pytest.mark.parametrize("new_callback", [False, True])
def test_first_weights_loaded_again_are_pruned_again(new_callback: bool) -> None:
    module = stranger(0)
    pruning = Pruning(Mag(), sparsity=0.5, scope="layer")
    trainer(pruning, max_epochs=1).fit(module, loader())
    module.load_state_dict(stranger(1).state_dict())
    if new_callback:
        pruning = Pruning(Mag(), sparsity=0.5, scope="layer")
    first = weight(module).detach().clone()
    with pytest.warns(UserWarning, match="it counts as a new network"):
        trainer(pruning, max_epochs=1).fit(module, loader())
    assert own_largest(first, pruning) == 1


@pytest.mark.parametrize("how", ["same", "copy", "loaded"])
def test_the_same_network_goes_on_under_its_masks(how: str, tmp_path) -> None:
    pruning, module = Pruning(Mag(), sparsity=0.5), stranger(0)
    first = trainer(pruning, max_epochs=1, default_root_dir=tmp_path)
    first.fit(module, loader())
    first.save_checkpoint(tmp_path / "pruned.ckpt")
    if how == "copy":
        module = copy.deepcopy(module)
    if how == "loaded":
        module = stranger(3)
        module.load_state_dict(torch.load(tmp_path / "pruned.ckpt", weights_only=True)["state_dict"])
    masks = {name: mask.clone() for name, mask in pruning.masks.items()}
    trainer(pruning, watch := Watch(pruning), max_epochs=2).fit(module, loader())
    assert watch.steps == 8
    assert (pruning.num_done, pruning.num_rounds) == (1, 1)
    assert all(torch.equal(pruning.masks[name], mask) for name, mask in masks.items())


def test_a_continued_fit_goes_on_with_its_rounds() -> None:
    """Two fits of three epochs prune at the epochs of one fit of six."""
    together, apart = (Pruning(Mag(), sparsity=0.9, when="epoch", rounds=2, every=2) for _ in range(2))
    one, two = Epochs(), Epochs()
    trainer(together, one, max_epochs=6).fit(stranger(0), loader())
    module = stranger(0)
    with pytest.warns(UserWarning, match="max_epochs=3 ends before the last of 2 prunings"):
        trainer(apart, two, max_epochs=3).fit(module, loader())
    assert one.seen[:1] == two.seen == [(2, 1)]
    trainer(apart, two, max_epochs=3).fit(module, loader())
    assert one.seen == [(2, 1), (4, 2)]
    assert two.seen == [(2, 1), (1, 2)]


class Epochs(Watch):
    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def on_after_pruning(self, trainer, pl_module, pruning):
        self.seen.append((trainer.current_epoch, pruning.num_done))

    def on_train_batch_end(self, *_):
        pass


def test_one_trainer_fits_again_after_a_test() -> None:
    pruning, module = Pruning(Mag(), sparsity=0.9, when="epoch", rounds=2, every=2), stranger(0)
    seen = Epochs()
    one = trainer(pruning, seen, max_epochs=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one.fit(module, loader())
    one.test(module, loader(), verbose=False)
    one.fit_loop.max_epochs = 6
    one.fit(module, loader())
    assert seen.seen == [(2, 1), (4, 2)]
    assert weight(module).eq(0).any()


@pytest.mark.parametrize(("change", "times"), [(False, 1), (True, 2)])
def test_weights_that_may_grow_back_are_known_by_their_values(change: bool, times: int) -> None:
    seen, module = Epochs(), stranger(0)
    pruning = Pruning(Mag(), sparsity=0.5, masked_gradient=False)
    trainer(pruning, seen, max_epochs=1).fit(module, loader())
    if change:
        module.load_state_dict(stranger(0).state_dict())
    trainer(pruning, seen, max_epochs=1).fit(module, loader())
    assert len(seen.seen) == times


def test_what_a_criterion_has_observed_of_one_network_is_not_used_for_another() -> None:
    def masks(pruning: Pruning) -> dict:
        trainer(pruning, max_epochs=1).fit(stranger(1), loader(False))
        return pruning.masks

    used = Pruning(Karnin(), sparsity=0.5, when="end")
    trainer(used, max_epochs=1).fit(stranger(0), loader(False))
    again, fresh = masks(used), masks(Pruning(Karnin(), sparsity=0.5, when="end"))
    assert all(torch.equal(again[name], fresh[name]) for name in fresh)


class Pair(Stranger):
    """Two networks."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = stranger(1).backbone, stranger(2).backbone

    def training_step(self, batch, batch_idx):
        images, labels = batch
        logits = self.generator(images) + self.discriminator(images)
        return nn.functional.cross_entropy(logits, labels)


def test_two_callbacks_prune_two_networks_of_one_module(tmp_path) -> None:
    def two() -> list[Pruning]:
        return [
            Pruning(Mag(), sparsity=0.5, network="generator"),
            Pruning(Mag(), sparsity=0.9, network="discriminator"),
        ]

    module, callbacks = Pair(), two()
    one = trainer(*callbacks, max_epochs=1)
    one.fit(module, loader())
    one.save_checkpoint(tmp_path / "both.ckpt")
    resumed, again = Pair(), two()
    trainer(*again, max_epochs=2).fit(resumed, loader(), ckpt_path=tmp_path / "both.ckpt")
    for network, before, after in zip(
        (resumed.generator, resumed.discriminator), callbacks, again, strict=True
    ):
        assert after.current_density == before.current_density
        for name, parameter in network.named_parameters():
            if name in before.masks:
                assert torch.equal(before.masks[name], after.masks[name])
                assert parameter[~after.masks[name]].eq(0).all()


def test_two_callbacks_for_one_network_are_refused() -> None:
    with pytest.raises(RuntimeError, match="Found more than one stateful callback of type `Pruning`"):
        trainer(Pruning(Mag(), sparsity=0.5), Pruning(Mag(), sparsity=0.9))
    inside = Pruning(Mag(), sparsity=0.5, network="generator"), Pruning(Mag(), sparsity=0.9)
    with pytest.raises(BadRequest, match=r"^network='generator': .*network=''"):
        trainer(*inside).fit(Pair(), loader())
