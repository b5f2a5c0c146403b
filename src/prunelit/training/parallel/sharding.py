"""Networks whose parameters are split over ranks by ``fully_shard`` (FSDP2).

Zhao et al., PyTorch FSDP: experiences on scaling fully sharded data parallel, https://arxiv.org/abs/2304.11277

Masks are computed on the whole network: each rank gathers one full copy of the parameters during scoring, and
afterwards keeps its own part of the masks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy, StrategyRegistry
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from prunelit.pruning.criteria import Criterion
from prunelit.request import BadRequest

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_state_dict_pre_hooks", "_load_state_dict_post_hooks")
"""The attributes of a module in which FSDP stores its hooks."""


HIDDEN = {
    "FSDPStrategy": ("fsdp", "masks cannot be applied to its flat parameters"),
    "XLAFSDPStrategy": ("xla_fsdp", "masks cannot be applied to its flat parameters"),
    "DeepSpeedStrategy": ("deepspeed", "it updates copies of the weights, to which masks are not applied"),
}
"""Strategies that hide weights, by the names of their classes in both packages of Lightning."""


def check_strategy(strategy: Strategy, criterion: Criterion) -> None:
    """Raise BadRequest for a strategy that hides the weights for masks or for the observation of a
    criterion."""
    kinds = {kind.__name__ for kind in type(strategy).__mro__}
    for name in kinds & HIDDEN.keys():
        allowed = "fully_shard (trainer=fsdp; in your own Trainer a ModelParallelStrategy), or ddp"
        raise BadRequest("trainer.strategy", HIDDEN[name][0], allowed, HIDDEN[name][1])
    if "ModelParallelStrategy" in kinds and criterion.observes != "never":
        name = type(criterion).__name__
        why = f"{name} observes whole weights during training"
        raise BadRequest("trainer.strategy", "fully_shard", "ddp, or auto on one device", why)


def shard(network: nn.Module, device: torch.device) -> None:
    """Split the parameters of ``network`` over all ranks; each part gathers its parameters when it runs."""
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
    """Give ``module`` plain, full parameters in the block, on every rank.

    Changes in the block persist: each rank keeps its part of the result, so all ranks must make the same
    changes. A module that is not split is not changed. Needs memory for one full copy of the parameters.
    """
    split_again = make_whole(module)
    try:
        yield
    finally:
        split_again()


def make_whole(module: nn.Module) -> Callable[[], None]:
    """Give ``module`` plain, full parameters instead of split ones, on every rank; return a function that
    reverts this."""
    parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.reshard()
    full = {parameter: _full_parameter(parameter) for parameter in module.parameters()}
    owners = list(module.modules()) if parts else []
    hooks = [(owner, name, getattr(owner, name)) for owner in owners for name in HOOKS]
    places = [(owner._parameters, dict(owner._parameters)) for owner in owners]
    for place, tensors in places:
        place.update({name: p if p is None else full[p] for name, p in tensors.items()})
    for owner, name, found in hooks:
        own = {key: hook for key, hook in found.items() if not _is_of_fsdp(hook)}
        setattr(owner, name, OrderedDict(own))
    kinds = [(part, type(part)) for part in parts]
    for part, kind in kinds:
        # fully_shard created this class from FSDPModule and the module's own class.
        part.__class__ = kind.__mro__[kind.__mro__.index(FSDPModule) + 1]

    @torch.no_grad()
    def split_again() -> None:
        for place, tensors in places:
            place.update(tensors)
        for owner, name, found in hooks:
            setattr(owner, name, found)
        for part, kind in kinds:
            part.__class__ = kind
        for parameter, value in full.items():
            if isinstance(parameter, DTensor):
                parameter.copy_(shard_like(value, parameter))

    return split_again


def _full_parameter(parameter: nn.Parameter) -> nn.Parameter:
    if not isinstance(parameter, DTensor):
        return parameter
    return nn.Parameter(whole(parameter.detach()), parameter.requires_grad)


def _is_of_fsdp(hook: Any) -> bool:
    return str(getattr(hook, "__module__", "")).startswith("torch.distributed.fsdp")


class FullyShard(ModelParallelStrategy):
    """``fully_shard`` over all ranks (``trainer=fsdp``), for a module whose ``configure_model`` shards.

    Checkpoints contain whole tensors: each is the file that a single process would write, and a run can
    resume from it with any number of ranks.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(save_distributed_checkpoint=False, **options)

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """False, because callbacks need their states when a fit starts, and the network is already split
        then."""
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """`load_optimizer_state_dict` restores the states of the optimizers."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return whole tensors on the CPU, on every rank."""
        assert self.lightning_module is not None
        for part in self.lightning_module.modules():
            if isinstance(part, FSDPModule):
                part.reshard()
        return _whole_on_cpu(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the optimizer's own state dict, with whole tensors on the CPU."""
        return _whole_on_cpu(optimizer.state_dict())

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a file of whole tensors."""
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Give every rank its part of the weights."""
        assert self.lightning_module is not None
        with gathered(self.lightning_module):
            self.lightning_module.load_state_dict(checkpoint["state_dict"], strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Give every rank its part of the optimizers' states."""
        for optimizer, states in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            own = {
                number: {
                    key: shard_like(value, parameters[number])
                    if isinstance(value, Tensor) and value.shape == parameters[number].shape
                    else value
                    for key, value in state.items()
                }
                for number, state in states["state"].items()
            }
            optimizer.load_state_dict({**states, "state": own})


def _whole_on_cpu(state: Any) -> Any:
    return tree_map_only(Tensor, lambda tensor: whole(tensor.detach()).cpu(), state)


StrategyRegistry.register("fully_shard", FullyShard, "FSDP2, with whole checkpoints", override=True)
