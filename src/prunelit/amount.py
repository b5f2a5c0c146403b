"""The requested amount of pruning: the only module that reads, checks, names and computes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Lt
from typing_extensions import Doc

from prunelit.declared import check_fields
from prunelit.request import BadRequest, within


@dataclass(frozen=True)
class Amount:
    """A compression, a sparsity, or neither, in which case the method decides.

    Raises:
        BadRequest: both are given, or one is out of range.
    """

    compression: Annotated[
        Annotated[float, Ge(0)] | None, Doc("log10(prunable / kept): 0.5 keeps 31.62 %.")
    ] = None
    sparsity: Annotated[
        Annotated[float, Ge(0), Lt(1)] | None,
        Doc("The share of the prunable parameters to remove, instead of `compression`."),
    ] = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.compression is not None and self.sparsity is not None:
            both = f"compression={self.compression} is given too"
            raise BadRequest("sparsity", self.sparsity, "compression or sparsity, not both", both)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Amount:
        """Return the amount in a run's config: top-level keys take precedence over those of the pruner.

        The dense baseline always has compression 0, so that it is a single run in a sweep.
        """
        pruner = config["pruner"]
        if pruner["criterion"] is None:
            return cls(0.0)
        if config["compression"] is None and config["sparsity"] is None:
            with within("pruner", ("compression",)):
                return cls() if sets_density(pruner) else cls(pruner["compression"])
        return cls(config["compression"], config["sparsity"])

    @property
    def is_decided(self) -> bool:
        """Whether the method decides the amount."""
        return self.compression is None and self.sparsity is None

    @property
    def density(self) -> float | None:
        """The kept share, ``10 ** -compression`` or ``1 - sparsity``; None if the method decides."""
        if self.sparsity is not None:
            return 1 - self.sparsity
        return None if self.compression is None else float(10**-self.compression)

    @property
    def given(self) -> tuple[str, float]:
        """The key and value that were given, for messages; a whole number without decimals."""
        key = "compression" if self.sparsity is None else "sparsity"
        value = getattr(self, key) or 0.0
        return key, int(value) if value.is_integer() else value

    @property
    def words(self) -> str:
        """The requested amount as text, such as ``compression 0.5``; empty if the method decides."""
        return "" if self.is_decided else "{} {:g}".format(*self.given)

    @property
    def short(self) -> str:
        """A part of a folder's name, such as ``c0.5`` or ``s0.9``; empty if the method decides."""
        if self.is_decided:
            return ""
        key, value = self.given
        return f"{key[0]}{value}"


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
