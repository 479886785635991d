"""ReCLIP: CLIP scores proposals, and relations are resolved on their boxes.

A phrase's words give each box a probability. A word that singles one out, such as "left",
multiplies it by the probability that no box that comes before it is meant as well; a relation by
the probability that one of the boxes to which the box has this relation is the landmark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from PIL import Image

from clipvg.boxes import area
from clipvg.errors import InputError
from clipvg.features.regions import Mode, encode_regions, logit_scale, modes_of, whole_pixels
from clipvg.grounders.located import Located
from clipvg.grounders.zeroshot import ZeroShotGrounder
from clipvg.pseudo.meaning.fitting import just
from clipvg.pseudo.meaning.phrases import Phrase, read_phrase

_INSIDE = 0.5  # share of a box inside another from which it counts as inside


class ReCLIP(ZeroShotGrounder):
    """The detected box that CLIP matches best with the expression, after ReCLIP.

    Each box is shown to CLIP as its crop and as the image with all else blurred; the softmax of the
    summed similarities over the image's boxes is the probability of each. Words for places, sizes
    and the seven relations left, right, above, below, bigger, smaller and inside are parsed
    separately, and multiply the probabilities by rules on the boxes' centres and areas. The score
    is the resulting probability.

    Subramanian et al., ReCLIP: a strong zero-shot baseline for referring expression comprehension,
    ACL 2022. The original sums two CLIPs, RN50x16 and ViT-B/32, and parses with spaCy; this one
    uses a single CLIP and the rules of `clipvg.pseudo.meaning.phrases`, and a superlative takes
    into account how likely other boxes are of the same kind.

    Args:
        mode: "both", "crop" or "blur".
        relations: parse places and relations; False lets CLIP score the whole expression.
    """

    mode: Mode = "both"
    relations: bool = True
    name: str = "reclip"

    def _place(
        self, image: Image.Image, expressions: Sequence[str], boxes: np.ndarray | None, why: str
    ) -> Located:
        if boxes is None:
            raise InputError(
                f"grounder {self.name!r} chooses among detected boxes and has none; give it "
                "observations=FILE of the images, or in Python boxes of one image, by among()"
            )
        if not len(boxes):
            return Located.nothing(len(expressions), why)
        phrases = [read_phrase(text) if self.relations else Phrase(text) for text in expressions]
        judged = self._judge(image, boxes, list(dict.fromkeys(_texts_of(phrases))))
        found = Located.nothing(len(expressions))
        for place, phrase in enumerate(phrases):
            chances = resolve(phrase, boxes, image.size, judged.__getitem__)
            best = int(np.argmax(chances))
            found.put([place], boxes[best : best + 1], chances[best : best + 1], image.size)
        return found

    def _judge(
        self, image: Image.Image, boxes: np.ndarray, texts: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Return CLIP's probabilities of the boxes (K,) by text."""
        cells = whole_pixels(boxes, image.size)
        with torch.no_grad():
            regions = encode_regions(self._towers, [(image, cells)], modes_of(self.mode))
            logits = torch.einsum("mke,te->tk", regions, self._texts(texts))
            chances = (logits * logit_scale(self._towers)).softmax(-1).double().cpu().numpy()
        return dict(zip(texts, chances, strict=True))


def _texts_of(phrases: Sequence[Phrase]) -> list[str]:
    """Return the texts of phrases and of their landmarks."""
    texts = []
    for phrase in phrases:
        at: Phrase | None = phrase
        while at is not None:
            texts.append(at.text)
            at = at.landmark
    return texts


def resolve(
    phrase: Phrase, boxes: np.ndarray, size: tuple[int, int], judge: Callable[[str], np.ndarray]
) -> np.ndarray:
    """Return the probability that each box is what a phrase means.

    Args:
        phrase: from `read_phrase`.
        boxes: (K, 4) xyxy pixels, K at least 1.
        size: width and height of the image.
        judge: returns CLIP's probabilities (K,), which sum to 1, for the words of a phrase.

    Returns:
        (K,) that sum to 1. A relation or word of place that no box satisfies is ignored.
    """
    chances = judge(phrase.text)
    if phrase.relation and phrase.landmark:
        there = resolve(phrase.landmark, boxes, size, judge)
        chances = _scaled(chances * (holds(phrase.relation, boxes) @ there), chances)
    if phrase.extremes:
        alike = chances / chances.max()  # relative to the best: of two dogs both are dogs
        order = np.sum([_order(extreme, boxes, size) for extreme in phrase.extremes], 0)
        first = [just(phrase.nth, alike[order > own].tolist()) for own in order]
        chances = _scaled(chances * np.array(first), chances)
    return chances


def holds(relation: str, boxes: np.ndarray) -> np.ndarray:
    """Return whether row i's box has a relation to column j's, (K, K) of 0 and 1."""
    x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2
    sizes = area(boxes)
    tables: Mapping[str, np.ndarray] = {
        "left": x[:, None] < x,
        "right": x[:, None] > x,
        "above": y[:, None] < y,
        "below": y[:, None] > y,
        "bigger": sizes[:, None] > sizes,
        "smaller": sizes[:, None] < sizes,
        "inside": _lies_inside(boxes, sizes),
    }
    return tables[relation].astype(np.float64)


def _lies_inside(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    low = np.maximum(boxes[:, None, :2], boxes[:, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[:, 2:])
    shared = area(np.concatenate([low, high], -1))
    return (shared >= _INSIDE * sizes[:, None]) & (sizes[:, None] < sizes)


def _order(extreme: str, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return how far ahead each box is by an extreme, (K,), in shares of the image."""
    x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2 / np.array(size)[:, None]
    big = area(boxes) / (size[0] * size[1])
    orders = {"left": -x, "right": x, "top": -y, "bottom": y, "big": big, "small": -big}
    return orders[extreme] if extreme in orders else -abs(x - 0.5)


def _scaled(chances: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    total = chances.sum()
    return chances / total if total > 0 else otherwise
