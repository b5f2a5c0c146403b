"""What a network computes without some of its units, worked out on the whole network.

This is what a cut network is compared with. Where zeros in the place of a unit have no effect, it is the
network with these zeros. A LayerNorm, a mean or the like counts zeros too: there the operations of the
forward pass are run one by one, and these take only the positions that stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import Interpreter, Node
from torch.utils._pytree import tree_leaves, tree_map

from prunelit.pruning.call import Call
from prunelit.pruning.coupling.groups import CoupledUnits, Kept
from prunelit.pruning.coupling.marked import Marked
from prunelit.pruning.coupling.trial import masked_copy, outputs

SHAPED = ("aten.layer_norm", "aten.rms_norm", "aten.native_layer_norm")
"""Operations that are given the sizes of the axes that they take together."""


def outputs_without(network: nn.Module, coupled: CoupledUnits, kept: Kept, call: Call) -> list[Tensor]:
    """Return what ``network`` returns for ``call``, in eval mode, if it has only the units ``kept``.

    The network is not changed. ``call`` must be the one with which ``coupled`` was found if a unit is removed
    that zeros do not stand for.
    """
    masked = masked_copy(network, coupled.groups, kept)
    inexact = {group.name for group in coupled.groups if not group.exact_when_masked}
    if not inexact & kept.keys():
        return outputs(masked, call)
    with torch.no_grad():
        return _Narrowed(masked, coupled, kept, call).outputs()


def reference_for(
    network: nn.Module, coupled: CoupledUnits, kept: Kept, call: Call
) -> Callable[[Kept], list[Tensor]] | None:
    """Return what gives the outputs expected of a pruned network that is cut; None: its own."""
    if all(group.exact_when_masked for group in coupled.groups if group.name in kept):
        return None
    return lambda some: outputs_without(network, coupled, some, call)


class _Narrowed(Interpreter):
    """Runs the recorded operations; those that count zeros get only the positions that stay."""

    def __init__(self, masked: nn.Module, coupled: CoupledUnits, kept: Kept, call: Call) -> None:
        assert coupled.trace is not None
        super().__init__(coupled.trace.module)
        self._coupled, self._kept = coupled, kept
        self._masked, self._call = masked, call

    def outputs(self) -> list[Tensor]:
        """Return the tensors that the network returns."""
        assert self._coupled.trace is not None
        program = self._coupled.trace.program
        named = dict((*self._masked.named_parameters(), *self._masked.named_buffers()))
        inputs = iter(tree_leaves((self._call.inputs, dict(self._call.keywords))))
        given = []
        for spec in program.graph_signature.input_specs:
            if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
                given.append(named[self._coupled.trace.tensors[spec.arg.name]].detach().clone())
            elif spec.kind == InputKind.USER_INPUT:
                given.append(next(inputs))
            else:
                given.append(program.constants[str(spec.target)])
        results = self.run(*given)
        specs = program.graph_signature.output_specs
        kinds = [spec.kind == OutputKind.USER_OUTPUT for spec in specs]
        returned = [value for value, own in zip(results, kinds, strict=True) if own]
        return [value for value in returned if isinstance(value, Tensor)]

    def run_node(self, n: Node) -> Any:
        """Run one operation."""
        if n not in self._coupled.mixing:
            return super().run_node(n)
        marked, marked_result = self._coupled.mixing[n]
        given = self.fetch_args_kwargs_from_env(n)
        arguments, keywords = _paired(marked, given, self._narrowed)
        if str(n.target).startswith(SHAPED):
            narrow = arguments[0].shape[arguments[0].ndim - len(arguments[1]) :]
            arguments = (arguments[0], list(narrow), *arguments[2:])
        result = n.target(*arguments, **keywords)  # type: ignore[operator]
        return _paired(marked_result, result, self._widened)

    def _narrowed(self, marked: Marked, tensor: Tensor) -> Tensor:
        for axis, stays in self._stay(marked):
            tensor = tensor.index_select(axis, stays.nonzero()[:, 0].to(tensor.device))
        return tensor

    def _widened(self, marked: Marked, tensor: Tensor) -> Tensor:
        for axis, stays in self._stay(marked):
            shape = list(tensor.shape)
            shape[axis] = len(stays)
            places = stays.nonzero()[:, 0].to(tensor.device)
            tensor = tensor.new_zeros(shape).index_copy_(axis, places, tensor)
        return tensor

    def _stay(self, marked: Marked) -> list[tuple[int, Tensor]]:
        found = [
            (axis, self._coupled.stay(labels, self._kept))
            for axis, labels in enumerate(marked.labels)
            if labels is not None
        ]
        return [(axis, stays) for axis, stays in found if not bool(stays.all())]


def _paired(marked: Any, given: Any, change: Any) -> Any:
    """Return ``given`` with ``change(marked, tensor)`` in the place of each tensor that has labels."""
    if isinstance(marked, Marked):
        return change(marked, given) if isinstance(given, Tensor) else given
    if isinstance(marked, dict):
        return {key: _paired(marked[key], value, change) for key, value in given.items()}
    if isinstance(marked, list | tuple) and isinstance(given, list | tuple):
        return tuple(_paired(a, b, change) for a, b in zip(marked, given, strict=True))
    return tree_map(lambda value: value, given)
