"""The diagonal of the Gauss-Newton matrix of a loss, exactly: one backward pass per class and sample.

With z the network's outputs and J their derivatives by the parameters, the Hessian of a loss L(z) is
J' (d2L/dz2) J and a sum of second derivatives of z. The first part is the Gauss-Newton matrix. For a
loss that is convex in z no entry of its diagonal is negative. The second part's diagonal is 0 where z
is linear in each single parameter, as in networks with ReLU.

d2L/dz2 is made of one block for each sample (and pixel, or token). A block S S' adds the sum of the
squares of J' S over the columns of S.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from prunelit.pruning.call import num_samples
from prunelit.pruning.differentiable import differentiable
from prunelit.pruning.logits import ELEMENTWISE, SOFTMAX, Logits, LogitsCalls, depends_otherwise
from prunelit.pruning.objective import Objective, split_batch
from prunelit.pruning.parameters import Parameters

CHUNK = 2**24
"""The number of derivatives in memory at a time."""


def gauss_newton_diagonal(
    objective: Objective, batch: Any, parameters: Parameters
) -> dict[str, Tensor] | None:
    """Return the diagonal for the mean loss of ``batch``, in float64 and by parameter.

    None where the loss is not computed from logits alone by one cross-entropy, softmax, log_softmax,
    squared error or binary cross-entropy with logits, or where it mixes samples.
    """
    with torch.enable_grad(), differentiable():
        value, logits = _logits(objective.loss, batch)
        if logits is None or depends_otherwise(value, logits.tensor):
            return None
        columns = _columns(value, logits)
        if columns is None:
            return None
        total = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
        for outputs, factors in _by_sample(objective, batch, logits, columns):
            _add_squares(total, outputs, factors, parameters)
    return total


def _logits(loss: Callable[[Any], Tensor], batch: Any) -> tuple[Tensor, Logits | None]:
    """Return the loss of ``batch`` and its logits; None where there are none, or several."""
    with LogitsCalls(SOFTMAX | ELEMENTWISE) as calls:
        value = loss(batch)
    last = calls.last(value)
    return value, last[0] if len(last) == 1 else None


def _columns(value: Tensor, logits: Logits) -> Tensor | None:
    """Return S for every row of logits, of shape (rows, classes, columns), in float64.

    None where the second derivative has parts that mix rows.
    """
    outputs = logits.tensor
    (gradient,) = torch.autograd.grad(value, outputs, create_graph=True)
    classes = 1 if logits.axis is None else outputs.shape[logits.axis]
    rows = outputs.numel() // classes
    if not gradient.requires_grad:
        return outputs.new_zeros(rows, classes, 0, dtype=torch.float64)

    def times(vector: Tensor) -> Tensor:
        given = _as_logits(vector.to(outputs.dtype), logits)
        (product,) = torch.autograd.grad(gradient, outputs, given, retain_graph=True, allow_unused=True)
        return torch.zeros_like(vector) if product is None else _as_rows(product, logits).double()

    units = torch.eye(classes, dtype=torch.float64, device=outputs.device)
    blocks = torch.stack([times(unit.expand(rows, classes)) for unit in units], 2)
    generator = torch.Generator().manual_seed(0)
    trial = torch.randn(rows, classes, dtype=torch.float64, generator=generator).to(outputs.device)
    left = times(trial) - (blocks @ trial[:, :, None])[:, :, 0]
    if not float(left.norm()) <= _tolerance(outputs) * float(blocks.norm()):
        return None
    values, vectors = torch.linalg.eigh((blocks + blocks.mT) / 2)
    columns = vectors * values.clamp_min(0).sqrt()[:, None, :]
    needed = values.amax(0) > 1e-12 * values.max()
    return columns[:, :, needed]


def _as_rows(tensor: Tensor, logits: Logits) -> Tensor:
    if logits.axis is None:
        return tensor.reshape(-1, 1)
    return tensor.movedim(logits.axis, -1).reshape(-1, tensor.shape[logits.axis])


def _as_logits(rows: Tensor, logits: Logits) -> Tensor:
    """Return (rows, classes) in the shape of the logits; the inverse of :func:`_as_rows`."""
    if logits.axis is None:
        return rows.reshape(logits.tensor.shape)
    moved = logits.tensor.movedim(logits.axis, -1).shape
    return rows.reshape(moved).movedim(-1, logits.axis)


def _by_sample(
    objective: Objective, batch: Any, logits: Logits, columns: Tensor
) -> Iterator[tuple[Logits, Tensor]]:
    """Yield the logits of each sample, from a forward pass of that sample alone, with its rows of S.

    Where samples alone give other logits, as with statistics of the batch, those of the whole batch
    are yielded instead.
    """
    size = num_samples(batch)
    expected = logits.tensor.detach()
    found: list[tuple[Logits, Tensor]] = []
    if size > 1 and len(expected) == size and len(columns) % size == 0:
        for place, sample in enumerate(split_batch(batch, size)):
            try:
                _, alone = _logits(objective.loss, sample)
            except Exception:  # such as a loss that compares the samples of a batch
                break
            if alone is None or not _close(alone.tensor.detach(), expected[place : place + 1]):
                break
            found.append((alone, columns.unflatten(0, (size, -1))[place]))
        else:
            yield from found
            return
    yield logits, columns


def _close(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    tolerance = _tolerance(expected)
    return torch.allclose(found, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))


def _tolerance(tensor: Tensor) -> float:
    return max(1e-3, 20 * torch.finfo(tensor.dtype).eps)


def _add_squares(total: dict[str, Tensor], logits: Logits, columns: Tensor, parameters: Parameters) -> None:
    """Add the squares of J' S, for every row of the logits and every column of its S."""
    if not columns.numel():
        return
    chosen = list(parameters.values())
    step = max(1, CHUNK // sum(p.numel() for p in chosen))
    rows, classes, count = columns.shape
    places = torch.arange(rows * count, device=columns.device)
    for part in places.split(step):
        row, column = part // count, part % count
        given = columns.new_zeros(len(part), rows, classes)
        given[torch.arange(len(part)), row] = columns[row, :, column]
        vectors = torch.stack([_as_logits(v, logits) for v in given]).to(logits.tensor.dtype)
        products = _products(logits.tensor, chosen, vectors)
        for name, product in zip(parameters, products, strict=True):
            if product is not None:
                total[name] += product.double().square().sum(0)


def _products(outputs: Tensor, chosen: list[Any], vectors: Tensor) -> list[Tensor | None]:
    """Return J' v for each of the stacked ``vectors``, by parameter."""
    options: Any = {"retain_graph": True, "allow_unused": True}
    try:
        return list(torch.autograd.grad(outputs, chosen, vectors, is_grads_batched=True, **options))
    except RuntimeError:  # an operation that cannot be batched
        found = [torch.autograd.grad(outputs, chosen, vector, **options) for vector in vectors]
        return [None if each[0] is None else torch.stack(each) for each in zip(*found, strict=True)]
