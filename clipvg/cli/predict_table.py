"""`clipvg predict TABLE`: answer every row of a table, resumable like `clipvg score`."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clipvg.cli.commands import check_writable
from clipvg.cli.model import make_grounder
from clipvg.errors import InputError
from clipvg.runtime.files import Json

if TYPE_CHECKING:
    import numpy as np
    import torch

    from clipvg.labels import LabelTable
    from clipvg.rescoring.answers import Answered
    from clipvg.rescoring.shards import Runner
    from clipvg.rescoring.store import ScoreStore

AnswerFormat = Literal["parquet", "jsonl", "csv", "tsv", "json", "coco", "label-studio"]


@dataclass(frozen=True)
class AnswerFile:
    """The file for the answers to labels or questions, and their store."""

    path: Path
    format: str | None  # None chooses it by the ending
    folder: Path  # of the store that keeps answers about finished images

    @classmethod
    def of(cls, args: Namespace, *, reads: Sequence[str]) -> AnswerFile:
        """Return the file of --out, checked before anything runs; the command reads `reads`."""
        from clipvg.labels.formats import find_format
        from clipvg.labels.questions import WRITTEN

        path = check_writable(Path(args.out), WRITTEN, reads=[*reads, *args.observations])
        find_format(path, args.format)
        store = getattr(args, "store", None)
        folder = Path(store) if store else path.with_suffix(".answers")
        check_writable(folder / "shard")
        return cls(path, args.format, folder)

    def open_store(self, device: torch.device | None) -> AbstractContextManager[ScoreStore]:
        """Open the store for answers that are computed on a device, the CPU when None."""
        from clipvg.rescoring.store import open_store
        from clipvg.runtime.distributed import choose_device

        return open_store(self.folder, device or choose_device("cpu"), output=self.path)

    def write(
        self, labels: LabelTable, found: Answered, device: torch.device | None, **more: np.ndarray
    ) -> None:
        """Write answers, and `more` columns, in the main process alone."""
        from clipvg.labels.questions import write_answers
        from clipvg.runtime import distributed

        if distributed.join(device).is_main:
            columns = {**found.columns(), **more}
            write_answers(self.path, labels, columns, found.reasons, format=self.format)


def predict_table(args: Namespace) -> Json:
    """Answer the questions of a table and write them to --out."""
    from clipvg.labels.questions import read_questions

    if args.expression:
        raise InputError(
            f"{args.image} is a table, which has its expressions; leave out {args.expression[0]!r}"
        )
    for name in ("images", "out"):
        if not getattr(args, name):
            raise InputError(f"{args.image} is a table; pass --{name} too")
    answers = AnswerFile.of(args, reads=[args.image])
    if not Path(args.images).is_dir():
        raise InputError(f"--images {args.images}: no such folder; name the folder of the images")
    questions = read_questions(args.image, images=args.images)
    from clipvg.api.models import load
    from clipvg.model.predict import refuse_blank, warn_of_foreign
    from clipvg.reliability import Context
    from clipvg.rescoring.answers import answer_labels
    from clipvg.runtime import distributed

    device = distributed.choose_device(args.device)
    refuse_blank(questions.expressions)
    if not args.grounder and distributed.join(device).is_main:  # once, not once per process
        warn_of_foreign(questions.expressions)
    with answers.open_store(device) as store, _runner(args) as runner:
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
        answers.write(questions, found, device)
    reasons = Counter(why for why in found.reasons if why is not None)
    return {
        "out": str(answers.path),
        "store": str(answers.folder),
        "rows": len(questions),
        "images": questions.num_images,
        "answered": len(questions) - reasons.total(),
        "reasons": [{"reason": why, "rows": count} for why, count in reasons.most_common(3)],
        "found": store.found * len(questions) // max(1, store.asked),
        "scored_by": scored_by,
    }


@contextmanager
def _runner(args: Namespace) -> Iterator[Runner | None]:
    """Yield the runner of the model: a Ray pool, or None to run it in this process."""
    if not args.ray:
        yield None
        return
    from clipvg.reliability.ray.cluster import RayOptions, connected, import_ray
    from clipvg.reliability.ray.runner import RayPool

    import_ray()
    with connected():
        yield RayPool(RayOptions(args.ray, num_gpus={None: None, "cpu": 0}.get(args.device, 1)))


def describe_table(result: Json) -> str:
    """Return a summary of a table's answers as text for people."""
    rows, answered = result["rows"], result["answered"]
    lines = [f"answered: {answered:,} of {rows:,} rows on {result['images']:,} images"]
    lines += [f"  {each['rows']:,}: {each['reason']}" for each in result["reasons"]]
    if result["found"]:
        lines.append(f"answers from {result['store']}: {result['found']:,} of {rows:,}")
    return "\n".join([*lines, f"written: {result['out']}"])
