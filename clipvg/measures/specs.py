"""Parse and build measures written as ``[COLUMN=]METHOD[,option=value,...]``."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from clipvg.errors import InputError, near_matches
from clipvg.measures import find_measure
from clipvg.reliability.names import check_names
from clipvg.runtime.files import Json, digest

if TYPE_CHECKING:
    from clipvg.model import GroundingModel
    from clipvg.reliability.measurer import Measurer

Value: TypeAlias = "bool | int | float | str | list[Value] | None"

_CONSTANTS = {"true": True, "false": False, "none": None, "null": None}


@dataclass(frozen=True)
class MeasureSpec:
    """Parsed specification of one measure."""

    name: str  # name of its score column
    method: str  # name of the measure or import path
    options: Mapping[str, Value]  # arguments of its constructor


def parse_measure(text: str) -> MeasureSpec:
    """Parse ``[COLUMN=]METHOD[,option=value,...]``.

    METHOD is a name of `MEASURES` or ``package.module:Class``; COLUMN defaults to METHOD, or to
    the class name in lower case. Values are numbers, true, false, none or text; ``a+b`` is a list.

    Example:
        >>> parse_measure("near=knn,k=5")
        MeasureSpec(name='near', method='knn', options={'k': 5})
    """
    head, *rest = text.split(",")
    column, equals, method = head.partition("=")
    if not equals:
        column, method = "", head
    method, column = method.strip(), column.strip()
    if not method or (equals and not column):
        raise InputError(
            f"measure {text!r} is not [COLUMN=]METHOD[,option=value,...]; write e.g. knn,k=5"
        )
    options: dict[str, Value] = {}
    for part in rest:
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise InputError(f"measure {text!r}: {part!r} is not option=value; write e.g. k=5")
        if name.strip() in options:
            raise InputError(f"measure {text!r} has the option {name.strip()!r} twice.")
        options[name.strip()] = _value(value.strip())
    default = method.rpartition(":")[2].rpartition(".")[2].lower() if ":" in method else method
    return MeasureSpec(column or default, method, options)


def build_measures(
    measures: Iterable[str | MeasureSpec], models: Mapping[str, GroundingModel] | None = None
) -> dict[str, Measurer]:
    """Build measures from their specifications, parsed or as text.

    A measure whose constructor takes ``model`` gets the model named by its ``model`` option, by
    default the first one; a measure that takes ``models`` gets all of them, or those named by
    ``models=a+b``. If ``model`` is annotated as text, the measure loads the model itself.

    Args:
        measures: ``[COLUMN=]METHOD[,option=value,...]`` each, or the result of `parse_measure`.
        models: loaded grounding models by measurer name.

    Returns:
        Column name -> measure, in the given order.

    Raises:
        InputError: a duplicate column name, an unknown measure, option or model, or a measure that
            needs a model when none is given.
    """
    specs = [parse_measure(each) if isinstance(each, str) else each for each in measures]
    check_names([*(spec.name for spec in specs), *(models or {})])
    return {spec.name: build_measure(spec, models or {}) for spec in specs}


def with_option(spec: MeasureSpec, option: str, value: Value) -> MeasureSpec:
    """Return the spec with an option set, if the measure takes it and it is not set yet."""
    if option in _checked(spec)[1] and option not in spec.options:
        return replace(spec, options={**spec.options, option: value})
    return spec


def asks_models(spec: MeasureSpec) -> bool:
    """Return whether a measure uses the grounding models passed to `build_measures`."""
    return bool(_asking(_checked(spec)[1]))


def identity_of(spec: MeasureSpec) -> Json:
    """Return the identity of a measure; files and folders that it reads enter by their content."""
    naming = {"of", "models"} | ({"model"} if asks_models(spec) else set())  # names of measurers
    options = {
        name: value if name in naming else _content(value) for name, value in spec.options.items()
    }
    return {"name": spec.name, "method": spec.method, "options": options}


def check_measures(texts: Iterable[str]) -> None:
    """Refuse specifications that no choice of models makes valid, before anything is computed."""
    specs = [parse_measure(text) for text in texts]
    check_names([spec.name for spec in specs])
    for spec in specs:
        _checked(spec)


def build_measure(spec: MeasureSpec, models: Mapping[str, GroundingModel]) -> Measurer:
    """Build one measure; see `build_measures`."""
    from clipvg.reliability.measurer import Measurer

    kind, takes = _checked(spec)
    options: dict[str, object] = {"name": spec.name} if "name" in takes else {}
    options |= spec.options
    for option in _asking(takes):
        found = _models(spec, spec.options.get(option), models, many=option == "models")
        options[option] = found if option == "models" else found[0]
    missing = [
        name
        for name, parameter in takes.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        and name not in options
    ]
    if missing:
        example = f"{spec.method},{missing[0]}=..."
        raise InputError(f"measure {spec.method!r} needs {', '.join(missing)}; write {example}")
    try:
        made = kind(**options)
    except TypeError as error:
        raise InputError(f"measure {spec.method!r} refuses its options: {error}") from error
    if not isinstance(made, Measurer):
        raise InputError(
            f"{spec.method!r} makes a {type(made).__name__}; expected an object with name, "
            "requires and measure(labels, context)."
        )
    return made


def _asking(takes: Mapping[str, inspect.Parameter]) -> list[str]:
    """Return the options that take grounding models, not those annotated as text."""
    there = [option for option in ("model", "models") if option in takes]
    return [option for option in there if "str" not in str(takes[option].annotation)]


def _models(
    spec: MeasureSpec, wanted: Value, models: Mapping[str, GroundingModel], *, many: bool
) -> tuple[GroundingModel, ...]:
    """Return the models for a measure: one, unless it takes many."""
    if not models:
        raise InputError(
            f"measure {spec.method!r} asks a grounding model and there is none; name a measurer, "
            "NAME=CKPT."
        )
    if wanted is None:
        names = list(models) if many else list(models)[:1]
    else:
        names = [str(name) for name in (wanted if isinstance(wanted, list) else [wanted])]
    for name in names:
        if name not in models:
            raise InputError(
                f"measure {spec.method!r} asks model {name!r}: {near_matches(name, models)}"
            )
    if len(names) > 1 and not many:
        raise InputError(f"measure {spec.method!r} asks one model, not {len(names)}: {names}")
    return tuple(models[name] for name in names)


def _content(value: Value) -> Json | Value:
    """Return digests by file name if the value is an existing path, else the value itself."""
    path = Path(value) if isinstance(value, str) else None
    if path is None or not path.exists():
        return value
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    return {str(each.relative_to(path)): digest(each) for each in files}


def _value(text: str) -> Value:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    if "+" in text.strip("+"):
        return [_value(part) for part in text.split("+")]
    return _CONSTANTS.get(text.lower(), text)


def _checked(spec: MeasureSpec) -> tuple[type, Mapping[str, inspect.Parameter]]:
    """Return the class of a measure and its parameters; refuse options that it does not take."""
    kind = find_measure(spec.method)
    takes = inspect.signature(kind).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values())
    for name in () if takes_any else spec.options:
        if name not in takes:
            known = [other for other in takes if other != "name"]
            raise InputError(
                f"measure {spec.method!r} has no option {name!r}: {near_matches(name, known)}"
            )
    return kind, takes
