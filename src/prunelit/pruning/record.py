"""Record the operations of one forward pass, so that its last part can be inspected and run again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, handle_torch_function
from torch.utils._pytree import tree_map, tree_map_only

from prunelit.pruning.nested import tensors_in

IN_PLACE = {"__iadd__", "__isub__", "__imul__", "__idiv__", "__itruediv__", "__ipow__", "__setitem__"}
NORMALISATIONS = {"layer_norm", "group_norm", "rms_norm", "instance_norm"}


@dataclass(eq=False)
class Operation:
    """One call of a function of torch, with the recorded values among its arguments."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    in_place: bool
    overwrites: bool

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.func, "__name__", "")

    def run(self, tensors: Mapping[Value, Tensor]) -> list[Tensor]:
        """Run it again, with other ``tensors`` in place of some values."""
        args, kwargs = tree_map_only(Value, lambda v: tensors.get(v, v.tensor), (self.args, self.kwargs))
        if self.overwrites:
            args = (args[0].clone(), *args[1:])
        result = self.func(*args, **kwargs)
        return tensors_in(args[0] if self.in_place else result)


@dataclass(eq=False)
class Value:
    """A tensor of the forward pass.

    Attributes:
        tensor: what it held when it was made.
        order: its place among all values.
        data: whether it depends on the inputs.
        weighted: whether a parameter takes part in the operation that made it (in a normalisation:
            one that requires a gradient). A value that is ``weighted`` but does not depend on
            ``data`` is made of parameters alone.
        operation: what made it; None for an input, a parameter, or what cannot be run again.
        place: which of the operation's results it is.
        parents: the values it was made from through which it depends on inputs and on parameters
            that require a gradient.
    """

    tensor: Tensor
    order: int
    data: bool = False
    weighted: bool = False
    operation: Operation | None = None
    place: int = 0
    parents: tuple[Value, ...] = ()


@contextmanager
def scripted_calls_seen() -> Iterator[None]:
    """Let the active modes see calls of TorchScript's functions and methods, like functions of torch."""
    kinds: tuple[Any, ...] = (torch.jit.ScriptFunction, torch._C.ScriptMethod)
    originals = [kind.__call__ for kind in kinds]
    for kind, original in zip(kinds, originals, strict=True):
        kind.__call__ = _seen_by_modes(original)
    try:
        yield
    finally:
        for kind, original in zip(kinds, originals, strict=True):
            kind.__call__ = original


def _seen_by_modes(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(scripted: Any, *args: Any, **kwargs: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            return original(scripted, *args, **kwargs)

        tensors = tensors_in((args, kwargs))
        if not tensors:
            return run(*args, **kwargs)
        return handle_torch_function(run, tensors, *args, **kwargs)

    return call


class Record(TorchFunctionMode):
    """Records what is computed from inputs or parameters while it is active, all of it in float64.

    A forward pass may name another precision, as ``x.half()`` or ``softmax(dtype=torch.float32)`` do.
    It gets float64 instead, in which the inputs and parameters are given.
    """

    def __init__(self, inputs: Iterable[Tensor], parameters: Iterable[Tensor]) -> None:
        super().__init__()
        self.values: dict[int, Value] = {}
        self._order = count()
        for tensor in inputs:
            self._note(tensor, data=True)
        for tensor in parameters:
            self._note(tensor, weighted=True)

    def of(self, tensor: Tensor) -> Value:
        """Return the value that ``tensor`` holds now; one of unknown origin may depend on everything."""
        known = self.values.get(id(tensor))
        return known or self._note(tensor, data=True, weighted=True)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        in_place = (name.endswith("_") and not name.endswith("__")) or name in IN_PLACE
        kwargs = dict(kwargs or {})
        if name not in ("__get__", "__set__"):
            func, args, kwargs = _in_float64(func, args, kwargs, in_place)
        tensors = tensors_in((args, kwargs))
        known = [self.of(t) for t in tensors if id(t) in self.values or t.requires_grad]
        if not known:
            return func(*args, **kwargs)
        overwrites = isinstance(args[0] if args else None, Tensor) and (in_place or _inplace(args, kwargs))
        if overwrites:
            self._keep(args[0])
        taken, named = _map(
            lambda leaf: self.values.get(id(leaf), leaf) if isinstance(leaf, Tensor) else leaf, args, kwargs
        )
        operation = Operation(func, taken, named, in_place, overwrites)
        result = func(*args, **kwargs)
        for place, tensor in enumerate(tensors_in(args[0] if in_place else result)):
            if tensor.is_floating_point() and (overwrites or id(tensor) not in self.values):
                self._made(tensor, operation, place, known)
        return result

    def _made(self, tensor: Tensor, operation: Operation, place: int, known: list[Value]) -> None:
        data = any(value.data for value in known)
        parameters = [value for value in known if value.weighted and not value.data]
        weighted = any(v.tensor.requires_grad or operation.name not in NORMALISATIONS for v in parameters)
        parents = tuple(dict.fromkeys(v for v in known if v.data and v.tensor.requires_grad))
        self._note(tensor, data, weighted, operation, place, parents)

    def _note(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Value:
        value = Value(tensor, next(self._order), *args, **kwargs)
        self.values[id(tensor)] = value
        return value

    def _keep(self, tensor: Tensor) -> None:
        """Copy a tensor that may be overwritten, so that its recorded value is kept."""
        value = self.values.get(id(tensor))
        if value is not None and value.data:
            value.tensor = tensor.clone()


def _inplace(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a function may write into its first argument, as ``relu(x, inplace=True)`` does."""
    return kwargs.get("inplace", False) is True or any(value is True for value in args[1:])


def _in_float64(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], in_place: bool
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Replace each precision that a call names, and the tensors of less that it takes."""
    if func in (Tensor.half, Tensor.float, Tensor.bfloat16) and args[0].is_floating_point():
        return Tensor.double, args[:1], {}

    def doubled(leaf: Any) -> Any:
        if isinstance(leaf, torch.dtype) and leaf.is_floating_point:
            return torch.float64
        low = isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.dtype != torch.float64
        return leaf.double() if low and not in_place else leaf

    args, kwargs = _map(doubled, args, kwargs)
    return func, args, kwargs


def _map(function: Callable[[Any], Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return arguments with ``function`` applied to each leaf; without pytrees where none is nested."""
    if any(isinstance(each, (tuple, list, dict)) for each in (*args, *kwargs.values())):
        return tree_map(function, (args, kwargs))
    return tuple(map(function, args)), {name: function(each) for name, each in kwargs.items()}
