"""The flow through a network: the sum of the tensors that carry it to the outputs, before they are squashed.

Operations after the last layer with parameters may saturate or normalise, such as log_softmax, sigmoid or
tanh. Their outputs do not grow with the signal, and their sum may not depend on it: the outputs of softmax
sum to 1. Such operations are skipped, and the flow is taken at their input. They are found by a test: an
operation passes the flow on if twice its input gives twice its output, and none of its outputs decreases when
an input increases. Sums, means, reshaping, pooling, ReLU and GELU pass it on.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from prunelit.pruning.call import Call, num_samples
from prunelit.pruning.differentiable import differentiable
from prunelit.pruning.nested import tensors_in
from prunelit.pruning.record import Record, Value, scripted_calls_seen
from prunelit.request import BadRequest

LARGE = 1e8
"""Size of the trial inputs: a bounded function is at its bound there, a constant addend does not matter."""

LOSSES = {
    *("cross_entropy", "nll_loss", "nll_loss_nd", "binary_cross_entropy", "kl_div", "mse_loss", "l1_loss"),
    *("binary_cross_entropy_with_logits", "smooth_l1_loss", "huber_loss", "ctc_loss", "hinge_embedding_loss"),
    *("cosine_embedding_loss", "margin_ranking_loss", "multi_margin_loss", "multilabel_margin_loss"),
    *("multilabel_soft_margin_loss", "soft_margin_loss", "triplet_margin_loss", "gaussian_nll_loss"),
    *("poisson_nll_loss", "triplet_margin_with_distance_loss", "linear_cross_entropy"),
}


class NoFlow(BadRequest):
    """No signal passes through a network, so that SynFlow has no scores."""

    shows_in_the_run = True

    @classmethod
    def through(cls, network: nn.Module) -> NoFlow:
        """Return the error for ``network``."""
        return cls(
            "criterion",
            "SynFlow",
            "a criterion that uses the loss, such as SNIP; or name the part to prune with "
            "network='name_of_submodule' (Pruning)",
            f"SynFlow finds no flow through {type(network).__name__}: none of its outputs grows with its "
            "inputs and prunable parameters",
        )


def flow_ends(network: nn.Module, tensors: dict[str, Tensor], call: Call) -> list[Tensor]:
    """Run ``network`` with ``tensors`` for its parameters and return the tensors whose sum is the flow.

    Losses among the outputs carry none: results of loss functions, and numbers that stay a single one for any
    number of samples. They are only used if there is nothing else.

    Args:
        network: runs in the modes that it is in.
        tensors: replacements of its parameters and buffers, by name, in float64.
        call: the arguments, in float64.

    Returns:
        Each tensor once; none where no output depends on an input and on a tensor with a gradient.
    """
    parameters = [tensors[name] for name, _ in network.named_parameters() if name in tensors]
    record = Record(call.tensors(), parameters)
    with torch.enable_grad(), differentiable(), _float64(), scripted_calls_seen(), record:
        outputs = functional_call(network, tensors, call.inputs, dict(call.keywords))
    leaves = [t for t in tensors_in(outputs) if t.is_floating_point() and t.requires_grad]
    values = [value for value in dict.fromkeys(map(record.of, leaves)) if value.data]
    if len(values) > 1:
        single = _stay_single(network, tensors, call, tensors_in(outputs))
        signals = [v for v in values if id(v.tensor) not in single and not _is_loss(v)]
        values = signals or values
    found: dict[Value, list[Tensor]] = {}
    ends = [end for value in values for end in _ends(value, found)]
    return list({id(end): end for end in ends}.values())


def _stay_single(
    network: nn.Module, tensors: dict[str, Tensor], call: Call, outputs: list[Tensor]
) -> set[int]:
    """Return the ids of outputs without axes that stay so for two samples."""
    scalars = [place for place, tensor in enumerate(outputs) if not tensor.ndim]
    if not scalars:
        return set()
    size = num_samples((call.inputs, dict(call.keywords)))
    twice = call.map(lambda t: torch.cat([t, t]) if t.ndim and len(t) == size else t)
    try:
        with torch.no_grad(), differentiable(), _float64(), Record((), ()):
            found = tensors_in(functional_call(network, tensors, twice.inputs, dict(twice.keywords)))
        return {id(outputs[place]) for place in scalars if not found[place].ndim}
    except Exception:  # it takes no second sample, so nothing shows that these are no losses
        return {id(outputs[place]) for place in scalars}


@contextmanager
def _float64() -> Iterator[None]:
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def _is_loss(value: Value) -> bool:
    """Return whether a loss function comes after the last layer with parameters."""
    waiting, seen = [value], {value}
    while waiting:
        each = waiting.pop()
        if each.operation is not None and each.operation.name in LOSSES:
            return True
        new = [parent for parent in each.parents if not each.weighted and parent not in seen]
        seen.update(new)
        waiting += new
    return False


def _ends(value: Value, found: dict[Value, list[Tensor]]) -> list[Tensor]:
    """Return what carries the flow that leads to ``value``: itself, or what it is made of."""
    if value in found:
        return found[value]
    found[value] = [value.tensor]
    if value.weighted or not value.parents or value.operation is None:
        return found[value]
    source = _dominator(value)
    sources = [source] if source else list(value.parents)
    passes, linear = _passes_on(value, sources)
    if not source and not passes and not linear:  # a product, such as a gate's: its factors are no sum
        return found[value]
    ends = {each: _ends(each, found) for each in sources}
    if passes:
        found[value] = _run_from(value, ends)
    else:
        found[value] = [end for each in sources for end in ends[each]]
    return found[value]


def _run_from(value: Value, ends: dict[Value, list[Tensor]]) -> list[Tensor]:
    """Return ``value`` computed from the ends, or the ends where that cannot be."""
    changed = {v: e for v, e in ends.items() if not (len(e) == 1 and e[0] is v.tensor)}
    if not changed:
        return [value.tensor]
    if all(len(e) == 1 and e[0].shape == v.tensor.shape for v, e in changed.items()):
        return [_run(value, {v: e[0] for v, e in changed.items()})]
    return [end for each in ends.values() for end in each]


def _dominator(value: Value) -> Value | None:
    """Return the nearest value through which all that leads to ``value`` passes; None: there is no such."""
    waiting = [(-parent.order, parent) for parent in value.parents]
    heapq.heapify(waiting)
    seen = set(value.parents)
    while len(waiting) > 1:
        _, last = heapq.heappop(waiting)
        if last.weighted or not last.parents:
            return None
        for parent in last.parents:
            if parent not in seen:
                seen.add(parent)
                heapq.heappush(waiting, (-parent.order, parent))
    return waiting[0][1]


def _passes_on(value: Value, sources: list[Value]) -> tuple[bool, bool]:
    """Return whether ``value`` grows in proportion with ``sources``; and whether it is proportional at
    all."""
    with torch.enable_grad():
        trial = {v: _pattern(v.tensor, i).mul_(LARGE).requires_grad_() for i, v in enumerate(sources)}
        try:
            once = _run(value, trial)
            with torch.no_grad():
                twice = _run(value, {v: 2 * t for v, t in trial.items()})
            weights = _pattern(once)
            slopes = torch.autograd.grad(once, list(trial.values()), weights, allow_unused=True)
        except RuntimeError:
            return False, False
    if not (once.isfinite().all() and twice.isfinite().all() and once.any()):
        return False, False
    linear = torch.allclose(twice, 2 * once.detach(), rtol=1e-4, atol=1e-4 * float(once.detach().abs().max()))
    grows = all(s is None or bool((s >= -1e-9 * s.abs().max()).all()) for s in slopes)
    return linear and grows, linear


def _pattern(tensor: Tensor, start: int = 0) -> Tensor:
    """Return numbers between 0.5 and 1.5 of the tensor's shape, in which neighbors differ."""
    steps = torch.arange(tensor.numel(), dtype=torch.float64, device=tensor.device) + start * 0.7071
    return (steps * 0.6180339887498949 % 1 + 0.5).view(tensor.shape)


def _run(value: Value, given: dict[Value, Tensor]) -> Tensor:
    """Return ``value`` computed again from the tensors ``given`` for values it was made from."""
    tensors = dict(given)
    for each in _between(value, given):
        assert each.operation is not None
        if each not in tensors:
            tensors[each] = each.operation.run(tensors)[each.place]
    return tensors[value]


def _between(value: Value, given: Iterable[Value]) -> list[Value]:
    """Return the values that lead from ``given`` to ``value``, in the order in which they were made."""
    stops, found, waiting = set(given), {value}, [value]
    while waiting:
        for parent in waiting.pop().parents:
            if parent not in stops and parent not in found and parent.operation is not None:
                found.add(parent)
                waiting.append(parent)
    return sorted(found, key=lambda each: each.order)
