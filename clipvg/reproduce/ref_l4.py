"""How well measures find the human labels that Ref-L4's reviewers of RefCOCO/+/g call wrong."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipvg.api import RunOptions, load
from clipvg.errors import InputError, MissingExtraError, one_line
from clipvg.labels import LabelTable, read_labels
from clipvg.labels.formats.huggingface import QUALITY
from clipvg.measures import MEASURES
from clipvg.measures.specs import MeasureSpec, build_measure, parse_measure
from clipvg.model import GroundingModel
from clipvg.reliability import Context, GroundingMeasurer, ScoreMatrix
from clipvg.reliability.auroc import auroc
from clipvg.reliability.measurer import Measurer, Scores, measure
from clipvg.reliability.names import check_names
from clipvg.reproduce.datasets import BENCHMARKS
from clipvg.reproduce.layout import DataRoot, Missing, weights_of
from clipvg.runtime import distributed
from clipvg.runtime.files import Json, digest, write_array, write_json
from clipvg.runtime.progress import say


@dataclass(frozen=True)
class _Asked:
    """A measurer or measure with what decides its scores."""

    name: str
    identity: str
    spec: MeasureSpec | None = None  # None is a grounding model


def reproduce_ref_l4(
    *,
    data: str | Path,
    out: str | Path,
    checkpoints: Mapping[str, Path],
    measures: Sequence[str] = (),
    run: RunOptions | None = None,
) -> Json:
    """Score the reviewed labels by every measure, and compare with what the reviewers say.

    A label whose ``caption_quality`` is 0 is wrong. AUROC is the probability that a right one has
    the higher score: 0.5 is chance, 1 finds all. The scores of each finished measure are kept, so
    that a call that was killed goes on.

    Args:
        data: folder that holds ``refcocos_annotation_reviewed`` and images, see docs/reproduce.md.
        out: folder for scores and results.
        checkpoints: grounding models by name; their IoU with the labels is a measure too.
        measures: ``[COLUMN=]METHOD[,option=value,...]`` each; all that need no more than the
            labels and these models when empty.
        run: where it runs and what it says.

    Returns:
        ``rows``, each with a measure's name as ``row`` and ``splits`` (file -> ``auroc``,
        ``count``, ``wrong``, ``unscored``); ``skipped`` (measure -> why); ``missing``.

    Raises:
        InputError: no such folder, or a measure of `measures` that cannot be made.
    """
    run = run or RunOptions()
    root = DataRoot(data)
    files, images = root.reviewed(), root.images(BENCHMARKS["refcoco"][0])
    lacking = [each for each in (files, images) if isinstance(each, Missing)]
    result: Json = {"benchmark": "ref-l4", "rows": [], "skipped": {}, "asked": [], "out": str(out)}
    result["missing"] = {}
    if isinstance(files, Missing) or isinstance(images, Missing):
        named = [{"what": m.what, "place": m.place, "from": m.origin} for m in lacking]
        return result | {"missing": {"ref-l4": named}}
    models = {name: load(path, device=run.place) for name, path in checkpoints.items()}
    asked = [_Asked(name, digest(weights_of(path))) for name, path in checkpoints.items()]
    identity = "".join(each.identity for each in asked)
    specs = list(map(parse_measure, measures or MEASURES))
    asked += [_Asked(spec.name, f"{spec}{identity}", spec) for spec in specs]
    check_names([each.name for each in asked])
    found: dict[str, dict[str, Json]] = {}
    for file in files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of wrong labels, which are wanted here
            labels = read_labels(file, images=images)
        scores = _Scored(labels, models, Path(out) / "ref-l4", run)
        for each in asked:
            try:
                values = scores.of(each)
            except (InputError, MissingExtraError) as error:
                if measures:
                    raise
                result["skipped"][each.name] = one_line(error, 200)
                continue
            found.setdefault(each.name, {})[file.stem] = _judged(values, _is_wrong(labels))
    result["rows"] = [{"row": name, "splits": splits} for name, splits in found.items()]
    if distributed.join(run.place).is_main:
        write_json(Path(out) / "results.json", result)
    return result


class _Scored:
    """Scores of one file's labels, each measured once and kept."""

    def __init__(
        self, labels: LabelTable, models: Mapping[str, GroundingModel], out: Path, run: RunOptions
    ) -> None:
        self.labels = labels
        self.models = models
        self.out = out
        self.run = run
        self.fingerprint = labels.fingerprint()
        self.found: dict[str, Scores] = {}

    def of(self, asked: _Asked) -> np.ndarray:
        """Return the scores (N,) of a measure, NaN where it says nothing of a label."""
        made = self._made(asked)
        key = f"{asked.name}\n{asked.identity}\n{self.fingerprint}"
        if "scores" in made.requires:  # it is made of those measured before
            key += "".join(f"\n{name}" for name in self.found)
        kept = self.out / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy"
        values = _read(kept, len(self.labels))
        if values is None:
            say(f"measuring {asked.name}", show=self.run.progress)
            values = measure(made, self.labels, self._context()).values
            if distributed.join(self.run.place).is_main:
                write_array(kept, values)
        self.found[asked.name] = Scores(values)
        return values

    def _made(self, asked: _Asked) -> Measurer:
        if asked.spec is None:
            return GroundingMeasurer(self.models[asked.name], asked.name)
        return build_measure(asked.spec, self.models)

    def _context(self) -> Context:
        """What was measured before is there for measures that are made of others."""
        scores = ScoreMatrix.of(self.found, self.labels.encoded_sources()) if self.found else None
        return Context(progress=self.run.progress, scores=scores)


def _read(path: Path, count: int) -> np.ndarray | None:
    """Return scores that are there; None without, or where the file is damaged."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return values if values.shape == (count,) else None


def _is_wrong(labels: LabelTable) -> np.ndarray:
    """Return which labels (N,) reviewers call wrong."""
    quality = labels.table.column(QUALITY).to_pylist()
    return np.array([value is not None and float(value) == 0 for value in quality])


def _judged(values: np.ndarray, is_wrong: np.ndarray) -> Json:
    known = np.isfinite(values)
    right = ~is_wrong[known]
    can_tell = bool(right.any() and not right.all())
    return {
        "auroc": auroc(values[known], right) if can_tell else None,
        "count": len(values),
        "wrong": int(is_wrong.sum()),
        "unscored": int((~known).sum()),
    }
