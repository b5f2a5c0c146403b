"""What follows one layer in a traced network, run for many outputs of the layer at once."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.node import map_arg
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils._pytree import tree_leaves, tree_map_only

Values = dict[Node, Any]
"""What each node of a graph gave in one forward pass."""

STACK = 2**20
"""Elements of the widest activation in one stack: about what a processor's caches hold."""


class _Recorder(Interpreter):
    def __init__(self, trace: GraphModule) -> None:
        super().__init__(trace)
        self.values = Values()

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        # A later node may work in place.
        self.values[n] = tree_map_only(Tensor, Tensor.clone, result) if n.op != "get_attr" else result
        return result


@torch.no_grad()
def record(trace: GraphModule, inputs: Tensor) -> Values:
    """Run the network once and return the value of each node."""
    recorder = _Recorder(trace)
    recorder.run(inputs)
    return recorder.values


class Suffix:
    """The layer that uses one parameter, and the nodes that depend on its output.

    Args:
        module: the layer; called once in the network.
        leaf: the parameter's name in it.
        node: the call.
        values: of all nodes, for one batch.
        size: samples in the batch.
    """

    def __init__(self, module: nn.Module, leaf: str, node: Node, values: Values, size: int) -> None:
        self.module, self.leaf, self.node, self.values, self.size = module, leaf, node, values, size
        self.parameter: Tensor = getattr(module, leaf).detach()
        self.output: Tensor = values[node]
        after, sampled = {node}, set()
        for other in values:
            if any(source in after for source in other.all_input_nodes):
                after.add(other)
            if other.op == "placeholder" or any(source in sampled for source in other.all_input_nodes):
                sampled.add(other)
        used = {source for other in after - {node} for source in other.all_input_nodes} - after
        self.fixed = {other: values[other] for other in used - sampled}
        self.tiled = {other: values[other] for other in used & sampled}
        leaves = [leaf for other in after for leaf in tree_leaves(values[other]) if isinstance(leaf, Tensor)]
        self.stack = max(1, STACK // max(leaf.numel() for leaf in leaves))
        self.after = after

    def outputs(self, interpreter: Interpreter, stacked: Tensor) -> Tensor:
        """Return the network's outputs for outputs of the layer, both of shape (k, n, ...)."""
        count = len(stacked)

        def tile(value: Tensor) -> Tensor:
            per_sample = value.ndim and len(value) == self.size
            return value.repeat(count, *[1] * (value.ndim - 1)) if per_sample else value

        environment: Values = {node: None for node in self.values if node not in self.after}
        environment |= self.fixed
        environment |= {node: tree_map_only(Tensor, tile, value) for node, value in self.tiled.items()}
        environment[self.node] = stacked.flatten(0, 1)
        result: Tensor = interpreter.run(initial_env=environment)
        return result.unflatten(0, (count, -1))

    def reached(self) -> Tensor:
        """Return, by flat index, whether a sample's input to the weight is not 0 and its output is used."""
        if not any(node.op == "output" for node in self.after):
            return torch.zeros(self.parameter.numel(), dtype=torch.bool)
        if self.leaf != "weight" or not self._is_simple:
            return torch.ones(self.parameter.numel(), dtype=torch.bool)
        channel = -1 if isinstance(self.module, nn.Linear) else 1
        alive = self._input.movedim(channel, 0).flatten(1).ne(0).any(1)
        if isinstance(self.module, _ConvNd):
            outputs, inputs = self.parameter.shape[:2]
            groups = alive.view(self.module.groups, 1, inputs)
            alive = groups.expand(-1, outputs // self.module.groups, -1).reshape(outputs, inputs)
            alive = alive.view(outputs, inputs, *[1] * (self.parameter.ndim - 2))
        return alive.expand(self.parameter.shape).flatten()

    def without(self, indices: Tensor) -> Tensor:
        """Return the layer's outputs, of shape (k, n, ...), each without one element of the parameter."""
        if not self._is_simple:
            return torch.stack([self._again(int(index)) for index in indices])
        places = torch.unravel_index(indices.to(self.parameter.device), self.parameter.shape)
        values = self.parameter[places]
        stacked = self.output.expand(len(indices), *self.output.shape)
        stacked = stacked.clone(memory_format=torch.contiguous_format)
        by_unit = stacked.movedim(-1 if isinstance(self.module, nn.Linear) else 2, 1)
        values = values.view(-1, *[1] * (by_unit.ndim - 2))
        inputs = self._inputs(places) if self.leaf == "weight" else 1
        by_unit[torch.arange(len(indices), device=stacked.device), places[0]] -= values * inputs
        return stacked

    @property
    def _is_simple(self) -> bool:
        """Whether the output is a sum of weights times inputs, and a bias."""
        return isinstance(self.module, (nn.Linear, _ConvNd)) and not isinstance(self.module, _ConvTransposeNd)

    @property
    def _input(self) -> Tensor:
        given = [*self.node.args, *self.node.kwargs.values()]
        return self.values[given[0]]  # type: ignore[index]

    def _inputs(self, places: tuple[Tensor, ...]) -> Tensor:
        """Return what each weight is multiplied with, of shape (k, n, ...)."""
        if isinstance(self.module, nn.Linear):
            return self._input[..., places[1]].movedim(-1, 0)
        return torch.stack([self._patch(*place) for place in torch.stack(places, 1).tolist()])

    def _patch(self, output: int, channel: int, *offsets: int) -> Tensor:
        """Return the inputs that one weight of a convolution meets, of shape (n, height, width)."""
        layer = self.module
        assert isinstance(layer, _ConvNd)
        first = output // (layer.out_channels // layer.groups) * (layer.in_channels // layer.groups)
        cut: list[slice] = []
        for axis, offset in enumerate(offsets):
            start, stride = offset * layer.dilation[axis], layer.stride[axis]
            cut.append(slice(start, start + (self.output.shape[2 + axis] - 1) * stride + 1, stride))
        return self._padded[:, first + channel][(slice(None), *cut)]

    @cached_property
    def _padded(self) -> Tensor:
        assert isinstance(self.module, _ConvNd)
        mode = self.module.padding_mode
        border = self.module._reversed_padding_repeated_twice
        return F.pad(self._input, border, mode="constant" if mode == "zeros" else mode)

    def _again(self, index: int) -> Tensor:
        """Run the layer itself without one element."""
        place = torch.unravel_index(torch.tensor(index), self.parameter.shape)
        value = self.parameter[place].clone()
        self.parameter[place] = 0
        try:
            args = map_arg(self.node.args, self.values.__getitem__)
            kwargs = map_arg(self.node.kwargs, self.values.__getitem__)
            output: Tensor = self.module(*args, **kwargs)
            return output
        finally:
            self.parameter[place] = value
