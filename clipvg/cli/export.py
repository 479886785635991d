"""`clipvg export`: a checkpoint in another format."""

from __future__ import annotations

from argparse import Namespace
from typing import Literal

from clipvg.cli.commands import Command
from clipvg.cli.parser import CommandParser
from clipvg.runtime.files import Json


def _configure(parser: CommandParser) -> None:
    parser.add_argument("checkpoint", type=str, metavar="CKPT", help="the model to convert")
    parser.add_argument(
        "--format", type=Literal["published", "safetensors"], default="published",
        help="published: the .pth of CLIP-VG's authors; safetensors: a model folder",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        type=str,
        required=True,
        metavar="PATH",
        help="the .pth file, or the folder",
    )


def _run(args: Namespace) -> Json:
    from clipvg.model.export import export_checkpoint

    path = export_checkpoint(args.checkpoint, args.out, format=args.format)
    size = sum(item.stat().st_size for item in path.rglob("*")) if path.is_dir() else None
    return {
        "checkpoint": args.checkpoint,
        "format": args.format,
        "out": str(path),
        "bytes": path.stat().st_size if size is None else size,
    }


def _describe(result: Json) -> str:
    return f"{result['out']}  {result['bytes'] / 1e6:.1f} MB  ({result['format']})"


COMMAND = Command(
    example="clipvg export runs/refcoco/model --format published --out best_checkpoint.pth",
    configure=_configure,
    run=_run,
    describe=_describe,
)
