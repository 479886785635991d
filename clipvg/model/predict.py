"""Implementation of `GroundingModel.predict` for any number of images with their expressions."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from clipvg.boxes import convert
from clipvg.data.image import decode
from clipvg.data.inputs import ImageInput, as_image
from clipvg.data.letterbox import Square, image_boxes, make_square
from clipvg.errors import InputError
from clipvg.model.fast.tokens import packed_tokens
from clipvg.model.fast.towers import encode_texts
from clipvg.model.fusion import Features
from clipvg.model.predictions import Predictions
from clipvg.model.quality import PRESENT, QUALITY
from clipvg.model.signs import (
    CORNERS,
    ZOOM,
    carried_back,
    mean_overlap,
    move_into_corner,
    shown_in,
)
from clipvg.model.tokenizer import real_lengths

if TYPE_CHECKING:
    from clipvg.model.grounder import GroundingModel

BY_HEAD: Mapping[str, str] = {"scores": "quality head", "present": "quality head"}
BY_MEASURES: Mapping[str, str] = {"scores": "confidence", "present": "image_text"}
COPIES = 2  # of an image for `confidence`, as in the measure
_IMAGES = 32  # decoded and held at a time
_AT_ONCE = {"cpu": 4, "cuda": 64}  # images per tower pass; on a CPU more do not fit in the cache
_TOKENS = {"cpu": 1600, "cuda": 131_072}  # tokens fused at once; on a CPU likewise
_WIDTH = 512  # width that `_TOKENS` is for; narrower models take proportionally more


class Answers(NamedTuple):
    """Answers to B expressions."""

    boxes: Tensor  # (B, 4) cxcywh of the square
    scores: Tensor  # (B,)
    present: Tensor  # (B,)


@dataclass(frozen=True)
class Seen:
    """Features of U images."""

    features: Tensor  # (U, 1 + P, F)
    ignored: Tensor  # (U, P) bool
    # features and ignored patches of the images' copies, if the model's scores need them
    copies: tuple[tuple[Tensor, Tensor], ...] = ()
    patches: Tensor | None = None  # (U, P, D) projected patches, if a quality head reads them


def refuse_blank(expressions: Sequence[str]) -> None:
    """Raise InputError for expressions that are blank or not text."""
    for number, text in enumerate(expressions):
        if not isinstance(text, str):
            raise InputError(f"expression {number} is {text!r}, a {type(text).__name__}; pass text")
        if not text.strip():
            raise InputError(
                f"expression {number} is blank; write what to look for, e.g. 'dog on the left'"
            )


def warn_of_foreign(expressions: Iterable[str]) -> None:
    """Warn of expressions in other scripts than Latin, which CLIP was not trained on."""
    foreign = []
    for text in expressions:
        letters = [] if text.isascii() else [letter for letter in text if letter.isalpha()]
        if 2 * sum(ord(letter) > 0x24F for letter in letters) > len(letters):  # not Latin
            foreign.append(text)
    if foreign:
        warnings.warn(
            f"{len(foreign)} expressions are not in English, such as {foreign[0][:40]!r}; CLIP "
            "learned from English texts, so expect boxes at random: translate them",
            stacklevel=4,
        )


def predict(
    model: GroundingModel,
    images: Sequence[ImageInput],
    expressions: Sequence[Sequence[str]],
    *,
    scores: bool,
    batch_size: int | None,
    box_format: str,
) -> list[Predictions]:
    """Answer the expressions of each image; see `GroundingModel.predict`."""
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; expected at least 1.")
    for texts in expressions:
        refuse_blank(texts)
    warn_of_foreign(chain.from_iterable(expressions))
    load = partial(square_of, model=model)
    starts = range(0, len(images), _IMAGES)
    chunks = ((slice(at, at + _IMAGES), images[at : at + _IMAGES]) for at in starts)
    found: list[Predictions] = []
    by = model.scored_by if scores else {}
    for part, squares in decode(chunks, load, workers=None if len(images) > 1 else 0):
        if problem := next((s for s in squares if isinstance(s, InputError)), None):
            raise problem
        usable = [square for square in squares if isinstance(square, Square)]
        asked_of = expressions[part]
        answers = answer_squares(model, usable, asked_of, scores=scores, batch_size=batch_size)
        check_numbers(answers[0])
        shapes = [(box.width, box.height) for _, _, box in usable]
        counts = [len(asked) for asked in asked_of]
        corners = image_boxes(answers[0], np.repeat(shapes, counts, 0), model.backbone.image_size)
        boxes = convert(corners, "xyxy", box_format)
        ends = np.cumsum(counts)[:-1]
        of_images = (np.split(each, ends) for each in (boxes, *answers[1:]))
        for asked, shape, own, sure, there in zip(asked_of, shapes, *of_images, strict=True):
            found.append(Predictions(own, sure, there, tuple(asked), shape, by, box_format))
    return found


def check_numbers(boxes: np.ndarray) -> None:
    """Raise InputError if predicted boxes are not finite."""
    if not np.isfinite(boxes).all():
        raise InputError(
            "the model predicts boxes that are not numbers: its weights hold NaN or infinity. "
            "Train it again with a lower lr, or take another checkpoint."
        )


def expressions_of(
    given: str | Sequence[str | Sequence[str]], images: int, *, alone: bool
) -> list[list[str]]:
    """Return the expressions of each image from the argument of `GroundingModel.predict`."""
    if isinstance(given, str):
        return [[given]] * images
    if not isinstance(given, Iterable):
        raise InputError(
            f"expressions are a {type(given).__name__}; pass a text, or a list of them"
        )
    several = list(given)
    if alone:
        return [several]  # type: ignore[list-item]  # non-texts are refused later
    if len(several) != images:
        raise InputError(
            f"{images} images, but {len(several)} entries of expressions; pass a list with the "
            "expressions of each image, or one text for all"
        )
    return [[texts] if isinstance(texts, str) else list(texts) for texts in several]


def square_of(source: ImageInput, *, model: GroundingModel) -> Square:
    """Read an image and letterbox it to the model's square."""
    image = as_image(source, exif=model.preset.exif)
    return make_square(image, model.backbone.image_size, model.preset)


def answer_squares(
    model: GroundingModel,
    squares: Sequence[Square],
    expressions: Sequence[Sequence[str]],
    *,
    scores: bool,
    batch_size: int | None,
) -> tuple[np.ndarray, ...]:
    """Return boxes (R, 4) cxcywh, scores and present (R,) of all expressions, image by image."""
    asked = [text for texts in expressions for text in texts]
    if not asked:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32)
    seen = see(model, squares, scores=scores)
    distinct = list(dict.fromkeys(asked))
    place = {text: number for number, text in enumerate(distinct)}
    texts, mask = texts_of(model, distinct)
    text = torch.tensor([place[each] for each in asked], device=model.device)
    image = torch.tensor(
        [number for number, some in enumerate(expressions) for _ in some], device=model.device
    )
    tokens, order = None, torch.arange(len(asked), device=model.device)
    lengths = 2 + mask[text].sum(1) + (~seen.ignored[image]).sum(1)
    if model.packs(seen.features):  # project each token once, put equal lengths side by side
        tokens = packed_tokens(model, Features(seen.features, seen.ignored, texts, mask))
        order = lengths.argsort(stable=True)
    parts = []
    for places in _batches(model, lengths[order], batch_size):
        rows = order[places]
        own, index = image[rows].unique(return_inverse=True)
        of_texts = texts[text[rows]], mask[text[rows]]
        state = None
        if tokens is not None:
            state = tokens.states(text[rows].numpy(), image[rows].numpy()).squeeze(0)
        found = answer(model, seen, own, index, of_texts, scores=scores, state=state)
        parts.append([part.float().cpu().numpy() for part in found])
    back = order.argsort().cpu().numpy()
    return tuple(np.concatenate(part)[back] for part in zip(*parts, strict=True))


def see(model: GroundingModel, squares: Sequence[Square], *, scores: bool) -> Seen:
    """Encode each image once, and what the scores need if `scores`."""
    pixels = torch.stack([square.pixels for square in squares])
    mask = torch.stack([square.mask for square in squares])
    features, ignored = _encoded(model, pixels, mask)
    if not scores:
        return Seen(features, ignored)
    if model.quality is not None:
        return Seen(features, ignored, patches=model.visual_projection(features)[:, 1:])
    moved = [move_into_corner(pixels, mask, ZOOM, corner) for corner in CORNERS[:COPIES]]
    return Seen(features, ignored, tuple(_encoded(model, *copy) for copy in moved))


def answer(
    model: GroundingModel,
    seen: Seen,
    own: Tensor,
    index: Tensor,
    texts: tuple[Tensor, Tensor],
    *,
    scores: bool,
    state: Tensor | None = None,
) -> Answers:
    """Answer B expressions on U of the images in `seen`.

    `own` (U,) holds the rows of these images in `seen`, `index` (B,) the position of each
    expression's image among them; `texts` are features (B, T, E) and mask (B, T). `state` is [REG]
    (B, D) if it is already known. Without `scores` all scores are NaN.
    """
    given = Features(seen.features[own], seen.ignored[own], *texts, index)
    state = model.state(given) if state is None else state
    boxes = model.head(state)
    if not scores:
        nothing = torch.full(index.shape, torch.nan)
        return Answers(boxes, nothing, nothing)
    there = shown_in(model, given, index)
    if model.quality is not None and seen.patches is not None:
        patches = seen.patches[own].index_select(0, index)
        text = model.text_projection(texts[0])
        signs = model.quality.signs(state, boxes, patches, (text, texts[1]), there)
        return Answers(
            boxes, model.quality.judge(signs, QUALITY), model.quality.judge(signs, PRESENT)
        )
    found = [boxes.float()]
    for (features, ignored), corner in zip(seen.copies, CORNERS, strict=False):
        copy = Features(features[own], ignored[own], *texts, index)
        found.append(carried_back(model.fuse(copy).float(), ZOOM, corner))
    return Answers(boxes, mean_overlap(torch.stack(found)), there.sigmoid())


def _encoded(model: GroundingModel, pixels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    kind, dtype = "cuda" if model.device.type == "cuda" else "cpu", model.dtype
    parts = [
        model.encode_images(some.to(model.device, dtype)) for some in pixels.split(_AT_ONCE[kind])
    ]
    return torch.cat(parts), model.patch_mask(mask).to(model.device)


def texts_of(model: GroundingModel, distinct: list[str]) -> tuple[Tensor, Tensor]:
    """Return zero-padded features (D, T, E) of distinct texts, and mask (D, T)."""
    ids, mask = model.tokenize(distinct)
    lengths = real_lengths(mask).clamp(min=1)
    packed = model.device.type == "cpu"
    found = encode_texts(model.backbone, ids, lengths, prefix=model.prefix, packed=packed)
    texts = pad_sequence(found, batch_first=True)
    return texts, mask[:, : texts.shape[1]].to(model.device)


def _batches(model: GroundingModel, lengths: Tensor, batch_size: int | None) -> Iterator[Tensor]:
    """Yield consecutive rows: `batch_size` at a time, or as many tokens as suit the device."""
    rows = torch.arange(len(lengths), device=lengths.device)
    if batch_size is not None:
        yield from rows.split(batch_size)
        return
    kind = "cuda" if model.device.type == "cuda" else "cpu"
    most = _TOKENS[kind] * max(1, _WIDTH // model.reg_token.embedding_dim)
    batch = lengths.cumsum(0) // most
    yield from rows.split(batch.unique_consecutive(return_counts=True)[1].tolist())
