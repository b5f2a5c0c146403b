"""SynFlow where ``forward`` does not end with logits: its masks are those taken on the logits."""

from __future__ import annotations

import copy
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning.criteria import SynFlow
from prunelit.pruning.masks import Masks
from prunelit.pruning.objective import Objective
from prunelit.pruning.plan import Plan
from prunelit.pruning.rounds import prune


class Ending(nn.Module):
    """An MLP with two heads and whatever comes after them."""

    def __init__(self, end: Callable[[Tensor, Tensor, Any], Any], outputs: int = 5) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.Tanh())
        self.first, self.second = nn.Linear(8, outputs), nn.Linear(8, outputs)
        self.end = end

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        h = self.body(x)
        return self.end(self.first(h), self.second(h), labels)


End = Callable[[Tensor, Tensor, Any], Any]


def masks_of(end: End, outputs: int = 5, samples: int = 3, **keywords: Any) -> Masks:
    torch.manual_seed(0)
    network = Ending(end, outputs)
    objective = Objective(inputs=(torch.rand(samples, 6),), keywords=keywords)
    return prune(network, SynFlow(), 0.3, plan=Plan(rounds=5), objective=objective).masks


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


class Sparsemax(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        ordered = z.sort(-1, descending=True).values
        places = torch.arange(1, z.shape[-1] + 1)
        total = ordered.cumsum(-1)
        support = (1 + places * ordered > total).sum(-1, keepdim=True)
        return (z - (total.gather(-1, support - 1) - 1) / support).clamp_min(0)


def softmax_by_hand(z: Tensor) -> Tensor:
    e = (z - z.amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True)


def in_place(z: Tensor) -> Tensor:
    z -= z.max(-1, keepdim=True).values
    return z.sigmoid_()


class Function(torch.autograd.Function):
    """A softmax with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.result = z.softmax(-1)
        return ctx.result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        return ctx.result * (gradient - (gradient * ctx.result).sum(-1, keepdim=True))


SQUASHED: dict[str, Callable[[Tensor], Any]] = {
    "log_softmax": lambda z: F.log_softmax(z, 1),
    "torch.softmax": lambda z: torch.softmax(z, -1),
    "softmax method": lambda z: z.softmax(1),
    "softmax in float32": lambda z: F.softmax(z, 1, dtype=torch.float32),
    "nn.Softmax": nn.Softmax(1),
    "nn.LogSoftmax": nn.LogSoftmax(1),
    "log of softmax": lambda z: z.softmax(-1).log(),
    "clamped log of softmax": lambda z: z.softmax(-1).clamp(1e-8, 1).log(),
    "softmax by hand": softmax_by_hand,
    "log_softmax by hand": lambda z: z - z.logsumexp(1, keepdim=True),
    "sigmoid": torch.sigmoid,
    "sigmoid method": lambda z: z.sigmoid(),
    "sigmoid by hand": lambda z: 1 / (1 + torch.exp(-z)),
    "in place": in_place,
    "hardsigmoid": F.hardsigmoid,
    "logsigmoid": F.logsigmoid,
    "tanh": lambda z: (torch.tanh(z) + 1) / 2,
    "hardtanh": nn.Hardtanh(inplace=True),
    "softsign": F.softsign,
    "clamp": lambda z: torch.clamp(z, 0, 1),
    "normalize": lambda z: F.normalize(z, dim=1),
    "norm by hand": lambda z: z / z.norm(dim=1, keepdim=True),
    "layer norm": lambda z: F.layer_norm(z, z.shape[1:]),
    "sparsemax": Sparsemax(),
    "own function": Function.apply,
    "distribution": lambda z: torch.distributions.Categorical(logits=z),
    "two classes": lambda z: torch.stack([1 - z.sigmoid(), z.sigmoid()], 1),
    "assigned": lambda z: torch.zeros(z.shape).index_copy(0, torch.arange(len(z)), z.sigmoid()),
    "twice": lambda z: z.softmax(1).softmax(1),
    "negative": lambda z: -z,
    "scripted": torch.jit.script(nn.Sigmoid()),
    "traced": torch.jit.trace(nn.Softmax(1), torch.zeros(1, 5)),
    "traced function": torch.jit.trace(torch.tanh, torch.zeros(1, 5)),
}


@pytest.mark.parametrize("name", SQUASHED)
def test_squashed_outputs_give_the_masks_of_the_logits(name: str) -> None:
    squash = SQUASHED[name]
    assert same(masks_of(lambda a, b, y: squash(a)), masks_of(lambda a, b, y: a))


def test_one_output_squeezed_is_no_loss() -> None:
    expected = masks_of(lambda a, b, y: a, outputs=1)
    for samples in (1, 3):
        assert same(masks_of(lambda a, b, y: a.sigmoid().squeeze(), 1, samples), expected)
        assert same(masks_of(lambda a, b, y: a.squeeze(), 1, samples), expected)


def test_what_grows_with_the_signal_stays() -> None:
    """A gate, an attention over the heads and a steep activation keep their part in the flow."""
    logits = masks_of(lambda a, b, y: a)
    for end in (lambda a, b, y: a * b.sigmoid(), lambda a, b, y: (a * b.softmax(1)).sum(1)):
        kept = masks_of(end)
        assert not same(kept, logits)
        assert kept["second.weight"].any()


def test_mean_of_the_heads_probabilities_is_mean_of_their_logits() -> None:
    def heads(f: Callable[[Tensor], Tensor]) -> End:
        return lambda a, b, y: torch.stack([f(a), 3 * f(b)]).mean(0)

    assert same(masks_of(heads(lambda z: z.softmax(1))), masks_of(heads(lambda z: z)))
    assert not same(masks_of(heads(lambda z: z)), masks_of(lambda a, b, y: a + b))


Pair = namedtuple("Pair", "a b")


@dataclass
class Output:
    a: Tensor
    b: Tensor


class Ordered(OrderedDict[str, Any]):
    pass


CONTAINERS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tuple": lambda a, b: (a, b),
    "list": lambda a, b: [a, [b]],
    "nested dict": lambda a, b: {"x": {"a": a}, "b": (b, None, "text")},
    "named tuple": Pair,
    "dataclass": Output,
    "ordered": lambda a, b: Ordered(a=a, b=b),
    "object": lambda a, b: SimpleNamespace(a=a, b=b),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_outputs_in_any_container(name: str) -> None:
    hold = CONTAINERS[name]
    found = masks_of(lambda a, b, y: hold(a.log_softmax(1), b.sigmoid()))
    assert same(found, masks_of(lambda a, b, y: torch.cat([a, b], 1)))


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Any]] = {
    "loss and logits": lambda a, b, y: {"loss": F.cross_entropy(a, y), "logits": b},
    "by hand": lambda a, b, y: (-a.log_softmax(1).gather(1, y[:, None]).mean(), b),
    "one a sample": lambda a, b, y: (F.cross_entropy(a, y, reduction="none"), b),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("samples", [1, 4])
def test_losses_among_the_outputs_carry_no_flow(name: str, samples: int) -> None:
    labels = torch.arange(samples)
    found = masks_of(LOSSES[name], samples=samples, labels=labels)
    assert same(found, masks_of(lambda a, b, y: b))


def test_a_loss_that_is_the_only_output_is_taken_on_its_logits() -> None:
    found = masks_of(lambda a, b, y: F.cross_entropy(a, y), samples=3, labels=torch.arange(3))
    assert same(found, masks_of(lambda a, b, y: a))


def test_probabilities_beside_their_logits_count_once() -> None:
    found = masks_of(lambda a, b, y: {"logits": a, "probabilities": a.softmax(1), "features": b})
    assert same(found, masks_of(lambda a, b, y: (a, b)))


def test_a_network_without_a_flow_is_refused_in_one_line() -> None:
    for end in (lambda a, b, y: a.argmax(1), lambda a, b, y: a.detach(), lambda a, b, y: torch.ones(3)):
        with pytest.raises(ValueError, match=r"no flow through Ending.*network=.*$") as caught:
            masks_of(end)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_scores_are_in_float64_whatever_precision_forward_names(dtype: torch.dtype) -> None:
    class Casting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 5), nn.Linear(5, 3)

        @torch.autocast("cpu", dtype=torch.bfloat16)
        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x.to(self.a.weight.dtype)).half().float() + torch.zeros(5, dtype=dtype)
            return self.b(h.to(dtype)) @ torch.eye(3)

    network = Casting().to(dtype)
    plain = nn.Sequential(copy.deepcopy(network.a), copy.deepcopy(network.b)).double()
    parameters = [{n: p for n, p in net.named_parameters() if "weight" in n} for net in (network, plain)]
    example = Objective(inputs=(torch.zeros(1, 6),))
    found = SynFlow().scores(network, parameters[0], example)
    expected = SynFlow().scores(plain, parameters[1], example)
    for score, right in zip(found.values(), expected.values(), strict=True):
        torch.testing.assert_close(score, right, rtol=1e-12, atol=0)
