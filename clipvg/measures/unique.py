"""Measure how uniquely an expression describes the object in its box, from observations."""

from __future__ import annotations

from dataclasses import field
from functools import cached_property
from pathlib import Path

import numpy as np

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.measures.common.measure import Measure
from clipvg.pseudo.meaning import Meaning, Vocabulary, alone
from clipvg.pseudo.observation import Box, Observation
from clipvg.pseudo.observations import ObservationTable
from clipvg.pseudo.reading import as_observations
from clipvg.reliability.measurer import Context, Scores

_MAY_FIT = 0.5  # probability from which a rival fits, unless unknown words rule it out


class Unique(Measure):
    """Probability that an expression means the object in its box and no other in its image.

    r = f(b) · Π_k (1 − w_k f(b_k)), from what models observed in the image: detections with their
    classes, attributes, and a scene graph. f is the probability, by the votes of the models, that
    the classes, attributes and relation of the expression fit an object; for the label's own object
    it includes the probability that the object's box is the label's. w_k is 1, unless words of
    place, order or size single one object out: then it is how far b_k comes before b. Words and
    relations are interpreted as by the pseudo-label generators.

    It finds expressions that fit several objects, and labels whose object, attribute or box the
    models contradict. Where the models err or miss an object, so does this measure. A label is not
    scored if its image has no observations, if the expression means several objects, if the models
    have no word for its noun, or if other objects fit too and a word that the models do not know
    may tell them apart.

    Args:
        observations: table of observations, or a file in any format that
            `clipvg.pseudo.read_observations` reads; without it no label is scored.
    """

    observations: str | Path | ObservationTable | None = field(
        default=None, kw_only=False, repr=False
    )
    name: str = "unique"
    reads = "_seen"

    @cached_property
    def _seen(self) -> ObservationTable | None:
        return None if self.observations is None else as_observations(self.observations)

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        """Return the probabilities, NaN where they cannot be determined."""
        if self._seen is None:
            why = f"{self.name}: no observations were given"
            nothing = np.full(len(labels), np.nan, dtype=np.float32)
            return Scores(nothing, dict.fromkeys(range(len(labels)), why))
        names, image_of = labels.distinct_images()
        rows_of: dict[str, list[int]] = {name: [] for name in names}
        for row, image in enumerate(image_of.tolist()):
            rows_of[names[image]].append(row)
        texts, boxes, sizes = labels.expressions, labels.boxes().tolist(), labels.sizes()
        scores = np.full(len(labels), np.nan, dtype=np.float32)
        reasons = dict.fromkeys(range(len(labels)), f"{self.name}: its image was not observed")
        vocabulary, looked_at = Vocabulary.of(self._seen), False
        for observation in self._seen:
            for row in rows_of.get(observation.image, ()):
                looked_at = True
                size = _size(observation, sizes[row])
                found = _judge(vocabulary.read(texts[row]), observation, tuple(boxes[row]), size)
                if isinstance(found, str):
                    reasons[row] = f"{self.name}: {found}"
                else:
                    scores[row] = found
                    reasons.pop(row, None)
        if len(labels) and not looked_at:
            raise InputError(
                f"measure {self.name!r}: the observations are of {len(self._seen)} other images "
                f"than these {len(names)}; check the images' names, such as {names[0]!r}."
            )
        return Scores(scores, reasons)


def _judge(
    meaning: Meaning, observation: Observation, box: Box, size: tuple[float, float]
) -> float | str:
    """Return the probability that only this box is meant, or why it cannot be determined."""
    if meaning.is_several:
        return "its expression means several"
    if meaning.names is not None and not meaning.names:
        return f"no observation has a word for {meaning.unknown[0]!r}"
    found, rival = alone(meaning, observation, box, size)
    if meaning.unknown and rival >= _MAY_FIT:
        return f"{meaning.unknown[0]!r} may tell apart what the observations do not"
    return found


def _size(observation: Observation, told: np.ndarray) -> tuple[float, float]:
    """Return an image's (width, height): the label's if known, else the observed, else 1."""
    if (told > 0).all():
        return float(told[0]), float(told[1])
    return float(observation.width or 1), float(observation.height or 1)
