"""Options declare their type, range and meaning next to their names; values are checked against these.

    rounds: Annotated[int, Ge(1), Doc("The number of rounds.")] = 1

Dataclasses check their fields with ``check_fields(self)`` in ``__post_init__``, classes the arguments of
their constructor with ``@checked``. The check itself is pydantic's, in its strict mode: text is not a number,
a fraction is not an integer, and only ``True`` and ``False`` are booleans. Numbers must be finite.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, wraps
from typing import (
    Annotated,
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from annotated_types import Ge, Gt, Le, Lt
from typing_extensions import Doc

from prunelit.request import BadRequest, nearest_of

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Says:
    """The expected value as stated in messages, if it does not follow from type and range."""

    text: str


@dataclass(frozen=True)
class Option:
    """One option: its name, its declaration and its default."""

    name: str
    kind: Any
    default: Any

    @cached_property
    def meaning(self) -> str:
        """What the option does, empty if that is not declared."""
        found = [part.documentation for part in _metadata(self.kind) if isinstance(part, Doc)]
        return found[-1] if found else ""

    @property
    def documented(self) -> Doc:
        """The meaning as an annotation."""
        return Doc(self.meaning)

    @cached_property
    def expected(self) -> str:
        """What a value must be, such as ``an integer >= 1, or null``."""
        choices, others = _phrases(self.kind)
        if not others:
            return _either(choices)
        *firsts, last = [*choices, *others]
        return f"{', '.join(firsts)}, or {last}" if firsts else last

    def check(self, value: Any) -> Any:
        """Return ``value`` in the declared type (a list as a tuple, an integer as a float).

        Raises:
            BadRequest: it is of another type or out of range; the key is the bare name.
        """
        from pydantic import ValidationError

        choices, _ = _phrases(self.kind)
        if isinstance(value, bool) and self.kind is not Any and "true" not in choices:
            raise BadRequest(self.name, value, self.expected)  # True is 1 in Python, but not a number here
        try:
            return _adapter(self.kind).validate_python(_as_declared(value))
        except ValidationError:
            raise self._refusal(value) from None

    def _refusal(self, value: Any) -> BadRequest:
        if isinstance(value, str) and _reads_as_another(value):
            return BadRequest(self.name, repr(value), self.expected, "this is text")
        choices, _ = _phrases(self.kind)
        near = nearest_of(value, choices) if isinstance(value, str) else None
        hint = f" (did you mean {near}?)" if near else ""
        return BadRequest(self.name, value, self.expected + hint)


@cache
def options_of(owner: Any) -> Mapping[str, Option]:
    """Return the options of a dataclass, or those arguments of a class or function that have a default."""
    target = owner.__init__ if inspect.isclass(owner) else owner
    try:
        hints = get_type_hints(target, include_extras=True)
    except NameError:  # names that only type checkers import: the types are unknown
        hints = {}
    return {
        name: Option(name, hints.get(name, Any), parameter.default)
        for name, parameter in inspect.signature(owner).parameters.items()
        if parameter.default is not parameter.empty
    }


def check_fields(instance: Any) -> None:
    """Check every field of a frozen dataclass, and set it to its value in the declared type.

    Raises:
        BadRequest: the first field with a wrong value.
    """
    owner: Any = type(instance)
    for name, option in options_of(owner).items():
        object.__setattr__(instance, name, option.check(getattr(instance, name)))


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments of a function or constructor that have a default against their declarations.

    The decorated function raises BadRequest for the first wrong argument.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def checking(*args: P.args, **kwargs: P.kwargs) -> R:
        options = options_of(function)
        bound = signature.bind(*args, **kwargs)
        for name in [name for name in bound.arguments if name in options]:
            bound.arguments[name] = options[name].check(bound.arguments[name])
        return function(*bound.args, **bound.kwargs)

    return checking


@cache
def _adapter(kind: Any) -> Any:
    # Imported at the first check, because reading records checks nothing.
    from pydantic import ConfigDict, TypeAdapter
    from pydantic.errors import PydanticUserError

    config = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    try:
        return TypeAdapter(kind, config=config)
    except PydanticUserError:  # of a class from elsewhere whose types cannot be checked
        return TypeAdapter(Any)


def _as_declared(value: Any) -> Any:
    """Return lists as tuples, because strict mode distinguishes them."""
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, tuple)):
        return tuple(map(_as_declared, value))
    return value


def _reads_as_another(text: str) -> bool:
    """Whether text looks like a number, a boolean or null: it was quoted, or comes from the environment."""
    if text in ("true", "false", "null"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def _metadata(kind: Any) -> tuple[Any, ...]:
    return tuple(getattr(kind, "__metadata__", ()))


def _phrases(kind: Any) -> tuple[list[str], list[str]]:
    """Return the single values that a kind allows, and the phrases for all others."""
    metadata = _metadata(kind)
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    said = [part.text for part in metadata if isinstance(part, Says)]
    if said:
        return [], said
    if get_origin(plain) in (Union, types.UnionType):
        parts = [_phrases(part) for part in get_args(plain) if part is not type(None)]
        choices, others = ([item for part in parts for item in part[i]] for i in (0, 1))
        if type(None) in get_args(plain):
            (others if others else choices).append("null")
        return choices, others
    if get_origin(plain) is Literal:
        return [str(choice) for choice in get_args(plain)], []
    if plain is bool:
        return ["true", "false"], []
    return [], [_phrase(plain, metadata)]


def _phrase(plain: Any, metadata: tuple[Any, ...]) -> str:
    if plain in (int, float):
        noun = "an integer" if plain is int else "a number"
        return " ".join([noun, *_range(plain, list(_bounds(metadata)))])
    if get_origin(plain) is tuple:
        several, others = _phrases(get_args(plain)[0])
        item = (several + others)[0].partition(" ")
        return f"a list of {item[0] if not item[2] else _plural(item[2])}"
    if plain is str:
        return "a name"
    return f"of the class {plain.__name__}" if inspect.isclass(plain) else "a value of another kind"


def _plural(phrase: str) -> str:
    noun, _, rest = phrase.partition(" ")
    return f"{noun}s {rest}".strip()


def _bounds(metadata: tuple[Any, ...]) -> Iterator[tuple[str, float]]:
    for part in metadata:
        for bound, sign in ((Ge, ">="), (Gt, ">"), (Le, "<="), (Lt, "<")):
            if isinstance(part, bound):
                yield sign, getattr(part, bound.__name__.lower())


def _range(plain: Any, bounds: list[tuple[str, float]]) -> list[str]:
    """Return words such as ``>= 1``, ``from 1 to 16`` and ``in [0, 1)``."""
    if len(bounds) < 2:
        return [f"{sign} {value}" for sign, value in bounds]
    (low_sign, low), (high_sign, high) = bounds
    if plain is int and (low_sign, high_sign) == (">=", "<="):
        return [f"from {low} to {high}"]
    return [f"in {'[' if low_sign == '>=' else '('}{low}, {high}{']' if high_sign == '<=' else ')'}"]


def _either(choices: list[str]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"
