"""The authors' `.pth` checkpoints, both ways; nothing is downloaded and no pickle is executed."""

from __future__ import annotations

import argparse
import math
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipvg.atomic import atomic_path
from clipvg.errors import InputError
from clipvg.model.backbone import Backbone, default_levels
from clipvg.model.config import GroundingConfig
from clipvg.model.grounder import GroundingModel
from clipvg.model.tokenizer import PUBLISHED_PREFIX
from clipvg.model.towers import build_towers

#: Our prefix of a parameter name -> theirs. The visual projection has two names, see `_names`.
_NAMES = {
    "backbone.clip.": "clip.",
    "text_projection.": "text_proj.",
    "reg_token.": "reg_token.",
    "position.": "vl_pos_embed.",
    "fusion.layers.": "vl_transformer.encoder.layers.",
    "head.layers.": "bbox_embed.layers.",
}
_IMAGE_ALIAS, _TEXT_ALIAS = "image_encoder_clip_vg.", "text_encoder_clip_vg."
_PROMPT = "language_prompt"
_UNUSED = "visu_proj"
_HEAD_WIDTH = 64  # of every CLIP tower; the number of heads is not in the file
_META = ("epoch", "val_accu")


def load_published(path: str | Path) -> GroundingModel:
    """Load a checkpoint of the reference CLIP-VG code.

    The architecture comes from tensor shapes and the number of fusion heads from `args`; the name
    of the CLIP model there is not trusted. Half-precision weights become float32, the towers use
    QuickGELU, the preset is "published".

    Args:
        path: file written by the authors' training script: a dictionary with `model` and `args`,
            or a bare state dict.

    Returns:
        The model, in evaluation mode.

    Raises:
        InputError: the file is missing, damaged, holds executable objects, or lacks tensors.
    """
    path = Path(path)
    checkpoint = _read(path)
    state, args = _state(path, checkpoint), _arguments(checkpoint)
    config, clip = _architecture(path, state, args)
    config.published = {"args": args, **{k: _plain(checkpoint.get(k)) for k in _META}}
    towers = build_towers(clip)
    backbone = Backbone(towers, name=config.backbone, visual=config.visual)
    model = GroundingModel(config, backbone)
    names = _names(model)
    missing = [theirs for theirs in names.values() if theirs not in state]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} tensors are missing, the first is {missing[0]!r}. Expected a "
            f"complete checkpoint of the reference code."
        )
    for ours in ("weight", "bias"):
        if model.config.visual == "levels" and f"{_UNUSED}.{ours}" in state:
            tensor = state[f"{_UNUSED}.{ours}"]
            model.unused.register_buffer(f"{_UNUSED}_{ours}", tensor.float())
    _warn_unknown(path, state, set(names.values()))
    weights = {ours: state[theirs].float() for ours, theirs in names.items()}
    try:
        model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise InputError(f"{path}: {' '.join(str(error).split())[:300]}") from error
    return model.eval()


def export_published(model: GroundingModel, path: str | Path) -> None:
    """Write a checkpoint that the reference CLIP-VG code reads.

    Tensors of the image and text encoders share storage with those of `clip`, as there. The
    optimizer is not written: the file serves evaluation and `--retrain`, not `--resume`.

    Args:
        model: a model whose architecture the reference code can build.
        path: file to write.

    Raises:
        InputError: the reference code cannot express this model; says why.
    """
    if (reason := _cannot_express(model)) is not None:
        raise InputError(
            f"this model cannot be written for the reference code: {reason}. Keep it as a folder "
            f"(save_pretrained)."
        )
    if model.config.preset != "published":
        warnings.warn(
            "the reference code will normalise pictures, mask text and cut boxes by its own rules "
            "(preset 'published'), which differ from this model's preset 'default'.",
            stacklevel=2,
        )
    known = model.config.published or {}
    checkpoint = {
        "model": _published_state(model),
        "epoch": known.get("epoch") or 0,
        "args": argparse.Namespace(**(known.get("args") or _reference_args(model))),
        "val_accu": torch.tensor(float(known.get("val_accu") or 0.0)),
    }
    with atomic_path(path) as partial:
        torch.save(checkpoint, partial)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path} is no file. Expected a checkpoint of the reference code.")
    with path.open("rb") as file:
        magic = file.read(2)
    if magic != b"PK" and magic[:1] != b"\x80":  # a zip, or the pickle of torch before 1.6
        raise InputError(
            f"{path} is {'empty' if not magic else 'not a torch file'}. Expected a checkpoint of "
            f"the reference code."
        )
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = " ".join(str(error).split())
        if "Unsupported" in text or "GLOBAL" in text:
            why = "holds objects that would run code, which are not loaded"
        else:
            why = "is no checkpoint or is damaged"
        raise InputError(f"{path} {why}. Expected tensors and an argparse.Namespace.") from error
    except Exception as error:  # zip, EOF and runtime errors: all mean damage
        text = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path} is damaged: {text}. Copy or download it again.") from error
    if not isinstance(checkpoint, dict):
        raise InputError(f"{path} holds a {type(checkpoint).__name__}. Expected a dictionary.")
    return checkpoint


def _state(path: Path, checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    inner = checkpoint.get("model", checkpoint)
    if not isinstance(inner, dict):
        raise InputError(f"{path}: 'model' is a {type(inner).__name__}. Expected a state dict.")
    state = {str(k).removeprefix("module."): v for k, v in inner.items() if isinstance(v, Tensor)}
    if "vl_pos_embed.weight" not in state or "reg_token.weight" not in state:
        raise InputError(
            f"{path} has no CLIP-VG model: 'vl_pos_embed.weight' is missing among {len(state)} "
            f"tensors. Expected a checkpoint of the reference code."
        )
    for alias, name in _aliases(state):
        if name not in state:
            state[name] = state[alias]
        elif state[alias].data_ptr() != state[name].data_ptr():
            if not torch.equal(state[alias], state[name]):
                raise InputError(
                    f"{path}: {alias!r} differs from {name!r}, which are one tensor in the "
                    f"reference code. The file was altered; use the original."
                )
    return state


def _aliases(state: dict[str, Tensor]) -> list[tuple[str, str]]:
    """(alias, name) for each entry that the reference registers twice."""
    found = []
    for key in state:
        if key.startswith(_IMAGE_ALIAS):
            found.append((key, "clip.visual." + key.removeprefix(_IMAGE_ALIAS)))
        elif key.startswith(_TEXT_ALIAS):
            found.append((key, "clip." + key.removeprefix(_TEXT_ALIAS)))
    return found


def _arguments(checkpoint: dict[str, Any]) -> dict[str, Any]:
    args = checkpoint.get("args")
    values = vars(args) if isinstance(args, argparse.Namespace) else args
    return {k: _plain(v) for k, v in values.items()} if isinstance(values, dict) else {}


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _architecture(
    path: Path, state: dict[str, Tensor], args: dict[str, Any]
) -> tuple[GroundingConfig, dict[str, Any]]:
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


def _clip_config(state: dict[str, Tensor]) -> dict[str, Any]:
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
            "head_width": min(_HEAD_WIDTH, vision.shape[0]),
            "patch_size": vision.shape[-1],
            "mlp_ratio": vision_ratio / vision.shape[0],
        },
        "text_cfg": {
            "context_length": state["clip.positional_embedding"].shape[0],
            "vocab_size": state["clip.token_embedding.weight"].shape[0],
            "width": text_width,
            "heads": max(1, text_width // _HEAD_WIDTH),
            "layers": _count(state, "clip.transformer.resblocks."),
            "mlp_ratio": text_ratio / text_width,
        },
    }


def _count(state: dict[str, Tensor], prefix: str) -> int:
    return len({k.removeprefix(prefix).split(".")[0] for k in state if k.startswith(prefix)})


def _prefix(state: dict[str, Tensor]) -> str | list[int] | None:
    if _PROMPT not in state:
        return None
    # Stored as float and cast to integer at use, which truncates.
    ids = tuple(state[_PROMPT].flatten().long().tolist())
    return "published" if ids == PUBLISHED_PREFIX else list(ids)


def _prompt(args: dict[str, Any]) -> str | None:
    prompt = str(args.get("prompt") or "").strip()
    if prompt in ("", "{pseudo_query}") or "{pseudo_query}" not in prompt:
        return None
    return prompt.replace("{pseudo_query}", "{}")


def _names(model: GroundingModel) -> dict[str, str]:
    """Our state dict name -> theirs."""
    projection = "ml_visu_proj." if model.config.visual == "levels" else "visu_proj."
    table = {**_NAMES, "visual_projection.": projection}
    names = {}
    for ours in model.state_dict():
        for mine, theirs in table.items():
            if ours.startswith(mine):
                # A separate text module of open_clip is part of `clip` in the reference.
                names[ours] = theirs + ours.removeprefix(mine).removeprefix("text.")
    return names


def _warn_unknown(path: Path, state: dict[str, Tensor], used: set[str]) -> None:
    known = {_PROMPT, f"{_UNUSED}.weight", f"{_UNUSED}.bias", *(a for a, _ in _aliases(state))}
    unknown = sorted(set(state) - used - known)
    if unknown:
        warnings.warn(
            f"{path}: {len(unknown)} tensors are not part of the model and are left out, the "
            f"first is {unknown[0]!r}.",
            stacklevel=3,
        )


def _cannot_express(model: GroundingModel) -> str | None:
    config, clip = model.config, model.backbone.config
    vision, text = clip["vision_cfg"], clip["text_cfg"]
    blocks = len(model.backbone.clip.visual.transformer.resblocks)
    if not clip.get("quick_gelu"):
        return "its towers use GELU where the reference applies QuickGELU"
    if vision["width"] > _HEAD_WIDTH and vision.get("head_width", 64) != _HEAD_WIDTH:
        return "its image tower does not have 64 channels a head"
    if text["heads"] != max(1, text["width"] // _HEAD_WIDTH):
        return "its text tower does not have 64 channels a head"
    if config.visual == "levels" and tuple(model.backbone.levels) != default_levels(blocks):
        return f"it taps blocks {list(model.backbone.levels)}, not {list(default_levels(blocks))}"
    if config.prefix == "learned":
        return "its prefix is learned"
    return None


def _published_state(model: GroundingModel) -> dict[str, Tensor]:
    ours = model.state_dict()
    names = {mine: theirs for mine, theirs in _names(model).items()}
    state = {theirs: ours[mine].detach().cpu().clone() for mine, theirs in names.items()}
    for name, tensor in list(state.items()):
        short = name.removeprefix("clip.")
        if name.startswith("clip.visual."):
            state[_IMAGE_ALIAS + name.removeprefix("clip.visual.")] = tensor
        elif short != name and not short.startswith("logit_"):
            state[_TEXT_ALIAS + short] = tensor
    if model.config.visual == "levels":
        width, embed = model.config.width, model.backbone.embed_dim
        kept = dict(model.unused.named_buffers())
        zeros = {"weight": torch.zeros(width, embed), "bias": torch.zeros(width)}
        for part, blank in zeros.items():
            state[f"{_UNUSED}.{part}"] = kept.get(f"{_UNUSED}_{part}", blank).detach().cpu()
    if model.config.prefix is not None:
        prefix = model.config.prefix
        ids = PUBLISHED_PREFIX if isinstance(prefix, str) else prefix
        state[_PROMPT] = torch.tensor(ids, dtype=torch.float32)
    return state


def _reference_args(model: GroundingModel) -> dict[str, Any]:
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
