"""The requested amount of pruning: the only module that reads, checks, names and computes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Lt
from typing_extensions import Doc

from prunelit.budget import Budget, FlopsKept, Milliseconds, ParametersKept, Speedup
from prunelit.declared import check_fields
from prunelit.request import BadRequest, within

BUDGETS = ("flops", "params", "speedup", "latency")
"""The options that limit what the network may cost."""
PRUNES_MORE = ("speedup",)
"""Budgets of which a greater number prunes more; of the others, a smaller number does."""
KEYS = ("compression", "sparsity", *BUDGETS)
"""The options that request an amount, of which at most one is given."""


@dataclass(frozen=True)
class Amount:
    """A compression, a sparsity, a budget, or none of them, in which case the method decides.

    Raises:
        BadRequest: several are given, or one is out of range.
    """

    compression: Annotated[
        Annotated[float, Ge(0)] | None, Doc("log10(prunable / kept): 0.5 keeps 31.62 %.")
    ] = None
    sparsity: Annotated[
        Annotated[float, Ge(0), Lt(1)] | None,
        Doc("The share of the prunable parameters to remove, instead of `compression`."),
    ] = None
    flops: FlopsKept = None
    params: ParametersKept = None
    speedup: Speedup = None
    latency: Milliseconds = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.latency is not None:
            object.__setattr__(self, "latency", Budget.milliseconds(self.latency))
        given = [key for key in KEYS if getattr(self, key) is not None]
        if len(given) > 1:
            first, second = given[:2]
            why = f"{first}={getattr(self, first)} is given too"
            raise BadRequest(second, getattr(self, second), f"{first} or {second}, not both", why)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Amount:
        """Return the amount in a run's config: top-level keys take precedence over keys of the pruner.

        The dense baseline always has compression 0, so that it is a single run in a sweep.
        """
        pruner = config["pruner"]
        if pruner["criterion"] is None:
            return cls(0.0)
        given = cls.at_top_level(config)
        if given.is_decided:
            with within("pruner", ("compression",)):
                return cls() if sets_density(pruner) else cls(pruner["compression"])
        return given

    @classmethod
    def at_top_level(cls, config: Mapping[str, Any]) -> Amount:
        """Return the amount that the top level of a config requests, without the keys of the pruner."""
        return cls(**{key: config[key] for key in KEYS if key in config})

    @property
    def is_decided(self) -> bool:
        """Whether the method decides the amount."""
        return all(getattr(self, key) is None for key in KEYS)

    @property
    def density(self) -> float | None:
        """The kept share, ``10 ** -compression`` or ``1 - sparsity``; None if the method or a budget
        decides."""
        if self.sparsity is not None:
            return 1 - self.sparsity
        return None if self.compression is None else float(10**-self.compression)

    @property
    def budget(self) -> Budget | None:
        """The limit on what the network may cost, if there is one."""
        if self.flops is not None:
            return Budget("flops", self.flops, *self.given)
        if self.params is not None:
            return Budget("params", self.params, *self.given)
        if self.latency is not None:
            return Budget.of_latency(self.given[1])
        return None if self.speedup is None else Budget.of_speedup(self.speedup)

    @property
    def given(self) -> tuple[str, float]:
        """The key and value that were given, for messages; a whole number without decimals."""
        key = next((key for key in KEYS if getattr(self, key) is not None), "compression")
        value = float(getattr(self, key) or 0.0)
        return key, int(value) if value.is_integer() else value

    @property
    def words(self) -> str:
        """The requested amount as text, such as ``compression 0.5``; empty if the method decides."""
        return "" if self.is_decided else "{} {:g}".format(*self.given)

    @property
    def short(self) -> str:
        """A part of a folder's name, such as ``c0.5``, ``s0.9`` or ``flops0.5``; empty if the method
        decides."""
        if self.is_decided:
            return ""
        key, value = self.given
        return f"{key if self.budget else key[0]}{value}"


SETS_DENSITY = ("pattern", "densities_from", "layer_densities")
"""Options that determine the density: an N:M pattern, and the layer densities of another run."""


def sets_density(options: Mapping[str, Any]) -> bool:
    """Whether the options of a pruner, or those of a plan, determine the density, whatever amount is
    requested."""
    return any(options.get(key) is not None for key in SETS_DENSITY)


def set_by(pruner: Mapping[str, Any]) -> str:
    """Return what determines the density in a pruner's config: a pattern such as ``2:4``, or ``like`` a
    run."""
    return "like" if pruner.get("pattern") is None else str(pruner["pattern"])
