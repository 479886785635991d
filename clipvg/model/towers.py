"""Find, check and build the CLIP towers of a grounding model."""

from __future__ import annotations

import difflib
import json
import warnings
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import open_clip
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transformer import TextTransformer, VisionTransformer
from torch import nn

from clipvg.errors import InputError, near_matches, one_line
from clipvg.model.config import TINY, TINY_TAG
from clipvg.model.hub import quiet, unreachable
from clipvg.model.weights import (
    CLIP_ANCHOR,
    as_open_clip,
    check_finite,
    copy_weights,
    find_state,
    is_openai,
    read_file,
)
from clipvg.runtime.files import Json

_BPE_VOCABULARY = 49408


@dataclass(frozen=True)
class Towers:
    """A CLIP model and what is needed to build it again."""

    clip: nn.Module  # the open_clip module
    config: Json  # its open_clip model configuration (embed_dim, quick_gelu, vision_cfg, text_cfg)
    mean: tuple[float, float, float]  # mean of the input pixels, RGB in [0, 1]
    std: tuple[float, float, float]  # standard deviation of the input pixels


def list_backbones() -> list[str]:
    """Return the names of the built-in backbones that a grounding model accepts, sorted."""
    configs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    return sorted([TINY, *(n for n, c in configs.items() if c and refusal(c) is None)])


def refusal(config: Json) -> str | None:
    """Return why an open_clip model configuration cannot be used, or None if it can."""
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    if vision.get("timm_model_name"):
        return "its image tower is a timm model, without tapped blocks"
    if isinstance(vision.get("layers"), list | tuple):
        return "its image tower is a ResNet, without patch tokens"
    if "multimodal_cfg" in config:
        return "it is a CoCa model, whose text tower appends a token"
    if text.get("hf_model_name"):
        return "its text tower is a Hugging Face model"
    if text.get("no_causal_mask"):
        return "its text tower is not causal"
    if text.get("embed_cls"):
        return "its text tower appends a class token"
    if text.get("hf_tokenizer_name") or text.get("vocab_size", _BPE_VOCABULARY) != _BPE_VOCABULARY:
        return "it does not use CLIP's byte-pair tokenizer"
    if text.get("tokenizer_kwargs"):
        return "it cleans expressions in its own way"
    return None


def open_towers(name: str, pretrained: str | None = None) -> Towers:
    """Build the towers of a named backbone.

    Args:
        name: open_clip model name, ``clipvg-tiny``, ``hf-hub:org/repo`` or ``local-dir:folder``.
        pretrained: weight tag, weight file, or None for random weights.

    Raises:
        InputError: unknown name or tag, an unsupported architecture, or unavailable weights.
    """
    if name == TINY:
        return _open_tiny(pretrained)
    if brings_weights := name.startswith(("hf-hub:", "local-dir:")):
        pretrained, config = None, _schema_config(name)
    else:
        name = name.replace("/", "-")
        config = open_clip.get_model_config(name)
    if config is None:
        raise _unknown_name(name)
    if (reason := refusal(config)) is not None:
        raise InputError(
            f"backbone {name!r} cannot be used: {reason}. Use a CLIP ViT such as 'ViT-B-16'."
        )
    if pretrained is None and not brings_weights:
        return build_towers(config)
    return _open_clip(name, pretrained, config)


def is_tag(name: str, pretrained: str | None) -> bool:
    """Whether weights can be found again by name: a tag, not a file and not random."""
    if pretrained is None:
        return False
    if name == TINY:
        return pretrained == TINY_TAG
    return bool(open_clip.get_pretrained_cfg(name.replace("/", "-"), pretrained))


def build_towers(
    config: Json,
    *,
    mean: tuple[float, float, float] = OPENAI_DATASET_MEAN,
    std: tuple[float, float, float] = OPENAI_DATASET_STD,
) -> Towers:
    """Build towers with random weights from an open_clip model configuration."""
    if (reason := refusal(config)) is not None:
        raise InputError(f"this CLIP configuration cannot be used: {reason}.")
    values = deepcopy(config)
    kind = CustomTextCLIP if values.pop("custom_text", False) else CLIP
    try:
        clip = kind(**values)
    except Exception as error:  # open_clip checks little, so torch may raise anything
        raise InputError(
            f"this CLIP configuration cannot be built: {one_line(error, 200)}. "
            "Expected embed_dim, vision_cfg and text_cfg of open_clip."
        ) from error
    return Towers(check_towers(clip), deepcopy(config), _triple(mean), _triple(std))


def check_towers(clip: nn.Module) -> nn.Module:
    """Return the module if its towers can be tapped, else raise InputError with the reason."""
    visual = getattr(clip, "visual", None)
    text = getattr(clip, "text", clip)
    if not isinstance(visual, VisionTransformer):
        reason = f"its image tower is a {type(visual).__name__}"
    elif visual.image_size[0] != visual.image_size[1]:
        reason = f"its images are not square but {visual.image_size}"
    elif visual.patch_size[0] != visual.patch_size[1]:
        reason = f"its patches are not square but {visual.patch_size}"
    elif text is not clip and not isinstance(text, TextTransformer):
        reason = f"its text tower is a {type(text).__name__}"
    elif getattr(text, "attn_mask", None) is None:
        reason = "its text tower is not causal"
    elif getattr(text, "cls_emb", None) is not None:
        reason = "its text tower appends a class token"
    else:
        return clip
    raise InputError(f"this CLIP model cannot be used: {reason}. Use a CLIP ViT like 'ViT-B-16'.")


def tiny_files() -> tuple[Path, Path]:
    """Return the configuration and weight file of the CLIP model that comes with the package."""
    folder = Path(str(files("clipvg.model"))) / "tiny"
    return folder / f"{TINY}.json", folder / f"{TINY_TAG}.safetensors"


def _open_tiny(pretrained: str | None) -> Towers:
    config_file, weights = tiny_files()
    if not config_file.is_file():
        raise InputError(f"{config_file} is missing from this installation. Reinstall clipvg.")
    towers = build_towers(json.loads(config_file.read_text(encoding="utf-8")))
    if pretrained is None:
        return towers
    source = weights if pretrained == TINY_TAG else Path(pretrained)
    if not source.is_file():
        raise InputError(
            f"{TINY} has no weights {pretrained!r}. Use pretrained={TINY_TAG!r} of a complete "
            "installation, a safetensors file, or None for random weights."
        )
    state = find_state(read_file(source), CLIP_ANCHOR, source)
    copy_weights(towers.clip, as_open_clip(state, towers.clip), f"{source} does not fit the towers")
    return towers


def _open_clip(name: str, pretrained: str | None, config: Json) -> Towers:
    """Let open_clip load the weights; QuickGELU is used if its configuration or the tag says so."""
    tag = open_clip.get_pretrained_cfg(name, pretrained) if pretrained else None
    if pretrained and not tag and Path(pretrained).is_file():
        return _open_file(name, Path(pretrained), config)
    if pretrained and not tag:
        tags = open_clip.list_pretrained_tags_by_model(name)
        raise InputError(
            f"pretrained={pretrained!r} is neither a weight tag of {name!r} nor a file: "
            f"{near_matches(pretrained, tags)}; pretrained=None gives random weights."
        )
    quick = bool(tag and tag.get("quick_gelu", False))
    remedy = "Without a network use pretrained=None (random weights) or the path of a weight file."
    if tag and tag.get("hf_hub") and (why := unreachable(tag["hf_hub"].rpartition("/")[0])):
        raise InputError(f"no weights {pretrained!r} for {name!r}: {why}. {remedy}")
    try:
        with quiet():
            clip = open_clip.create_model(name, pretrained=pretrained, force_quick_gelu=quick)
    except Exception as error:  # open_clip, the hub client and torch each raise their own
        raise InputError(
            f"no weights {pretrained!r} for {name!r}: {one_line(error, 300)}. {remedy}"
        ) from error
    config = deepcopy(config)
    config["quick_gelu"] = quick or bool(config.get("quick_gelu", False))
    mean = getattr(clip.visual, "image_mean", None) or OPENAI_DATASET_MEAN
    std = getattr(clip.visual, "image_std", None) or OPENAI_DATASET_STD
    check_finite(clip.state_dict(), f"weights {pretrained!r} of {name!r}" if tag else name)
    return Towers(check_towers(clip).float(), config, _triple(mean), _triple(std))


def _open_file(name: str, path: Path, config: Json) -> Towers:
    """Build towers with the weights of a file; OpenAI's weights imply QuickGELU."""
    content = read_file(path)
    state = find_state(content, CLIP_ANCHOR, path)
    if not state:
        raise InputError(
            f"{path}: no weights of a CLIP ViT, which have a tensor {CLIP_ANCHOR!r}; expected "
            f"those of {name!r}, as open_clip or OpenAI write them"
        )
    quick_name = f"{name}-quickgelu"
    if not config.get("quick_gelu") and quick_name in open_clip.list_models():
        if is_openai(state):
            config = {**config, "quick_gelu": True}
            warnings.warn(
                f"{path}: weights of OpenAI, which were trained with QuickGELU: it is used, as by "
                f"the backbone {quick_name!r}",
                stacklevel=2,
            )
        else:
            warnings.warn(
                f"{path}: does not say which activation it was trained with; GELU is used, as "
                f"{name!r} has it. Weights of OpenAI, MetaCLIP and DFN need the backbone "
                f"{quick_name!r}",
                stacklevel=2,
            )
    towers = build_towers(config)
    copy_weights(towers.clip, as_open_clip(state, towers.clip), f"{path} does not fit the towers")
    return towers


def _schema_config(name: str) -> Json:
    scheme, _, place = name.partition(":")
    if scheme == "hf-hub" and (why := unreachable(place)):
        raise InputError(f"backbone {name!r}: {why}. Use local-dir:FOLDER without a network.")
    try:
        with quiet():
            return open_clip.get_model_config(name)
    except Exception as error:  # the hub client raises its own, a folder gives OSError
        raise InputError(
            f"backbone {name!r} could not be read: {one_line(error, 300)}. Expected a folder or "
            f"repository with open_clip_config.json."
        ) from error


def _unknown_name(name: str) -> InputError:
    folded = {n.lower(): n for n in list_backbones()}
    near = [folded[n] for n in difflib.get_close_matches(name.lower(), list(folded), n=3)]
    hint = f"Did you mean {', '.join(near)}? " if near else ""
    return InputError(
        f"backbone {name!r} is unknown. {hint}clipvg.model.list_backbones() names all."
    )


def _triple(values: Iterable[float]) -> tuple[float, float, float]:
    first, second, third = (float(v) for v in values)
    return first, second, third
