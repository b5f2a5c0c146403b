"""What batches come when: by seed, epoch, rank, worker count, and after a stop within an epoch."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch import Tensor

from prunelit.training.data import ImageData
from prunelit.training.data.augment import CropFlip, Normalise
from prunelit.training.data.loaders import EpochLoader, ImageSet, InMemoryLoader
from prunelit.training.data.sampling import EpochSampler
from prunelit.training.data.source import Split
from prunelit.training.data.streaming import StreamedSet, StreamingLoader

MakeTree = Callable[..., Path]


def ready(dataset: str, **options: Any) -> ImageData:
    data = ImageData(dataset, **options)
    data.setup()
    return data


def epoch_of(loader: EpochLoader, epoch: int) -> tuple[Tensor, Tensor]:
    loader.sampler.set_epoch(epoch)
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def assert_same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


def test_an_epoch_has_every_image_once_and_keeps_the_last_batch() -> None:
    loader = ready("digits", batch_size=64).train_dataloader()
    sizes = [len(labels) for _, labels in loader]
    assert sizes == [64] * 22 + [34]
    assert len(loader) == 23
    assert loader.batch_size == 64
    assert len(loader.dataset) == 1442  # type: ignore[attr-defined]
    images, _ = epoch_of(loader, 3)
    clean = torch.cat([images for images, _ in ready("digits").scoring_batches(None, None, 500)])
    assert torch.equal(images.flatten(1).sum(1).sort()[0], clean.flatten(1).sum(1).sort()[0])


@pytest.mark.parametrize("in_memory", [True, False])
def test_batches_depend_on_seed_and_epoch_alone(make_tree: MakeTree, in_memory: bool) -> None:
    options = {"root": make_tree(), "augment": True, "batch_size": 4, "in_memory": in_memory, "workers": 0}
    one = ready("folder", seed=1, **options).train_dataloader()
    before = torch.get_rng_state()
    first = epoch_of(one, 0)
    second = epoch_of(one, 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first[0], second[0])
    torch.manual_seed(99)
    assert_same(epoch_of(ready("folder", seed=1, **options).train_dataloader(), 1), second)
    other = epoch_of(ready("folder", seed=2, **options).train_dataloader(), 1)
    assert not torch.equal(other[0], second[0])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_streamed_batches_are_those_in_memory_whatever_the_workers(make_tree: MakeTree) -> None:
    options = {"root": make_tree(), "augment": True, "batch_size": 4, "seed": 3}
    expected = ready("folder", in_memory=True, **options)
    loader = expected.train_dataloader()
    epochs = [epoch_of(loader, epoch) for epoch in (0, 1)]
    for workers in (0, 1, 3):
        streamed = ready("folder", in_memory=False, workers=workers, **options)
        loader = streamed.train_dataloader()
        for epoch in (0, 1):
            assert_same(epoch_of(loader, epoch), epochs[epoch])
        assert_same(epoch_of(streamed.test_dataloader(), 0), epoch_of(expected.test_dataloader(), 0))
        ours, theirs = (data.scoring_batches(2, None, 4) for data in (streamed, expected))
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)


def test_resized_crops_are_the_same_whatever_the_workers(make_tree: MakeTree) -> None:
    options = {"root": make_tree(held="val", side=30), "size": 14, "batch_size": 4}
    epochs = []
    for workers in (0, 1, 2):
        loader = ready("imagenet", workers=workers, **options).train_dataloader()
        epochs.append([epoch_of(loader, epoch) for epoch in (0, 1)])
        assert not torch.equal(epochs[-1][0][0], epochs[-1][1][0])
    for other in epochs[1:]:
        for epoch in (0, 1):
            assert_same(other[epoch], epochs[0][epoch])


def test_arrays_stream_too() -> None:
    options = {"augment": True, "batch_size": 500}
    streamed = ready("digits", in_memory=False, workers=1, **options).train_dataloader()
    assert_same(epoch_of(streamed, 2), epoch_of(ready("digits", **options).train_dataloader(), 2))


class PrintsErrors(StreamedSet):
    """Lets the thread of a worker that hands batches over fail in two ways."""

    def __getitem__(self, key: Any) -> Any:
        for error in (ConnectionResetError("closed"), ZeroDivisionError("a bug")):
            sys.excepthook(type(error), error, None)
        return super().__getitem__(key)


def test_a_worker_whose_run_has_ended_prints_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    split = Split(np.zeros(2, np.int64), np.zeros((2, 1, 8, 8), np.uint8))
    images = PrintsErrors(split, torch.arange(2), (1, 8, 8))
    sampler = EpochSampler(2, 0, shuffle=False)
    list(StreamingLoader(images, sampler, 2, Normalise([0.0], [1.0]), 1, torch.device("cpu")))
    said = capfd.readouterr().err
    assert "ZeroDivisionError" in said
    assert "ConnectionResetError" not in said


def loader_of_rank(rank: int, world_size: int, size: int = 45) -> InMemoryLoader:
    images = torch.arange(size * 64, dtype=torch.int64).remainder(251).to(torch.uint8).view(size, 1, 8, 8)
    sampler = EpochSampler(size, 0, shuffle=True, rank=rank, world_size=world_size)
    return InMemoryLoader(
        ImageSet(images, torch.arange(size)), sampler, 4, Normalise([0.0], [1.0]), CropFlip(1)
    )


def test_ranks_share_an_epoch_and_its_augmentation() -> None:
    alone = epoch_of(loader_of_rank(0, 1), 4)
    ranks = [loader_of_rank(rank, 2) for rank in range(2)]
    assert len(ranks[0]) == len(ranks[1]) == 6
    halves = [epoch_of(loader, 4) for loader in ranks]
    for place in (0, 1):
        together = torch.stack([half[place] for half in halves], dim=1).flatten(0, 1)
        assert torch.equal(together[:45], alone[place])
        assert torch.equal(together[45:], alone[place][:1])  # wrapped around to make the ranks equal


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_state_leads_on_with_the_next_batch_of_its_epoch(make_tree: MakeTree, in_memory: bool) -> None:
    options = {"root": make_tree(), "augment": True, "batch_size": 4, "in_memory": in_memory, "workers": 0}
    loader = ready("folder", **options).train_dataloader()
    loader.sampler.set_epoch(2)
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    state, rest = loader.state_dict(), list(batches)
    resumed = ready("folder", **options).train_dataloader()
    resumed.load_state_dict(state)
    combined = CombinedLoader(resumed)
    assert len(combined._state_dicts()) == 1
    iterator = iter(resumed)  # Lightning makes the iterator first and names the epoch afterwards
    resumed.sampler.set_epoch(2)
    for one, other in zip(iterator, rest, strict=True):
        assert_same(one, other)
    assert len(list(resumed)) == len(resumed)  # the next time round it starts at the beginning
    resumed.load_state_dict(state)
    resumed.sampler.set_epoch(3)
    assert len(list(resumed)) == len(resumed)  # and so does another epoch


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning"),
]


class Recorder(pl.LightningModule):
    """A linear classifier that notes the batches it was trained and tested on."""

    def __init__(self, data: ImageData) -> None:
        super().__init__()
        channels, height, width = data.input_shape
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(channels * height * width, data.num_classes)
        self.seen: list[tuple[int, float]] = []
        self.validated: list[tuple[int, int]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        self.seen.append((self.current_epoch, float(images.double().sum())))
        return torch.nn.functional.cross_entropy(self.layer(images.flatten(1)), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.validated.append((dataloader_idx, len(batch[1])))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01, momentum=0.9)


def fit(data: ImageData, folder: Path, resume: Path | None = None, **options: Any) -> Recorder:
    data.setup()
    module = Recorder(data)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        use_distributed_sampler=False,
        callbacks=[ModelCheckpoint(folder, "{epoch}-{step}", every_n_train_steps=5, save_top_k=-1)],
        **options,
    )
    trainer.fit(module, datamodule=data, ckpt_path=resume)
    return module


@pytest.mark.parametrize("streamed", [False, True])
def test_a_run_stopped_within_an_epoch_goes_on_as_if_it_had_not(
    make_tree: MakeTree, tmp_path: Path, streamed: bool
) -> None:
    def data() -> ImageData:
        options = {"in_memory": not streamed, "workers": 1, "validation": 0.2}
        return ImageData("folder", root=root, augment=True, batch_size=2, eval_batch_size=4, **options)

    root = make_tree(train=6)
    before = len(multiprocessing.active_children())
    whole = fit(data(), tmp_path / "whole")  # 14 of 18 images: 7 batches an epoch
    assert len(whole.seen) == 21
    assert len(multiprocessing.active_children()) == before  # no worker outlives its run
    # the test set, then the validation set, after each epoch
    assert whole.validated == [(0, 4), (0, 4), (0, 1), (1, 4)] * 3
    for step, epoch in ((5, 0), (10, 1), (15, 2), (20, 2)):
        resumed = fit(
            data(), tmp_path / f"resumed-{step}", tmp_path / f"whole/epoch={epoch}-step={step}.ckpt"
        )
        assert resumed.seen == whole.seen[step:]
        assert torch.equal(resumed.layer.weight, whole.layer.weight)


def test_a_run_stopped_after_an_epoch_goes_on_with_the_next(tmp_path: Path) -> None:
    options: dict[str, Any] = {"augment": True, "batch_size": 289}  # 5 batches an epoch
    whole = fit(ImageData("digits", **options), tmp_path / "whole")
    resumed = fit(
        ImageData("digits", **options), tmp_path / "resumed", tmp_path / "whole/epoch=0-step=5.ckpt"
    )
    assert resumed.seen == whole.seen[5:]
    assert [epoch for epoch, _ in resumed.seen] == [1] * 5 + [2] * 5
    assert torch.equal(resumed.layer.weight, whole.layer.weight)
