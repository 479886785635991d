"""`clipvg predict TABLE`: answers to every row of a table, resumable like `clipvg score`."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clipvg.cli.model import make_grounder
from clipvg.cli.output import check_writable
from clipvg.errors import InputError
from clipvg.runtime.files import Json

if TYPE_CHECKING:
    from clipvg.rescoring.shards import Runner

AnswerFormat = Literal["parquet", "jsonl", "csv", "tsv", "json", "coco", "label-studio"]


def predict_table(args: Namespace) -> Json:
    """Answer the questions of a table and write them to --out."""
    from clipvg.labels.questions import read_questions, write_answers

    if args.expression:
        raise InputError(
            f"{args.image} is a table, which has its expressions; leave out {args.expression[0]!r}"
        )
    for name in ("images", "out"):
        if not getattr(args, name):
            raise InputError(f"{args.image} is a table; pass --{name} too")
    out, folder = check_answers(args.out, args.format, args.store, reads=[args.image])
    if not Path(args.images).is_dir():
        raise InputError(f"--images {args.images}: no such folder; name that of the images")
    questions = read_questions(args.image, images=args.images)
    from clipvg.api.models import load
    from clipvg.cli.devices import choose_device
    from clipvg.model.predict import refuse_blank, warn_of_foreign
    from clipvg.reliability import Context
    from clipvg.rescoring.answers import answer_labels
    from clipvg.rescoring.store import open_store
    from clipvg.runtime import distributed

    device = choose_device(args.device)
    refuse_blank(questions.expressions)
    if not args.grounder and distributed.join(device).is_main:  # once, not once a process
        warn_of_foreign(questions.expressions)
    with open_store(folder, device, output=out) as store, _runner(args) as runner:
        if args.grounder:
            grounder = make_grounder(args)
            scored_by = {"scores": grounder.name}
            found = grounder.ground(questions, Context(progress=not args.quiet), store=store)
        else:
            place = "cpu" if args.ray else args.device
            model = load(args.checkpoint, device=place, precision=args.precision)
            scored_by = dict(model.scored_by)
            found = answer_labels(
                model,
                questions,
                batch_size=args.batch_size,
                progress=not args.quiet,
                store=store,
                runner=runner,
            )
        if distributed.join(device).is_main:
            write_answers(out, questions, found.columns(), found.reasons, format=args.format)
    reasons = Counter(why for why in found.reasons if why is not None)
    return {
        "out": str(out),
        "store": str(folder),
        "rows": len(questions),
        "images": questions.num_images,
        "answered": len(questions) - reasons.total(),
        "reasons": [{"reason": why, "rows": count} for why, count in reasons.most_common(3)],
        "found": store.found * len(questions) // max(1, store.asked),
        "scored_by": scored_by,
    }


def check_answers(
    out: str, format: str | None, store: str | None, *, reads: Sequence[str]
) -> tuple[Path, Path]:
    """Return the file for answers and the folder of their store, refused before anything runs.

    Args:
        out: the file.
        format: of the file, where not by its ending.
        store: the folder, where it is not beside the file.
        reads: files that the command reads.
    """
    from clipvg.labels.formats import find_format
    from clipvg.labels.questions import WRITTEN

    path = check_writable(Path(out), WRITTEN, reads=reads)
    find_format(path, format)
    folder = Path(store) if store else path.with_suffix(".answers")
    check_writable(folder / "shard")
    return path, folder


@contextmanager
def _runner(args: Namespace) -> Iterator[Runner | None]:
    """Yield where the model runs; None is here."""
    if not args.ray:
        yield None
        return
    from clipvg.reliability.ray.cluster import RayOptions, connected, import_ray
    from clipvg.reliability.ray.runner import RayPool

    import_ray()
    with connected():
        yield RayPool(RayOptions(args.ray, num_gpus={None: None, "cpu": 0}.get(args.device, 1)))


def describe_table(result: Json) -> str:
    """Return what a person wants to know of a table's answers."""
    rows, answered = result["rows"], result["answered"]
    lines = [f"answered: {answered:,} of {rows:,} rows on {result['images']:,} images"]
    lines += [f"  {each['rows']:,}: {each['reason']}" for each in result["reasons"]]
    if result["found"]:
        lines.append(f"answers from {result['store']}: {result['found']:,} of {rows:,}")
    return "\n".join([*lines, f"written: {result['out']}"])
