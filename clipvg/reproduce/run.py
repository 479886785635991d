"""Reproduce the rows of a benchmark: train what is missing, evaluate, and keep what is done."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from clipvg.api import AdaptResult, Curriculum, RunOptions, adapt, load, train
from clipvg.configs import read_recipe
from clipvg.curriculum import MSAConfig
from clipvg.errors import InputError, near_matches
from clipvg.model import GroundingModel, ModelOptions
from clipvg.reproduce.datasets import BENCHMARKS
from clipvg.reproduce.layout import DataRoot, Missing, read_files, weights_of
from clipvg.reproduce.rows import ROWS, Job, Row, find_row, plan
from clipvg.runtime import distributed
from clipvg.runtime.files import Json, digest, read_json, to_json, write_json
from clipvg.runtime.progress import say
from clipvg.training import FitConfig, evaluate

_SECTIONS = {"model": ModelOptions, "training": FitConfig, "search": MSAConfig}  # of recipes


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """Which rows are reproduced, and how.

    Attributes:
        rows: names of `ROWS`; when empty, all that are possible, or none if there are checkpoints.
        checkpoints: further models to evaluate, name -> path; a name of `ROWS` stands for that row.
        recipe: training options that replace those of the published recipe, by its sections.
        run: device, progress and other options of a run.
        batch_size: labels in one forward pass of an evaluation.
        num_workers: threads that decode images in an evaluation.
    """

    rows: Sequence[str] = ()
    checkpoints: Mapping[str, Path] = field(default_factory=dict)
    recipe: Mapping[str, object] = field(default_factory=dict)
    run: RunOptions = field(default_factory=RunOptions)
    batch_size: int = 64
    num_workers: int = 0


def reproduce(
    benchmark: str, *, data: str | Path, out: str | Path, options: ReproduceOptions | None = None
) -> Json:
    """Reproduce the rows of the paper's tables that the data and checkpoints at hand allow.

    A killed call continues where it stopped: trainings in their run directories, evaluations split
    by split.

    Args:
        benchmark: "refcoco", "refcoco+", "refcocog", "referit" or "flickr".
        data: folder of images, label files and checkpoints, see docs/reproduce.md.
        out: folder for runs and results.
        options: which rows are reproduced, and how.

    Returns:
        ``benchmark``; ``rows``, each with ``row`` and ``splits`` (column -> values of `Evaluation`
        and the ``expected`` number of expressions); ``missing`` by row, each with ``what``,
        ``place`` and ``from``.

    Raises:
        InputError: no such folder, benchmark or row, or files that cannot be used.
    """
    options = options or ReproduceOptions()
    if benchmark not in BENCHMARKS:
        raise InputError(f"no benchmark {benchmark!r}: {near_matches(benchmark, BENCHMARKS)}")
    root, wanted = DataRoot(data), _wanted(options)
    jobs: list[Job] = []
    missing: dict[str, list[Missing]] = {}
    for row in wanted:
        for part in BENCHMARKS[benchmark]:
            job, lacking = plan(root, row, part, options.checkpoints.get(row.name))
            jobs += [job] if job else []
            known = missing.setdefault(row.name, [])
            known += [each for each in lacking if each not in known]
    _check(jobs, options)
    say(_announced(jobs), show=options.run.progress and bool(jobs))
    found: dict[str, dict[str, Json]] = {}
    for job in jobs:
        found.setdefault(job.row.name, {}).update(_make(job, Path(out), options))
    return {
        "benchmark": benchmark,
        "rows": [{"row": name, "splits": splits} for name, splits in found.items()],
        "missing": {
            name: [each.to_dict() for each in lacking]
            for name, lacking in missing.items()
            if lacking
        },
        "asked": list(options.rows),
        "out": str(out),
    }


def _wanted(options: ReproduceOptions) -> list[Row]:
    """Return the rows to reproduce, those of given checkpoints first."""
    own = [Row(name, "", "evaluate") for name in options.checkpoints]
    names = dict.fromkeys(options.rows or ([] if own else ROWS))
    return own + [find_row(name) for name in names if name not in options.checkpoints]


def _check(jobs: Sequence[Job], options: ReproduceOptions) -> None:
    """Refuse bad options, and labels whose images are missing, before spending hours."""
    for name, least in {"batch_size": 1, "num_workers": 0}.items():
        if (value := getattr(options, name)) < least:
            raise InputError(f"{name} is {value}; expected at least {least}.")
    for place in filter(None, (job.checkpoint for job in jobs)):
        weights_of(place)
    for recipe in {job.row.recipe for job in jobs if job.training}:
        _options(recipe, options.recipe)
    validations = ((job, file) for job in jobs for file in (job.validation,) if file is not None)
    others = ((job, file) for job in jobs for file in (*job.splits.values(), *job.training))
    seen = {(file.path, file.split): (job, file) for job, file in (*others, *validations)}
    for job, file in seen.values():
        labels = read_files(job.data, [file], job.images)
        names = labels.distinct_images()[0]
        lacking = [name for name in names if not labels.image_path(name).is_file()]
        if lacking:
            raise InputError(
                f"{file.path}: {len(lacking):,} of its {len(names):,} images are not in "
                f"{job.images}, such as {lacking[0]}; complete that folder"
            )


def _announced(jobs: Sequence[Job]) -> str:
    made = [f"{job.row.name} of {job.data.name} ({job.row.method})" for job in jobs]
    return f"to make: {', '.join(made)}"


def _make(job: Job, out: Path, options: ReproduceOptions) -> dict[str, Json]:
    """Return the evaluation of each split of a row, by column of the table."""
    folder = out / job.data.name / job.row.name
    place = job.checkpoint or _trained(job, folder / "run", options)
    weights = digest(weights_of(place))
    model: GroundingModel | None = None
    found: dict[str, Json] = {}
    for column, file in job.splits.items():
        labels = read_files(job.data, [file], job.images)
        kept = folder / f"{column}.json"
        identity = {"model": weights, "labels": labels.fingerprint()}
        result = _kept(kept, identity)
        if result is None:
            model = model or load(place, device=options.run.place)
            evaluation = evaluate(
                model,
                labels,
                batch_size=options.batch_size,
                num_workers=options.num_workers,
                progress=options.run.progress,
            )
            result = to_json(evaluation.to_dict())
            if distributed.join(model.device).is_main:
                write_json(kept, {**identity, "evaluation": result})
        expected = job.data.counts.get(job.data.columns[column])
        found[column] = {**result, "expected": expected, "file": str(file.path)}
    return found


def _kept(path: Path, identity: Mapping[str, str]) -> Json | None:
    """Return a stored evaluation of the same model and labels; None if there is none."""
    there: Json = {}
    with suppress(InputError):  # a damaged one is computed again
        there = read_json(path)
    is_same = all(there.get(name) == value for name, value in identity.items())
    return there.get("evaluation") if is_same else None


def _trained(job: Job, out: Path, options: ReproduceOptions) -> Path:
    """Train a row's model, or continue its training; return the model's folder."""
    given = _options(job.row.recipe, options.recipe)
    labels = read_files(job.data, job.training, job.images)
    assert job.validation is not None
    validation = read_files(job.data, [job.validation], job.images)
    search = given.pop("search")
    shared = {**given, "validation": validation, "run": options.run}
    plan = Curriculum(method="msa" if job.row.method == "msa" else "ssa", search=search)
    if job.row.method != "train":
        return adapt(labels, curriculum=plan, out=out, **shared).folder / "model"
    ssa = out.parents[1] / "ssa" / "run"
    if job.row.name == "no-ssa" and (ssa / "summary.json").is_file():
        with suppress(InputError):  # it is of other labels or options
            found = adapt(labels, curriculum=plan, out=ssa, **shared)
            return _measurer_of(found)
    return train(labels, out=out, **shared).folder / "model"


def _measurer_of(found: AdaptResult) -> Path:
    """Return the folder of the measurer, the model that SSA trained on all labels."""
    stage = next(each for each in found.summary["stages"] if each["name"] == "measurer")
    return found.folder / "stages" / stage["stage"] / "model"


def _options(recipe: str, own: Mapping[str, object]) -> Json:
    """Return a recipe's options, some of them replaced: section -> its configuration object."""
    if unknown := own.keys() - {"backbone", *_SECTIONS}:
        raise InputError(
            f"--recipe: unknown sections {', '.join(sorted(unknown))}; it has backbone, model, "
            "training and search"
        )
    published = read_recipe(recipe)
    made: Json = {"backbone": own.get("backbone", published["backbone"])}
    for name, kind in _SECTIONS.items():
        replaced = own.get(name) or {}
        if not isinstance(replaced, Mapping):
            raise InputError(f"--recipe: section {name} holds no options")
        seed = {"seed": made["training"].seed} if name == "search" else {}
        given = {**seed, **published.get(name, {}), **replaced}
        known = inspect.signature(kind).parameters
        if other := next((option for option in given if option not in known), None):
            raise InputError(f"--recipe: no option {other!r}: {near_matches(other, known)}")
        made[name] = kind(**given)
    return made
