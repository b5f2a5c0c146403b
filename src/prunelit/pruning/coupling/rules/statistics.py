"""Operations that combine positions: sums, means, norms, softmax, pooling and normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prunelit.pruning.coupling.marked import Marked, Step, is_labelled
from prunelit.pruning.coupling.rules import rule
from prunelit.pruning.coupling.rules.convolutions import tied_blocks

SUMS = ("sum", "linalg_vector_norm", "norm", "nansum")


@rule(
    "sum", "mean", "amax", "amin", "var", "std", "linalg_vector_norm", "norm", "prod", "nansum", "any", "all"
)
@rule("max", "min", "var_mean", "std_mean", "median", "argmax", "argmin", "logsumexp", "count_nonzero")
def reduction(step: Step, x: Marked, *arguments: Any, **keywords: Any) -> Any:
    """Reduce axes; zeros have no effect on a sum, but on all other reductions."""
    axes = _axes(step, x, arguments, keywords)
    name = step.operation.removeprefix("aten.")
    for axis in axes:
        if name in SUMS:
            reason = step.why("what is removed would have to be 0 in this sum, and is not")
            step.ledger.contract(x.labels[axis], None, silent=x.zero[axis], weighted=False, reason=reason)
        else:
            step.ledger.mix(x.labels[axis], step.why("it is taken together with all others"))
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    results = []
    for shape in step.shapes:
        places = range(x.ndim) if len(shape) == x.ndim else kept
        labels = tuple(x.labels[a] if a in kept else None for a in places)
        zero = tuple(x.zero[a] and a in kept for a in places)
        results.append(Marked(shape, labels, zero, x.is_weight))
    return results[0] if len(results) == 1 else results


def _axes(step: Step, x: Marked, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> list[int]:
    """Return which axes are reduced, from the arguments, or from the shapes if they are not plain."""
    given = keywords.get("dim")
    vector_norm = step.operation in ("aten.linalg_vector_norm", "aten.norm")
    place = 1 if vector_norm else 0
    if given is None and len(arguments) > place and isinstance(arguments[place], int | list | tuple):
        given = arguments[place]
    if given is None or given is False or given is True or given == []:
        return list(range(x.ndim))
    return [axis % x.ndim for axis in ([given] if isinstance(given, int) else given)]


@rule("softmax", "log_softmax", "_softmax", "_log_softmax", "softmin", "cumsum", "cumprod", "sort", "glu_jvp")
def along_an_axis(step: Step, x: Marked, axis: int = -1, *options: Any, **keywords: Any) -> Marked:
    """Compute each element from all elements along one axis."""
    step.ledger.mix(x.labels[axis], step.why("it is taken together with all others"))
    return Marked(step.shape, x.labels, (False,) * x.ndim)


@rule("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "lp_pool2d")
@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool2d")
@rule("max_pool2d_with_indices", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
@rule("upsample_bilinear2d", "upsample_bicubic2d", "upsample_linear1d", "upsample_trilinear3d")
@rule(
    "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa", "_upsample_nearest_exact2d", "_adaptive_avg_pool2d"
)
@rule("reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d", "grid_sampler")
def image(step: Step, x: Marked, *options: Any, **keywords: Any) -> Any:
    """Compute with the pixels of an image; the axes before them are unchanged."""
    spatial = {"1": 1, "3": 3}.get(step.operation[-2:-1] if step.operation[-1] == "d" else "", 2)
    lead = x.ndim - spatial
    for along in x.labels[lead:]:
        step.ledger.hold(along, step.why("places of an image"))
    results = []
    for shape in step.shapes:
        labels = (*x.labels[:lead], *[None] * spatial)
        zero = (*x.zero[:lead], *[False] * spatial)
        results.append(Marked(shape, labels, zero, x.is_weight))
    return results[0] if len(results) == 1 else results


@rule("batch_norm", "instance_norm")
def batch_norm(
    step: Step,
    x: Marked,
    weight: Marked | None = None,
    bias: Marked | None = None,
    mean: Marked | None = None,
    variance: Marked | None = None,
    training: bool = False,
    *options: Any,
    **keywords: Any,
) -> Marked:
    """Normalise each channel by itself."""
    labels = x.labels[1]
    for each in (weight, bias, mean, variance):
        if each is not None:
            labels = step.ledger.tie(labels, each.labels[0], step.why("numbers for each channel"))
    if x.is_weight and training:
        for axis, along in enumerate(x.labels):
            if axis != 1:
                step.ledger.mix(along, step.why("it takes part in the mean and the variance of a weight"))
    silent = weight is not None and weight.zero[0] and (bias is None or bias.zero[0])
    if (step.operation == "aten.instance_norm" or (training and x.is_weight)) and not silent:
        silent = x.zero[1] and (bias is None or bias.zero[0])
    result = Marked(step.shape, x.labels, (False,) * x.ndim, x.is_weight)
    return result.with_axis(1, labels, silent)


@rule("layer_norm", "rms_norm", "native_layer_norm")
def layer_norm(
    step: Step,
    x: Marked,
    sizes: Sequence[int],
    weight: Marked | None = None,
    bias: Marked | None = None,
    *options: Any,
    **keywords: Any,
) -> Any:
    """Normalise all positions of some axes together."""
    if step.operation == "aten.rms_norm":
        bias = None
    first = x.ndim - len(sizes)
    labels, zero = list(x.labels), [flag and bias is None for flag in x.zero]
    for axis in range(first, x.ndim):
        step.ledger.mix(labels[axis], step.why("it takes part in the mean and variance of all"))
        step.note_size(x.shape[axis], labels[axis])
        for each in (weight, bias):
            if each is not None:
                own = each.labels[axis - first]
                labels[axis] = step.ledger.tie(labels[axis], own, step.why("numbers for each unit"))
        zero[axis] = weight is not None and (bias is None or bias.zero[axis - first])
    result = Marked(x.shape, tuple(labels), tuple(zero), x.is_weight)
    return [result, *map(Marked.plain, step.shapes[1:])] if len(step.shapes) > 1 else result


@rule("group_norm")
def group_norm(
    step: Step,
    x: Marked,
    groups: int,
    weight: Marked | None = None,
    bias: Marked | None = None,
    *options: Any,
    **keywords: Any,
) -> Marked:
    """Normalise groups of channels: whole groups can be removed; a single group combines all channels."""
    labels, size = x.labels[1], x.shape[1] // groups
    for each in (weight, bias):
        if each is not None:
            labels = step.ledger.tie(labels, each.labels[0], step.why("numbers for each channel"))
    if is_labelled(labels) and groups == 1:
        step.ledger.mix(labels, step.why("it takes part in the mean and variance of all"))
    elif is_labelled(labels):
        labels = tied_blocks(step, labels, (groups, size), along=0)
        assert labels is not None
        step.note_size(groups, labels[::size])
    for along in x.labels[2:]:
        step.ledger.mix(along, step.why("it takes part in the mean and variance of all"))
    silent = weight is not None and weight.zero[0] and (bias is None or bias.zero[0])
    result = Marked(x.shape, x.labels, (False,) * x.ndim)
    return result.with_axis(1, labels, silent)


@rule("_weight_norm", "_weight_norm_interface")
def weight_norm(step: Step, direction: Marked, length: Marked, axis: int = 0) -> Any:
    """Scale each slice of a weight along ``axis`` to a given length; slices that are 0 have no direction."""
    if axis == -1:
        for along in direction.labels:
            step.ledger.hold(along, step.why("all positions share one length"))
        return Marked.plain(step.shapes[0], True)
    labels = step.ledger.tie(direction.labels[axis], length.labels[axis], step.why("a length for each unit"))
    step.ledger.mix(labels, step.why("a unit of zeros has no direction"))
    result = direction.with_axis(axis, labels, True)
    return [result, Marked.plain(step.shapes[1], True)] if len(step.shapes) > 1 else result


@rule("local_response_norm")
def local_response_norm(step: Step, x: Marked, *options: Any, **keywords: Any) -> Marked:
    """Normalise by neighbouring channels, which have to stay neighbours."""
    step.ledger.hold(x.labels[1], step.why("neighbouring channels are taken together"))
    return Marked.plain(x.shape)
