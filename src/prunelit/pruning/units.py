"""Output units: the filters of convolutions and the neurons of linear layers, with all that goes along.

A unit is removed as a whole: its weights, its bias, and the scale and shift that normalisations
behind the layer give it. Then it emits exactly 0, as if it were not there. Where that holds, and
which layer takes the outputs next, is read off the graph that one forward pass leaves behind.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils._pytree import tree_leaves

from prunelit.pruning.layers import LAYERS, NORMS
from prunelit.pruning.masks import Masks, Scores
from prunelit.pruning.parameters import Parameters, layer_of
from prunelit.pruning.preserve import preserved

Node = Any
"""A node of autograd's graph; a tensor is known by the node that computed it."""

ZERO_STAYS = re.compile(
    r"(Relu|LeakyRelu|PreluKernel|Hardtanh|Hardswish|Elu|Gelu|Silu|Mish|Tanh"
    r"|MaxPool[23]DWithIndices|AdaptiveMaxPool[23]D|(Mkldnn)?(Adaptive)?AvgPool[23]D|Mean"
    r"|View|UnsafeView|ReshapeAlias|Unsqueeze|Squeeze|Clone|ToCopy|ConstantPadNd"
    r"|Dropout|NativeDropout|FeatureDropout)Backward\d*"
)
"""Operations of autograd's graph that turn a channel of zeros into zeros and mix no channels."""


@dataclass(frozen=True)
class Units:
    """The output units of one layer.

    Attributes:
        layer: name of the module.
        weight: full name of its weight.
        count: number of units.
        members: every parameter that units have a part in, the weight first, and the axis they lie along.
        fault: why a unit without all of its parts would not emit 0; empty: it would.
        next: the one layer that takes the outputs, through operations that keep zeros; empty: none.
        end: what stands in the way of ``next``; empty: nothing.
    """

    layer: str
    weight: str
    count: int
    members: Mapping[str, int]
    fault: str = ""
    next: str = ""
    end: str = ""

    def by_unit(self, weight: Tensor) -> Tensor:
        """Return the layer's weight, or what has its shape, as (count, ...)."""
        return weight.movedim(self.members[self.weight], 0).flatten(1)

    def spread(self, values: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give every element of the members among ``tensors`` its unit's value, of shape (count,)."""
        found = {}
        for name, axis in self.members.items():
            if name in tensors:
                shape = [-1 if i == axis else 1 for i in range(tensors[name].ndim)]
                found[name] = values.view(shape).expand(tensors[name].shape).clone()
        return found


@dataclass(frozen=True)
class Groups:
    """What competes where filters are pruned: a layer's units, each as a whole; the rest stays.

    Attributes:
        units: of each layer that loses units.
        alone: names of the tensors whose elements compete among themselves.
    """

    units: tuple[Units, ...] = ()
    alone: tuple[str, ...] = ()

    @classmethod
    def of(cls, units: Iterable[Units], parameters: Parameters, alone: Iterable[str] = ()) -> Groups:
        """Return the groups of those units that can be removed and are prunable with all their parts."""
        whole = (u for u in units if not u.fault and u.members.keys() <= parameters.keys())
        return cls(tuple(whole), tuple(alone))

    def gather(self, scores: Scores) -> Scores:
        """Return one score a unit, by the name of its layer's weight, and the scores of ``alone``."""
        whole = {units.weight: units.by_unit(scores[units.weight])[:, 0] for units in self.units}
        return whole | {name: scores[name] for name in self.alone}

    def alive(self, masks: Masks) -> Masks:
        """Return which units have a weight left, and the masks of ``alone``."""
        whole = {units.weight: units.by_unit(masks[units.weight]).any(1) for units in self.units}
        return whole | {name: masks[name] for name in self.alone}

    def spread(self, kept: Masks, previous: Masks) -> Masks:
        """Return the masks of all parameters: ``previous``, less the units and elements not ``kept``."""
        masks = {name: mask.clone() for name, mask in previous.items()}
        for units in self.units:
            for name, mask in units.spread(kept[units.weight], masks).items():
                masks[name] &= mask
        for name in self.alone:
            masks[name] &= kept[name]
        return masks


def output_units(network: nn.Module, run: Callable[[], Any]) -> dict[str, Units]:
    """Return the units of every convolution and linear layer of ``network``, by the layer's name.

    Args:
        network: runs in eval mode; it is left as it was.
        run: runs the network on one input, with gradients, and returns its outputs or its loss.
    """
    with preserved(network):
        network.eval()
        graph = _Graph(network, run)
        return {name: graph.units(name) for name in graph.layers}


class _Graph:
    """Which tensors go where in one forward pass, and which layers made and took them."""

    def __init__(self, network: nn.Module, run: Callable[[], Any]) -> None:
        modules = {n: m for n, m in network.named_modules() if isinstance(m, (*LAYERS, *NORMS))}
        self.layers = {
            n: m
            for n, m in modules.items()
            if isinstance(m, LAYERS) and m._parameters.get("weight") is not None
        }
        self.norms = {n: m for n, m in modules.items() if isinstance(m, NORMS)}
        self.names: dict[int, str] = {}
        for name, module in modules.items():
            for leaf, parameter in module.named_parameters(recurse=False):
                self.names.setdefault(id(parameter), f"{name}.{leaf}" if name else leaf)
        self.holders = Counter(id(p) for m in network.modules() for p in m.parameters(recurse=False))
        self.outputs: dict[str, list[Node]] = {name: [] for name in modules}
        self.takers: dict[Node, list[str]] = defaultdict(list)
        self.ndims: dict[str, int] = {}
        handles = []
        for name, module in modules.items():
            handles += [module.register_forward_hook(self._noting(name), with_kwargs=True)]
            handles += [module.register_forward_pre_hook(self._taking(name), with_kwargs=True)]
        try:
            result = run()
        finally:
            for handle in handles:
                handle.remove()
        self.users = _users(leaf.grad_fn for leaf in tree_leaves(result) if isinstance(leaf, Tensor))

    def _taking(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            taken = [*args, *kwargs.values()][0]
            self.ndims[name] = taken.ndim
            if taken.grad_fn is not None:
                self.takers[taken.grad_fn].append(name)

        return hook

    def _noting(self, name: str) -> Callable[..., None]:
        # Now, and not after the pass: a later operation may work in place.
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
            self.outputs[name].append(output.grad_fn)

        return hook

    def units(self, name: str) -> Units:
        """Return the units of the layer named ``name``."""
        layer = self.layers[name]
        transposed = isinstance(layer, _ConvTransposeNd)
        members = {self.names[id(layer.weight)]: int(transposed)}
        if layer.bias is not None:
            members[self.names[id(layer.bias)]] = 0
        norms, following, end = self._follow(name)
        in_groups = isinstance(layer, _ConvTransposeNd) and layer.groups > 1
        fault = "it is a transposed convolution in groups" if in_groups else ""
        for norm in norms:
            axis = self._axis(norm, layer)
            if axis is None or len(self.outputs[norm]) > 1:
                fault = f"{norm}, behind it, has no scale for each of its units alone"
                continue
            for parameter in self.norms[norm].parameters(recurse=False):
                members[self.names[id(parameter)]] = axis
        if following and (why := self._obstacle(name, following)):
            following, end = "", why
        return Units(name, next(iter(members)), _num_units(layer), members, fault, following, end)

    def _follow(self, name: str) -> tuple[list[str], str, str]:
        """Return the normalisations behind a layer, the next layer or nothing, and why nothing."""
        nodes = self.outputs[name]
        norms = [taker for node in nodes for taker in self.takers[node] if taker in self.norms]
        if len(nodes) != 1:
            return norms, "", "it runs more than once" if nodes else "it does not run"
        node, norms = nodes[0], []
        while True:
            takers, users = self.takers[node], self.users[node]
            norms += [taker for taker in takers if taker in self.norms]
            if len(users) != 1 or len(takers) > 1:
                return norms, "", "its outputs go several ways" if users else "it is the last"
            if not takers:
                (node,) = users
                if not ZERO_STAYS.fullmatch(node.name()):
                    return norms, "", f"its outputs go through {node.name().partition('Backward')[0]}"
            elif takers[0] in self.layers:
                return norms, takers[0], ""
            elif len(self.outputs[takers[0]]) > 1:
                return norms, "", f"{takers[0]} runs more than once"
            else:
                node = self.outputs[takers[0]][0]

    def _axis(self, name: str, layer: nn.Module) -> int | None:
        """Return the axis of a normalisation's weight along which a layer's units lie, or None."""
        norm, ndim = self.norms[name], self.ndims[name]
        if norm.weight is None:
            return None
        unit_axis = ndim - 1 if isinstance(layer, nn.Linear) else 1
        trailing = isinstance(norm, (nn.LayerNorm, nn.RMSNorm))
        axis = unit_axis - (ndim - norm.weight.ndim if trailing else 1)
        fits = 0 <= axis < norm.weight.ndim and norm.weight.shape[axis] == _num_units(layer)
        return axis if fits else None

    def _obstacle(self, name: str, following: str) -> str:
        """Return why a layer's units are not the input channels of the next; empty: they are."""
        layer, taker = self.layers[name], self.layers[following]
        count = _num_units(layer)
        if len(self.outputs[following]) > 1:
            return f"{following} runs more than once"
        if max(self.holders[id(layer.weight)], self.holders[id(taker.weight)]) > 1:
            return f"it or {following} shares its weight with another layer"
        if isinstance(taker, _ConvTransposeNd) or getattr(taker, "groups", 1) > 1:
            return f"{following} is a transposed convolution or one in groups"
        if isinstance(taker, nn.Linear):
            flat = self.ndims[following] == 2 and taker.in_features % count == 0
            fits = taker.in_features == count if isinstance(layer, nn.Linear) else flat
        else:
            fits = isinstance(layer, _ConvNd) and taker.in_channels == count
        return "" if fits else f"the inputs of {following} are not its units in a row"


def obstacle_to_cut(network: nn.Module, units: Units) -> str:
    """Return why units cannot be cut out of the tensors though they emit 0; empty: they can be."""
    norms = [network.get_submodule(layer_of(n)) for n in units.members if layer_of(n) != units.layer]
    if units.fault or not units.next:
        return units.fault or units.end
    if getattr(network.get_submodule(units.layer), "groups", 1) > 1:
        return "it is a convolution in groups"
    return "" if all(isinstance(n, _NormBase) for n in norms) else "the normalisation behind mixes its units"


def _num_units(layer: nn.Module) -> int:
    units: int = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels  # type: ignore[assignment]
    return units


def _users(outputs: Iterable[Node]) -> dict[Node, set[Node]]:
    """Return which nodes use each node, among those that lead to ``outputs``."""
    users: dict[Node, set[Node]] = defaultdict(set)
    left = [node for node in outputs if node is not None]
    seen = set(left)
    while left:
        node = left.pop()
        for source, _ in node.next_functions:
            if source is not None:
                users[source].add(node)
                if source not in seen:
                    seen.add(source)
                    left.append(source)
    return users
