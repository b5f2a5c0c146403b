"""A cut that can be repeated and taken back: which positions of which tensors stay, and what modules keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from prunelit.pruning.call import Call
from prunelit.pruning.coupling.cut import Attribute, positions_kept
from prunelit.pruning.coupling.groups import found_groups
from prunelit.pruning.coupling.narrow_attention import NarrowAttention
from prunelit.pruning.coupling.narrow_sizes import NarrowSizes, Size, replace_sizes, sizes_of
from prunelit.pruning.coupling.removable import units_kept_by_masks
from prunelit.pruning.coupling.trial import cut_what_fits
from prunelit.pruning.coupling.without_units import reference_for
from prunelit.pruning.masks import Masks, attached

PLAIN = (int, str, tuple, list, type(None))
"""Types of the attributes in which modules keep their sizes; bool is an int."""
INTERNAL = frozenset({*vars(nn.Module()), *NarrowSizes.__annotations__})


@dataclass(frozen=True)
class Narrowing:
    """What was cut out of a network.

    Attributes:
        positions: by parameter or buffer and by axis, the positions that stay, in order.
        shapes: the shapes of these tensors before the cut.
        attributes: the sizes kept by modules that changed.
        attentions: names of the modules of ``nn.MultiheadAttention`` that lost heads.
        sizes: by module, the sizes that are replaced in its code before the cut and after it.
        normalized: whether units were cut out for which zeros do not stand, so that the whole network with 0
            in their places computes something else.
    """

    positions: Mapping[str, Mapping[int, Tensor]]
    shapes: Mapping[str, tuple[int, ...]]
    attributes: tuple[Attribute, ...] = ()
    attentions: tuple[str, ...] = ()
    sizes: Mapping[str, tuple[tuple[Size, ...], tuple[Size, ...]]] = field(default_factory=dict)
    normalized: bool = False

    @classmethod
    def by_masks(cls, network: nn.Module, masks: Masks, example: Call) -> Narrowing | None:
        """Return the cut of all units whose prunable parts are removed by ``masks``; None if there is none.

        ``network`` stays as it is. It must have the shapes of ``masks``, and 0 where they prune.

        Args:
            network: any module that ``torch.export`` takes.
            masks: True where a parameter is kept.
            example: inputs of the network, on which the smaller network has to compute the same.

        Raises:
            ValueError: the network cannot be copied or its operations cannot be recorded; one line.
        """
        coupled = found_groups(network, example)
        kept = units_kept_by_masks(coupled, masks)
        reference = reference_for(network, coupled, kept, example)
        done = cut_what_fits(network, coupled, kept, example, reference)
        if not done.kept:
            return None
        tensors = _tensors(network)
        positions: dict[str, dict[int, Tensor]] = {}
        for (name, axis), stays in positions_kept(coupled, done.kept).items():
            if not bool(stays.all()):
                positions.setdefault(name, {})[axis] = stays.nonzero()[:, 0]
        return cls(
            positions,
            {name: tuple(tensors[name].shape) for name in positions},
            tuple(_changed_attributes(network, done.network)),
            tuple(_changed_attentions(network, done.network)),
            _changed_sizes(network, done.network),
            any(not g.exact_when_masked for g in coupled.groups if g.name in done.kept),
        )

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Narrowing:
        """Return the narrowing of :meth:`state`, also after it was written as JSON."""
        positions = {
            name: {int(axis): torch.as_tensor(kept, dtype=torch.int64) for axis, kept in axes.items()}
            for name, axes in state["positions"].items()
        }
        attributes = [
            Attribute(module, key, _tuples(old), _tuples(new))
            for module, key, old, new in state["attributes"]
        ]
        shapes = {name: tuple(shape) for name, shape in state["shapes"].items()}
        sizes = {name: _tuples(both) for name, both in state.get("sizes", {}).items()}
        attentions, normalized = tuple(state["attentions"]), bool(state.get("normalized", False))
        return cls(positions, shapes, tuple(attributes), attentions, sizes, normalized)

    def state(self) -> dict[str, Any]:
        """Return numbers, names and lists from which :meth:`from_state` makes it again."""
        return {
            "positions": {
                name: {str(axis): kept.tolist() for axis, kept in axes.items()}
                for name, axes in self.positions.items()
            },
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "attributes": [[each.module, each.name, each.old, each.new] for each in self.attributes],
            "attentions": list(self.attentions),
            **({"sizes": dict(self.sizes)} if self.sizes else {}),
            **({"normalized": True} if self.normalized else {}),
        }

    def narrowed(self, name: str, tensor: Tensor) -> Tensor:
        """Return the part of ``tensor`` that stays if it has the shape of the whole ``name``, else itself."""
        if tuple(tensor.shape) != self.shapes.get(name):
            return tensor
        for axis, kept in self.positions[name].items():
            tensor = tensor.index_select(axis, kept.to(tensor.device))
        return tensor

    def widened(self, name: str, tensor: Tensor) -> Tensor:
        """Return ``tensor``, which was :meth:`narrowed`, in the shape of the whole; what was cut out is 0."""
        if name not in self.positions:
            return tensor
        for axis, kept in self.positions[name].items():
            shape = list(tensor.shape)
            shape[axis] = self.shapes[name][axis]
            whole = torch.zeros(shape, dtype=tensor.dtype, device=tensor.device)
            tensor = whole.index_copy_(axis, kept.to(tensor.device), tensor)
        return tensor

    def narrow(self, network: nn.Module) -> None:
        """Make ``network`` smaller in place; parameters stay the same objects, with their gradients."""
        _replace(network, self.narrowed)
        for each in self.attributes:
            setattr(network.get_submodule(each.module), each.name, each.new)
        for name in self.attentions:
            network.get_submodule(name).__class__ = NarrowAttention
        for name, (_, new) in self.sizes.items():
            replace_sizes(network.get_submodule(name), new)

    def widen(self, network: nn.Module) -> None:
        """Take back :meth:`narrow`: parameters and statistics that were cut out are 0."""
        _replace(network, self.widened)
        for each in self.attributes:
            setattr(network.get_submodule(each.module), each.name, each.old)
        for name in self.attentions:
            network.get_submodule(name).__class__ = nn.MultiheadAttention
        for name, (old, _) in self.sizes.items():
            replace_sizes(network.get_submodule(name), old)


@torch.no_grad()
def _replace(network: nn.Module, change: Any) -> None:
    """Replace the values of all parameters and buffers, their gradients, and the masks noted on a network."""
    for name, tensor in _tensors(network).items():
        new = change(name, tensor.detach())
        if new.shape != tensor.shape:
            gradient, tensor.grad = tensor.grad, None
            tensor.data = new
            tensor.grad = None if gradient is None else change(name, gradient)
    masks = attached(network)
    for name in list(masks or ()):
        assert masks is not None
        masks[name] = change(name, masks[name])


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return dict((*network.named_parameters(), *network.named_buffers()))


def _changed_attributes(network: nn.Module, small: nn.Module) -> list[Attribute]:
    found = []
    cut = dict(small.named_modules())
    for name, module in network.named_modules():
        theirs = vars(cut[name])
        for key, old in vars(module).items():
            if key in INTERNAL or not isinstance(old, PLAIN) or key not in theirs:
                continue
            if isinstance(new := theirs[key], PLAIN) and new != old:
                found.append(Attribute(name, key, _tuples(old), _tuples(new)))
    return found


def _changed_attentions(network: nn.Module, small: nn.Module) -> list[str]:
    cut = dict(small.named_modules())
    return [
        name
        for name, module in network.named_modules()
        if isinstance(cut[name], NarrowAttention) and not isinstance(module, NarrowAttention)
    ]


def _changed_sizes(
    network: nn.Module, small: nn.Module
) -> dict[str, tuple[tuple[Size, ...], tuple[Size, ...]]]:
    cut = dict(small.named_modules())
    both = {name: (sizes_of(module), sizes_of(cut[name])) for name, module in network.named_modules()}
    return {name: (old, new) for name, (old, new) in both.items() if old != new}


def _tuples(value: Any) -> Any:
    """Return sequences of numbers as plain tuples, such as ``torch.Size`` and the lists of JSON."""
    return tuple(map(_tuples, value)) if isinstance(value, (tuple, list)) else value
