"""`clipvg generate`: from what models say of images to pseudo-labels."""

from __future__ import annotations

import shutil
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from clipvg.cli.commands import Command, Result
from clipvg.cli.options import OnError, add_layout, add_quiet
from clipvg.cli.output import check_writable, table
from clipvg.cli.parser import CommandParser
from clipvg.errors import InputError

_SHOWN = 3  # of what was left out


def _configure(parser: CommandParser) -> None:
    parser.add_argument(
        "--observations", nargs="+", type=str, required=True, metavar="FILE",
        help="what is known of the images: files of any kind in docs/pseudo-labels.md, or folders "
        "of them; what several say of an image is put together",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=str, required=True, metavar="FILE",
        help="the labels: .parquet, .jsonl, .csv or .pth",
    )  # fmt: skip
    parser.add_argument(
        "--images", type=str, metavar="DIR",
        help="folder that image names are below; needed where no file gives the sizes",
    )  # fmt: skip
    parser.add_argument(
        "--categories", type=str, metavar="FILE",
        help="names of classes and images where files have numbers: a COCO INSTANCES.json, "
        "classes.txt or data.yaml",
    )  # fmt: skip
    parser.add_argument(
        "--sources", nargs="+", type=str, default=["template"], metavar="SOURCE",
        help="template, relation, caption, or another that is installed or in the observations",
    )  # fmt: skip
    parser.add_argument(
        "--preset", type=Literal["default", "published"], default="default",
        help="published: the published generators to the letter, faults included",
    )  # fmt: skip
    parser.add_argument(
        "--min_score", type=float, default=0.0, help="least score of a detection to describe"
    )
    parser.add_argument(
        "--objects", type=int, default=3, metavar="N", help="described objects of an image"
    )
    parser.add_argument(
        "--per_image", type=int, default=6, metavar="M", help="labels of an image, by source"
    )
    parser.add_argument(
        "--seed", type=int | None, default=None,
        help="of the draw among the candidates; 0, or 20211024 as published",
    )  # fmt: skip
    parser.add_argument(
        "--ambiguous", type=Literal["drop", "keep"], default="drop",
        help="expressions that fit several boxes of their image",
    )  # fmt: skip
    parser.add_argument(
        "--pipeline", type=str, metavar="NAME",
        help="spaCy pipeline that parses captions, by name or folder; by default spaCy's English "
        "one where it is installed, else rules",
    )  # fmt: skip
    parser.add_argument(
        "--candidates", action="store_true", help="write all candidates instead of a draw"
    )
    parser.add_argument(
        "--on_error", type=OnError, default="raise",
        help="boxes that are none and images that are not there: stop at them, or leave them out",
    )  # fmt: skip
    add_layout(parser)
    add_quiet(parser)


def _run(args: Namespace) -> Result:
    from clipvg.pseudo.generate import generate
    from clipvg.pseudo.options import Options
    from clipvg.pseudo.reading import read_observations
    from clipvg.pseudo.sources import check_names
    from clipvg.runtime.lock import Lock

    start = time.perf_counter()
    out = check_writable(_label_path(args))
    options = Options(**{field.name: getattr(args, field.name) for field in fields(Options)})
    check_names(args.sources, args.observations)
    out.parent.mkdir(parents=True, exist_ok=True)
    with Lock(out):
        observations = read_observations(
            args.observations,
            images=args.images,
            categories=args.categories,
            preset=args.preset,
            on_error=args.on_error,
        )
        parts = out.with_name(f"{out.name}.parts")
        with _removed_unless_interrupted(parts):
            labels = generate(
                observations,
                args.sources,
                options=options,
                candidates=args.candidates,
                store=parts,
                progress=not args.quiet,
            )
            labels.write(out, layout=args.layout)
    rules = Counter(zip(labels.sources(), labels.table["pseudo.rule"].to_pylist(), strict=True))
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


@contextmanager
def _removed_unless_interrupted(folder: Path) -> Iterator[None]:
    """Remove what a run kept for a later one, when there need be no later one."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _label_path(args: Namespace) -> Path:
    from clipvg.labels.pth import find_layout
    from clipvg.labels.write import WRITTEN

    path = Path(args.out)
    if path.suffix.lower() not in WRITTEN:
        raise InputError(f"--out {path}: labels are written as {', '.join(WRITTEN)}; change the "
                         "ending")  # fmt: skip
    if path.suffix.lower() == ".pth":
        find_layout(path, args.layout)
    return path


def _describe(result: Mapping[str, Any]) -> str:
    rows = [(row["source"], row["rule"], f"{row['labels']:,}") for row in result["rules"]]
    lines = [table(("source", "rule", "labels"), rows, left=2)]
    if dropped := result["dropped"]:
        lines.append(f"left out: {len(dropped):,}")
        lines += [f"  {line}" for line in dropped[:_SHOWN]]
        lines += [f"  and {len(dropped) - _SHOWN:,} more"] if len(dropped) > _SHOWN else []
    total = sum(result["labels"].values())
    lines.append(
        f"{total:,} labels of {result['labelled_images']:,} images ({result['images']:,} observed) "
        f"in {result['seconds']:.1f} s"
    )
    return "\n".join([*lines, f"written: {result['out']}"])


COMMAND = Command(
    name="generate",
    example="clipvg generate --observations detections.json --categories instances.json "
    "--images images/ --min_score 0.4 --out labels.parquet",
    configure=_configure,
    run=_run,
    describe=_describe,
    kept="candidates of finished images are kept beside --out, in FILE.parts; run the same command "
    "again to go on.",
)
