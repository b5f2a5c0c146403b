"""Which parameters of a network are prunable: the only place that decides."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import UninitializedParameter
from typing_extensions import Doc

from prunelit.declared import Says, check_fields
from prunelit.request import BadRequest

Parameters = dict[str, nn.Parameter]
"""Parameters by their full names, in the network's own order."""

LAYERS = (nn.Linear, _ConvNd)
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
Patterns = Says("a pattern, or a list of patterns")


@dataclass(frozen=True)
class Selection:
    """The prunable parameters: weights of every ``Conv*d`` and ``Linear``, and what is added or left out."""

    bias: Annotated[bool, Doc("The biases of `Conv*d` and `Linear` layers are prunable too.")] = False
    norm: Annotated[
        bool,
        Doc("The weights of normalisation layers are prunable too; together with `bias`, also their biases."),
    ] = False
    exclude: Annotated[
        tuple[str, ...],
        Patterns,
        Doc(
            "Leaves each parameter dense whose name, or the name of a module that holds it, matches one of "
            "these shell-style patterns: `fc`, `layers.0.*`, `*.bias`."
        ),
    ] = ()
    only: Annotated[
        tuple[str, ...],
        Patterns,
        Doc("Leaves each parameter dense that matches none of these patterns; empty: prunes all."),
    ] = ()

    def __post_init__(self) -> None:
        for key in ("exclude", "only"):
            if isinstance(pattern := getattr(self, key), str):
                object.__setattr__(self, key, (pattern,))
        check_fields(self)

    def of(self, network: nn.Module) -> Parameters:
        """Return the prunable parameters of ``network`` by name; a shared one stands once.

        Raises:
            BadRequest: a pattern that matches nothing, or nothing left to prune.
        """
        chosen: Parameters = {}
        seen: set[int] = set()
        for module_name, module in network.named_modules():
            for leaf, parameter in module.named_parameters(recurse=False):
                if isinstance(parameter, UninitializedParameter):
                    raise BadRequest("model", module_name, "a network whose lazy layers have seen a batch")
                if self._wants(module, leaf) and id(parameter) not in seen:
                    seen.add(id(parameter))
                    chosen[f"{module_name}.{leaf}" if module_name else leaf] = parameter
        kept = {name: p for name, p in chosen.items() if not self._excluded(name)}
        self._check_patterns(chosen)
        if not kept:
            raise BadRequest(
                "exclude" if self.exclude else "only",
                list(self.exclude or self.only),
                "a choice that leaves a Conv*d or Linear weight to prune",
            )
        return kept

    def _wants(self, module: nn.Module, leaf: str) -> bool:
        if isinstance(module, LAYERS):
            return leaf == "weight" or (self.bias and leaf == "bias")
        if isinstance(module, NORMS):
            return self.norm and (leaf == "weight" or (self.bias and leaf == "bias"))
        return False

    def _excluded(self, name: str) -> bool:
        wanted = not self.only or any(_matches(name, pattern) for pattern in self.only)
        return not wanted or any(_matches(name, pattern) for pattern in self.exclude)

    def _check_patterns(self, chosen: Parameters) -> None:
        for key in ("exclude", "only"):
            for pattern in getattr(self, key):
                if not any(_matches(name, pattern) for name in chosen):
                    allowed = "a pattern that matches one of " + ", ".join(chosen)
                    raise BadRequest(key, pattern, allowed)


def _matches(name: str, pattern: str) -> bool:
    """Tell whether ``pattern`` names the parameter or one of the modules that hold it."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))


def layer_of(name: str) -> str:
    """Return the module name of a parameter's full name: ``layers.0.weight`` -> ``layers.0``."""
    return name.rpartition(".")[0]
