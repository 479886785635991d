"""Keys of features: models share features if, and only if, their keys are equal.

Keys exclude the device and dtype that features are stored in, which belong to the store, not to
the models.
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
    """Return the key of the square that a model sees of an image file."""
    preset = model.preset
    return model.backbone.image_size, preset.mean, preset.std, preset.exif


def image_key(model: GroundingModel) -> str:
    """Return the key of a model's features of an image file, and of the patches it ignores.

    It covers the weights and tapped levels of the image tower, the model's square, and the rule for
    patches of padding.
    """
    return json.dumps([model.backbone.image_key, pixels_key(model), model.preset.patch_mask])


def token_key(model: GroundingModel) -> str:
    """Return the key of the token ids of an expression, and of which of them are real."""
    tokenizer, preset = model.tokenizer, model.preset
    rules = [preset.special_names, preset.overlength, preset.text_mask]
    return json.dumps([tokenizer.prefix, tokenizer.prompt, tokenizer.context_length, *rules])


def text_key(model: GroundingModel) -> str:
    """Return the key of a model's features of an expression, and of which tokens are real.

    It covers the weights of the text tower, the token ids, and the embeddings of a learned prefix.
    """
    learned = None if model.prefix is None else digest_weights([("prefix", model.prefix)], [])
    return json.dumps([model.backbone.text_key, token_key(model), learned])
