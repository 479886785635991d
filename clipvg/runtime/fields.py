"""Validate configuration dataclasses by their annotations: type, choices, finiteness, range."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from clipvg.errors import InputError

ABOVE_ZERO, BELOW_ONE = math.nextafter(0, 1), math.nextafter(1, 0)


def check_fields(config: Any, what: str, *, further: Iterable[str] = ()) -> None:
    """Raise one InputError about all wrong fields of a dataclass: "model options: …".

    `further` lists other problems to include.
    """
    if problems := [*field_problems(config), *further]:
        raise InputError(f"{what}: {'; '.join(problems)}")


def field_problems(config: Any) -> Iterator[str]:
    """Yield what is wrong with the fields of a dataclass.

    Annotations give the type of each field; ``Annotated[int, (1, None)]`` also its smallest and
    largest number, with None for no limit and ``math.inf`` if infinity is allowed. If a field may
    be None, None is in every range.
    """
    owner: type = type(config)
    for name, (kind, (low, high)) in _annotations(owner).items():
        value: Any = getattr(config, name)
        if not _fits(value, kind):
            yield f"{name} is {_shown(value)}, expected {in_words(kind)}"
        elif isinstance(value, bool) or not isinstance(value, Real):
            continue
        elif not (isinstance(value, Integral) or math.isfinite(value) or value == high):
            yield f"{name} is {value}, expected a finite number"
        elif low is not None and value < low:
            least = "above 0" if low == ABOVE_ZERO else f"at least {low}"
            yield f"{name} is {_shown(value)}, expected {least}"
        elif high is not None and value > high:
            most = "below 1" if high == BELOW_ONE else f"at most {high:,}"
            yield f"{name} is {_shown(value)}, expected {most}"


@cache
def _annotations(config: type) -> dict[str, tuple[Any, tuple[Any, Any]]]:
    """Return the type of each field of a dataclass, and its smallest and largest number."""
    hints = get_type_hints(config, include_extras=True)
    kinds = get_type_hints(config)
    names = [field.name for field in dataclasses.fields(config)]
    return {name: (kinds[name], _range(hints[name])) for name in names}


def _range(hint: Any) -> tuple[Any, Any]:
    """Return the pair among an annotation's metadata, or (None, None)."""
    pairs = (each for each in getattr(hint, "__metadata__", ()) if isinstance(each, tuple))
    low, high = next(pairs, (None, None))
    return low, high


def in_words(kind: Any) -> str:
    """Describe a type in words: "int or null", "one of 'a', 'b'"."""
    if get_origin(kind) is Literal:
        words = ", ".join(map(repr, get_args(kind)))
        return f"one of {words}" if len(get_args(kind)) > 1 else words
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(in_words, get_args(kind)))
    if kind is NoneType:
        return "null"
    if get_origin(kind) is Sequence:
        return f"list[{in_words(get_args(kind)[0])}]"
    if get_origin(kind) is Mapping:
        return "mapping"
    return str(kind) if get_args(kind) else getattr(kind, "__name__", str(kind))


def _fits(value: Any, kind: Any) -> bool:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in inner)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if origin in (list, tuple, Sequence):
        many = Sequence if origin is Sequence else list | tuple
        is_many = isinstance(value, many) and not isinstance(value, str)
        return is_many and _items_fit(value, inner)
    if origin is not None:  # a mapping or callable, whose inner types are not checked
        return isinstance(value, origin)
    if kind is bool:
        return isinstance(value, bool)
    if kind in (int, float):
        number = Integral if kind is int else Real
        return isinstance(value, number) and not isinstance(value, bool)
    return isinstance(value, kind)


def _items_fit(items: Sequence[Any], kinds: Sequence[Any]) -> bool:
    """Return whether items all have one type, or each its own as in ``tuple[int, str]``."""
    if len(kinds) == 1 or kinds[1] is ...:
        return all(_fits(item, kinds[0]) for item in items)
    return len(items) == len(kinds) and all(map(_fits, items, kinds))


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of 5,000 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:60]}…"
