"""Decide which parameters of a network are prunable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from torch import nn
from torch.nn.parameter import UninitializedParameter
from typing_extensions import Doc

from prunelit.declared import Says, check_fields
from prunelit.pruning.averaged_copies import averaged_copies
from prunelit.pruning.layers import FROZEN, NORMS, NOT_FLOATING, is_bias, is_matrix, is_weight, why_dense
from prunelit.request import BadRequest

Parameters = dict[str, nn.Parameter]
"""Parameters by their full names, in the network's own order."""

Patterns = Says("a pattern, or a list of patterns")


@dataclass(frozen=True)
class Selection:
    """The prunable parameters: weights of trained layers, and the options to add or exclude parameters.

    These are the weights of every ``Conv*d`` and ``Linear``, and of ``MultiheadAttention`` those that make
    queries, keys and values. Patterns need not name the wrappers of ``torch.compile`` and
    ``DistributedDataParallel``.
    """

    granularity: Annotated[
        Literal["weight", "unit"],
        Doc(
            "What is removed. `weight`: each weight by itself. `unit`: a whole unit (a filter, a neuron, a "
            "head of attention) from all parameters that it has a part in; every parameter that trains is "
            "prunable then, and a density is the share of units that are kept."
        ),
    ] = "weight"
    cut_normalized: Annotated[
        bool,
        Doc(
            "With granularity `unit`: also prune units that can be cut out, but not masked, because they "
            "take part in a LayerNorm, an RMSNorm, a GroupNorm or a mean even when they are 0, such as the "
            "width of a transformer. The smaller network computes what its architecture built with these "
            "widths does, and not what the masked network does. In training it needs `cut`."
        ),
    ] = False
    bias: Annotated[bool, Doc("Also prune the biases of `Conv*d` and `Linear` layers.")] = False
    norm: Annotated[
        bool,
        Doc("Also prune the weights of normalization layers; together with `bias`, also their biases."),
    ] = False
    exclude: Annotated[
        tuple[str, ...],
        Patterns,
        Doc(
            "Shell-style patterns, such as `fc`, `layers.0.*` or `*.bias`. A parameter stays dense if "
            "its name, or the name of a module that contains it, matches one of them."
        ),
    ] = ()
    only: Annotated[
        tuple[str, ...],
        Patterns,
        Doc("Patterns of the parameters to prune; all others stay dense. Empty: all parameters are pruned."),
    ] = ()
    frozen: Annotated[
        bool,
        Doc(
            "Also prune parameters that do not require a gradient, such as those of teachers, "
            "averaged copies and frozen backbones."
        ),
    ] = False

    def __post_init__(self) -> None:
        for key in ("exclude", "only"):
            if isinstance(pattern := getattr(self, key), str):
                object.__setattr__(self, key, (pattern,))
        check_fields(self)

    def of(self, network: nn.Module) -> Parameters:
        """Return the prunable parameters of ``network`` by name; a shared parameter is listed once.

        A parameter counts as trainable if it needs a gradient now or did at the last call of
        :func:`note_trainable`.

        Raises:
            BadRequest: a pattern that matches nothing, or nothing left to prune.
        """
        candidates = self._candidates(network)
        self._check_patterns(candidates)
        wanted = {name: p for name, p in candidates.items() if not self._excluded(name)}
        trained = network.__dict__.get(_TRAINED, frozenset())
        kept = {n: p for n, p in wanted.items() if self.frozen or p.requires_grad or n in trained}
        if not kept:
            raise self._nothing_left(network, frozen=list(wanted))
        return kept

    def left_dense(self, network: nn.Module) -> dict[str, str]:
        """Return the weights of ``network`` that are not prunable, by name, with the reason in a few words.

        Weights are parameters that extend along two axes or more. Parameters excluded by ``exclude`` and
        ``only`` are not included.
        """
        candidates = self._candidates(network)
        trained = network.__dict__.get(_TRAINED, frozenset())
        seen = {id(parameter) for parameter in candidates.values()}
        reasons = {
            name: FROZEN
            for name, p in candidates.items()
            if not (self.frozen or p.requires_grad or name in trained) and p.ndim > 1
        }
        for name, module, leaf, parameter in _named(network):
            if id(parameter) not in seen and is_matrix(parameter) and not isinstance(module, NORMS):
                seen.add(id(parameter))
                reasons[name] = NOT_FLOATING if is_weight(module, leaf) else why_dense(module, leaf)
        return {name: reason for name, reason in reasons.items() if not self._excluded(name)}

    def _candidates(self, network: nn.Module) -> Parameters:
        """Return what is prunable but for patterns and gradients."""
        chosen: Parameters = {}
        seen: set[int] = set()
        for name, module, leaf, parameter in _named(network):
            if isinstance(parameter, UninitializedParameter):
                layer = layer_of(name)
                raise BadRequest("model", layer, "a network whose lazy layers have processed a batch")
            if id(parameter) not in seen and self._wants(module, leaf, parameter):
                seen.add(id(parameter))
                chosen[name] = parameter
        return chosen

    def _wants(self, module: nn.Module, leaf: str, parameter: nn.Parameter) -> bool:
        if not (parameter.is_floating_point() or parameter.is_complex()):
            return False
        if self.granularity == "unit":
            return True
        if isinstance(module, NORMS):
            return self.norm and (leaf == "weight" or (self.bias and leaf == "bias"))
        return is_weight(module, leaf) or (self.bias and is_bias(module, leaf))

    def _excluded(self, name: str) -> bool:
        wanted = not self.only or any(_matches(name, pattern) for pattern in self.only)
        return not wanted or any(_matches(name, pattern) for pattern in self.exclude)

    def _check_patterns(self, chosen: Parameters) -> None:
        for key in ("exclude", "only"):
            for pattern in getattr(self, key):
                if not any(_matches(name, pattern) for name in chosen):
                    allowed = "a pattern that matches one of " + ", ".join(chosen)
                    raise BadRequest(key, pattern, allowed)

    def _nothing_left(self, network: nn.Module, frozen: list[str]) -> BadRequest:
        """Return the error that says why there is nothing to prune, and what to change."""
        if frozen:
            why = f"{abridged(frozen)} of {type(network).__name__} do not require a gradient"
            return BadRequest("frozen", False, "true, to prune frozen weights", why)
        if self.exclude or self.only:
            key = "exclude" if self.exclude else "only"
            allowed = "a choice that leaves a Conv*d or Linear weight to prune"
            return BadRequest(key, list(getattr(self, key)), allowed)
        dense = in_groups(self.left_dense(network))
        why = f"these stay dense: {dense}" if dense else ""
        allowed = "a network with the weight of a Conv*d, Linear or MultiheadAttention to prune"
        return BadRequest("network", type(network).__name__, allowed, why)


_TRAINED = "_prunelit_trained"


def note_trainable(network: nn.Module) -> None:
    """Record on the network, outside of its state dict, which parameters require a gradient now or did
    before.

    Call it during a fit, so that a parameter that is temporarily frozen by the step of another optimizer, as
    in a GAN, stays prunable.
    """
    now = {name for name, p in network.named_parameters(remove_duplicate=False) if p.requires_grad}
    network.__dict__[_TRAINED] = frozenset(now) | network.__dict__.get(_TRAINED, frozenset())


def forget_trainable(network: nn.Module) -> None:
    """Remove the record of :func:`note_trainable`, for example at the start of another fit."""
    network.__dict__.pop(_TRAINED, None)


def in_groups(reasons: dict[str, str]) -> str:
    """Return in one line which weights stay dense, grouped by reason."""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(reason, []).append(name)
    return "; ".join(f"{abridged(names)} ({reason})" for reason, names in groups.items())


def abridged(names: list[str], most: int = 8) -> str:
    """Return names in a row, the first ``most`` of them and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _named(network: nn.Module) -> Iterator[tuple[str, nn.Module, str, nn.Parameter]]:
    """Yield full name, module, name within the module and the parameter, a shared one again and again.

    Averages that a module keeps of its own parts are excluded, because they follow these parts.
    """
    averaged = {inner for average in averaged_copies(network) for inner in average.modules()}
    for module_name, module in network.named_modules():
        if module in averaged:
            continue
        for leaf, parameter in module.named_parameters(recurse=False):
            yield f"{module_name}.{leaf}" if module_name else leaf, module, leaf, parameter


def _matches(name: str, pattern: str) -> bool:
    """Return whether ``pattern`` names the parameter or one of the modules that hold it."""
    whole = name.split(".")
    bare = [part for part in whole if part != "_orig_mod"]
    unwrapped = bare[1:] if bare[0] == "module" else bare
    return any(
        fnmatchcase(".".join(parts[:end]), pattern)
        for parts in (whole, bare, unwrapped)
        for end in range(1, len(parts) + 1)
    )


def layer_of(name: str) -> str:
    """Return the module name of a parameter's full name: ``layers.0.weight`` -> ``layers.0``."""
    return name.rpartition(".")[0]
