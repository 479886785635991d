"""`clipvg predict`: boxes of expressions in one image."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Literal

from clipvg.cli.commands import Command
from clipvg.cli.options import add_shared, set_max_pixels
from clipvg.cli.output import check_writable, table
from clipvg.cli.parser import CommandParser
from clipvg.errors import InputError
from clipvg.report.numbers import percent
from clipvg.runtime.files import Json


def _configure(parser: CommandParser) -> None:
    parser.add_argument("image", type=str, metavar="IMAGE", help="an image file")
    parser.add_argument(
        "expression", nargs="+", type=str, metavar="EXPRESSION", help="what to look for"
    )
    add_shared(parser, "--checkpoint", "--max_pixels")
    parser.add_argument("--out", type=str, metavar="FILE", help="also draw the boxes")
    parser.add_argument(
        "--box_format", type=Literal["xyxy", "xywh", "cxcywh"], default="xyxy",
        help="format of the printed boxes, in pixels of the original image",
    )  # fmt: skip
    add_shared(parser, "--device")


def _run(args: Namespace) -> Json:
    from clipvg.boxes import convert
    from clipvg.cli.devices import choose_device
    from clipvg.data.image import read_image
    from clipvg.model import load
    from clipvg.model.predict import check_expressions

    check_expressions(args.expression)
    for expression in args.expression:
        if os.path.isfile(expression):
            raise InputError(
                f"{expression!r} is a file, not an expression; predict looks at one image a call"
            )
    set_max_pixels(args)
    drawing = _drawing_path(args.out, args.image) if args.out else None
    model = load(args.checkpoint).to(choose_device(args.device))
    image = read_image(args.image, exif=model.preset.exif)
    found = model.predict(image, args.expression)
    result: Json = {
        "image": args.image,
        "width": image.width,
        "height": image.height,
        "box_format": args.box_format,
        "expressions": args.expression,
        "boxes": [
            [round(float(value), 3) for value in box]
            for box in convert(found.boxes, "xyxy", args.box_format)
        ],
        "scores": [round(float(value), 4) for value in found.scores],
        "present": [round(float(value), 4) for value in found.present],
        "scored_by": dict(found.scored_by),
    }
    if drawing is not None:
        from clipvg.report.drawing import draw_boxes, label_marks, save_image

        marks = label_marks(found.boxes, args.expression, found.scores)
        save_image(draw_boxes(image, marks), drawing)
        result["drawing"] = str(drawing)
    return result


def _drawing_path(name: str, image: str) -> Path:
    from clipvg.report.drawing import check_image_path

    return check_writable(check_image_path(name), reads=[image])


def _describe(result: Json) -> str:
    columns = {"xyxy": "x1 y1 x2 y2", "xywh": "x y w h", "cxcywh": "cx cy w h"}
    rows = [
        (expression, *(f"{value:.1f}" for value in box), percent(sure), percent(there))
        for expression, box, sure, there in zip(
            *(result[key] for key in ("expressions", "boxes", "scores", "present")), strict=True
        )
    ]
    header = ("expression", *columns[result["box_format"]].split(), "right", "present")
    text = table(header, rows)
    return text + (f"\ndrawing: {result['drawing']}" if "drawing" in result else "")


COMMAND = Command(
    example="clipvg predict street.jpg 'man in red' 'dog on the left' "
    "--checkpoint runs/demo/seed-0/ssa/model --out boxes.png",
    configure=_configure,
    run=_run,
    describe=_describe,
)
