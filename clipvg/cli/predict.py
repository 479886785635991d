"""`clipvg predict`: predict the boxes of expressions in one image, or for every row of a table."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from clipvg.cli.commands import Command, check_writable, table
from clipvg.cli.model import add_model, check_model, make_grounder
from clipvg.cli.options import add_batch_size, add_shared, add_store, set_max_pixels
from clipvg.cli.parser import CommandParser
from clipvg.cli.predict_table import AnswerFormat, describe_table, predict_table
from clipvg.errors import InputError
from clipvg.report.numbers import percent
from clipvg.runtime.files import Json


def _configure(parser: CommandParser) -> None:
    parser.add_argument(
        "image", metavar="IMAGE",
        help="an image file; or a table (.csv, .tsv, .jsonl, .parquet) with the columns image and "
        "expression",
    )  # fmt: skip
    parser.add_argument(
        "expression", nargs="*", metavar="EXPRESSION", help="what to look for; a table has its own"
    )
    add_model(parser, observations="boxes that a --grounder chooses among")
    add_shared(parser, "--max_pixels")
    parser.add_argument(
        "--out", metavar="FILE",
        help="also draw the boxes; for a table, where to write the answers: .parquet, .jsonl, "
        ".csv, .tsv or .json",
    )  # fmt: skip
    parser.add_argument(
        "--heatmap", metavar="FILE", help="also draw where the model looks in the image"
    )
    parser.add_argument(
        "--format", type=AnswerFormat | None,
        help="format of a table's answers, if not by the ending: coco (results, as pycocotools "
        "reads them) or label-studio (predictions to review), both .json",
    )  # fmt: skip
    parser.add_argument(
        "--images", metavar="DIR", help="folder of the images of a table, or of --observations"
    )
    add_store(parser, "the answers about finished images of a table", "answers")
    parser.add_argument(
        "--ray", nargs="?", type=int, const=2, metavar="ACTORS",
        help="answer a table on a Ray cluster, as `clipvg score` does",
    )  # fmt: skip
    parser.add_argument(
        "--box_format", type=Literal["xyxy", "xywh", "cxcywh"], default="xyxy",
        help="format of the printed boxes, in pixels of the original image",
    )  # fmt: skip
    parser.add_argument(
        "--precision", type=Literal["fp32", "bf16", "fp16"], default="fp32",
        help="number type of the model: fp32 is exact, the others take half the memory",
    )  # fmt: skip
    add_shared(parser, "--device")
    add_batch_size(parser, None)
    add_shared(parser, "--quiet")


def _run(args: Namespace) -> Json:
    from clipvg.labels.questions import ENDINGS

    check_model(args)
    set_max_pixels(args)
    if args.grounder:
        _check_grounder(args)
    elif args.observations:
        raise InputError("--observations goes with --grounder; a --checkpoint looks at the image")
    if Path(args.image).suffix.lower() in ENDINGS:
        if args.heatmap:
            raise InputError(f"--heatmap draws one image; leave it out: {args.image} is a table")
        if args.box_format != "xyxy":
            raise InputError("--box_format is for one image; leave it out: answers are xyxy")
        return predict_table(args)
    of_tables = ["format", "store", "ray"]
    if not args.observations:  # whose image names may be relative to a folder
        of_tables.insert(0, "images")
    if given := [name for name in of_tables if getattr(args, name)]:
        raise InputError(f"--{given[0]} goes with a table, which {args.image} is not")
    if not args.expression:
        raise InputError("say what to look for, e.g. 'dog on the left'")
    import numpy as np

    from clipvg.api.models import load
    from clipvg.boxes import convert
    from clipvg.data.inputs import as_image
    from clipvg.model.predict import refuse_blank
    from clipvg.report.drawing import check_image_path, draw_boxes, label_marks, save_image
    from clipvg.report.heat import draw_heat

    refuse_blank(args.expression)
    for expression in args.expression:
        if os.path.isfile(expression):
            raise InputError(
                f"{expression!r} is a file, not an expression; predict looks at one image a call, "
                "or at those of a table"
            )
    wanted = {"drawing": args.out, "heatmap": args.heatmap}
    paths = {
        name: check_writable(check_image_path(path), reads=[args.image])
        for name, path in wanted.items()
        if path
    }
    if args.out and args.heatmap and len({path.resolve() for path in paths.values()}) == 1:
        raise InputError(f"--out and --heatmap are both {args.out}; choose two files")
    if args.grounder:
        image = as_image(args.image)
        found = make_grounder(args).answer(args.image, args.expression)
    else:
        model = load(args.checkpoint, device=args.device, precision=args.precision)
        image = as_image(args.image, exif=model.preset.exif)
        found = model.predict(image, args.expression, batch_size=args.batch_size)
    result: Json = {
        "image": args.image,
        "width": image.width,
        "height": image.height,
        "box_format": args.box_format,
        "expressions": args.expression,
        "boxes": [
            None if np.isnan(box).any() else [round(float(value), 3) for value in box]
            for box in convert(found.boxes, "xyxy", args.box_format)
        ],
        "scores": _numbers(found.scores),
        "present": _numbers(found.present),
        "scored_by": dict(found.scored_by),
    }
    if found.reasons:
        result["reasons"] = list(found.reasons)
    if paths:
        there = [at for at, box in enumerate(result["boxes"]) if box]
        said = [args.expression[at] for at in there]
        marks = label_marks(found.boxes[there], said, found.scores[there])
        if "drawing" in paths:
            save_image(draw_boxes(image, marks), paths["drawing"])
        if "heatmap" in paths:
            maps = model.attention(image, args.expression)
            save_image(draw_heat(image, maps, marks), paths["heatmap"])
        result |= {name: str(path) for name, path in paths.items()}
    return result


def _check_grounder(args: Namespace) -> None:
    """Refuse options that would have no effect with --grounder."""
    for name in ("heatmap", "ray"):
        if getattr(args, name):
            raise InputError(f"--{name} is for --checkpoint, not for --grounder; leave it out")
    for name, usual in {"batch_size": None, "precision": "fp32"}.items():
        if getattr(args, name) != usual:
            raise InputError(
                f"--{name} is for --checkpoint; a grounder takes it as an option of its own, after "
                f"{args.grounder!r}"
            )


def _numbers(values: Iterable[float]) -> list[float | None]:
    """Return rounded numbers, with None for NaN, which JSON lacks."""
    return [None if value != value else round(float(value), 4) for value in values]


def _describe(result: Json) -> str:
    if "rows" in result:
        return describe_table(result)
    columns = {"xyxy": "x1 y1 x2 y2", "xywh": "x y w h", "cxcywh": "cx cy w h"}
    rows = [
        (
            expression,
            *(f"{value:.1f}" for value in box or ()),
            *["–"] * (0 if box else 4),
            percent(sure),
            percent(there),
        )
        for expression, box, sure, there in zip(
            *(result[key] for key in ("expressions", "boxes", "scores", "present")), strict=True
        )
    ]
    header = ("expression", *columns[result["box_format"]].split(), "right", "present")
    text = table(header, rows)
    reasons = zip(result["expressions"], result.get("reasons", ()), strict=False)
    text += "".join(f"\n{expression}: {why}" for expression, why in reasons if why)
    files = [f"{name}: {result[name]}" for name in ("drawing", "heatmap") if name in result]
    return "\n".join([text, *files])


COMMAND = Command(
    example="clipvg predict street.jpg 'man in red' 'dog on the left' "
    "--checkpoint runs/demo/seed-0/ssa/model --out boxes.png",
    configure=_configure,
    run=_run,
    is_shared=True,
    describe=_describe,
    kept="of a table, answers about finished images are kept beside --out, or in --store; run the "
    "same command again to go on.",
)
