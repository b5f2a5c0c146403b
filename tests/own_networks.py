"""Networks as users bring them, of which not every number of a record can be had."""

from typing import Any

import torch
from torch import Tensor, nn


class Lstm(nn.Module):
    """Reads an image row by row."""

    def __init__(self, num_classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.rnn = nn.LSTM(input_shape[2], 8, batch_first=True)
        self.head = nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.rnn(images.flatten(1, 2))[0][:, -1])


class Body(nn.Module):
    """A hidden layer, made by ``body``, and a head."""

    def __init__(self, num_classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.body = self.make(input_shape[0] * input_shape[1] * input_shape[2])
        self.head = nn.Linear(32, num_classes)

    def make(self, size: int) -> Any:
        return nn.Sequential(nn.Flatten(), nn.Linear(size, 32), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))


class Compiled(Body):
    def make(self, size: int) -> Any:
        return torch.compile(super().make(size), backend="eager")


class CompiledInPlace(Body):
    def make(self, size: int) -> Any:
        body = super().make(size)
        body.compile(backend="eager")
        return body


class Scripted(Body):
    def make(self, size: int) -> Any:
        return torch.jit.script(super().make(size))


class WithFeatures(Body):
    """Returns more than the logits."""

    def forward(self, images: Tensor) -> Any:
        features = self.body(images)
        return self.head(features), features


class Lazy(Body):
    def make(self, size: int) -> Any:
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(32), nn.ReLU())


class Quantised(Body):
    """Its body computes in int8 and is not trained."""

    def make(self, size: int) -> Any:
        return torch.ao.quantization.quantize_dynamic(super().make(size))


class InNumPy(Body):
    """Divides by what NumPy computes, where neither tracers nor autograd follow."""

    def forward(self, images: Tensor) -> Tensor:
        largest = torch.from_numpy(images.numpy().max((1, 2, 3), keepdims=True))
        return super().forward(images / largest)


class Branching(Body):
    """Takes a path that depends on the images."""

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.body(images)
        return self.head(hidden * 2 if images.mean().item() > 1 else hidden)


class Remembering(Body):
    """Its state dict holds more than tensors."""

    def get_extra_state(self) -> Any:
        return {"steps": 3}

    def set_extra_state(self, state: Any) -> None:
        assert state == {"steps": 3}


class Complex(nn.Module):
    """A prunable layer of complex weights."""

    def __init__(self, num_classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        size = input_shape[0] * input_shape[1] * input_shape[2]
        self.first = nn.Linear(size, 16, dtype=torch.cfloat)
        self.head = nn.Linear(16, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.first(images.flatten(1).to(torch.cfloat)).abs())


class Tied(nn.Module):
    """An embedding and a linear layer share their weight; pruning knows it by the layer's name."""

    def __init__(self, num_classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(17, 12)
        self.out = nn.Linear(12, 17, bias=False)
        self.out.weight = self.embedding.weight
        self.head = nn.Linear(17, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        values = images.flatten(1)
        embedded = self.embedding((values * 4 + 8).clamp(0, 16).long()) * values[..., None]
        return self.head(self.out(embedded.mean(1)).relu())


class Zeros(Body):
    """Gives zeros, so that all scores are 0."""

    def forward(self, images: Tensor) -> Tensor:
        return 0 * super().forward(images)


class NotANumber(Body):
    def make(self, size: int) -> Any:
        body = super().make(size)
        nn.init.constant_(body[1].weight[:1], torch.nan)
        return body
