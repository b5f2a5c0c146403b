"""Images say at a glance what a mask keeps and what kernels are."""

from __future__ import annotations

import torch

from prunelit.training.measuring.images import LEAST_PIXELS, MOST_PIXELS, PRUNED, kernel_image, mask_image


def test_a_linear_mask_is_white_where_it_keeps() -> None:
    mask = torch.tensor([[True, False], [False, False]])
    image = mask_image(mask)
    half = LEAST_PIXELS // 2
    assert image.shape == (3, LEAST_PIXELS, LEAST_PIXELS)
    assert image.dtype == torch.uint8
    assert bool((image[:, :half, :half] == 255).all())
    assert int(image.sum()) == 3 * 255 * half * half


def test_a_convolution_shows_the_kept_share_of_each_kernel() -> None:
    mask = torch.zeros(4, 2, 2, 2, dtype=torch.bool)
    mask[0, 0] = True
    mask[1, 1, 0, 0] = True
    corners = mask_image(mask)[0, :: LEAST_PIXELS // 4, :: LEAST_PIXELS // 4]
    assert corners.tolist() == [[255, 0], [0, 64], [0, 0], [0, 0]]


def test_large_masks_are_averaged() -> None:
    assert mask_image(torch.ones(10, 4096, dtype=torch.bool)).shape == (3, 10, MOST_PIXELS)


def test_kernels_are_red_above_zero_blue_below_and_grey_where_pruned() -> None:
    weight = torch.tensor([[[[2.0, -2.0], [0.0, 1.0]]]])
    mask = torch.tensor([[[[True, True], [True, False]]]])
    image = kernel_image(weight, mask)
    step = image.shape[1] // 3
    pixels = image[:, ::step, ::step].permute(1, 2, 0).tolist()
    assert pixels[0][:2] == [[255, 0, 0], [0, 0, 255]]
    assert pixels[1][:2] == [[255, 255, 255], [PRUNED] * 3]
    assert pixels[2] == [[0, 0, 0]] * 3


def test_kernels_of_every_shape_have_an_image() -> None:
    for shape in ((3, 2, 5), (100, 64, 3, 3), (1, 1, 1, 7)):
        weight = torch.full(shape, torch.nan)
        image = kernel_image(weight, torch.zeros(shape, dtype=torch.bool))
        assert image.shape[0] == 3
        assert set(image.flatten().tolist()) == {0, PRUNED}
