"""Export checkpoints to other formats, or as programs for other runtimes."""

from __future__ import annotations

from pathlib import Path

from clipvg.errors import InputError, near_matches
from clipvg.runtime.gate import check_local

FORMATS = ("published", "safetensors", "onnx", "torch")
_FILE_ENDINGS = (".pth", ".pt", ".onnx", ".safetensors")


def export_checkpoint(
    checkpoint: str | Path,
    out: str | Path,
    *,
    format: str = "published",
    precision: str = "fp32",
) -> Path:
    """Write a checkpoint in another format; float32 weights are copied exactly.

    Args:
        checkpoint: whatever `clipvg.load` takes.
        out: the file (published) or folder (otherwise) to write; missing folders are made.
        format: "published", the ``.pth`` layout of CLIP-VG's authors; "safetensors", a folder
            with config.json and model.safetensors; "onnx" or "torch", a folder of programs that
            run without clipvg (docs/export.md).
        precision: precision of these programs: "fp32", "fp16", or for onnx "int8".

    Raises:
        InputError: an unknown format or precision, a checkpoint that cannot be read, a model that
            the published layout cannot express, or a folder that holds something else.
        MissingExtraError: the format is onnx or torch, and the extra `onnx` is not installed.
    """
    from clipvg.model import export_published, load

    if format not in FORMATS:
        raise InputError(f"format {format!r} is unknown; {near_matches(format, FORMATS)}")
    out = check_local(out)
    if format == "published" and (out.is_dir() or out.suffix != ".pth"):
        raise InputError(f"{out}: the published format is one file; give a name that ends in .pth")
    if format != "published" and (out.is_file() or out.suffix in _FILE_ENDINGS):
        is_it = "is a file" if out.is_file() else "is the name of a file"
        raise InputError(f"{out} {is_it}; the {format} format is a folder, give another name")
    if format in ("onnx", "torch"):
        from clipvg.model.export.programs import check_request, write_programs

        check_request(out, format, precision)
        write_programs(load(checkpoint), out, format=format, precision=precision)
        return out
    if precision != "fp32":
        raise InputError(f"precision={precision!r} is for onnx and torch, not for {format}")
    if format == "safetensors":
        _refuse_folder(out, checkpoint)
    model = load(checkpoint)
    if format == "published":
        export_published(model, out)
    else:
        model.save_pretrained(out)
    return out


def _refuse_folder(out: Path, checkpoint: str | Path) -> None:
    """Refuse to write a model into its own folder, or into one that holds other files."""
    if out.is_dir() and out.resolve() == Path(checkpoint).resolve():
        raise InputError(f"{out} is the checkpoint itself; name another folder")
    if out.is_dir() and any(out.iterdir()) and not (out / "config.json").is_file():
        raise InputError(f"{out} holds other files; name a new folder, e.g. {out / 'model'}")
