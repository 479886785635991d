"""Configuration of a grounding model, as plain values that fit in a JSON file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from clipvg.errors import InputError, near_matches
from clipvg.runtime.fields import BELOW_ONE, check_fields
from clipvg.runtime.files import Json

AUTO = "auto"
MAX_PARAMETERS = 10**10
TINY, TINY_TAG = "clipvg-tiny", "scenes-v1"  # the packaged backbone and the tag of its weights


@dataclass(kw_only=True)
class ModelOptions:
    """Options of a grounding model besides its backbone; the defaults are the published model.

    Args:
        pretrained: open_clip weight tag or a weight file; None for random towers, "auto" for the
            usual ones of the backbone.
        levels: zero-based blocks whose tokens are tapped, ascending; None for i * (L - 1) // 3.
        width: width d of the fusion encoder; None for that of the text features, which is the
            published choice: 512 for ViT-B, 768 for ViT-L/14.
        layers: number of fusion layers.
        heads: attention heads of the fusion encoder; divides width.
        feedforward: hidden width of its feed-forward blocks.
        dropout: probability in attention weights, after attention, inside and after the
            feed-forward, as published.
        preset: name of the input rules, ``default`` or ``published``.
        visual: ``levels`` (tapped blocks, ML_CLIP_VG) or ``last`` (tokens after the last layer
            norm and projection, CLIP_VG).
        prefix: None, ``published`` (fixed token ids), ``learned`` (trained embeddings in their
            place), or a list of token ids to prepend.
        prompt: template with ``{}`` where the expression goes; None for the bare expression.
        train_visual_positions: train the image tower's position table, as the reference code
            does; back-propagates through the whole tower.
        position_std: standard deviation of the initial position and [REG] tables.
    """

    pretrained: str | None = AUTO
    levels: list[int] | None = None
    width: Annotated[int | None, (1, 2**16)] = None
    layers: Annotated[int, (1, 1000)] = 6
    heads: Annotated[int, (1, 1000)] = 8
    feedforward: Annotated[int, (1, 2**20)] = 2048
    dropout: Annotated[float, (0, BELOW_ONE)] = 0.1
    preset: str = "default"
    visual: Literal["levels", "last"] = "levels"
    prefix: str | list[int] | None = None
    prompt: str | None = None
    train_visual_positions: bool = False
    position_std: Annotated[float, (0, 1000)] = 1.0

    def __post_init__(self) -> None:
        """Check the values that can be checked without a backbone."""
        check_fields(self, "model options")
        if self.width is not None and self.width % self.heads:
            raise InputError(
                f"width={self.width} is not divisible by heads={self.heads}. "
                f"Use a width that is a multiple of the heads."
            )
        if isinstance(self.prefix, str) and self.prefix not in ("published", "learned"):
            raise InputError(
                f"prefix={self.prefix!r} is unknown. Use 'published', 'learned', token ids or None."
            )
        if self.prompt is not None and "{}" not in self.prompt:
            raise InputError(
                f"prompt={self.prompt!r} has no '{{}}'. Put '{{}}' where the expression goes."
            )

    def configure(self, backbone: str, *, trained_on: list[str]) -> GroundingConfig:
        """Return the configuration of a model on a backbone."""
        fields = dataclasses.asdict(self)
        if self.pretrained == AUTO:
            fields["pretrained"] = TINY_TAG if backbone == TINY else "openai"
        return GroundingConfig(backbone=backbone, trained_on=trained_on, **fields)


@dataclass(kw_only=True)
class GroundingConfig(ModelOptions):
    """All choices that define a `GroundingModel`; saved as ``config.json``.

    Args:
        backbone: open_clip model name, ``clipvg-tiny``, ``hf-hub:org/repo``, ``local-dir:folder``.
        pretrained: open_clip weight tag or a weight file; None for random towers.
        trained_on: names of the sources the model was trained on.
        published: metadata of an authors' checkpoint that the model itself does not use, kept for
            exporting it again.
        quality: whether it has a quality head, from `clipvg.training.fit_quality`.
    """

    backbone: str = "ViT-B-16"
    pretrained: str | None = "openai"
    trained_on: list[str] = field(default_factory=list)
    published: Json | None = None
    quality: bool = False

    @classmethod
    def from_dict(cls, values: Json) -> GroundingConfig:
        """Build a configuration from a dictionary.

        Raises:
            InputError: an unknown field, with the nearest known ones.
        """
        known = [f.name for f in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise InputError(
                    f"{name!r} is not an option of a grounding model: {near_matches(name, known)}"
                )
        return cls(**{str(name): value for name, value in values.items()})

    def to_dict(self) -> Json:
        """Return the configuration as plain values."""
        return dataclasses.asdict(self)


def check_parameters(options: ModelOptions, clip: Mapping[str, Any], stored: int | None) -> None:
    """Check a lower bound of a model's parameter count before allocating memory for it.

    Raises:
        InputError: it exceeds the `stored` values of the weight file, or `MAX_PARAMETERS`.
    """
    vision, text = clip["vision_cfg"], clip["text_cfg"]
    width = options.width or clip["embed_dim"]
    count = options.layers * (4 * width**2 + 2 * width * options.feedforward)
    for tower in (vision, text):
        ratio = tower.get("mlp_ratio", 4.0)
        count += tower.get("layers", 12) * tower.get("width", 512) ** 2 * (4 + 2 * ratio)
    count += text.get("vocab_size", 49408) * text.get("width", 512)
    grid = vision.get("image_size", 224) // vision.get("patch_size", 16)
    count += grid**2 * vision.get("width", 768)
    mask = text.get("context_length", 77) ** 2  # computed, not stored
    if not 0 < count + mask <= MAX_PARAMETERS:
        raise InputError(
            f"a model of {count + mask:.3g} parameters; expected at most {MAX_PARAMETERS:.0e}"
        )
    if stored is not None and count > stored:
        raise InputError(
            f"its configuration asks for {count:,.0f} parameters or more, but its weights are "
            f"{stored:,} values; the files do not belong together"
        )
