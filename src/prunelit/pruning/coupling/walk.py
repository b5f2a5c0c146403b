"""Follow the positions of all parameters through the operations of a traced network."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves

from prunelit.pruning.coupling.ledger import Ledger, Reason
from prunelit.pruning.coupling.marked import Literal, Marked, Step
from prunelit.pruning.coupling.rules import (
    RULES,
    convolutions,
    creation,
    elementwise,
    pieces,
    products,
    shapes,
    statistics,
)
from prunelit.pruning.coupling.trace import Trace

FAMILIES = (convolutions, creation, elementwise, pieces, products, shapes, statistics)
"""The files that fill ``RULES``."""

VIEWS = ("aten.slice", "aten.select", "aten.narrow", "aten.index")
NOT_FOLLOWED = "this operation is not followed"


class Walk:
    """Notes in ``ledger`` what each operation of a trace says.

    Attributes:
        literals: sizes that may stand as numbers in the code of modules.
        not_followed: names of operations that no rule knows.
        used: names of the parameters and buffers that an operation takes.
        steps: each operation with its operands and results, for counting what it costs.
        mixing: the operations that take units together even when they are 0, with operands and results.
    """

    def __init__(self, network: nn.Module, ledger: Ledger) -> None:
        self.ledger = ledger
        self.literals: list[Literal] = []
        self.not_followed: set[str] = set()
        self.used: set[str] = set()
        self.steps: list[tuple[str, tuple[Any, ...], Any]] = []
        self.mixing: dict[Node, tuple[Any, Any]] = {}
        self._network = network
        self._heads: dict[str, frozenset[int]] = {}

    def follow(self, trace: Trace) -> None:
        """Follow all operations of ``trace``."""
        values: dict[Node, Any] = {}
        for node in trace.module.graph.nodes:
            if node.op == "placeholder":
                values[node] = self._given(node, trace)
        results = self._run(trace.module, values)
        for result in tree_leaves(results):
            for labels in result.labels if isinstance(result, Marked) else ():
                self.ledger.hold(labels, Reason("the network returns it"))

    def _given(self, node: Node, trace: Trace) -> Any:
        value = node.meta.get("val")
        if not isinstance(value, Tensor):
            return value
        name = trace.tensors.get(node.name)
        if name is None or not node.users:
            return Marked.plain(_shape(value))
        self.used.add(name)
        is_buffer = name in trace.buffers
        shape = _shape(value)
        labels = tuple(self.ledger.axis(name, axis, n, is_buffer) for axis, n in enumerate(shape))
        return Marked(shape, labels, (not is_buffer,) * len(shape), True)

    def _run(self, module: GraphModule, values: dict[Node, Any]) -> Any:
        for node in module.graph.nodes:
            if node.op == "get_attr":
                held = getattr(module, str(node.target), None)
                values[node] = Marked.plain(held.shape) if isinstance(held, Tensor) else held
            elif node.op == "call_function":
                arguments = _given(node.args, values)
                keywords = _given(node.kwargs, values)
                values[node] = self._call(node, arguments, keywords)
                self._write_back(node, values)
            elif node.op == "output":
                return _given(node.args[0], values)
        return None

    def _call(self, node: Node, arguments: Any, keywords: Mapping[str, Any]) -> Any:
        if node.target is operator.getitem:
            return arguments[0][arguments[1]]
        graphs = [a for a in arguments if isinstance(a, GraphModule)]
        if graphs and len(graphs) == 1:  # such as a block under no_grad
            return self._inside(graphs[0], arguments, node)
        step = self._step(node)
        name = step.operation
        rule = RULES.get(name) or RULES.get(name.removesuffix("_"))
        if rule is None and isinstance(node.target, torch._ops.OpOverload):
            rule = elementwise.elementwise if _is_pointwise(node.target) else None
        num_mixed = self.ledger.num_mixed
        try:
            if rule is None:
                raise NotImplementedError
            result = rule(step, *arguments, **keywords)
        except Exception:  # arguments of a kind that the rule does not know
            result = self._unknown(step, node, arguments, keywords)
        if self.ledger.num_mixed > num_mixed:
            self.mixing[node] = (arguments, dict(keywords)), result
        self.steps.append((name, (arguments, keywords, step.module), result))
        return result

    def _inside(self, graph: GraphModule, arguments: Any, node: Node) -> Any:
        places = [n for n in graph.graph.nodes if n.op == "placeholder"]
        given = [a for a in arguments if isinstance(a, Marked)]
        return self._run(graph, dict(zip(places, given, strict=False)))

    def _unknown(self, step: Step, node: Node, arguments: Any, keywords: Any) -> Any:
        operands = [a for a in tree_leaves((arguments, dict(keywords))) if isinstance(a, Marked)]
        if any(labels is not None for operand in operands for labels in operand.labels):
            self.not_followed.add(step.operation.removeprefix("aten."))
        for operand in operands:
            for labels in operand.labels:
                self.ledger.hold(labels, step.why(NOT_FOLLOWED))
        weights = bool(operands) and all(operand.is_weight for operand in operands)
        value = node.meta.get("val")
        if isinstance(value, Tensor):
            return Marked.plain(_shape(value), weights)
        if isinstance(value, list | tuple):
            return [Marked.plain(_shape(v), weights) if isinstance(v, Tensor) else v for v in value]
        return value

    def _write_back(self, node: Node, values: dict[Node, Any]) -> None:
        """Note what an operation in place does to the tensor it changes, and to what that is a part of."""
        name = str(node.target)
        written = node.args[0] if node.args else None
        in_place = name.startswith("aten.") and name.split(".")[1].endswith("_")
        if not in_place or not isinstance(written, Node) or not isinstance(values.get(written), Marked):
            return
        if isinstance(values[node], Marked) and values[node].shape == values[written].shape:
            values[written] = values[node]
        base = written
        while (
            isinstance(base, Node)
            and str(base.target).startswith(VIEWS)
            and not name.startswith("aten.zero_")
        ):
            base = base.args[0]  # type: ignore[assignment]
            for labels in values[base].labels:
                self.ledger.hold(labels, self._step(node).why("a part of the tensor is written to"))

    def _step(self, node: Node) -> Step:
        target = node.target
        schema = getattr(target, "_schema", None)
        name = schema.name.replace("::", ".") if schema is not None else str(target)
        stack = node.meta.get("nn_module_stack") or {}
        modules = tuple(re.sub(r"@\d+", "", path) for path, _ in stack.values())
        value = node.meta.get("val")
        values = value if isinstance(value, list | tuple) else [value]
        shapes = tuple(_shape(each) for each in values if isinstance(each, Tensor))
        heads = self._num_heads(modules[-1]) if modules else frozenset()
        return Step(self.ledger, name, modules, shapes, target, self.literals, heads)

    def _num_heads(self, module: str) -> frozenset[int]:
        """Return the numbers that a module keeps under names such as ``num_heads``."""
        if module not in self._heads:
            try:
                held = vars(self._network.get_submodule(module))
            except AttributeError:
                held = {}
            found = (value for name, value in held.items() if "heads" in name and type(value) is int)
            self._heads[module] = frozenset(found)
        return self._heads[module]


def _given(arguments: Any, values: dict[Node, Any]) -> Any:
    return torch.fx.node.map_arg(arguments, lambda node: values.get(node))


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(int(size) for size in tensor.shape)


def _is_pointwise(operation: torch._ops.OpOverload) -> bool:
    """Return whether torch marks an operation, or what it does in place, as one of single elements."""
    packet = getattr(torch.ops.aten, operation._opname.removesuffix("_"), None)
    other = getattr(packet, operation._overloadname, operation)
    return torch.Tag.pointwise in operation.tags or torch.Tag.pointwise in other.tags
