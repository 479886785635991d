"""Checkpoints in other formats."""

from __future__ import annotations

from pathlib import Path

from clipvg.errors import InputError, near_matches
from clipvg.runtime.gate import check_local

FORMATS = ("published", "safetensors")


def export_checkpoint(
    checkpoint: str | Path, out: str | Path, *, format: str = "published"
) -> Path:
    """Writes a checkpoint in another format; weights are copied exactly.

    Args:
        checkpoint: whatever `clipvg.load` takes.
        out: the file (published) or folder (safetensors) to write; missing folders are made.
        format: "published", the ``.pth`` layout of CLIP-VG's authors, or "safetensors", a folder
            with config.json and model.safetensors.

    Returns:
        The path that was written.

    Raises:
        InputError: an unknown format, a checkpoint that cannot be read, or a model that has no
            place in the published layout.
    """
    from clipvg.model import export_published, load

    if format not in FORMATS:
        raise InputError(f"format {format!r} is unknown; {near_matches(format, FORMATS)}")
    out = check_local(out)
    if format == "published" and (out.is_dir() or out.suffix != ".pth"):
        raise InputError(f"{out}: the published format is one file; give a name that ends in .pth")
    if format == "safetensors" and out.is_file():
        raise InputError(f"{out} is a file; the safetensors format is a folder, give another name")
    model = load(checkpoint)
    if format == "published":
        export_published(model, out)
    else:
        model.save_pretrained(out)
    return out
