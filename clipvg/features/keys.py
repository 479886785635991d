"""What decides a feature: models with equal keys share features, and no others do.

The device and the number type that features are kept in are facts of who keeps them, not of the
models, and are no part of the keys.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from clipvg.model.backbone import digest_weights

if TYPE_CHECKING:
    from clipvg.data.preset import Channels
    from clipvg.model.grounder import GroundingModel

PixelsKey = tuple[int, "Channels", "Channels", bool]


def pixels_key(model: GroundingModel) -> PixelsKey:
    """Return what decides the square that a model sees of an image file."""
    preset = model.preset
    return model.backbone.image_size, preset.mean, preset.std, preset.exif


def image_key(model: GroundingModel) -> str:
    """Return what decides a model's features of an image file, and which patches it ignores.

    That is the weights and the tapped levels of its image tower, its square, and the rule for
    patches of padding.
    """
    return json.dumps([model.backbone.image_key, pixels_key(model), model.preset.patch_mask])


def token_key(model: GroundingModel) -> str:
    """Return what decides the token ids of an expression, and which of them are real."""
    tokenizer, preset = model.tokenizer, model.preset
    rules = [preset.special_names, preset.overlength, preset.text_mask]
    return json.dumps([tokenizer.prefix, tokenizer.prompt, tokenizer.context_length, *rules])


def text_key(model: GroundingModel) -> str:
    """Return what decides a model's features of an expression, and which tokens are real.

    That is the weights of its text tower, the token ids, and the embeddings of a learned prefix.
    """
    learned = None if model.prefix is None else digest_weights([("prefix", model.prefix)], [])
    return json.dumps([model.backbone.text_key, token_key(model), learned])
