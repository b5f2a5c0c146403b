"""What each operation of a network does to reachability, as a mode that replaces what it computes.

Within `Reachability` a number is non-zero exactly if a path from an input leads to it, and its
gradient is non-zero exactly if a path leads from it to an output. Layers multiply by their 0/1 marks;
values and gradients are set back to 0 or 1 at every layer, sum and product, so that depth costs no
precision. Tensors that need no gradient are constants: they come from no input.

* Convolutions and linear layers pass on along their kept weights. A kernel element that only ever
  meets zero padding (a 3x3 kernel on a 1x1 map) lies on no path.
* Biases emit constants: they start no path. A masked (prunable) bias or normalisation weight lies
  on a path if its unit does; a unit whose normalisation weight is pruned passes nothing on.
* Normalisation acts unit by unit; that its statistics mix units is ignored.
* Activations and dropout pass on what they get, max pooling all of its window.
* A sum passes on what any operand does, a product what all do; but a factor from a sigmoid or
  softmax is never 0 and blocks nothing. Constant addends are dropped, constant factors block where 0.
* Attention: each position sees all others, whatever the attention mask; queries and keys lie on a
  path where they meet, as long as any value does.
* Recurrent layers are refused. Any other operation runs as it is.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


class Reachability(TorchFunctionMode):
    """Runs each operation by its rule below, if it has one and a path leads to it."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        spelling = getattr(func, "__name__", "")
        rule = _RULES.get(spelling.strip("_"))
        if rule is None or not any(is_path(leaf) for leaf in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        if not args and "input" in kwargs:
            args = (kwargs.pop("input"),)
        if rule is _attention_layer:
            with self:
                return rule(func, *args, **kwargs)
        result = rule(func, *args, **kwargs)
        in_place = spelling.endswith("_") and not spelling.endswith("__")
        return args[0].copy_(result) if in_place and result is not args[0] else result


class _Binary(torch.autograd.Function):
    """1 where a value exceeds a threshold, otherwise 0; the same for its gradient in the backward pass."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, beyond: float, gradient_beyond: float) -> Tensor:
        ctx.gradient_beyond = gradient_beyond
        return (value.abs() > beyond).to(value.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        return (gradient.abs() > ctx.gradient_beyond).to(gradient.dtype), None, None


def binary(value: Tensor, beyond: float = 0.0, gradient_beyond: float = 0.0) -> Tensor:
    """Set a value to 0 or 1, and so its gradient."""
    result: Tensor = _Binary.apply(value, beyond, gradient_beyond)
    return result


def is_path(value: Any) -> bool:
    """Return whether a value comes from an input or from masks; all else is constant."""
    return isinstance(value, Tensor) and value.requires_grad


def _from_inputs(value: Tensor) -> Tensor:
    return value if is_path(value) else torch.zeros_like(value)


def _layer(func: Any, x: Tensor, weight: Tensor, bias: Any = None, *args: Any, **kwargs: Any) -> Tensor:
    # Sums of products of zeros and ones are whole numbers: one half separates them from rounding errors.
    starts = binary(_from_inputs(x), 0.0, 0.5)
    kept = binary(weight, 0.0, 0.5).to(x.dtype)
    reached = binary(func(starts, kept, None, *args, **kwargs), 0.5, 0.0)
    return _at_bias(reached, bias, 0 if func.__name__ == "linear" else weight.ndim - 2)


def _at_bias(reached: Tensor, bias: Any, trailing: int) -> Tensor:
    """A masked bias gets its unit's gradient where the unit is reached, and reaches nothing itself."""
    if not is_path(bias):
        return reached
    return reached * (1 + bias.view(*bias.shape, *[1] * trailing))


# Places of weight and bias among a normalisation's arguments after its input.
_AFFINE = {"batch_norm": (2, 3), "instance_norm": (2, 3), "group_norm": (1, 2), "layer_norm": (1, 2)}


def _normalisation(func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    name = func.__name__
    places = (0, 1) if func in (torch.batch_norm, torch.instance_norm) else _AFFINE.get(name, (1, 2))
    weight, bias = (
        kwargs.get(key, args[place] if place < len(args) else None)
        for key, place in zip(("weight", "bias"), places, strict=True)
    )
    if not is_path(x):
        return x
    trailing = 0 if name in ("layer_norm", "rms_norm") else x.ndim - 2
    if isinstance(weight, Tensor) and is_path(weight):
        x = binary(x) * weight.view(*weight.shape, *[1] * trailing)
    return _at_bias(binary(x), bias, trailing)


def _same(func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return x


def _gate(func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    gate = x.clone()
    gate.never_zero = True  # type: ignore[attr-defined]
    return gate


def _is_gate(value: Any) -> bool:
    return getattr(value, "never_zero", False)


def _sum(func: Any, a: Any, b: Any, *args: Any, **kwargs: Any) -> Tensor:
    operands = [_from_inputs(value) for value in (a, b) if isinstance(value, Tensor)]
    return operands[0] if len(operands) == 1 else binary(operands[0] + operands[1])


def _factors(*operands: Tensor) -> list[Tensor]:
    """Operands of a product: constants by where they are 0, gates as never 0 if they gate anything."""
    gated = any(is_path(value) and not _is_gate(value) for value in operands)
    paths = [value + 1 if gated and _is_gate(value) else value for value in operands]
    return [value if is_path(value) else (value != 0).to(torch.get_default_dtype()) for value in paths]


def _product(func: Any, a: Any, b: Any, *args: Any, **kwargs: Any) -> Tensor:
    operands = [value for value in (a, b) if isinstance(value, Tensor)]
    if len(operands) == 1:
        return operands[0]
    if _is_gate(a) and _is_gate(b):
        return _gate(func, _sum(func, a, b))
    first, second = _factors(a, b)
    return binary(first * second)


def _quotient(func: Any, a: Any, b: Any, *args: Any, **kwargs: Any) -> Tensor:
    # What is divided by is not 0.
    return _product(func, a, _gate(func, b) if is_path(a) and is_path(b) and not _is_gate(a) else b)


def _matrix_product(func: Any, a: Tensor, b: Tensor) -> Tensor:
    first, second = _factors(*((b, a) if func.__name__ == "__rmatmul__" else (a, b)))
    return binary(first @ second)


def _added_product(func: Any, addend: Tensor, a: Tensor, b: Tensor, **kwargs: Any) -> Tensor:
    return _sum(func, _matrix_product(func, a, b), addend)


def _einsum(func: Any, equation: str, *operands: Any) -> Tensor:
    return binary(func(equation, *_factors(*tree_leaves(operands))))


def _attention(func: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    meetings = binary(query @ key.transpose(-2, -1))
    return binary((1 + meetings) @ _from_inputs(value))


def _attention_layer(func: Any, *args: Any, **kwargs: Any) -> Any:
    # Its Python body with the question for overrides answered no, so that its own operations are replaced.
    body = types.FunctionType(
        func.__code__,
        {**func.__globals__, "has_torch_function": lambda *tensors: False},
        func.__name__,
        func.__defaults__,
        func.__closure__,
    )
    body.__kwdefaults__ = func.__kwdefaults__
    return body(*args, **kwargs)


def _max_pool(
    func: Any,
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Average over the window, gaps of a dilated one included: a maximum would show one path only."""
    num_axes = int(func.__name__.split("pool")[1][0])
    sizes, gaps = (
        [value] * num_axes if isinstance(value, int) else list(value) for value in (kernel_size, dilation)
    )
    window = [gap * (size - 1) + 1 for size, gap in zip(sizes, gaps, strict=True)]
    average = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[num_axes - 1]
    pooled = average(x, window, stride or kernel_size, padding, ceil_mode)
    if not return_indices:
        return pooled
    return pooled, func(x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)[1]


def _adaptive_max_pool(func: Any, x: Tensor, output_size: Any, return_indices: bool = False) -> Tensor:
    if return_indices:
        raise TypeError(f"{func.__name__} with indices is not followed")
    average = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
    return average[int(func.__name__.split("pool")[1][0]) - 1](x, output_size)


def _extreme(func: Any, x: Tensor, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Any:
    """A maximum or minimum of two tensors or over axes, as a sum."""
    other = kwargs.get("other", dim)
    if isinstance(other, Tensor):
        return _sum(func, x, other)
    total = x.sum() if dim is None else x.sum(dim, keepdim)
    if dim is None or func.__name__ in ("amax", "amin"):
        return total
    return torch.return_types.max((total, func(x, dim, keepdim)[1]))


def _joined(func: Any, tensors: Any, *args: Any, **kwargs: Any) -> Tensor:
    return func(tuple(_from_inputs(each) for each in tensors), *args, **kwargs)


def _filled(func: Any, x: Tensor, mask: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return x.masked_fill(mask, 0)


def _padded(func: Any, x: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> Tensor:
    return F.pad(x, pad, mode)


def _glu(func: Any, x: Tensor, dim: int = -1) -> Tensor:
    half, gate = x.chunk(2, dim)
    return binary(half * (1 + gate))


def _refused(func: Any, *args: Any, **kwargs: Any) -> Tensor:
    raise TypeError(f"the operation {func.__name__} is not followed")


_NAMES: dict[Callable[..., Any], str] = {
    _layer: "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
    _normalisation: "batch_norm instance_norm group_norm layer_norm rms_norm",
    _same: "relu relu6 leaky_relu elu selu celu gelu silu mish tanh hardtanh hardswish prelu rrelu softsign "
    "tanhshrink hardshrink softshrink threshold logsigmoid log_sigmoid log_softmax clamp clamp_min clamp_max "
    "clip abs absolute neg negative sqrt rsqrt pow rpow square reciprocal log log1p log2 erf sin cos "
    "normalize local_response_norm detach dropout dropout1d dropout2d dropout3d alpha_dropout "
    "feature_dropout feature_alpha_dropout",
    _gate: "sigmoid hardsigmoid softmax softmin softplus gumbel_softmax exp",
    _sum: "add radd iadd sub rsub isub subtract maximum minimum fmax fmin",
    _product: "mul rmul imul multiply",
    _quotient: "div rdiv idiv divide true_divide truediv rtruediv itruediv",
    _matrix_product: "matmul rmatmul mm bmm",
    _added_product: "addmm baddbmm",
    _einsum: "einsum",
    _attention: "scaled_dot_product_attention",
    _attention_layer: "multi_head_attention_forward",
    _max_pool: "max_pool1d max_pool2d max_pool3d "
    "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices",
    _adaptive_max_pool: "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
    "adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices",
    _extreme: "max min amax amin",
    _joined: "cat concat concatenate stack hstack vstack",
    _filled: "masked_fill",
    _padded: "pad",
    _glu: "glu",
    _refused: "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell",
}
_RULES = {name: rule for rule, names in _NAMES.items() for name in names.split()}
