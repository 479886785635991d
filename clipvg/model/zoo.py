"""Create a grounding model by name, or load one from a folder, a file or the hub."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from clipvg.errors import InputError
from clipvg.model.backbone import Backbone
from clipvg.model.config import TINY, TINY_TAG, GroundingConfig
from clipvg.model.grounder import GroundingModel
from clipvg.model.published import load_published


def create_model(
    backbone: str = "ViT-B-16",
    pretrained: str | None = "openai",
    *,
    levels: Sequence[int] | None = None,
    preset: str = "default",
    **options: object,
) -> GroundingModel:
    """Make an untrained grounding model.

    Args:
        backbone: any open_clip ViT with CLIP's own text tower (`list_backbones`),
            ``clipvg-tiny``, ``hf-hub:org/repo`` or ``local-dir:folder``.
        pretrained: open_clip weight tag, weight file, or None for random towers. "openai" stands
            for the weights in the package with ``clipvg-tiny``; a hub repository or a folder has
            its own. A tag decides the activation, and so does one of OpenAI's own files; other
            weights trained with QuickGELU need a backbone that ends in ``-quickgelu``.
        levels: zero-based blocks to tap; None for four evenly spaced ones.
        preset: "default" or "published".
        **options: any other field of `GroundingConfig`.

    Returns:
        The model, on the CPU, in evaluation mode.

    Raises:
        InputError: unknown names or options, unsupported towers, unavailable weights.

    Example:
        >>> model = create_model("clipvg-tiny", width=64, layers=2)
    """
    if backbone == TINY and pretrained == "openai":
        pretrained = TINY_TAG
    elif backbone.startswith(("hf-hub:", "local-dir:")):
        pretrained = None
    tapped = list(levels) if isinstance(levels, Iterable) else levels
    options |= {"levels": tapped, "preset": preset}
    config = GroundingConfig.from_dict({"backbone": backbone, "pretrained": pretrained, **options})
    return GroundingModel(config, Backbone.create(config)).eval()


def load(path: str | Path) -> GroundingModel:
    """Load a grounding model.

    Args:
        path: a folder with config.json and model.safetensors, an authors' ``.pth`` checkpoint,
            ``hf-hub:org/repo`` or ``local-dir:folder``.

    Returns:
        The model, on the CPU, in evaluation mode.

    Raises:
        InputError: nothing is there, or it cannot be loaded.
    """
    text = str(path)
    if text.startswith("hf-hub:"):
        return GroundingModel.from_pretrained(text.removeprefix("hf-hub:"))
    place = Path(text.removeprefix("local-dir:")).expanduser()
    if place.is_dir():
        return GroundingModel.from_pretrained(place)
    if not place.exists():
        names = [p.name for p in place.parent.iterdir()] if place.parent.is_dir() else []
        hint = "name a model folder, a .pth file, or hf-hub:org/name."
        if near := get_close_matches(place.name, names, n=1):
            hint = f"did you mean {place.parent / near[0]}?"
        raise InputError(f"checkpoint {text!r} does not exist; {hint}")
    if place.suffix in (".safetensors", ".json"):
        raise InputError(f"{place} is one file of a checkpoint. Use its folder {place.parent}.")
    return load_published(place)
