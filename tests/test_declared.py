"""What options declare of themselves is what is checked and said."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import torch
from annotated_types import Ge, Gt, Le, Lt
from typing_extensions import Doc

from prunelit.declared import Says, check_fields, checked, options_of
from prunelit.request import BadRequest, within


@dataclass(frozen=True)
class Drawn:
    count: Annotated[int, Ge(1), Doc("How many.")] = 1
    few: Annotated[int, Ge(1), Le(16)] = 1
    share: Annotated[float, Gt(0), Lt(1)] = 0.5
    places: Annotated[int, Ge(1)] | None = None
    again: bool = False
    memory: bool | Literal["auto"] = "auto"
    kind: Literal["linear", "cubic"] = "linear"
    back: Literal["init"] | Annotated[int, Ge(0)] = "init"
    names: tuple[str, ...] = ()
    widths: tuple[Annotated[int, Ge(1)], ...] = ()
    depth: Annotated[int, Says("8, 14 or 20")] = 8
    folder: str | Path | None = None

    def __post_init__(self) -> None:
        check_fields(self)


EXPECTED = {
    "count": "an integer >= 1",
    "few": "an integer from 1 to 16",
    "share": "a number in (0, 1)",
    "places": "an integer >= 1, or null",
    "again": "true or false",
    "memory": "true, false or auto",
    "kind": "linear or cubic",
    "back": "init, or an integer >= 0",
    "names": "a list of names",
    "widths": "a list of integers >= 1",
    "depth": "8, 14 or 20",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_expected_follows_from_the_declaration(name: str) -> None:
    assert options_of(Drawn)[name].expected == EXPECTED[name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("count", value) for value in (0, True, 1.0, "1", "many", None, [1])],
        *[("share", value) for value in (0, 1, True, "0.5", float("nan"), float("inf"), None)],
        *[("places", value) for value in (0, "none")],
        *[("again", value) for value in ("no", "true", 1, 0, None, [])],
        *[("memory", value) for value in ("maybe", 1)],
        *[("kind", value) for value in ("cubik", True, None, ["cubic"])],
        *[("back", value) for value in (-1, "begin", True, 1.5)],
        *[("names", value) for value in ("a", [1], None)],
        *[("widths", value) for value in ([0], [1.5], ["a"], 3)],
        ("few", 17),
    ],
)
def test_a_wrong_value_is_refused_by_the_bare_name(name: str, value: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        Drawn(**{name: value})
    assert refused.value.key == name
    assert refused.value.allowed.startswith(EXPECTED[name])


def test_right_values_come_in_the_declared_type() -> None:
    drawn = Drawn(share=0.25, names=["a", "b"], back=3, memory=True, widths=[3])  # type: ignore[arg-type]
    assert (drawn.names, drawn.widths, drawn.back, drawn.memory) == (("a", "b"), (3,), 3, True)


def test_the_nearest_word_is_named_and_text_is_told_from_numbers() -> None:
    with pytest.raises(BadRequest, match=r"^kind=cubik: must be linear or cubic \(did you mean cubic\?\)$"):
        Drawn(kind="cubik")  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match=r"^count='3': this is text; must be an integer >= 1$"):
        Drawn(count="3")  # type: ignore[arg-type]
    assert options_of(Drawn)["count"].meaning == "How many."


class Criterion:
    @checked
    def __init__(self, network: Any, factor: Annotated[float, Gt(0)] = 0.5) -> None:
        self.network, self.factor = network, factor


def test_arguments_of_a_constructor_are_checked_by_place_and_by_name() -> None:
    assert Criterion(None, 2).factor == 2.0
    assert isinstance(Criterion(None, factor=2).factor, float)
    for given in ((0,), ("abc",)):
        with pytest.raises(BadRequest, match=r"^factor="):
            Criterion(None, *given)
    with pytest.raises(TypeError, match="network"):
        Criterion()  # type: ignore[call-arg]


def test_a_node_completes_the_keys_that_are_its_own() -> None:
    with (
        pytest.raises(BadRequest, match=r"^pruner\.rounds=0: "),
        within("pruner", {"rounds"}),
    ):
        raise BadRequest("rounds", 0, "an integer")
    with pytest.raises(BadRequest, match=r"^compression=0: "), within("pruner", {"rounds"}):
        raise BadRequest("compression", 0, "a number")


def test_classes_from_elsewhere_may_take_what_only_python_can_give() -> None:
    rate = options_of(torch.optim.LBFGS)["lr"]
    assert rate.check(0.1) == 0.1
    with pytest.raises(BadRequest, match=r"^lr=fast: must be a number, or of the class Tensor$"):
        rate.check("fast")

    def unusual(size: "Generator[int, int, Undefined]" = None) -> None:  # type: ignore[assignment, name-defined] # noqa: F821
        """Take an argument whose type exists for type checkers only."""

    assert options_of(unusual)["size"].check(3) == 3
