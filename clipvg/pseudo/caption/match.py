"""Which detection a clause of a caption speaks of."""

from __future__ import annotations

from collections.abc import Sequence

from clipvg.pseudo.caption.clause import Clause
from clipvg.pseudo.kinds import PEOPLE
from clipvg.pseudo.observation import Candidate, Detection, Observation
from clipvg.pseudo.plane import overlap
from clipvg.pseudo.plurals import is_plural, make_singular

_SAME_THING = 0.5  # IoU of two detections of one class
_LONGEST_NAME = 3  # words

# What captions call the classes of common detectors.
_SYNONYMS = {
    "aeroplane": "airplane",
    "bike": "bicycle",
    "cellphone": "cell phone",
    "doughnut": "donut",
    "fridge": "refrigerator",
    "hotdog": "hot dog",
    "kitten": "cat",
    "motorbike": "motorcycle",
    "phone": "cell phone",
    "plane": "airplane",
    "puppy": "dog",
    "racquet": "tennis racket",
    "sofa": "couch",
    "table": "dining table",
    "television": "tv",
    "tvmonitor": "tv",
}
_PERSONS = PEOPLE | frozenset(
    """athlete batter biker boarder catcher chef cyclist dancer driver farmer fireman gentleman
    officer passenger pitcher police policeman rider skateboarder snowboarder soldier student
    teenager toddler tourist waiter""".split()
)
# Before these words a class means something else: a toy car is no car.
_IMITATIONS = frozenset("cartoon ceramic fake model plastic stuffed toy wooden".split())
_LIVING = frozenset("bear bird cat cow dog elephant giraffe horse sheep zebra".split())
_OTHER_THINGS = frozenset({("teddy", "bear"), ("hot", "dog"), ("toilet", "paper")})


def match_clauses(
    observation: Observation, clauses: Sequence[Clause], *, is_strict: bool
) -> list[Candidate]:
    """Return each clause's expression with the box of the only detection that it can mean.

    Args:
        observation: with detections.
        clauses: of its captions.
        is_strict: leave out clauses that fit several detections, and all of several things.
    """
    found: list[Candidate] = []
    for clause in clauses:
        meant = _meant(observation.detections, clause)
        if not meant or (is_strict and len(meant) > 1):
            continue
        for index in meant:
            candidate = Candidate(
                clause.expression, observation.detections[index].box, "clause", index
            )
            if candidate not in found:
                found.append(candidate)
    return found


def _meant(detections: Sequence[Detection], clause: Clause) -> list[int]:
    """Indices of the detections that a clause may mean, without doubles."""
    for name in _names_of(clause):
        rows = [row for row, each in enumerate(detections) if _is_called(each.name, name)]
        if rows:
            return _distinct(detections, rows)
    if not clause.is_plural and clause.noun[-1] in _PERSONS:
        rows = [row for row, each in enumerate(detections) if each.name.lower() in PEOPLE]
        return _distinct(detections, [row for row in rows if _is_general(detections[row].name)])
    return []


def _names_of(clause: Clause) -> list[str]:
    """Names by which a clause may call a class, the longest first: "traffic light", "light"."""
    noun = clause.noun
    if len(noun) > 1 and noun[-2] in _IMITATIONS and noun[-1] in _LIVING:
        return []
    is_whole = tuple(noun[-2:]) in _OTHER_THINGS
    lengths = range(min(_LONGEST_NAME, len(noun)), 1 if is_whole else 0, -1)
    return [" ".join(noun[-length:]) for length in lengths]


def _is_called(detected: str, name: str) -> bool:
    """Whether a class has a name; a plural calls only a class that is one."""
    if detected.lower() == name:
        return True
    if is_plural(name.split()[-1]) != is_plural(detected.lower().split()[-1]):
        return False
    return _canonical(detected) == _canonical(name)


def _canonical(name: str) -> str:
    *before, last = name.lower().replace("_", " ").split()
    plain = " ".join([*before, make_singular(last)])
    return _SYNONYMS.get(plain, plain)


def _is_general(name: str) -> bool:
    return name.lower() in ("person", "human")


def _distinct(detections: Sequence[Detection], rows: list[int]) -> list[int]:
    """Rows without doubles, the best scored kept, in their order."""
    kept: list[int] = []
    for row in sorted(rows, key=lambda row: -detections[row].score):
        box = detections[row].box
        if all(overlap(box, detections[other].box) < _SAME_THING for other in kept):
            kept.append(row)
    return sorted(kept)
