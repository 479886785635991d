"""Match the clauses of captions with the detections that they describe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from clipvg.pseudo.caption.clause import Clause
from clipvg.pseudo.kinds import PEOPLE, RIVAL_SHARE
from clipvg.pseudo.observation import Candidate, Detection, Observation
from clipvg.pseudo.plane import distinct, overlap
from clipvg.pseudo.sources import Options
from clipvg.pseudo.words import is_plural, make_singular

Seen = tuple[int, Detection]  # a detection and its index in the image

_SAME_THING = 0.5  # IoU from which two detections are one thing
_LONGEST_NAME = 3  # words

# Words in captions for the classes of common detectors.
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
# After these words the name of an animal means something else: a toy dog is no dog.
_IMITATIONS = frozenset("cartoon ceramic fake model plastic stuffed toy wooden".split())
_LIVING = frozenset("bear bird cat cow dog elephant giraffe horse sheep zebra".split())
_OTHER_THINGS = frozenset({("teddy", "bear"), ("hot", "dog"), ("toilet", "paper")})


def match_clauses(
    observation: Observation, clauses: Sequence[Clause], options: Options
) -> list[Candidate]:
    """Return each clause's expression with the box of the only detection that it can mean.

    Detections below the lowest score are not described, but down to a share of it they may be
    meant, so a clause that also fits one of them is left out.
    """
    least = RIVAL_SHARE * options.min_score
    seen = [(row, each) for row, each in enumerate(observation.detections) if each.score >= least]
    found: list[Candidate] = []
    for clause in clauses:
        meant = _meant(seen, clause)
        if options.ambiguous == "drop" and len(meant) > 1:
            continue
        for row, detection in meant:
            candidate = Candidate(clause.expression, detection.box, "clause", row)
            if detection.score >= options.min_score and candidate not in found:
                found.append(candidate)
    return found


def called_by(noun: Sequence[str], names: Iterable[str], *, is_plural: bool = False) -> set[str]:
    """Return the classes that a noun phrase names, by as many of its last words as name one.

    Example:
        >>> called_by(("big", "traffic", "light"), ["light", "traffic light"])
        {'traffic light'}
    """
    for name in _names_of(noun):
        called = {each for each in names if _is_called(each, name)}
        if called:
            return called
    if not is_plural and noun[-1] in _PERSONS:
        return {each for each in names if each.lower() in ("person", "human")}
    return set()


def _meant(seen: Sequence[Seen], clause: Clause) -> list[Seen]:
    """Return the detections that a clause may mean, without duplicates."""
    names = {detection.name for _, detection in seen}
    called = called_by(clause.noun, names, is_plural=clause.is_plural)
    return _distinct([each for each in seen if each[1].name in called])


def _names_of(noun: Sequence[str]) -> list[str]:
    """Return the class names in a noun phrase, longest first: "traffic light", "light"."""
    if len(noun) > 1 and noun[-2] in _IMITATIONS and noun[-1] in _LIVING:
        return []
    is_whole = tuple(noun[-2:]) in _OTHER_THINGS
    lengths = range(min(_LONGEST_NAME, len(noun)), 1 if is_whole else 0, -1)
    return [" ".join(noun[-length:]) for length in lengths]


def _is_called(detected: str, name: str) -> bool:
    """Return whether a name means a class; a plural means only a class that is plural."""
    if detected.lower() == name:
        return True
    if is_plural(name.split()[-1]) != is_plural(detected.lower().split()[-1]):
        return False
    return _canonical(detected) == _canonical(name)


@lru_cache(maxsize=2**16)
def _canonical(name: str) -> str:
    *before, last = name.lower().replace("_", " ").split()
    plain = " ".join([*before, make_singular(last)])
    return _SYNONYMS.get(plain, plain)


def _distinct(seen: list[Seen]) -> list[Seen]:
    """Return detections without duplicates, keeping the best scored, in the original order."""
    kept = distinct(
        sorted(seen, key=lambda each: -each[1].score),
        lambda one, other: overlap(one[1].box, other[1].box) >= _SAME_THING,
    )
    return sorted(kept, key=lambda each: each[0])
