from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from omegaconf import OmegaConf

from prunelit.request import BadRequest
from prunelit.training.data import ImageData, module
from prunelit.training.data.loaders import InMemoryLoader
from prunelit.training.data.options import DATASETS, Options
from prunelit.training.data.streaming import StreamingLoader

MakeTree = Callable[..., Path]
CONF = Path(__file__).parents[3] / "conf" / "data"


def ready(dataset: str = "digits", **options: Any) -> ImageData:
    data = ImageData(dataset, **options)
    data.setup()
    return data


def test_there_is_a_config_for_every_data_set() -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} == set(DATASETS)


@pytest.mark.parametrize("name", DATASETS)
def test_a_config_gives_the_defaults_and_takes_the_run_s_keys(name: str) -> None:
    config = OmegaConf.create({"batch_size": 17, "seed": 5, "data": OmegaConf.load(CONF / f"{name}.yaml")})
    assert config.data.pop("name") == name
    data = hydra.utils.instantiate(config.data)
    assert isinstance(data, ImageData)
    own = {"imagenet": {"root": "data/imagenet", "size": 224}, "folder": {"root": None}}.get(name, {})
    assert data.options == Options(dataset=name, batch_size=17, seed=5, **own)


WRONG = [
    ({"dataset": "mnits"}, "dataset", "did you mean mnist"),
    ({"batch_size": 0}, "batch_size", "an integer >= 1"),
    ({"batch_size": "many"}, "batch_size", "an integer >= 1"),
    ({"eval_batch_size": -1}, "eval_batch_size", "an integer >= 1"),
    ({"seed": -1}, "seed", "an integer >= 0"),
    ({"size": 0}, "size", "an integer >= 1, or null"),
    ({"size": 28.5}, "size", "an integer >= 1, or null"),
    ({"workers": -1}, "workers", "an integer >= 0, or null"),
    ({"in_memory": "yes"}, "in_memory", "true, false or auto"),
    ({"in_memory": 1}, "in_memory", "true, false or auto"),
    ({"augment": "flip"}, "augment", "true, false or null"),
    ({"download": None}, "download", "true or false"),
    ({"dataset": "cifar100", "labels": "rough"}, "labels", "fine or coarse"),
    ({"validation": 1.0}, "validation", "a share in [0, 1), or a number of images"),
    ({"validation": -3}, "validation", "a share in [0, 1), or a number of images"),
    ({"validation": "some"}, "validation", "a share in [0, 1), or a number of images"),
    ({"validation": True}, "validation", "a share in [0, 1), or a number of images"),
]


@pytest.mark.parametrize(("options", "key", "allowed"), WRONG)
def test_a_wrong_option_is_named(options: dict[str, Any], key: str, allowed: str) -> None:
    with pytest.raises(BadRequest) as wrong:
        ImageData(**options).check()
    assert wrong.value.key == key
    assert allowed in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_an_unknown_option_is_named_with_the_nearest() -> None:
    with pytest.raises(BadRequest, match=r"^in_memry=true: .*\bin_memory\?"):
        ImageData(in_memry=True)


def test_more_validation_images_than_there_are_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"^validation=1442: .*\b1442\b"):
        ready(validation=1442)


@pytest.mark.parametrize(("asked", "number"), [(0.25, 360), (100, 100), (1, 1)])
def test_validation_comes_out_of_the_training_images(asked: float, number: int) -> None:
    plain, data = ready(), ready(validation=asked, seed=3)
    assert (data.train_size, data.validation_size, data.test_size) == (1442 - number, number, 355)
    train, held = data.indices("train").tolist(), data.indices("validation").tolist()
    assert sorted(train + held) == list(range(1442))
    test, validation = data.val_dataloader()
    assert sum(len(labels) for _, labels in validation) == number
    for (one, _), (other, _) in zip(test, plain.test_dataloader(), strict=True):
        torch.testing.assert_close(one, other)
    assert ready(validation=asked, seed=3).indices("validation").tolist() == held
    if number > 1:
        assert ready(validation=asked, seed=4).indices("validation").tolist() != held
        counts = torch.bincount(torch.cat([labels for _, labels in validation]), minlength=10)
        share = torch.bincount(torch.from_numpy(data.split("train").labels)) * number / 1442
        assert (counts - share).abs().max() < 1


def test_without_validation_there_is_the_test_curve_alone() -> None:
    (loader,) = ready().val_dataloader()
    assert torch.cat([labels for _, labels in loader]).tolist() == ready().split("test").labels.tolist()


def test_scoring_batches_by_class_are_clean_training_images() -> None:
    data = ready(augment=True, validation=0.5, seed=2)
    before = torch.get_rng_state()
    batches = data.scoring_batches(3, None, 8)
    assert torch.equal(torch.get_rng_state(), before)
    assert [len(labels) for _, labels in batches] == [8, 8, 8, 6]
    assert torch.bincount(torch.cat([labels for _, labels in batches])).tolist() == [3] * 10
    train = torch.cat([images for images, _ in data.scoring_batches(None, None, 500)])
    assert len(train) == data.train_size
    for image in torch.cat([images for images, _ in batches]):
        assert (train == image).flatten(1).all(1).any()


def test_scoring_batches_are_the_same_for_one_seed() -> None:
    def drawn(seed: int, augment: bool) -> torch.Tensor:
        data = ready(seed=seed, augment=augment)
        list(data.train_dataloader())  # training draws change nothing
        return torch.cat([images for images, _ in data.scoring_batches(None, 2, 50)])

    assert drawn(1, True).shape == (100, 1, 8, 8)
    assert torch.equal(drawn(1, True), drawn(1, False))
    assert not torch.equal(drawn(1, True), drawn(2, True))


def test_scoring_batches_take_one_kind_of_number() -> None:
    with pytest.raises(BadRequest, match="samples_per_class=3"):
        ready().scoring_batches(3, 2, 10)


def test_auto_streams_what_would_fill_the_memory(
    make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_tree()  # 30 images of 432 bytes
    assert isinstance(ready("folder", root=root).train_dataloader(), InMemoryLoader)
    monkeypatch.setattr(module, "available_memory", lambda device: 30 * 432 * 4 - 1)
    assert isinstance(ready("folder", root=root, workers=0).train_dataloader(), StreamingLoader)
    assert isinstance(ready("folder", root=root, in_memory=True).train_dataloader(), InMemoryLoader)
    monkeypatch.undo()
    assert isinstance(
        ready("folder", root=root, in_memory=False, workers=0).train_dataloader(), StreamingLoader
    )


def test_the_memory_that_is_left_is_some_of_this_machines() -> None:
    assert 0 < module.available_memory(torch.device("cpu")) < 2**50


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_images_live_on_the_training_device() -> None:
    import lightning.pytorch as pl

    data = ready(augment=True)
    data.trainer = pl.Trainer(accelerator="gpu", devices=1, logger=False, enable_checkpointing=False)
    (images, labels), *_ = data.train_dataloader()
    assert images.is_cuda
    assert labels.is_cuda
    (expected, _), *_ = ready(augment=True).train_dataloader()
    torch.testing.assert_close(images.cpu(), expected)


def test_augmentation_is_off_for_digits_unless_asked_for() -> None:
    def clean_epoch(**options: Any) -> bool:
        images = torch.cat([images for images, _ in ready(**options).train_dataloader()])
        train = torch.cat([images for images, _ in ready().scoring_batches(None, None, 500)])
        return torch.equal(images.flatten(1).sum(1).sort()[0], train.flatten(1).sum(1).sort()[0])

    assert clean_epoch()
    assert not clean_epoch(augment=True)


@pytest.mark.slow
def test_importing_the_data_sets_leaves_scikit_learn_alone() -> None:
    code = "import sys, prunelit.training.data; print('sklearn' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert found.stdout.strip() == "False"


def test_mnist_is_the_official_one(real_data: Path) -> None:
    data = ready("mnist", root=real_data, download=False)
    assert (data.train_size, data.test_size, data.num_classes) == (60_000, 10_000, 10)
    raw = (real_data / "MNIST/raw/t10k-labels-idx1-ubyte").read_bytes()[8:]
    assert torch.cat([labels for _, labels in data.test_dataloader()]).tolist() == list(raw)
    # the constants of the config are those of these images
    images = torch.cat([images for images, _ in data.scoring_batches(None, None, 10_000)])
    assert abs(images.mean()) < 1e-3
    assert abs(images.std() - 1) < 1e-3


@pytest.mark.slow
def test_cifar10_as_a_folder_of_files_is_whole(real_data: Path) -> None:
    data = ready("folder", root=real_data / "cifar10", augment=True)
    assert (data.train_size, data.test_size, data.input_shape) == (50_000, 10_000, (3, 32, 32))
    assert data.class_names[:3] == ["airplane", "automobile", "bird"]
    assert torch.cat([labels for _, labels in data.test_dataloader()]).bincount().tolist() == [1000] * 10
    # computed from the images, equal to the published constants of CIFAR-10
    mean, std = data.normalise.mean, data.normalise.std
    assert mean == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)
    assert std == pytest.approx([0.2470, 0.2435, 0.2616], abs=1e-4)
