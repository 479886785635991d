"""What models say of one image: detections, attributes, captions and relations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Box = tuple[float, float, float, float]  # xyxy, pixels of the original image
UNOBSERVED = "unobserved"  # among `extra`: why an image could not be looked at


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
        subject: class of the one.
        predicate: what relates it to the other.
        object: class of the other.
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
    """An expression for a box, before the draw of what becomes a label.

    Attributes:
        expression: the words.
        box: xyxy in pixels.
        rule: name of the rule that made it, for the label's ``pseudo.rule``.
        detection: index of the detection it describes, None where it is of no detection.
    """

    expression: str
    box: Box
    rule: str
    detection: int | None = None


@dataclass(frozen=True)
class Observation:
    """All that is known of one image before it has labels.

    Attributes:
        image: its name below the image root.
        width: pixels; None where nobody has said so yet.
        height: pixels.
        detections: of the object detector.
        attribute_detections: of a second detector that names attributes.
        captions: sentences about the whole image.
        relations: its scene graph.
        candidates: expressions that other programs have made, by name of the source.
        extra: whatever else is known, for sources of other packages.
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
