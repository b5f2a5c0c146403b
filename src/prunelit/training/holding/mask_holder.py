"""Apply masks to the parameters of a network during training.

Pruned weights are set to 0 again after each step of any optimizer, and before each forward pass and each
``state_dict()`` if other code wrote to them. :mod:`prunelit.training.holding.holding_callback` adds the hooks
of a Trainer at which other code may have written to the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from prunelit.pruning.masks import (
    Masks,
    apply_mask,
    apply_masks_to_gradients,
    attach,
    attached,
    bit_masks,
    bits_like,
)
from prunelit.pruning.parameters import Parameters
from prunelit.training.parallel.sharding import shard_like

State = tuple[int, int]


class MasksLost(RuntimeError):
    """A pruned weight is not 0, or no parameter matches the mask."""


class MaskHolder:
    """Keeps pruned weights at exactly 0 with any optimizer.

    Writes to a parameter are detected by its version counter and its address. Neither changes if code writes
    through ``parameter.data``, so :meth:`apply` can also treat all parameters as changed.

    Attributes:
        parameters: the masked parameters of the network, by name; empty if there are none.
        unnoticed_writes_in_steps: whether code within a training step may write through ``parameter.data``;
            then each call of the network sets pruned weights to 0.
    """

    def __init__(self) -> None:
        self.parameters: Parameters = {}
        self._masks: Masks = {}  # as bits, only of tensors with pruned weights
        self._states: dict[str, State] = {}
        self._network: nn.Module | None = None
        self._owners: dict[str, tuple[nn.Module, str]] = {}  # and the parameter's own name in its owner
        self._edges: list[tuple[nn.Module, str, nn.Module]] = []  # from the network to the owners
        self._hooks: list[RemovableHandle] = []
        self._is_paused = False
        self.unnoticed_writes_in_steps = False

    def __reduce__(self) -> tuple[Callable[[], MaskHolder], tuple[()]]:
        """Copy and pickle as a new object, because parameters and hooks belong to the running fit."""
        return type(self), ()

    def hold(self, network: nn.Module, masks: Masks, module: nn.Module | None = None) -> None:
        """Set what ``masks`` prune to 0, now and after every update; attach the masks to ``network``.

        Masks of an earlier pruning of other parameters are applied as well. ``module`` is the module that
        contains ``network``; masks are also applied when it is called.
        """
        attach(network, masks)
        self.watch(network)
        every = {name: mask for name, mask in (attached(network) or {}).items() if name in self.parameters}
        pruning = {name: mask for name, mask in every.items() if not mask.all()}
        pruning = {name: shard_like(mask, self.parameters[name]) for name, mask in pruning.items()}
        self._masks = bit_masks(self.parameters, pruning)
        self._find_owners()
        self.apply()
        if self._masks:
            self._hooks = [register_optimizer_step_post_hook(self._after_step)]
            self._hook_modules(module or network)

    def watch(self, network: nn.Module) -> None:
        """Record the parameters of ``network`` without masks."""
        self.release()
        self._network = network
        self.parameters = dict(network.named_parameters(remove_duplicate=False))

    @property
    def holds_any(self) -> bool:
        """Whether there are pruned weights."""
        return bool(self._masks)

    @property
    def bits(self) -> Masks:
        """The masks of the parameters with pruned weights, as integers with all bits set where kept."""
        return dict(self._masks)

    def clear_gradients(self) -> None:
        """Set the gradients of pruned weights to 0."""
        apply_masks_to_gradients(self.parameters, self._masks)

    def apply(self, names: Iterable[str] | None = None, everywhere: bool = True) -> None:
        """Set pruned weights to 0 in the parameters ``names``, by default in all.

        With ``everywhere=False`` only where a write was detected.
        """
        for name in () if self._is_paused else list(self._masks if names is None else names):
            if name in self._masks and (everywhere or self._was_written(name)):
                self._follow(name)
                parameter = self.parameters[name]
                apply_mask(parameter, self._masks[name])
                self._states[name] = _state(parameter)

    def _was_written(self, name: str) -> bool:
        """Whether the parameter changed or was replaced since its mask was applied."""
        parameter, owner = self.parameters[name], self._owners.get(name)
        if owner is not None and owner[0]._parameters.get(owner[1]) is not parameter:
            return True
        return self._states.get(name) != _state(parameter)

    def apply_unnoticed(self, names: Iterable[str]) -> None:
        """Set pruned weights to 0 without invalidating a graph that contains the parameters."""
        for name in () if self._is_paused else names:
            self._follow(name)
            apply_mask(self.parameters[name].data, self._masks[name])

    def apply_to_copy(self, parameters: Parameters) -> None:
        """Set pruned weights to 0 in ``parameters`` of a copy of the network, by the network's names."""
        for name, bits in self._masks.items():
            if not self._is_paused and name in parameters:
                apply_mask(parameters[name], bits_like(parameters[name], bits))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not apply masks in the block."""
        before, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = before

    def release(self) -> None:
        """Release parameters, modules and optimizers."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self.parameters, self._masks = [], {}, {}
        self._states, self._owners, self._edges, self._network = {}, {}, [], None

    @torch.no_grad()
    def count_violations(self) -> dict[str, Tensor]:
        """Return how many pruned weights of each parameter are not 0, as tensors; each rank counts its own
        part.

        Parameters are found by name, so that masks are applied to replaced layers from now on.

        Raises:
            MasksLost: the network no longer has a parameter of this name and shape.
        """
        counts: dict[str, Tensor] = {}
        if self._masks:
            self._find_owners()
        for name in self._masks:
            self._follow(name)
        for name, bits in self._masks.items():
            parameter, bits = _local(self.parameters[name]), _local(bits)
            counts[name] = ((parameter != 0) & (bits == 0)).sum()
        return counts

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        if torch.compiler.is_compiling():
            return
        stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
        changed = [name for name in self._masks if id(self.parameters[name]) in stepped]
        self.apply(changed)
        self.apply(self._masks.keys() - changed, everywhere=False)

    def _find_owners(self) -> None:
        """Find the modules that own the masked parameters; in a sharded network, they do not change."""
        assert self._network is not None
        if any(isinstance(part, FSDPModule) for part in self._network.modules()):
            self._owners = {}
            return
        edges: dict[str, tuple[nn.Module, str, nn.Module]] = {}
        for name in self._masks:
            owner = self._network
            for end in [place for place, letter in enumerate(name) if letter == "."]:
                parent, key = owner, name[:end].rpartition(".")[2]
                if key not in parent._modules:
                    raise MasksLost(f"{name}: the pruned network has no such parameter any more")
                owner = parent._modules[key]  # type: ignore[assignment]
                edges[name[:end]] = (parent, key, owner)
            self._owners[name] = owner, name.rpartition(".")[2]
        self._edges = list(edges.values())

    def follow_layers(self) -> None:
        """Apply the masks to layers that replaced masked ones."""
        if not all(parent._modules.get(key) is child for parent, key, child in self._edges):
            self._find_owners()

    def _follow(self, name: str) -> None:
        """Apply the mask to the parameter that replaced a masked one, on its device and in its precision."""
        parameter, owner = self.parameters[name], self._owners.get(name)
        if owner is not None:
            found = owner[0]._parameters.get(owner[1])
            if found is None or found.shape != parameter.shape:
                now = "is gone" if found is None else f"has the shape {tuple(found.shape)} now"
                why = f"its mask has the shape {tuple(parameter.shape)}"
                raise MasksLost(f"{name} {now}; {why}: change layers before they are pruned")
            self.parameters[name] = parameter = found
        if self._masks[name].device != parameter.device or (
            self._masks[name].element_size() != parameter.element_size()
        ):
            self._masks[name] = bits_like(parameter, self._masks[name])

    def _hook_modules(self, module: nn.Module) -> None:
        """Apply the masks before each call and each ``state_dict()`` of ``module``, the network and their
        children."""
        assert self._network is not None
        parts = dict(self._network.named_modules(remove_duplicate=False))
        owners = {name: parts[name.rpartition(".")[0]] for name in self._masks}
        inner = set(self._network.children())
        for reader in dict.fromkeys([module, self._network, *module.children(), *self._network.children()]):
            inside = set(reader.modules())
            names = [name for name, owner in owners.items() if owner in inside]
            if names:
                is_outer = self._network is module or reader not in inner
                read = BeforeRead(self, names, is_outer)
                self._hooks.append(reader.register_forward_pre_hook(read.forward, prepend=True))
                self._hooks.append(reader.register_state_dict_pre_hook(read.state_dict))


@torch.no_grad()
def count_nonzero_pruned(network: nn.Module) -> dict[str, int]:
    """Return by parameter how many pruned weights of ``network`` are not 0; only where there are any."""
    parameters = dict(network.named_parameters(remove_duplicate=False))
    masks = {name: mask for name, mask in (attached(network) or {}).items() if name in parameters}
    masks = {name: shard_like(mask, parameters[name]) for name, mask in masks.items()}
    counts = {n: int((_local(parameters[n]).ne(0) & ~_local(mask)).sum()) for n, mask in masks.items()}
    return {name: count for name, count in counts.items() if count}


class BeforeRead:
    """Applies the masks of some parameters before they are read; does nothing in a copy of the module."""

    def __init__(
        self, holder: MaskHolder | None = None, names: Sequence[str] = (), is_outer: bool = False
    ) -> None:
        self.holder, self.names, self.is_outer = holder or MaskHolder(), names, is_outer

    def __reduce__(self) -> tuple[type[BeforeRead], tuple[()]]:
        return type(self), ()

    def forward(self, *_: Any) -> None:
        """Set pruned weights to 0 where a write was detected; unchanged parameters may be part of a graph."""
        if not torch.compiler.is_compiling():
            self.holder.apply(self.names, everywhere=False)
            if self.is_outer and self.holder.unnoticed_writes_in_steps:
                self.holder.apply_unnoticed(self.names)

    def state_dict(self, *_: Any) -> None:
        """Set pruned weights to 0."""
        self.holder.apply(self.names)


def _state(parameter: Tensor) -> State:
    local = _local(parameter)
    return local._version, local.data_ptr()


def _local(tensor: Tensor) -> Tensor:
    return tensor._local_tensor if isinstance(tensor, DTensor) else tensor
