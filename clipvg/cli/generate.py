"""`clipvg generate`: make pseudo-labels from observations of images."""

from __future__ import annotations

import shutil
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from clipvg.cli.commands import Command, check_writable, table
from clipvg.cli.failure import UsageError
from clipvg.cli.options import OnError, add_group, add_shared, take_group
from clipvg.cli.parser import CommandParser
from clipvg.errors import printable
from clipvg.runtime.files import Json

if TYPE_CHECKING:
    from clipvg.labels import LabelTable
    from clipvg.pseudo.observations import ObservationTable
    from clipvg.pseudo.sources import Options

_SHOWN = 3  # lines about what was left out
_OF_PLACING = ("min_score", "seed")  # options that apply to --expressions as well


def _configure(parser: CommandParser) -> None:
    from clipvg.pseudo.sources import Options

    parser.add_argument(
        "--observations", nargs="+", required=True, metavar="FILE",
        help="what is known about the images: files of the kinds listed in docs/pseudo-labels.md, "
        "or folders of them; what several files say about an image is merged",
    )  # fmt: skip
    parser.add_argument(
        "--out", required=True, metavar="FILE",
        help="where to write the labels: .parquet, .jsonl, .csv or .pth",
    )  # fmt: skip
    parser.add_argument(
        "--images", metavar="DIR",
        help="folder that holds the images; needed if no file gives their sizes",
    )  # fmt: skip
    parser.add_argument(
        "--categories", metavar="FILE",
        help="names of numbered classes and images: a COCO instances.json, classes.txt or "
        "data.yaml",
    )  # fmt: skip
    parser.add_argument(
        "--sources", nargs="+", default=["template"], metavar="SOURCE",
        help="template, relation, caption, region, or another, installed or in the observations",
    )  # fmt: skip
    parser.add_argument(
        "--expressions", metavar="TABLE",
        help="instead of making expressions, place those of a table with the columns image and "
        "expression on the observed boxes; needs --images",
    )  # fmt: skip
    parser.add_argument(
        "--backbone", metavar="NAME",
        help="CLIP that looks at boxes and words for --expressions; by default ViT-B-16",
    )  # fmt: skip
    add_shared(parser, "--device")
    add_group(parser, "", Options, title="how labels are made")
    parser.add_argument(
        "--candidates", action="store_true", help="write all candidates, without drawing among them"
    )
    parser.add_argument(
        "--on_error", type=OnError, default="raise",
        help="what to do with invalid boxes and missing images: stop, or leave them out",
    )  # fmt: skip
    add_shared(parser, "--layout", "--quiet")


def _run(args: Namespace) -> Json:
    from clipvg.labels.formats import find_format
    from clipvg.labels.formats.pth import find_layout
    from clipvg.pseudo.generate import generate
    from clipvg.pseudo.reading import read_observations
    from clipvg.pseudo.sources import Options, check_names
    from clipvg.runtime.files import new_folder
    from clipvg.runtime.lock import Lock

    start = time.perf_counter()
    read = [*args.observations, *filter(None, [args.categories, args.expressions])]
    out = check_writable(Path(args.out), reads=read)
    if find_format(out).name == "pth":
        find_layout(out, args.layout)
    options = take_group(args, "", Options)
    check_names(args.sources, args.observations)
    expressions = _expressions(args, options)
    with new_folder(out.parent), Lock(out):
        observations = read_observations(
            args.observations,
            images=args.images,
            categories=args.categories,
            preset=args.preset,
            on_error=args.on_error,
        )
        parts = out.with_name(f"{out.name}.parts")
        with _removed_unless_interrupted(parts):
            if expressions is None:
                labels = generate(
                    observations,
                    args.sources,
                    options=options,
                    candidates=args.candidates,
                    store=parts,
                    progress=not args.quiet,
                )
            else:
                labels = _place(args, expressions, observations, options)
            labels.write(out, layout=args.layout)
    rules = Counter(zip(labels.sources(), _rules(labels), strict=True))
    return {
        "out": str(out),
        "images": len(observations),
        "labelled_images": labels.num_images,
        "labels": dict(Counter(labels.sources())),
        "rules": [
            {"source": source, "rule": rule, "labels": count}
            for (source, rule), count in rules.most_common()
        ],
        "dropped": list(observations.dropped),
        "seconds": round(time.perf_counter() - start, 3),
    }


def _expressions(args: Namespace, options: Options) -> LabelTable | None:
    """Read the table of --expressions, if given.

    Raises:
        UsageError: --images is missing, or an option is for use with or without --expressions only.
    """
    if args.expressions is None:
        for name in ("backbone", "device"):
            if getattr(args, name):
                raise UsageError(f"--{name} looks at boxes for --expressions; leave it out")
        return None
    if args.images is None:
        raise UsageError("--expressions without --images; name the folder that holds the images")
    of_making = {"sources": args.sources != ["template"], "candidates": args.candidates}
    for each in fields(options):
        if each.name not in _OF_PLACING:
            of_making[each.name] = getattr(options, each.name) != each.default
    for name, is_given in of_making.items():
        if is_given:
            raise UsageError(f"--{name} is for making expressions; leave it out with --expressions")
    from clipvg.labels.questions import read_questions

    return read_questions(args.expressions, images=args.images)


def _place(
    args: Namespace, expressions: LabelTable, observations: ObservationTable, options: Options
) -> LabelTable:
    """Return labels that place given expressions on observed boxes."""
    from clipvg.api.run import make_model
    from clipvg.measures.match.measures import RegionTextMatch
    from clipvg.measures.match.placing import place_expressions
    from clipvg.model import ModelOptions
    from clipvg.reliability import Context
    from clipvg.runtime.distributed import choose_device

    settings = ModelOptions().configure(args.backbone or "ViT-B-16", trained_on=[])
    model = make_model(settings, options.drawn_with, choose_device(args.device)).eval()
    return place_expressions(
        expressions,
        observations,
        RegionTextMatch(model, seed=options.drawn_with),
        min_score=options.min_score,
        context=Context(progress=not args.quiet),
    )


def _rules(labels: LabelTable) -> list[str]:
    """Return the rule that made each expression; "best match" for given expressions."""
    if "pseudo.rule" not in labels.table.column_names:
        return ["best match"] * len(labels)
    rules: list[str] = labels.table["pseudo.rule"].to_pylist()
    return rules


@contextmanager
def _removed_unless_interrupted(folder: Path) -> Iterator[None]:
    """Remove the folder that a run keeps for resuming, unless it is interrupted."""
    try:
        yield
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _describe(result: Json) -> str:
    rows = [(row["source"], row["rule"], f"{row['labels']:,}") for row in result["rules"]]
    lines = [table(("source", "rule", "labels"), rows, left=2)]
    if dropped := result["dropped"]:
        lines.append(f"left out: {len(dropped):,}")
        lines += [f"  {printable(line)}" for line in dropped[:_SHOWN]]
        lines += [f"  and {len(dropped) - _SHOWN:,} more"] if len(dropped) > _SHOWN else []
    total = sum(result["labels"].values())
    lines.append(
        f"{total:,} labels of {result['labelled_images']:,} images ({result['images']:,} observed) "
        f"in {result['seconds']:.1f} s"
    )
    return "\n".join([*lines, f"written: {result['out']}"])


COMMAND = Command(
    example="clipvg generate --observations detections.json --categories instances.json "
    "--images images/ --min_score 0.4 --out labels.parquet",
    configure=_configure,
    run=_run,
    describe=_describe,
    kept="candidates of finished images are kept beside --out, in FILE.parts; run the same command "
    "again to go on.",
)
