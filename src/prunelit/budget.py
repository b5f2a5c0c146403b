"""A limit on what a network may cost once units are removed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from typing_extensions import Doc

from prunelit.declared import Option, Says
from prunelit.request import BadRequest

FlopsKept = Annotated[
    Annotated[float, Gt(0), Le(1)] | None,
    Doc(
        "Remove whole units until at most this share of the dense network's multiply-accumulates is left. "
        "Sets `pruner.granularity=unit`."
    ),
]
ParametersKept = Annotated[
    Annotated[float, Gt(0), Le(1)] | None,
    Doc(
        "Remove whole units until at most this share of all parameters is left. Sets "
        "`pruner.granularity=unit`."
    ),
]
Speedup = Annotated[
    Annotated[float, Ge(1)] | None,
    Doc(
        "Remove whole units until the dense network has at least this many times the multiply-accumulates "
        "of what is left: `speedup=2` is `flops=0.5`."
    ),
]
MILLISECONDS = "milliseconds > 0, such as 8 or 8ms"
Milliseconds = Annotated[
    float | str | None,
    Says(MILLISECONDS + ", or null"),
    Doc(
        "Remove whole units until a forward pass of one input takes at most this many "
        "milliseconds on this device: `latency=8ms`. Sets `pruner.granularity=unit`."
    ),
]
Quantity = Literal["flops", "params", "latency"]
"""What a budget limits: multiply-accumulates of one input, parameters, or the time that one input takes."""


@dataclass(frozen=True)
class Budget:
    """The share of the dense network's cost to keep at most, for pruning whole units.

    Attributes:
        quantity: ``flops`` (multiply-accumulates of one input, as fvcore counts them), ``params`` (all
            parameters) or ``latency`` (of one input).
        share: the kept share of the dense network's, in (0, 1]. That of a latency is determined when the
            network is pruned, and its latency measured.
        key, value: the option that the budget comes from, for messages; ``speedup=2`` is a share of 0.5. The
            value of ``latency`` is the limit in milliseconds.
        in_round: the share to keep in a round before the last, given the final one of a latency.
    """

    quantity: Quantity
    share: float
    key: str = ""
    value: float | None = None
    in_round: Callable[[float], float] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        Option("quantity", Quantity, None).check(self.quantity)
        Option("share", Annotated[float, Gt(0), Le(1)], None).check(self.share)

    @property
    def given(self) -> tuple[str, float]:
        """The option and its value."""
        return self.key or self.quantity, self.share if self.value is None else self.value

    @staticmethod
    def milliseconds(latency: float | str) -> float:
        """Return a number of milliseconds, which may be written with its unit: ``8ms``.

        Raises:
            BadRequest: it is another text, or not above 0.
        """
        number = re.fullmatch(r"\s*([0-9.eE+-]+?)\s*ms\s*", latency) if isinstance(latency, str) else None
        try:
            value = float(number[1] if number else latency)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise BadRequest("latency", latency, MILLISECONDS)
        return value

    @classmethod
    def of_latency(cls, milliseconds: float | str) -> Budget:
        """Return the budget of a forward pass of one input, on the network's device with torch's threads."""
        return cls("latency", 1.0, "latency", cls.milliseconds(milliseconds))

    @classmethod
    def of_speedup(cls, speedup: float) -> Budget:
        """Return the budget of ``1 / speedup`` of the multiply-accumulates.

        Raises:
            BadRequest: ``speedup`` is below 1.
        """
        Option("speedup", Annotated[float, Ge(1)], None).check(speedup)
        return cls("flops", 1 / speedup, "speedup", speedup)
