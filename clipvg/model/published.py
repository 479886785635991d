"""Read and write the authors' `.pth` checkpoints without downloading or executing pickles."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch
from torch import Tensor

from clipvg.errors import InputError
from clipvg.model.backbone import Backbone
from clipvg.model.config import check_parameters
from clipvg.model.grounder import GroundingModel
from clipvg.model.published_layout import (
    IMAGE_ALIAS,
    PROMPT_KEY,
    TEXT_ALIAS,
    UNUSED,
    aliases,
    architecture,
    cannot_express,
    parameter_names,
    reference_args,
)
from clipvg.model.tokenizer import prefix_ids
from clipvg.model.towers import build_towers
from clipvg.model.weights import copy_weights, find_state, read_file
from clipvg.runtime.files import Json, atomic_path
from clipvg.runtime.gate import reading

_META = ("epoch", "val_accu")
_ANCHOR = "vl_pos_embed.weight"


def load_published(path: str | Path) -> GroundingModel:
    """Load a checkpoint of the reference CLIP-VG code.

    The architecture comes from tensor shapes, the number of fusion heads from `args`; the name of
    the CLIP model there is not trusted. Half-precision weights become float32, the towers use
    QuickGELU, and the preset is "published".

    Args:
        path: file written by the authors' training script: a dictionary with `model` and `args`.
            A bare or otherwise wrapped state dict is accepted too, also of a compiled or
            data-parallel model.

    Returns:
        The model, in evaluation mode.

    Raises:
        InputError: the file is missing, damaged, holds executable objects, lacks tensors, or some
            of its weights are not finite.
    """
    path = Path(path)
    checkpoint = read_file(path)
    with reading(path, "a checkpoint of the reference code"):
        return _restore(path, checkpoint)


def _restore(path: Path, checkpoint: Json) -> GroundingModel:
    state, args = _state(path, checkpoint), _arguments(checkpoint)
    config, clip = architecture(path, state, args)
    config.published = {"args": args, **{k: _plain(_value(checkpoint, k)) for k in _META}}
    check_parameters(config, clip, sum(tensor.numel() for tensor in state.values()))
    model = GroundingModel(config, Backbone(build_towers(clip), config))
    names = parameter_names(model)
    missing = [theirs for theirs in names.values() if theirs not in state]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} tensors are missing, the first is {missing[0]!r}. Expected a "
            f"complete checkpoint of the reference code."
        )
    if model.config.visual == "levels":
        model.leftovers = {
            f"{UNUSED}_{part}": state[f"{UNUSED}.{part}"].float()
            for part in ("weight", "bias")
            if f"{UNUSED}.{part}" in state
        }
    _warn_unknown(path, state, set(names.values()))
    weights = {ours: state[theirs].float() for ours, theirs in names.items()}
    copy_weights(model, weights, str(path), strict=False)
    return model.eval()


def export_published(model: GroundingModel, path: str | Path) -> None:
    """Write a checkpoint that the reference CLIP-VG code reads.

    As in that code, tensors of the image and text encoders share storage with those of `clip`. The
    optimizer is not written: the file serves evaluation and `--retrain`, not `--resume`.

    Args:
        model: a model whose architecture the reference code can build.
        path: file to write.

    Raises:
        InputError: the reference code cannot express this model; the message says why.
    """
    if (reason := cannot_express(model)) is not None:
        raise InputError(
            f"this model cannot be written for the reference code: {reason}. Keep it as a folder "
            f"(save_pretrained)."
        )
    if model.config.preset != "published":
        warnings.warn(
            "the reference code will normalise images, mask text and cut boxes by its own rules "
            "(preset 'published'), which differ from this model's preset 'default'.",
            stacklevel=2,
        )
    known = model.config.published or {}
    checkpoint = {
        "model": _published_state(model),
        "epoch": known.get("epoch") or 0,
        "args": argparse.Namespace(**(known.get("args") or reference_args(model))),
        "val_accu": torch.tensor(float(known.get("val_accu") or 0.0)),
    }
    with atomic_path(path) as partial:
        torch.save(checkpoint, partial)


def _state(path: Path, checkpoint: Json) -> dict[str, Tensor]:
    state = find_state(checkpoint, _ANCHOR, path)
    for needed in (_ANCHOR, "reg_token.weight"):
        if needed not in state:
            raise InputError(
                f"{path} has no CLIP-VG model: {needed!r} is missing. Expected a checkpoint of the "
                "reference code."
            )
    for alias, name in aliases(state):
        if name not in state:
            state[name] = state[alias]
        elif state[alias].data_ptr() == state[name].data_ptr():
            continue
        elif not torch.equal(state[alias].float(), state[name].float()):
            raise InputError(
                f"{path}: {alias!r} differs from {name!r}, which are one tensor in the reference "
                f"code. The file was altered; use the original."
            )
    return state


def _arguments(checkpoint: Json) -> Json:
    args = _value(checkpoint, "args")
    return {str(k): _plain(v) for k, v in args.items()} if isinstance(args, dict) else {}


def _value(content: Json, name: str) -> object:
    """Return the value of a name in nested dictionaries, outer ones first; None if absent."""
    if name in content:
        return content[name]
    inner = (_value(part, name) for part in content.values() if isinstance(part, dict))
    return next((value for value in inner if value is not None), None)


def _plain(value: object) -> object:
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _warn_unknown(path: Path, state: dict[str, Tensor], used: set[str]) -> None:
    known = {PROMPT_KEY, f"{UNUSED}.weight", f"{UNUSED}.bias", *(a for a, _ in aliases(state))}
    unknown = sorted(set(state) - used - known)
    if unknown:
        warnings.warn(
            f"{path}: {len(unknown)} tensors are not part of the model and are left out, the "
            f"first is {unknown[0]!r}.",
            stacklevel=3,
        )


def _published_state(model: GroundingModel) -> dict[str, Tensor]:
    ours = model.state_dict()
    names = parameter_names(model).items()
    state = {theirs: ours[mine].detach().cpu().clone() for mine, theirs in names}
    for name, tensor in list(state.items()):
        short = name.removeprefix("clip.")
        if name.startswith("clip.visual."):
            state[IMAGE_ALIAS + name.removeprefix("clip.visual.")] = tensor
        elif short != name and not short.startswith("logit_"):
            state[TEXT_ALIAS + short] = tensor
    if model.config.visual == "levels":
        width = model.position.embedding_dim
        # 512 channels in the reference, whatever the towers are
        zeros = {"weight": torch.zeros(width, 512), "bias": torch.zeros(width)}
        for part, blank in zeros.items():
            state[f"{UNUSED}.{part}"] = (
                model.leftovers.get(f"{UNUSED}_{part}", blank).detach().cpu()
            )
    if model.config.prefix is not None:
        ids = prefix_ids(model.config.prefix)
        state[PROMPT_KEY] = torch.tensor(ids, dtype=torch.float32)
    return state
