"""Check images and expressions before a training, which unusable ones would stop later."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from clipvg.data.image import decode
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.model.tokenizer import Tokenizer
from clipvg.runtime import distributed
from clipvg.runtime.images import look_at_image
from clipvg.runtime.progress import progress_bar

OnError = Literal["raise", "drop"]
_IMAGES = 64  # decoded at a time
_SHOWN = 3  # rows that a message names


def usable_labels(
    labels: LabelTable,
    tokenizer: Tokenizer | None,
    *,
    on_error: OnError = "raise",
    device: torch.device | None = None,
    progress: bool = False,
) -> LabelTable:
    """Return the labels whose image can be read and whose expression is not too long.

    Every distinct image is decoded once; under `torchrun` the processes share them out, and all
    must call.

    Args:
        labels: N labels with an image root.
        tokenizer: tokenizer of the model that the labels are for, with its preset; None for
            another kind of grounder, which itself reports expressions that are too long.
        on_error: "raise" refuses the labels if one cannot be used; "drop" leaves such labels out
            with a warning.
        device: where the model is.
        progress: show a bar where it takes over two seconds.

    Raises:
        InputError: labels that cannot be used, with their first rows; or none that can.
    """
    faults, turned = _image_faults(labels, device, progress=progress)
    faults |= too_long(labels, [tokenizer] if tokenizer else [])
    if tokenizer and not tokenizer.preset.exif:
        _warn_of_turned(labels, turned, tokenizer.preset.name)
    return _without(labels, faults, on_error)


def short_labels(
    labels: LabelTable, tokenizers: Iterable[Tokenizer], *, on_error: OnError = "raise"
) -> LabelTable:
    """Return the labels whose expression none of several models refuses; see `usable_labels`.

    Images are not checked: scoring leaves labels unscored whose image cannot be read.
    """
    return _without(labels, too_long(labels, tokenizers), on_error)


def refuse_long(labels: LabelTable, tokenizers: Iterable[Tokenizer]) -> None:
    """Raise InputError for labels that `short_labels` would leave out."""
    if faults := too_long(labels, tokenizers):
        raise InputError(f"{_described(faults, len(labels))} Fix them, or take these rows out.")


def too_long(labels: LabelTable, tokenizers: Iterable[Tokenizer]) -> dict[int, str]:
    """Return a message for each row that has more tokens than a model takes."""
    refusing = [each for each in tokenizers if each.preset.overlength == "error"]
    texts = labels.expressions if refusing else []
    return {
        row: f"{texts[row][:40]!r}… has {count} tokens, more than {tokenizer.context_length}"
        for tokenizer in refusing
        for row, count in tokenizer.too_long(texts).items()
    }


def _without(labels: LabelTable, faults: Mapping[int, str], on_error: OnError) -> LabelTable:
    """Return the labels without faults; raise if `on_error` says so or none is left."""
    if on_error not in ("raise", "drop"):
        raise InputError(f"on_error={on_error!r}: choose from 'raise', 'drop'")
    if not faults:
        return labels
    described = _described(faults, len(labels))
    if on_error == "raise":
        raise InputError(f"{described} Fix them, or leave them out with on_error='drop'.")
    if len(faults) == len(labels):
        raise InputError(f"{described} None is left.")
    warnings.warn(f"left out: {described}", stacklevel=3)
    keep = np.ones(len(labels), dtype=bool)
    keep[list(faults)] = False
    return labels.select(keep)


def _image_faults(
    labels: LabelTable, device: torch.device | None, *, progress: bool
) -> tuple[dict[int, str], dict[int, tuple[int, int]]]:
    """Return by row why its image cannot be read, and by row the size of images that EXIF turns."""
    world = distributed.join(device)
    names, image_of = labels.distinct_images()
    mine = range(world.rank, len(names), world.size)
    chunks = (
        (some, [labels.image_path(names[image]) for image in some])
        for some in (mine[at : at + _IMAGES] for at in range(0, len(mine), _IMAGES))
    )
    seen: dict[int, str | tuple[int, int]] = {}
    bar = progress_bar(
        len(mine), desc="look at images", unit="image", show=progress and world.is_main, leave=False
    )
    with bar, closing(decode(chunks, look_at_image)) as looked:
        for some, found in looked:
            for image, facts in zip(some, found, strict=True):
                if isinstance(facts, InputError):
                    seen[image] = str(facts)
                elif facts[1]:
                    seen[image] = facts[0]
            bar.update(len(some))
    for part in distributed.gather_objects(seen, world):
        seen |= part
    by_row = [(row, seen[image]) for row, image in enumerate(image_of.tolist()) if image in seen]
    faults = {row: fact for row, fact in by_row if isinstance(fact, str)}
    return faults, {row: fact for row, fact in by_row if not isinstance(fact, str)}


def _described(faults: Mapping[int, str], count: int) -> str:
    rows = sorted(faults)
    first = {faults[row]: row for row in reversed(rows)}  # labels share the fault of an image
    named = sorted(first.items(), key=lambda item: item[1])
    shown = "; ".join(f"row {row}: {fault}" for fault, row in named[:_SHOWN])
    more = "; …" if len(named) > _SHOWN else ""
    return f"{len(rows):,} of {count:,} labels cannot be used ({shown}{more})."


def _warn_of_turned(labels: LabelTable, turned: Mapping[int, tuple[int, int]], preset: str) -> None:
    """Warn of boxes that are displaced for a preset that sees images as they are stored."""
    sizes = labels.sizes()
    rows = [row for row, size in turned.items() if tuple(sizes[row]) != size]
    if rows:
        name = Path(labels["image"][rows[0]].as_py()).name
        warnings.warn(
            f"{len(rows):,} labels are on photographs that EXIF rotates, the first on {name} (row "
            f"{rows[0]}). Preset {preset!r} sees them as they are stored: boxes of the upright "
            "image are displaced. Use preset 'default', or store the files upright",
            stacklevel=3,
        )
