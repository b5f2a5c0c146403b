"""Networks whose parameters are split over ranks by ``fully_shard`` (FSDP2).

Zhao et al., PyTorch FSDP: experiences on scaling fully sharded data parallel, https://arxiv.org/abs/2304.11277

Masks are made on the whole network: each rank gathers one full copy of the parameters while scores are
taken, and keeps its own part of the masks afterwards.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from prunelit.pruning.criteria import Criterion
from prunelit.request import BadRequest

HOOKS = ("_forward_pre_hooks", "_forward_hooks")


def check_strategy(strategy: Strategy, criterion: Criterion) -> None:
    """Raise BadRequest for a strategy that hides what masks are held on, or what a criterion observes."""
    if isinstance(strategy, FSDPStrategy):
        allowed = "fully_shard (trainer=fsdp; in your own Trainer a ModelParallelStrategy), or ddp"
        raise BadRequest("trainer.strategy", "fsdp", allowed, "its flat parameters can hold no masks")
    if isinstance(strategy, ModelParallelStrategy) and criterion.observes != "never":
        name = type(criterion).__name__
        why = f"{name} observes whole weights while they train"
        raise BadRequest("trainer.strategy", "fully_shard", "ddp, or auto on one device", why)


def shard(network: nn.Module, device: torch.device) -> None:
    """Split the parameters of ``network`` over all ranks: those of each of its parts, gathered as they run.

    A network that is split already stays as it is.
    """
    if isinstance(network, FSDPModule):
        return
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for part in network.children():
        # Lists have no forward pass of their own that would gather them.
        if not isinstance(part, (nn.ModuleList, nn.ModuleDict)) and next(part.parameters(), None) is not None:
            fully_shard(part, mesh=mesh)
    fully_shard(network, mesh=mesh)


def shard_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return ``tensor``, which every rank has in full, split and placed as ``parameter`` is."""
    tensor = tensor.to(parameter.device)
    if not isinstance(parameter, DTensor):
        return tensor
    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None)


def whole(tensor: Tensor) -> Tensor:
    """Return the full tensor on every rank; all ranks call this together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Let ``module`` be one of plain, full parameters inside the block, on every rank.

    What the block does to them lasts: each rank keeps its part of what they are then, so that ranks must
    do the same to them. A module that is not split is left alone. Costs one full copy of the parameters.
    """
    parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
    if not parts:
        yield
        return
    for part in parts:
        part.reshard()
    full = {parameter: _full_parameter(parameter) for parameter in module.parameters()}
    held = [(owner._parameters, dict(owner._parameters)) for owner in module.modules()]
    hooks = [(part, name, getattr(part, name)) for part in parts for name in HOOKS]
    try:
        for place, tensors in held:
            place.update({name: p if p is None else full[p] for name, p in tensors.items()})
        for part, name, found in hooks:
            own = {key: hook for key, hook in found.items() if not _is_of_fsdp(hook)}
            setattr(part, name, OrderedDict(own))
        yield
    finally:
        for place, tensors in held:
            place.update(tensors)
        for part, name, found in hooks:
            setattr(part, name, found)
        with torch.no_grad():
            for parameter, value in full.items():
                if isinstance(parameter, DTensor):
                    parameter.copy_(shard_like(value, parameter))


def _full_parameter(parameter: nn.Parameter) -> nn.Parameter:
    if not isinstance(parameter, DTensor):
        return parameter
    return nn.Parameter(whole(parameter.detach()), parameter.requires_grad)


def _is_of_fsdp(hook: Any) -> bool:
    return str(getattr(hook, "__module__", "")).startswith("torch.distributed.fsdp")
