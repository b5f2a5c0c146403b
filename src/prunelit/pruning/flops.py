"""Multiply-accumulates of one forward pass of one input, by fvcore, in total and by layer.

A sparse network's count weights each layer's by the layer's kept share: what a machine would do
that skips every removed weight at every position it is used.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from prunelit.pruning.call import Call
from prunelit.pruning.compiled import original_parts
from prunelit.pruning.nested import tensors_in
from prunelit.pruning.preserve import modes, random_state
from prunelit.pruning.product_macs import macs_of_attention, macs_of_einsum, macs_of_matmul

# Where an operation of the traced graph takes its weight: the operand's possible places.
_WEIGHT_PLACES = {
    "aten::_convolution": (1,),
    "aten::_convolution_mode": (1,),
    "aten::linear": (1,),
    "aten::addmm": (2, 1),
    "aten::matmul": (1, 0),
    "aten::mm": (1, 0),
}
# Operations that may be applied to a parameter, element by element, before its use as a weight.
_ELEMENTWISE = {"alias", "contiguous", "detach", "mul", "t", "to", "transpose", "type_as", "_weight_norm"}

# Operations that multiply and add like a layer and that are not counted.
_HEAVY = re.compile(
    r"(aten::((quantized_)?(lstm|gru|rnn_tanh|rnn_relu)(_cell)?|_?fft_\w+|cdist"
    r"|bilinear|_trilinear|addbmm|vdot|outer|tensordot|linalg_\w+)"
    r"|prim::PythonOp|(?!aten::|prim::|prims::)\w+::\w+)"
)


@dataclass(frozen=True)
class Flops:
    """Multiply-accumulates (one multiplication and its addition count once) for one input.

    Attributes:
        total: convolutions, linear layers, matrix products (those of attention, fused or not, and einsum),
            normalisation (2 an element in eval mode), adaptive average pooling.
        by_parameter: those done with each weight; a layer used twice counts twice. Every weight of a
            ``Conv*d`` or ``Linear`` is there (0 if the forward pass leaves it out), and any other
            parameter that serves as one, such as attention's ``in_proj_weight``.
        outputs: output elements that each of these weights makes.
        biased: the weights to whose outputs a bias is added.
        uncounted: operations of the network that multiply and that ``total`` leaves out, such as ``lstm``.
    """

    total: int
    by_parameter: dict[str, int]
    outputs: dict[str, int]
    biased: frozenset[str]
    uncounted: tuple[str, ...] = ()

    def sparse(self, densities: Mapping[str, float]) -> float:
        """``total``, each weight's count times its kept share in ``densities``; absent: dense."""
        removed = (
            count * (1 - densities[name]) for name, count in self.by_parameter.items() if name in densities
        )
        return self.total - math.fsum(removed)

    @property
    def biased_outputs(self) -> int:
        """Outputs that a bias is added to, for counts that add one operation for each of them."""
        return sum(self.outputs[name] for name in self.biased)


def count_flops(network: nn.Module, example: Tensor | tuple[Any, ...] | Call) -> Flops:
    """Count once, in eval mode and without gradients; the network is not changed.

    fvcore looks at shapes only. It leaves out activations, sums, products of single elements such as those of
    layer scale, max and fixed average pooling, softmax and recurrent layers. Operations that it does not know
    are counted like their relatives: convolutions with ``padding="same"``, and the two products of
    ``scaled_dot_product_attention`` as those of attention that is written with ``matmul``. Modules that
    ``torch.compile`` compiled are counted as they were written.

    Args:
        network: any module; modules may be used several times.
        example: a batch of one input on the network's device, a tuple of the forward pass's positional
            arguments, each a batch of one, or a call with keyword arguments.

    Raises:
        ValueError: ``example`` is not a batch of one, or the network can't be traced; one line.
    """
    call = Call.of(example)
    first = next(iter(call.tensors()), None)
    if first is not None and first.shape[:1] != (1,):
        raise ValueError(
            f"FLOPs are counted for one input: expected a batch of one, got shape {tuple(first.shape)}"
        )
    with (
        undisturbed(network),
        original_parts(network),
        torch.no_grad(),
        _unfused_attention(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # only shapes are used
        try:
            return _counted(network, call)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            reason = f"{type(error).__name__}: {lines[0]}".rstrip(": ")
            raise ValueError(f"{type(network).__name__} can't be traced to count FLOPs: {reason}") from error


@contextmanager
def undisturbed(network: nn.Module) -> Iterator[None]:
    """Eval mode within; afterwards, also after an error, every module is as it was.

    Restored are each module's own train or eval mode, its hooks, its buffers (the same tensors with the same
    values) and the random state. The caller must not change the weights.
    """
    modules = list(network.modules())
    hooks = [(kept, dict(kept)) for m in modules for kept in (m._forward_pre_hooks, m._forward_hooks)]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    with random_state(0), modes(network):
        try:
            network.eval()
            yield
        finally:
            for registered, before in hooks:
                for key in registered.keys() - before.keys():
                    del registered[key]
            with torch.no_grad():
                for module, name, buffer, value in buffers:
                    module._buffers[name] = buffer.copy_(value)


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """Attention as separate products: in eval mode PyTorch hides its linear layers in one operation."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


class _FlatCall(nn.Module):
    """The network from tensors to a plain tuple of tensors: the tracer supports few kinds of containers.

    The network is not a submodule, and the state is its tensors alone: fvcore hangs hooks on submodules,
    which scripted ones refuse, and the tracer takes no other state, such as that of quantised layers.
    """

    def __init__(self, network: nn.Module, call: Call) -> None:
        super().__init__()
        self.network, self.call = (network,), call

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = iter(tensors)
        return tuple(tensors_in(self.call.map(lambda tensor: next(given)).run(self.network[0])))

    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        tensors = {} if destination is None else destination
        (network,) = self.network
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            tensors[prefix + name] = tensor if keep_vars else tensor.detach()
        return tensors


def _counted(network: nn.Module, call: Call) -> Flops:
    from fvcore.nn import FlopCountAnalysis

    traced = _FlatCall(network, call)
    layers = _Layers(traced, network)
    analysis = FlopCountAnalysis(traced, tuple(call.tensors()))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    handles = _handles()
    analysis.set_op_handle(**{kind: layers.noting(kind, handles[kind]) for kind in handles})
    total = round(analysis.total())
    left_out = sorted({name.split("::")[-1] for name in analysis.unsupported_ops() if _HEAVY.fullmatch(name)})
    return Flops(total, dict(layers.counts), dict(layers.outputs), frozenset(layers.biased), tuple(left_out))


def _handles() -> dict[str, Callable[..., Any]]:
    """Return what counts each kind of operation: fvcore's own, and others where it has none.

    Its counts of ``matmul`` and ``einsum`` are replaced: the first leaves out the batch of the second factor,
    the second has four digits.
    """
    from fvcore.nn.flop_count import _DEFAULT_SUPPORTED_OPS
    from fvcore.nn.jit_handles import conv_flop_count, get_shape

    def same_padding(operands: list[Any], results: list[Any]) -> Counter[str]:
        shapes = [get_shape(value) for value in (*operands[:2], results[0])]
        return Counter(conv=conv_flop_count(*shapes))

    def product(operands: list[Any], results: list[Any]) -> int:
        return macs_of_matmul(get_shape(operands[0]), get_shape(results[0]))

    def added_product(operands: list[Any], results: list[Any]) -> int:
        return macs_of_matmul(get_shape(operands[1]), get_shape(results[0]))

    def attention(operands: list[Any], results: list[Any]) -> int:
        return macs_of_attention(*(get_shape(value) for value in (*operands[:3], results[0])))

    def einsum(operands: list[Any], results: list[Any]) -> int:
        return macs_of_einsum(operands[0].toIValue(), [get_shape(v) for v in operands[1].node().inputs()])

    return {
        **_DEFAULT_SUPPORTED_OPS,
        "aten::_convolution_mode": same_padding,
        **dict.fromkeys(("aten::matmul", "aten::mv", "aten::dot"), product),
        **dict.fromkeys(("aten::baddbmm", "aten::addmv"), added_product),
        "aten::scaled_dot_product_attention": attention,
        "aten::einsum": einsum,
    }


class _Layers:
    """What each weight has a part in, noted while fvcore goes through the graph's operations."""

    def __init__(self, traced: nn.Module, network: nn.Module) -> None:
        layers = [
            (f"{name}.weight".lstrip("."), module._parameters.get("weight"))
            for name, module in network.named_modules()
            if isinstance(module, _ConvNd | nn.Linear)
        ]
        names = {id(parameter): name for name, parameter in network.named_parameters()}
        # A weight shared with another kind of module, such as an embedding, keeps its prunable name.
        names |= {id(weight): name for name, weight in reversed(layers)}
        # The tracer gives the graph one input a state tensor, tied ones once, in this order.
        state = {id(tensor): None for tensor in traced.state_dict(keep_vars=True).values()}
        self._state = [names.get(key) for key in state]
        known = [names[id(weight)] for _, weight in layers if weight is not None]
        self.counts = Counter(dict.fromkeys(known, 0))
        self.outputs = Counter(dict.fromkeys(known, 0))
        self.biased: set[str] = set()

    def noting(self, kind: str, handle: Callable[..., Any]) -> Callable[..., Any]:
        """fvcore's ``handle`` for operations of this kind, which also notes whose weight it is."""
        if kind not in _WEIGHT_PLACES:
            return handle

        def count(operands: list[Any], results: list[Any]) -> Any:
            counted = handle(operands, results)
            named = (self._parameter(operands[place]) for place in _WEIGHT_PLACES[kind])
            if name := next((name for name in named if name), None):
                self.counts[name] += round(sum(counted.values()) if isinstance(counted, dict) else counted)
                self.outputs[name] += math.prod(results[0].type().sizes())
                has_bias = kind == "aten::addmm" or (len(operands) > 2 and operands[2].isCompleteTensor())
                if has_bias:
                    self.biased.add(name)
            return counted

        return count

    def _parameter(self, value: Any) -> str | None:
        """The parameter that a weight in the graph is, or is computed from element by element."""
        size = math.prod(value.type().sizes())
        node = value.node()
        if node.kind() == "prim::Param":
            inputs = [each.debugName() for each in node.outputs()]
            place = inputs.index(value.debugName()) - (len(inputs) - len(self._state))
            return self._state[place] if place >= 0 else None
        if node.kind().removeprefix("aten::") not in _ELEMENTWISE:
            return None
        sources = (each for each in node.inputs() if each.isCompleteTensor())
        named = (self._parameter(each) for each in sources if math.prod(each.type().sizes()) == size)
        return next((name for name in named if name), None)
