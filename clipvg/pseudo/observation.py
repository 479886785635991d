"""Observation of one image (detections, attributes, captions, relations), and its JSON form."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TypeVar

from clipvg.errors import InputError
from clipvg.runtime.files import Json

Box = tuple[float, float, float, float]  # xyxy, pixels of the original image
UNOBSERVED = "unobserved"  # key of `extra`: why an image could not be processed


@dataclass(frozen=True)
class Detection:
    """An object that a detector found.

    Attributes:
        name: its class.
        box: xyxy in pixels.
        score: in [0, 1].
        attributes: probability of each attribute that the detector named, such as colours.
    """

    name: str
    box: Box
    score: float = 1.0
    attributes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Relation:
    """An edge of a scene graph: "man wearing hat".

    Attributes:
        subject: class of the subject.
        predicate: what relates the subject to the object.
        object: class of the object.
        subject_box: xyxy in pixels.
        object_box: xyxy in pixels.
        scores: probabilities of subject, predicate and object.
    """

    subject: str
    predicate: str
    object: str
    subject_box: Box
    object_box: Box
    scores: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Candidate:
    """An expression for a box, before the draw of those that become labels.

    Attributes:
        expression: the words.
        box: xyxy in pixels.
        rule: name of the rule that made it, for the label's ``pseudo.rule``.
        detection: index of the detection it describes, None if it describes none.
    """

    expression: str
    box: Box
    rule: str
    detection: int | None = None


@dataclass(frozen=True)
class Observation:
    """All that is known about one image before it has labels.

    Attributes:
        image: its name below the image root.
        width: pixels; None while unknown.
        height: pixels; None while unknown.
        detections: those of the object detector.
        attribute_detections: those of a second detector that names attributes.
        captions: sentences about the whole image.
        relations: its scene graph.
        candidates: expressions that other programs have made, by name of the source.
        extra: anything else that is known, for sources of other packages.
    """

    image: str
    width: int | None = None
    height: int | None = None
    detections: tuple[Detection, ...] = ()
    attribute_detections: tuple[Detection, ...] = ()
    captions: tuple[str, ...] = ()
    relations: tuple[Relation, ...] = ()
    candidates: Mapping[str, tuple[Candidate, ...]] = field(default_factory=dict)
    extra: Mapping[str, object] = field(default_factory=dict)


def by_source(made: Iterable[tuple[str, Candidate]]) -> dict[str, tuple[Candidate, ...]]:
    """Return candidates by their source, in order."""
    found: dict[str, list[Candidate]] = defaultdict(list)
    for source, candidate in made:
        found[source].append(candidate)
    return {source: tuple(candidates) for source, candidates in found.items()}


LARGEST = 2**31 - 1  # largest integer that the table holds
KEYS = {field.name for field in fields(Observation)} - {"extra"}
T = TypeVar("T")


def observation_from_dict(data: object) -> Observation:
    """Return the observation that a JSON object holds; unknown keys become ``extra``.

    Raises:
        InputError: with what is wrong and where in the object, but not the file's name.
    """
    if not isinstance(data, dict):
        raise InputError(f"{str(data)[:40]!r} is not an object with 'image' and what is seen in it")
    image = data.get("image")
    if not isinstance(image, str) or not image:
        raise InputError("no 'image'; name the file below the image folder")
    return Observation(
        image,
        _side(data, "width"),
        _side(data, "height"),
        _each(data, "detections", _detection),
        _each(data, "attribute_detections", _detection),
        _each(data, "captions", _caption),
        _each(data, "relations", _relation),
        by_source(_each(data, "candidates", _candidate)),
        {key: value for key, value in data.items() if key not in KEYS},
    )


def observation_to_dict(observation: Observation) -> Json:
    """Return an observation as a JSON object, without what is unknown or empty."""
    data: Json = {
        "image": observation.image,
        "width": observation.width,
        "height": observation.height,
        "detections": [_of_detection(one) for one in observation.detections],
        "attribute_detections": [_of_detection(one) for one in observation.attribute_detections],
        "captions": list(observation.captions),
        "relations": [_of_relation(one) for one in observation.relations],
        "candidates": [
            _of_candidate(name, one)
            for name, made in observation.candidates.items()
            for one in made
        ],
    }
    there = {key: value for key, value in data.items() if value not in (None, [])}
    return {**there, **observation.extra}


def read_box(values: object) -> Box:
    """Return four finite numbers, or raise InputError."""
    try:
        x1, y1, x2, y2 = map(float, values if isinstance(values, list | tuple) else ())
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"box {str(values)[:60]} is not four numbers; write [x1, y1, x2, y2] in pixels"
        ) from None
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise InputError(f"box {str(values)[:60]} is not finite; leave the entry out")
    return x1, y1, x2, y2


def read_score(value: object, name: str = "score") -> float:
    """Return a number in [0, 1], or raise InputError."""
    try:
        score = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        score = math.nan
    if not 0 <= score <= 1:
        raise InputError(f"{name} {str(value)[:40]!r} is not a number from 0 to 1")
    return score


def read_name(values: Json, key: str) -> str:
    """Return the text under a key; raise InputError if it is missing, empty or not text."""
    name = values.get(key)
    if not isinstance(name, str) or not name.strip():
        fault = f"{key} {str(name)[:40]!r} is not text" if name is not None else f"no {key!r}"
        raise InputError(f"{fault}; write {key!r} as a word")
    return name


def _each(data: Json, key: str, read: Callable[[object], T]) -> tuple[T, ...]:
    values = data.get(key) or []
    if not isinstance(values, list):
        raise InputError(f"{key!r} is not a list; write one entry for each")
    result = []
    for index, value in enumerate(values):
        try:
            result.append(read(value))
        except InputError as error:
            raise InputError(f"{key}[{index}]: {error}") from None
    return tuple(result)


def _object(value: object) -> Json:
    if not isinstance(value, dict):
        raise InputError(f"{str(value)[:40]!r} is not an object")
    return value


def _side(data: Json, key: str) -> int | None:
    value = data.get(key)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST:
        raise InputError(f"{key} {str(value)[:20]} is not a whole number of pixels")
    return value


def _detection(value: object) -> Detection:
    data = _object(value)
    words = _object(data.get("attributes") or {})
    return Detection(
        read_name(data, "class"),
        read_box(data.get("box")),
        read_score(data.get("score", 1.0)),
        {word: read_score(p, f"attribute {word!r}") for word, p in words.items()},
    )


def _caption(value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"{str(value)[:40]!r} is not text")
    return value


def _relation(value: object) -> Relation:
    data = _object(value)
    scores = _object(data.get("scores") or {})
    subject, predicate, other = (
        read_score(scores.get(name, 1.0), f"score of {name}")
        for name in ("subject", "predicate", "object")
    )
    return Relation(
        read_name(data, "subject"),
        read_name(data, "predicate"),
        read_name(data, "object"),
        read_box(data.get("subject_box")),
        read_box(data.get("object_box")),
        (subject, predicate, other),
    )


def _candidate(value: object) -> tuple[str, Candidate]:
    data = _object(value)
    index = data.get("detection")
    is_number = isinstance(index, int) and not isinstance(index, bool)
    if index is not None and not (is_number and 0 <= index <= LARGEST):
        raise InputError(f"detection {str(index)[:20]} is not the number of a detection")
    made = Candidate(
        read_name(data, "expression"),
        read_box(data.get("box")),
        str(data.get("rule") or "given"),
        index,
    )
    return read_name(data, "source"), made


def _of_detection(found: Detection) -> Json:
    data: Json = {"class": found.name, "box": found.box, "score": found.score}
    return {**data, "attributes": found.attributes} if found.attributes else data


def _of_relation(edge: Relation) -> Json:
    scores = dict(zip(("subject", "predicate", "object"), edge.scores, strict=True))
    return {**asdict(edge), "scores": scores}


def _of_candidate(source: str, made: Candidate) -> Json:
    data = {"source": source, **asdict(made)}
    return {key: value for key, value in data.items() if value is not None}
