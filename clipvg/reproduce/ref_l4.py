"""Evaluate how well measures find the labels of RefCOCO/+/g that Ref-L4's reviewers call wrong."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from clipvg.api import RunOptions, load
from clipvg.errors import InputError, MissingExtraError, one_line
from clipvg.labels import read_labels
from clipvg.labels.formats.huggingface import QUALITY
from clipvg.measures import MEASURES
from clipvg.measures.specs import MeasureSpec, build_measure, identity_of, parse_measure
from clipvg.model import GroundingModel
from clipvg.reliability import Context, GroundingMeasurer, ScoreMatrix
from clipvg.reliability.histogram import auroc
from clipvg.reliability.measurer import Measurer, Scores, measure
from clipvg.reliability.names import check_names
from clipvg.reproduce.datasets import BENCHMARKS
from clipvg.reproduce.layout import DataRoot, Missing, weights_of
from clipvg.runtime import distributed
from clipvg.runtime.files import Json, digest, write_array, write_json
from clipvg.runtime.progress import say

_SILENT = "it says nothing of these labels; docs/measures.md has what it needs"


def reproduce_ref_l4(
    *,
    data: str | Path,
    out: str | Path,
    checkpoints: Mapping[str, Path],
    measures: Sequence[str] = (),
    run: RunOptions | None = None,
) -> Json:
    """Score the reviewed labels with every measure, and compare with the reviewers' verdicts.

    A label whose ``caption_quality`` is 0 is wrong. AUROC is the probability that a right label has
    a higher score than a wrong one: 0.5 is chance, 1 finds all. The scores of each finished measure
    are kept, so that a killed call can continue.

    Args:
        data: folder that holds ``refcocos_annotation_reviewed`` and images, see docs/reproduce.md.
        out: folder for scores and results.
        checkpoints: grounding models by name; their IoU with the labels is a measure too.
        measures: ``[COLUMN=]METHOD[,option=value,...]`` each; when empty, all that need no more
            than the labels and these models.
        run: device and progress output.

    Returns:
        ``rows``, each with a measure's name as ``row`` and ``splits`` (file -> ``auroc``,
        ``count``, ``wrong``, ``unscored``); ``skipped`` (measure -> why); ``missing``.

    Raises:
        InputError: no such folder, or one of `measures` cannot be built or run.
    """
    run = run or RunOptions()
    root = DataRoot(data)
    files, images = root.reviewed(), root.images(BENCHMARKS["refcoco"][0])
    result: Json = {"benchmark": "ref-l4", "rows": [], "skipped": {}, "missing": {}}
    result |= {"asked": [], "out": str(out)}
    if isinstance(files, Missing) or isinstance(images, Missing):
        lacking = [each.to_dict() for each in (files, images) if isinstance(each, Missing)]
        return result | {"missing": {"ref-l4": lacking}}
    models = {name: load(path, device=run.place) for name, path in checkpoints.items()}
    weights = {name: digest(weights_of(path)) for name, path in checkpoints.items()}
    specs = list(map(parse_measure, measures or MEASURES))
    check_names([*models, *(spec.name for spec in specs)])
    tables = [_Reviewed(file, images, Path(out) / "ref-l4", run) for file in files]
    asked: list[str | MeasureSpec] = [*models, *specs]
    for each in asked:
        name = each if isinstance(each, str) else each.name
        splits: dict[str, Json] = {}
        made: tuple[Measurer, object] | None = None
        for table in tables:
            try:
                made = made or _made(each, models, weights)
                splits[table.name] = table.judge(name, *made)
            except (InputError, MissingExtraError) as error:
                if measures:
                    raise
                result["skipped"][name] = one_line(error, 200)
        if any(split["unscored"] < split["count"] for split in splits.values()):
            result["rows"].append({"row": name, "splits": splits})
        else:
            result["skipped"].setdefault(name, _SILENT)
    if distributed.join(run.place).is_main:
        write_json(Path(out) / "results.json", result)
    return result


def _made(
    asked: str | MeasureSpec, models: Mapping[str, GroundingModel], weights: Mapping[str, str]
) -> tuple[Measurer, object]:
    """Return a measure, or the model of a name as a measurer; and what decides its scores."""
    if isinstance(asked, str):
        return GroundingMeasurer(models[asked], asked), weights[asked]
    return build_measure(asked, models), [identity_of(asked), weights]


class _Reviewed:
    """The labels of one file, and their scores by all measures so far."""

    def __init__(self, file: Path, images: Path, out: Path, run: RunOptions) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are of wrong labels, which are wanted here
            self.labels = read_labels(file, images=images)
        self.name, self.out, self.run = file.stem, out, run
        if QUALITY not in self.labels.table.column_names:
            raise InputError(f"{file}: its annotations have no {QUALITY}; take the reviewed ones")
        quality = self.labels.table.column(QUALITY).to_pylist()
        self.is_wrong = np.array([value is not None and float(value) == 0 for value in quality])
        self.found: dict[str, Scores] = {}

    def judge(self, name: str, made: Measurer, identity: object) -> Json:
        """Return how well a measure finds the wrong labels."""
        values = self._measured(name, made, identity)
        self.found[name] = Scores(values)
        known = np.isfinite(values)
        right = ~self.is_wrong[known]
        can_tell = bool(right.any() and not right.all())
        return {
            "auroc": auroc(values[known], right) if can_tell else None,
            "count": len(values),
            "wrong": int(self.is_wrong.sum()),
            "unscored": int((~known).sum()),
        }

    def _measured(self, name: str, made: Measurer, identity: object) -> np.ndarray:
        """Return scores (N,), NaN where a label is not scored; read from disk if already there."""
        facts = [name, identity, self.labels.fingerprint()]
        if "scores" in made.requires:  # it depends on the earlier measures
            facts += [(each, _hash(found.values.tobytes())) for each, found in self.found.items()]
        kept = self.out / f"{_hash(json.dumps(facts, sort_keys=True).encode())}.npy"
        values = _read(kept, len(self.labels))
        if values is None:
            say(f"measuring {name} of {self.name}", show=self.run.progress)
            known = (
                ScoreMatrix.of(self.found, self.labels.encoded_sources()) if self.found else None
            )
            context = Context(progress=self.run.progress, scores=known)
            values = measure(made, self.labels, context).values
            if distributed.join(self.run.place).is_main:
                write_array(kept, values)
        return values


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]


def _read(path: Path, count: int) -> np.ndarray | None:
    """Return the scores in a file; None if there is none, or it is damaged."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return values if values.shape == (count,) else None
