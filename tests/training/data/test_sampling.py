from __future__ import annotations

import pytest
import torch

from prunelit.training.data.sampling import (
    EpochSampler,
    Purpose,
    at_random,
    generator,
    per_class,
    stratified,
)


def ranks(size: int, world_size: int, *, shuffle: bool, epoch: int = 0) -> list[EpochSampler]:
    samplers = [
        EpochSampler(size, 7, shuffle=shuffle, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return samplers


def test_an_order_depends_on_seed_and_epoch_alone() -> None:
    first, again = (EpochSampler(50, 3, shuffle=True) for _ in range(2))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    order = first.order()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(order, again.order())
    assert torch.equal(order.sort()[0], torch.arange(50))
    again.set_epoch(1)
    assert not torch.equal(order, again.order())
    assert not torch.equal(order, EpochSampler(50, 4, shuffle=True).order())


def test_purposes_draw_different_numbers() -> None:
    draws = {tuple(torch.randint(2**31, (4,), generator=generator(p, 0)).tolist()) for p in Purpose}
    assert len(draws) == len(Purpose)


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_training_ranks_share_an_epoch_in_equal_numbers(world_size: int) -> None:
    size = 50
    orders = [sampler.order() for sampler in ranks(size, world_size, shuffle=True, epoch=5)]
    assert len({len(order) for order in orders}) == 1
    seen = torch.stack(orders, dim=1).flatten()
    alone = ranks(size, 1, shuffle=True, epoch=5)[0].order()
    assert torch.equal(seen[:size], alone)
    assert torch.equal(seen[size:], alone[: len(seen) - size])


@pytest.mark.parametrize("size", [24, 25, 26, 31, 32, 33, 47, 48, 49])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_test_ranks_see_each_image_once_in_equally_many_batches(size: int, world_size: int) -> None:
    samplers = ranks(size, world_size, shuffle=False)
    assert sorted(i for sampler in samplers for i in sampler.order().tolist()) == list(range(size))
    sizes = [sampler.batch_sizes(8) for sampler in samplers]
    assert len({len(of_rank) for of_rank in sizes}) == 1
    assert [sum(of_rank) for of_rank in sizes] == [len(sampler) for sampler in samplers]
    assert all(0 < n <= 8 for of_rank in sizes for n in of_rank)


def test_a_stratified_pick_keeps_the_classes_proportions() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [3] * 20)
    picked = stratified(labels, 11, generator(Purpose.VALIDATION, 0))
    # quotas 5.5, 3.3, 0, 2.2: the largest remainder gets the image that rounding down left over
    assert torch.bincount(labels[picked]).tolist() == [6, 3, 0, 2]
    assert len(picked.unique()) == 11
    assert not torch.equal(picked, stratified(labels, 11, generator(Purpose.VALIDATION, 1)))
    assert len(stratified(labels, 0, generator(Purpose.VALIDATION, 0))) == 0


def test_a_pick_by_class_takes_all_of_a_small_class_and_shuffles() -> None:
    labels = torch.tensor([0] * 20 + [1] * 3 + [2] * 20)
    picked = per_class(labels, 5, generator(Purpose.SCORING, 0))
    assert torch.bincount(labels[picked]).tolist() == [5, 3, 5]
    assert len(picked.unique()) == 13
    assert not torch.equal(labels[picked], labels[picked].sort()[0])


def test_a_random_pick_takes_each_image_once_before_any_again() -> None:
    picked = at_random(10, 25, generator(Purpose.SCORING, 0))
    assert len(picked) == 25
    assert [len(part.unique()) for part in picked.split(10)] == [10, 10, 5]
