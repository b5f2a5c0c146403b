"""After its first pruning a network is trained to give the outputs that it gave before."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD

from prunelit import BadRequest, Distillation, Mag, Pruning
from prunelit.training.fit.distillation import distillation_loss
from prunelit.training.module import Classifier
from stock import loader, trainer


def test_the_loss_is_the_divergence_of_softened_outputs() -> None:
    own, of_teacher = torch.tensor([[1.0, 3.0], [0.0, 2.0]]), torch.tensor([[2.0, 0.0], [4.0, 4.0]])
    p, q = ((logits.double() / 2).softmax(1) for logits in (of_teacher, own))
    by_hand = 4 * (p * (p / q).log()).sum(1).mean()
    assert float(distillation_loss(own, of_teacher, 2.0)) == pytest.approx(float(by_hand), rel=1e-5)
    assert float(distillation_loss(of_teacher, of_teacher, 2.0)) == pytest.approx(0, abs=1e-6)


def fitted(
    folder: Path, epochs: int, weight: float | None, resume: Path | None = None, cut: bool = True
) -> tuple[Classifier, Distillation | None, Path]:
    """Train three epochs at most, with a pruning before the second one; return what was trained."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.LazyLinear(10)
    )
    network(loader().dataset[0][0][None])
    distillation = None if weight is None else Distillation(weight, temperature=2.0)
    pruning = Pruning(
        Mag(), sparsity=0.5, granularity="unit", pre_epochs=1, cut=cut, network="network", scope="layer"
    )
    module = Classifier(network, 10, partial(SGD, lr=0.1, momentum=0.9), distillation=distillation)
    callbacks = [pruning] if distillation is None else [pruning, distillation]
    fit = trainer(*callbacks, max_epochs=epochs, default_root_dir=folder)
    fit.fit(module, loader(shuffle=False), ckpt_path=resume)
    fit.save_checkpoint(folder / "saved.ckpt")
    return module, distillation, folder / "saved.ckpt"


def test_a_weight_of_1_leaves_the_outputs_of_the_dense_network_the_only_goal(tmp_path: Path) -> None:
    dense, _, _ = fitted(tmp_path, 1, None)
    without, _, _ = fitted(tmp_path, 3, None)
    module, distillation, _ = fitted(tmp_path, 3, 1.0)
    assert distillation is not None
    images = torch.stack([image for image, _ in loader().dataset])
    own = dense.network.eval()(images)
    assert torch.equal(distillation.teacher(images), own), "it is the network before the pruning"
    near, far = (distillation_loss(m.network.eval()(images), own, 2.0).item() for m in (module, without))
    assert near < 0.5 * far
    assert len(module.network[0].weight) == 4


def test_a_resumed_training_has_the_same_teacher_and_the_same_result(tmp_path: Path) -> None:
    whole, _, _ = fitted(tmp_path, 3, 0.5)
    _, _, saved = fitted(tmp_path, 2, 0.5)
    resumed, _, _ = fitted(tmp_path, 3, 0.5, saved)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name


def test_a_checkpoint_is_tested_without_its_teacher(tmp_path: Path) -> None:
    module, distillation, saved = fitted(tmp_path, 2, 0.5, cut=False)
    other = Distillation(0.5)
    trainer(other).test(module, loader(shuffle=False), ckpt_path=saved, verbose=False)
    assert other.teacher is None
    assert distillation is not None
    assert distillation.teacher is not None


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(BadRequest, match=r"^weight=1\.5: "):
        Distillation(1.5)
    with pytest.raises(BadRequest, match=r"^temperature=0\.0: "):
        Distillation(0.5, 0.0)
