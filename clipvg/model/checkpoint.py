"""Checkpoints as folders: config.json and model.safetensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TypeVar

from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from clipvg.errors import InputError, one_line
from clipvg.model.backbone import Backbone
from clipvg.model.config import GroundingConfig, check_parameters
from clipvg.model.towers import build_towers
from clipvg.model.weights import Undrawn, check_finite, copy_weights
from clipvg.runtime.files import Json, atomic_path
from clipvg.runtime.gate import MAX_CONFIG_BYTES, check_file, check_size, read_json, reading

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
_CLIP = "backbone.clip."
_UNUSED = "unused."
_FORMAT = 1
_NEEDED = {
    "model": dict, "clip": dict, "clip_mean": list, "clip_std": list, "clip_sha256": str,
    "clip_stored": bool,
}  # fmt: skip

_CARD = """---
library_name: clipvg
pipeline_tag: zero-shot-object-detection
tags: [visual-grounding, clip]
---
A CLIP-VG grounding model: `clipvg.load("hf-hub:<this repository>")`.
"""


Model = TypeVar("Model", bound="CheckpointMixin")


class CheckpointMixin(nn.Module, ModelHubMixin):
    """huggingface_hub's `save_pretrained`, `from_pretrained`, `push_to_hub` for our checkpoints."""

    config: GroundingConfig
    backbone: Backbone
    # Tensors of an authors' checkpoint that the model does not use. They are stored beside its own,
    # so that exporting restores the original file.
    leftovers: Mapping[str, Tensor] = MappingProxyType({})

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write both files, config.json last, so that an interrupted save has none."""
        backbone = self.backbone
        sha256 = backbone.weights_sha256()
        stored = sha256 != backbone.tag_sha256
        state = {
            k: v.detach().contiguous()
            for k, v in self.state_dict().items()
            if stored or not k.startswith(_CLIP)
        }
        state |= {_UNUSED + k: v.contiguous() for k, v in self.leftovers.items()}
        with atomic_path(save_directory / WEIGHTS_FILE) as partial:
            save_file(state, partial, metadata={"format": "pt"})
        header = {
            "format": _FORMAT,
            "model": self.config.to_dict(),
            "clip": backbone.config,
            "clip_mean": backbone.mean,
            "clip_std": backbone.std,
            "clip_sha256": sha256,
            "clip_stored": stored,
        }
        text = json.dumps(header, indent=2, ensure_ascii=False) + "\n"
        with atomic_path(save_directory / CONFIG_FILE) as partial:
            partial.write_text(text, encoding="utf-8")

    def generate_model_card(self, *args: object, **kwargs: object) -> ModelCard:
        """Return a short model card, which huggingface_hub writes beside the checkpoint."""
        return ModelCard(_CARD)

    @classmethod  # the mixin's takes any keywords; these are all that exist
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
    ) -> Self:
        """Load a checkpoint folder or a repository of the Hugging Face hub, ``org/name``.

        The other arguments are those of `huggingface_hub.snapshot_download`.

        Raises:
            InputError: nothing is there, files are damaged, or the backbone differs from the saved.
        """
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            folder = _download(
                str(pretrained_model_name_or_path),
                revision=revision,
                cache_dir=cache_dir,
                token=token,
                force_download=force_download,
                local_files_only=local_files_only,
            )
        with reading(folder, "a model that clipvg saved"):
            header = _read_header(folder / CONFIG_FILE)
            state = _read_weights(folder / WEIGHTS_FILE)
            with Undrawn():
                return _restore(cls, folder, header, state)


def _restore(
    make: Callable[[GroundingConfig, Backbone], Model],
    folder: Path,
    header: Json,
    state: dict[str, Tensor],
) -> Model:
    config = GroundingConfig.from_dict(header["model"])
    if header["clip_stored"]:
        stored = sum(tensor.numel() for tensor in state.values())
        check_parameters(config, header["clip"], stored)
        towers = build_towers(header["clip"], mean=header["clip_mean"], std=header["clip_std"])
        backbone = Backbone(towers, config)
    else:
        backbone = Backbone.create(config)
        if backbone.tag_sha256 != header["clip_sha256"]:
            raise InputError(
                f"{folder}: it was trained on {config.backbone} {config.pretrained!r} weights with "
                f"SHA-256 {header['clip_sha256'][:12]}…, but this installation has "
                f"{str(backbone.tag_sha256)[:12]}…. Install the version that saved it."
            )
    model = make(config, backbone)
    weights = {name: tensor for name, tensor in state.items() if not name.startswith(_UNUSED)}
    model.leftovers = {
        name.removeprefix(_UNUSED): tensor for name, tensor in state.items() if name not in weights
    }
    expected = {
        name for name in model.state_dict() if header["clip_stored"] or not name.startswith(_CLIP)
    }
    if odd := sorted(expected.symmetric_difference(weights)):
        raise InputError(
            f"{folder / WEIGHTS_FILE}: {len(odd)} tensors are missing or unknown, the first is "
            f"{odd[0]!r}. The file does not belong to its config.json; save the model again."
        )
    what = f"{folder / WEIGHTS_FILE} does not fit its config.json"
    copy_weights(model, weights, what, strict=False)
    return model.eval()


def _read_header(path: Path) -> Json:
    if not path.is_file():
        inner = path.parent / "model" / CONFIG_FILE
        hint = (
            f"Use {inner.parent}."
            if inner.is_file()
            else "Expected a folder written by save_pretrained or `clipvg train`."
        )
        raise InputError(f"{path.parent} has no {CONFIG_FILE}. {hint}")
    header = check_size(read_json(path, "JSON", MAX_CONFIG_BYTES), path)
    if not isinstance(header, dict) or not {"format", *_NEEDED} <= header.keys():
        raise InputError(
            f"{path} is not the configuration of a clipvg model. Expected a folder written by "
            f"save_pretrained or `clipvg train`."
        )
    for name, kind in _NEEDED.items():
        if not isinstance(header[name], kind):
            raise InputError(f"{path}: {name} is {str(header[name])[:60]!r}. Save the model again.")
    if header.get("format") != _FORMAT:
        raise InputError(
            f"{path} has format {header.get('format')!r}, this version reads {_FORMAT}. "
            f"Update clipvg."
        )
    return header


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        raise InputError(f"{path} is missing. A checkpoint is {CONFIG_FILE} and {WEIGHTS_FILE}.")
    try:
        state = load_file(check_file(path))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged: {error}. Copy or save it again.") from error
    check_finite(state, path)
    return state


def _download(repository: str, **options: Any) -> Path:
    try:
        files = [CONFIG_FILE, WEIGHTS_FILE]
        return Path(snapshot_download(repository, allow_patterns=files, **options))
    except Exception as error:  # the hub client has many error types
        text = one_line(error, 200)
        raise InputError(
            f"{repository!r} is not a folder here, nor reachable on the Hugging Face hub: {text}. "
            f"Check the path, or the network for hub repositories."
        ) from error
