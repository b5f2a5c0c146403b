"""Random crops and flips of whole batches, and the normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CropFlip:
    """Pad with zeros, crop to the original size at a random position, and mirror half of the images.

    The same distribution as torchvision's ``RandomCrop(size, padding)`` and ``RandomHorizontalFlip``, for
    a whole batch at once on the batch's own device.

    Args:
        padding: pixels added at every edge.
    """

    def __init__(self, padding: int) -> None:
        self.padding = padding

    def draw(self, count: int, draw: torch.Generator) -> Tensor:
        """Integers (count, 3): the crop's top and left edge in the padded image, and whether to mirror."""
        edges = torch.randint(2 * self.padding + 1, (count, 2), generator=draw)
        return torch.cat([edges, torch.randint(2, (count, 1), generator=draw)], dim=1)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """``images`` (batch, channels, height, width) cropped and mirrored according to ``draws`` (batch,
        3)."""
        batch, channels, height, width = images.shape
        padded = F.pad(images, (self.padding,) * 4)
        rows = draws[:, 0, None] + torch.arange(height, device=images.device)
        columns = torch.arange(width, device=images.device).expand(batch, width)
        columns = draws[:, 1, None] + torch.where(draws[:, 2, None] > 0, width - 1 - columns, columns)
        # one flat gather per batch; indexing by four tensors takes five times as long on a CPU
        pixels = (rows[:, :, None] * padded.shape[3] + columns[:, None, :]).flatten(1)
        pixels = pixels[:, None, :].expand(batch, channels, height * width)
        return padded.flatten(2).gather(2, pixels).view(images.shape)


class ResizedCrop:
    """A random crop of a full-size image, resized and mirrored at random, as is usual for ImageNet.

    Args:
        size: height and width of the result in pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def draw(self, count: int, draw: torch.Generator) -> Tensor:
        """One random seed per image (count, 1)."""
        return torch.randint(2**62, (count, 1), generator=draw)

    def of_image(self, image: Any, draws: Tensor) -> Tensor:
        """The Pillow image's crop as a uint8 tensor (channels, size, size)."""
        from torchvision.transforms import v2

        crop = v2.Compose(
            [v2.RandomResizedCrop(self.size, antialias=True), v2.RandomHorizontalFlip(), v2.PILToTensor()]
        )
        # torchvision draws from the global state: set it for this image, and restore it
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(draws[0]))
            return crop(image)


class Normalise:
    """Turns uint8 pixels into ``(pixel / 255 - mean) / std``, by channel, in float32.

    Args:
        mean: mean of each channel, for pixels in [0, 1].
        std: standard deviation of each channel, likewise; 0 is replaced by 1.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = list(map(float, mean)), list(map(float, std))
        scale = torch.tensor([s or 1.0 for s in std], dtype=torch.float64)
        self.factor = (1 / (255 * scale)).float().view(-1, 1, 1)
        self.shift = (-torch.tensor(mean, dtype=torch.float64) / scale).float().view(-1, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        """``images`` (…, channels, height, width) normalised, on their own device."""
        if self.factor.device != images.device:
            self.factor, self.shift = self.factor.to(images.device), self.shift.to(images.device)
        return images.to(torch.float32).mul_(self.factor).add_(self.shift)

    def pixels(self, images: Tensor) -> Tensor:
        """Return the uint8 pixels of images that were normalised."""
        return ((images.cpu() - self.shift.cpu()) / self.factor.cpu()).round().clamp(0, 255).to(torch.uint8)

    def module(self) -> nn.Module:
        """The same as a module, for exported programs."""
        return _NormaliseModule(self)


class _NormaliseModule(nn.Module):
    factor: Tensor
    shift: Tensor

    def __init__(self, normalise: Normalise) -> None:
        super().__init__()
        self.register_buffer("factor", normalise.factor.cpu())
        self.register_buffer("shift", normalise.shift.cpu())

    def forward(self, images: Tensor) -> Tensor:
        return images.to(torch.float32) * self.factor + self.shift
