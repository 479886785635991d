"""`clipvg predict`: boxes of expressions in one image."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from clipvg.cli.commands import Command, Result
from clipvg.cli.options import add_checkpoint, add_device
from clipvg.cli.output import check_writable, table
from clipvg.cli.parser import CommandParser
from clipvg.errors import InputError


def _configure(parser: CommandParser) -> None:
    parser.add_argument("image", type=str, metavar="IMAGE", help="an image file")
    parser.add_argument(
        "expression", nargs="+", type=str, metavar="EXPRESSION", help="what to look for"
    )
    add_checkpoint(parser)
    parser.add_argument("--out", type=str, metavar="FILE", help="write the image with its boxes")
    parser.add_argument(
        "--box_format", type=Literal["xyxy", "xywh", "cxcywh"], default="xyxy",
        help="of the printed boxes, pixels of the original image",
    )  # fmt: skip
    add_device(parser)


def _run(args: Namespace) -> Result:
    from clipvg.boxes import convert
    from clipvg.cli.devices import move
    from clipvg.data.image import read_image
    from clipvg.model import load

    if not all(expression.strip() for expression in args.expression):
        raise InputError("an expression is empty; write what to look for, e.g. 'dog on the left'")
    picture_path = _picture_path(args.out) if args.out else None
    model = move(load(args.checkpoint), args.device)
    image = read_image(args.image, exif=model.preset.exif)
    boxes = model.predict(image, args.expression)
    result: Result = {
        "image": args.image,
        "width": image.width,
        "height": image.height,
        "box_format": args.box_format,
        "expressions": args.expression,
        "boxes": [
            [round(float(value), 3) for value in box]
            for box in convert(boxes, "xyxy", args.box_format)
        ],
    }
    if picture_path is not None:
        from clipvg.report.pictures import draw_boxes, label_marks, save_picture

        save_picture(draw_boxes(image, label_marks(boxes, args.expression)), picture_path)
        result["picture"] = str(picture_path)
    return result


def _picture_path(name: str) -> Path:
    from clipvg.report.pictures import check_picture_path

    return check_writable(check_picture_path(name))


def _describe(result: Mapping[str, Any]) -> str:
    columns = {"xyxy": "x1 y1 x2 y2", "xywh": "x y w h", "cxcywh": "cx cy w h"}
    rows = [
        (expression, *(f"{value:.1f}" for value in box))
        for expression, box in zip(result["expressions"], result["boxes"], strict=True)
    ]
    text = table(("expression", *columns[result["box_format"]].split()), rows)
    return text + (f"\npicture: {result['picture']}" if "picture" in result else "")


COMMAND = Command(
    name="predict",
    example="clipvg predict street.jpg 'man in red' 'dog on the left' "
    "--checkpoint runs/demo/seed-0/ssa/model --out boxes.png",
    configure=_configure,
    run=_run,
    describe=_describe,
)
