"""`clipvg export`: write a checkpoint in another format."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Literal

from clipvg.cli.commands import Command, check_writable
from clipvg.cli.parser import CommandParser
from clipvg.runtime.files import Json, read_json


def _configure(parser: CommandParser) -> None:
    parser.add_argument("checkpoint", metavar="CKPT", help="the model to convert")
    parser.add_argument(
        "--format", type=Literal["published", "safetensors", "onnx", "torch"], default="published",
        help="published: the .pth of CLIP-VG's authors; safetensors: a model folder; onnx, torch: "
        "a folder of programs that run without clipvg",
    )  # fmt: skip
    parser.add_argument(
        "--precision", type=Literal["fp32", "fp16", "int8"], default="fp32",
        help="number type of these programs; int8 is for onnx",
    )  # fmt: skip
    parser.add_argument("--out", required=True, metavar="PATH", help="the .pth file, or the folder")


def _run(args: Namespace) -> Json:
    from clipvg.model.export import export_checkpoint

    is_file = args.format == "published"
    target = Path(args.out) if is_file else Path(args.out) / "file"
    check_writable(target, reads=[args.checkpoint])
    path = export_checkpoint(
        args.checkpoint, args.out, format=args.format, precision=args.precision
    )
    size = sum(item.stat().st_size for item in path.rglob("*")) if path.is_dir() else None
    facts = read_json(path / "preprocessing.json") if path.is_dir() else {}
    return {
        "checkpoint": args.checkpoint,
        "format": args.format,
        "out": str(path),
        "bytes": path.stat().st_size if size is None else size,
        "agreement": facts.get("agreement"),
    }


def _describe(result: Json) -> str:
    line = f"{result['out']}  {result['bytes'] / 1e6:.1f} MB  ({result['format']})"
    if not (agreement := result["agreement"]):
        return line
    changes = ", ".join(f"{name} {c:.1g}" for name, c in agreement["largest_change"].items())
    overlap = f"IoU of the boxes {agreement['mean_iou']:.4f}, least {agreement['least_iou']:.4f}"
    return f"{line}\nlargest change beside the model: {changes}; {overlap}"


COMMAND = Command(
    example="clipvg export runs/refcoco/model --format published --out best_checkpoint.pth",
    configure=_configure,
    run=_run,
    describe=_describe,
)
