from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as transform
from torchvision.transforms import v2

from prunelit.training.data.augment import CropFlip, Normalise, ResizedCrop
from prunelit.training.data.sampling import Purpose, generator


def as_torchvision(image: Tensor, top: int, left: int, flip: int) -> Tensor:
    """The crop torchvision's RandomCrop(32, padding=4) makes at that offset, then its flip."""
    picture = transform.pad(transform.to_pil_image(image), 4)
    picture = transform.crop(picture, top, left, 32, 32)
    return transform.pil_to_tensor(transform.hflip(picture) if flip else picture)


def test_every_crop_is_one_of_torchvisions() -> None:
    draws = torch.cartesian_prod(torch.arange(9), torch.arange(9), torch.arange(2))
    images = torch.randint(256, (len(draws), 3, 32, 32), generator=generator(Purpose.ORDER, 0)).to(
        torch.uint8
    )
    for image, crop, drawn in zip(images, CropFlip(4)(images, draws), draws.tolist(), strict=True):
        assert torch.equal(crop, as_torchvision(image, *drawn))


def test_crops_of_other_shapes_stay_in_place() -> None:
    images = torch.arange(2 * 1 * 3 * 5, dtype=torch.uint8).view(2, 1, 3, 5)
    centred = CropFlip(1)(images, torch.tensor([[1, 1, 0], [1, 1, 1]]))
    assert torch.equal(centred[0], images[0])
    assert torch.equal(centred[1], images[1].flip(2))


def offsets(crops: Tensor) -> Tensor:
    """(top, left, flip) of each crop of ``coordinates``, read off two pixels that no padding can reach."""
    centre, beside = crops[:, :, 16, 16].long(), crops[:, :, 16, 17].long()
    flip = (beside[:, 1] < centre[:, 1]).long()
    column = torch.where(flip > 0, 15, 16)
    return torch.stack([centre[:, 0] - 16 + 4, centre[:, 1] - column + 4, flip], dim=1)


def cells(crops: Tensor) -> Tensor:
    top, left, flip = offsets(crops).unbind(1)
    return torch.bincount((top * 9 + left) * 2 + flip, minlength=162)


@pytest.fixture(scope="module")
def coordinates() -> Tensor:
    """An image whose first channel is the row and whose second is the column."""
    row = torch.arange(32, dtype=torch.uint8)[:, None].expand(32, 32)
    return torch.stack([row, row.T, torch.zeros_like(row)])


def test_offsets_and_flips_have_torchvisions_distribution(coordinates: Tensor) -> None:
    # chi-square over the 9 x 9 x 2 joint outcomes with 161 degrees of freedom: 0.1 % lie beyond 222
    count = 162 * 400
    augment = CropFlip(4)
    crops = augment(coordinates.expand(count, 3, 32, 32), augment.draw(count, generator(Purpose.AUGMENT, 0)))
    ours = cells(crops)
    assert ours.sum() == count
    assert ((ours - 400.0) ** 2 / 400).sum() < 222

    # torchvision's own draws, read the same way, are as uniform: the reading is right and so is the target
    torch.manual_seed(0)
    pipeline = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()])
    theirs = cells(torch.stack([pipeline(coordinates) for _ in range(162 * 25)]))
    assert ((theirs - 25.0) ** 2 / 25).sum() < 222


def test_successive_epochs_draw_independently() -> None:
    augment = CropFlip(4)
    first, second = (augment.draw(5000, generator(Purpose.AUGMENT, 0, epoch)) for epoch in (0, 1))
    assert not torch.equal(first, second)
    assert abs(torch.corrcoef(torch.stack([first[:, 0], second[:, 0]]).float())[0, 1]) < 0.06


def test_a_resized_crop_depends_on_its_own_seed_alone() -> None:
    pixels = torch.randint(256, (3, 40, 50), generator=generator(Purpose.ORDER, 0)).to(torch.uint8)
    picture, crop = transform.to_pil_image(pixels), ResizedCrop(16)
    assert isinstance(picture, Image.Image)
    one, two = crop.draw(2, generator(Purpose.AUGMENT, 0))
    before = torch.get_rng_state()
    image = crop.of_image(picture, one)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert image.shape == (3, 16, 16)
    assert image.dtype == torch.uint8
    assert torch.equal(image, crop.of_image(picture, one))
    assert not torch.equal(image, crop.of_image(picture, two))


def test_normalising_is_torchvisions() -> None:
    images = torch.randint(256, (4, 3, 5, 6), generator=generator(Purpose.ORDER, 0)).to(torch.uint8)
    mean, std = [0.1, 0.5, 0.9], [0.2, 0.3, 0.4]
    expected = transform.normalize(images.float() / 255, mean, std)
    torch.testing.assert_close(Normalise(mean, std)(images), expected, rtol=1e-5, atol=1e-5)


def test_images_of_one_gray_are_not_divided_by_zero() -> None:
    assert torch.equal(
        Normalise([0.0], [0.0])(torch.zeros(1, 1, 2, 2, dtype=torch.uint8)), torch.zeros(1, 1, 2, 2)
    )
