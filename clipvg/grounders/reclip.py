"""Proposals that CLIP scores, with relations resolved on their boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from clipvg.features.regions import MODES, encode_regions, logit_scale, modes_of, whole_pixels
from clipvg.grounders.located import Located
from clipvg.grounders.placing import resolve
from clipvg.grounders.zeroshot import ZeroShotGrounder, need_boxes, without_boxes
from clipvg.measures.common.options import one_of
from clipvg.pseudo.meaning.phrases import Phrase, read_phrase


class ReCLIP(ZeroShotGrounder):
    """The detected box that CLIP finds to be what is said, after ReCLIP.

    Each box is shown to CLIP as its crop and as the image with all else blurred; the softmax of the
    summed similarities over the image's boxes is the probability of each. Words for places, sizes
    and the seven relations left, right, above, below, bigger, smaller and inside are told apart and
    multiplied in by rules of the boxes' centres and areas. A score is the probability.

    Subramanian et al., ReCLIP: a strong zero-shot baseline for referring expression comprehension,
    ACL 2022. It sums two CLIPs, RN50x16 and ViT-B/32, and parses with spaCy; here it is one CLIP
    and the rules of `clipvg.pseudo.meaning.phrases`, and a superlative weighs how likely others are
    of the kind.

    Args:
        mode: "both", "crop" or "blur".
        relations: tell places and relations apart; False lets CLIP judge the whole expression.
    """

    mode: str = one_of("both", MODES)
    relations: bool = True
    name: str = "reclip"

    def _place(
        self, image: Image.Image, expressions: Sequence[str], boxes: np.ndarray | None, why: str
    ) -> Located:
        boxes = need_boxes(self.name, boxes)
        if not len(boxes):
            return without_boxes(len(expressions), why)
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
        """CLIP's probabilities of the boxes (K,) by text."""
        cells = whole_pixels(boxes, image.size)
        with torch.no_grad():
            regions = encode_regions(self._towers, [(image, cells)], modes_of(self.mode))
            logits = torch.einsum("mke,te->tk", regions, self._texts(texts))
            chances = (logits * logit_scale(self._towers)).softmax(-1).double().cpu().numpy()
        return dict(zip(texts, chances, strict=True))


def _texts_of(phrases: Sequence[Phrase]) -> list[str]:
    """The texts of phrases and of their landmarks."""
    texts = []
    for phrase in phrases:
        at: Phrase | None = phrase
        while at is not None:
            texts.append(at.text)
            at = at.landmark
    return texts
