"""Layout of the authors' checkpoints: tensor names, shapes, and what they cannot express."""

from __future__ import annotations

import math
from pathlib import Path

from torch import Tensor

from clipvg.errors import InputError
from clipvg.model.backbone import default_levels
from clipvg.model.config import GroundingConfig
from clipvg.model.grounder import GroundingModel
from clipvg.model.tokenizer import PUBLISHED_PREFIX
from clipvg.runtime.files import Json

#: Our prefix of a parameter name -> theirs; the visual projection has two, see `parameter_names`.
NAMES = {
    "backbone.clip.": "clip.",
    "text_projection.": "text_proj.",
    "reg_token.": "reg_token.",
    "position.": "vl_pos_embed.",
    "fusion.layers.": "vl_transformer.encoder.layers.",
    "head.layers.": "bbox_embed.layers.",
}
IMAGE_ALIAS, TEXT_ALIAS = "image_encoder_clip_vg.", "text_encoder_clip_vg."
PROMPT_KEY = "language_prompt"
UNUSED = "visu_proj"
_PLAIN_OPTIONS = {
    "image_size", "patch_size", "width", "layers", "head_width", "heads", "mlp_ratio",
    "context_length", "vocab_size", "pos_embed_type",
}  # fmt: skip
HEAD_WIDTH = 64  # channels per head of every CLIP tower; the number of heads is not in the file


def parameter_names(model: GroundingModel) -> dict[str, str]:
    """Return our state dict names -> theirs."""
    projection = "ml_visu_proj." if model.config.visual == "levels" else "visu_proj."
    table = {**NAMES, "visual_projection.": projection}
    names = {}
    for ours in model.state_dict():
        for mine, theirs in table.items():
            if ours.startswith(mine):
                # A separate text module of open_clip is part of `clip` in the reference.
                names[ours] = theirs + ours.removeprefix(mine).removeprefix("text.")
    return names


def aliases(state: dict[str, Tensor]) -> list[tuple[str, str]]:
    """Return (alias, name) for each entry that the reference registers twice."""
    table = {IMAGE_ALIAS: "clip.visual.", TEXT_ALIAS: "clip."}
    return [
        (key, name + key.removeprefix(alias))
        for key in state
        for alias, name in table.items()
        if key.startswith(alias)
    ]


def architecture(path: Path, state: dict[str, Tensor], args: Json) -> tuple[GroundingConfig, Json]:
    """Infer a checkpoint's architecture from tensor shapes; heads, dropout and prompt from `args`.

    Returns:
        (our configuration, open_clip model configuration of the towers).

    Raises:
        InputError: a tensor that is needed for this is missing, or the levels are unknown.
    """
    try:
        clip = _clip_config(state)
        width = state["reg_token.weight"].shape[1]
        layers = _count(state, "vl_transformer.encoder.layers.")
        feedforward = state["vl_transformer.encoder.layers.0.linear1.weight"].shape[0]
        leveled = "ml_visu_proj.weight" in state
        read = state["ml_visu_proj.weight" if leveled else "visu_proj.weight"].shape[1]
    except KeyError as error:
        raise InputError(
            f"{path}: tensor {error.args[0]!r} is missing. Expected a complete checkpoint of the "
            f"reference code."
        ) from error
    levels = default_levels(clip["vision_cfg"]["layers"])
    expected = len(levels) * clip["vision_cfg"]["width"] if leveled else clip["embed_dim"]
    if read != expected:
        raise InputError(
            f"{path}: the visual projection reads {read} channels, but the towers give {expected}. "
            f"Only tapped blocks {list(levels)} or the last layer are known."
        )
    config = GroundingConfig(
        backbone="published",
        pretrained=None,
        width=width,
        layers=layers,
        heads=int(args.get("vl_nheads") or 8),
        feedforward=feedforward,
        dropout=float(args.get("vl_dropout", 0.1)),
        preset="published",
        visual="levels" if leveled else "last",
        prefix=_prefix(state),
        prompt=_prompt(args),
    )
    return config, clip


def _clip_config(state: dict[str, Tensor]) -> Json:
    vision = state["clip.visual.conv1.weight"]
    grid = math.isqrt(state["clip.visual.positional_embedding"].shape[0] - 1)
    text_width = state["clip.ln_final.weight"].shape[0]
    vision_ratio = state["clip.visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
    text_ratio = state["clip.transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
    return {
        "embed_dim": state["clip.text_projection"].shape[1],
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": grid * vision.shape[-1],
            "layers": _count(state, "clip.visual.transformer.resblocks."),
            "width": vision.shape[0],
            "head_width": min(HEAD_WIDTH, vision.shape[0]),
            "patch_size": vision.shape[-1],
            "mlp_ratio": vision_ratio / vision.shape[0],
        },
        "text_cfg": {
            "context_length": state["clip.positional_embedding"].shape[0],
            "vocab_size": state["clip.token_embedding.weight"].shape[0],
            "width": text_width,
            "heads": max(1, text_width // HEAD_WIDTH),
            "layers": _count(state, "clip.transformer.resblocks."),
            "mlp_ratio": text_ratio / text_width,
        },
    }


def _count(state: dict[str, Tensor], prefix: str) -> int:
    return len({k.removeprefix(prefix).split(".")[0] for k in state if k.startswith(prefix)})


def _prefix(state: dict[str, Tensor]) -> str | list[int] | None:
    if PROMPT_KEY not in state:
        return None
    # Stored as float and cast to integer at use, which truncates.
    ids = tuple(state[PROMPT_KEY].flatten().long().tolist())
    return "published" if ids == PUBLISHED_PREFIX else list(ids)


def _prompt(args: Json) -> str | None:
    prompt = str(args.get("prompt") or "").strip()
    if prompt in ("", "{pseudo_query}") or "{pseudo_query}" not in prompt:
        return None
    return prompt.replace("{pseudo_query}", "{}")


def cannot_express(model: GroundingModel) -> str | None:
    """Return why the reference code cannot build this model; None if it can."""
    config, clip = model.config, model.backbone.config
    visual, text = model.backbone.clip.visual, getattr(model.backbone.clip, "text", None)
    text = text or model.backbone.clip
    if not clip.get("quick_gelu"):
        return "its towers use GELU where the reference applies QuickGELU"
    for name, tower in (("image", visual.transformer), ("text", text.transformer)):
        block = tower.resblocks[0]
        if block.attn.num_heads != max(1, tower.width // HEAD_WIDTH):
            return f"its {name} tower does not have {HEAD_WIDTH} channels a head"
        if block.mlp.c_fc.out_features != 4 * tower.width:
            return f"the feed-forward of its {name} tower is not four times as wide as the tower"
    if odd := sorted((set(clip["vision_cfg"]) | set(clip["text_cfg"])) - _PLAIN_OPTIONS):
        return f"its towers have the option {odd[0]!r}"
    levels = default_levels(len(visual.transformer.resblocks))
    if config.visual == "levels" and tuple(model.backbone.levels) != levels:
        return f"it taps blocks {list(model.backbone.levels)}, not {list(levels)}"
    return "its prefix is learned" if config.prefix == "learned" else None


def reference_args(model: GroundingModel) -> Json:
    """Return the training arguments of the reference code that describe this model."""
    config = model.config
    return {
        "model": config.backbone.replace("-quickgelu", ""),
        "imsize": model.backbone.image_size,
        "max_query_len": model.backbone.context_length,
        "vl_hidden_dim": config.width,
        "vl_enc_layers": config.layers,
        "vl_nheads": config.heads,
        "vl_dim_feedforward": config.feedforward,
        "vl_dropout": config.dropout,
        "prompt": (config.prompt or "{}").replace("{}", "{pseudo_query}"),
    }
