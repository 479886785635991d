"""`clipvg predict TABLE`: answers to every row of a table, resumable like `clipvg score`."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from clipvg.cli.output import check_writable
from clipvg.errors import InputError
from clipvg.runtime.files import Json

if TYPE_CHECKING:
    import numpy as np

    from clipvg.labels import LabelTable
    from clipvg.rescoring.store import ScoreStore


def predict_table(args: Namespace) -> Json:
    """Answer the questions of a table and write them to --out."""
    from clipvg.labels.questions import WRITTEN, read_questions, write_answers

    if args.expression:
        raise InputError(
            f"{args.image} is a table, which has its expressions; leave out {args.expression[0]!r}"
        )
    for name in ("images", "out"):
        if not getattr(args, name):
            raise InputError(f"{args.image} is a table; pass --{name} too")
    out = check_writable(Path(args.out), WRITTEN, reads=[args.image])
    folder = Path(args.store) if args.store else out.with_suffix(".answers")
    check_writable(folder / "shard")
    if not Path(args.images).is_dir():
        raise InputError(f"--images {args.images}: no such folder; name that of the images")
    questions = read_questions(args.image, images=args.images)
    from clipvg.cli.devices import choose_device
    from clipvg.rescoring.store import open_store
    from clipvg.runtime import distributed

    device = choose_device(args.device)
    with open_store(folder, device, output=out) as store:
        found, reasons, by = _answers(args, questions, store)
        if distributed.join(device).is_main:
            write_answers(out, questions, found[:4].T, found[4], found[5], reasons)
    return {
        "out": str(out),
        "store": str(folder),
        "rows": len(questions),
        "images": questions.num_images,
        "answered": len(questions) - len(reasons),
        "reasons": [
            {"reason": reason, "rows": count}
            for reason, count in Counter(reasons.values()).most_common(3)
        ],
        "found": store.found // len(found),
        "scored_by": by,
    }


def _answers(
    args: Namespace, questions: LabelTable, store: ScoreStore
) -> tuple[np.ndarray, dict[int, str], Json]:
    """Answers (6, N), why rows have none, and what gave the scores."""
    from clipvg.cli.devices import choose_device
    from clipvg.model import load
    from clipvg.rescoring import EngineConfig
    from clipvg.rescoring.shards import score_models

    config = EngineConfig(batch_size=args.batch_size, precision="fp32", answers=True)
    model = load(args.checkpoint).to("cpu" if args.ray else choose_device(args.device))
    with ExitStack() as stack:
        runner = None
        if args.ray:
            from clipvg.reliability.ray.cluster import RayOptions, connected, import_ray
            from clipvg.reliability.ray.runner import RayPool

            import_ray()
            stack.enter_context(connected())
            num_gpus = {None: None, "cpu": 0}.get(args.device, 1)
            runner = RayPool(RayOptions(args.ray, num_gpus=num_gpus))
        found, reasons = score_models(
            questions,
            {"model": model},
            config,
            progress=not args.quiet,
            store=store,
            runner=runner,
        )
    return found, reasons, dict(model.scored_by)


def describe_table(result: Json) -> str:
    """Return what a person wants to know of a table's answers."""
    rows, answered = result["rows"], result["answered"]
    lines = [f"answered: {answered:,} of {rows:,} rows on {result['images']:,} images"]
    lines += [f"  {each['rows']:,}: {each['reason']}" for each in result["reasons"]]
    if result["found"]:
        lines.append(f"answers from {result['store']}: {result['found']:,} of {rows:,}")
    return "\n".join([*lines, f"written: {result['out']}"])
