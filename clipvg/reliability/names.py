"""Names of measurers on the command line: ``[NAME[@SOURCE]=]PATH``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clipvg.errors import InputError

_SCHEMES = ("hf-hub:", "local-dir:")


@dataclass(frozen=True)
class NamedCheckpoint:
    """A measurer's checkpoint, its name and the sources it was trained on.

    Attributes:
        name: name of its score column, ``reliability.NAME``.
        path: checkpoint as `clipvg.load` takes it.
        trained_on: source names, or None to take ``trained_on`` of the checkpoint's config.
    """

    name: str
    path: str
    trained_on: tuple[str, ...] | None = None


def parse_measurer(text: str) -> NamedCheckpoint:
    """Read ``[NAME[@SOURCE]=]PATH``.

    NAME defaults to parent-folder/stem of the path, so that two files both called
    ``best_checkpoint.pth`` in two folders have two names. SOURCE is what the measurer was trained
    on, several joined by commas. A text that is itself an existing path is never split.

    Raises:
        InputError: the name, the source or the path is empty.

    Example:
        >>> parse_measurer("m1@template=runs/a/model")
        NamedCheckpoint(name='m1', path='runs/a/model', trained_on=('template',))
        >>> parse_measurer("runs/a/model").name
        'a/model'
    """
    label, equals, path = text.partition("=")
    if not equals or Path(text).exists():
        label, path = "", text
    if not path.strip() or (equals and path is not text and not label.strip()):
        raise InputError(
            f"measurer {text!r} is not [NAME[@SOURCE]=]PATH; write e.g. "
            "template=runs/template/model or only the path."
        )
    if not label:
        return NamedCheckpoint(default_name(path), path)
    name, at, source = label.partition("@")
    sources = tuple(part.strip() for part in source.split(",") if part.strip())
    if not name.strip() or (at and not sources):
        raise InputError(
            f"measurer {text!r} has an empty {'source' if name.strip() else 'name'}; "
            "write NAME@SOURCE=PATH, NAME=PATH or only PATH."
        )
    return NamedCheckpoint(name.strip(), path, sources if at else None)


def default_name(path: str | Path) -> str:
    """Return parent-folder/stem of a checkpoint file, parent-folder/name of a model folder."""
    text = str(path)
    for scheme in _SCHEMES:
        text = text.removeprefix(scheme)
    place = Path(text)
    if text == str(path):
        place = place.absolute()
    last = place.stem if place.suffix in (".pth", ".pt", ".safetensors") else place.name
    return f"{place.parent.name}/{last}" if place.parent.name else last


def check_names(names: Iterable[str]) -> None:
    """Raise InputError if two measurers have the same name."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InputError(
            f"two measurers are called {', '.join(map(repr, twice))}; each needs its own score "
            "column. Name them: NAME=PATH, or NAME=MEASURE."
        )
