"""Score labels by further measures beside the measurers, most often fusions of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from clipvg.curriculum.measuring import kept_scores, scores_key
from clipvg.curriculum.trainings import Trainings
from clipvg.errors import InputError, near_matches
from clipvg.labels import LabelTable
from clipvg.measures.specs import (
    MeasureSpec,
    asks_models,
    build_measure,
    build_measures,
    identity_of,
)
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.reliability.measurer import Context, Scores
from clipvg.reliability.names import check_names
from clipvg.runs.stage import Stage

_ABSENT = frozenset({"history", "reference"})  # requirements that no run of a curriculum meets


def fuse(
    scores: ScoreMatrix,
    labels: LabelTable,
    measures: Sequence[str | MeasureSpec],
    models: Mapping[str, Any] | None = None,
    *,
    known: ScoreMatrix | None = None,
    progress: bool = False,
) -> ScoreMatrix:
    """Return the scores by measures of the registry, and these alone; they may fuse given scores.

    Args:
        scores: given scores of N labels by n measurers.
        labels: the labels.
        measures: ``[COLUMN=]METHOD[,option=value]``, as `build_measures` takes them.
        models: models of the measurers by name, for measures that ask a model.
        known: scores by some of ``measures``, which are not computed again.
        progress: show a bar while a measure looks at images.

    Raises:
        InputError: a measure or option is unknown, a name is taken, or a measure requires something
            that is not available.

    Example:
        >>> fuse(scores, labels, ["weighted_mean,geometric=true"]).names
        ('weighted_mean',)
    """
    # It imports torch, which `import clipvg.curriculum` does not.
    from clipvg.reliability.image_measure import measure_together

    built = build_measures(measures, models)
    check_names([*scores.names, *built])
    found: dict[str, Scores] = {}
    if known is not None:
        found = {name: Scores(known[name], known.reasons) for name in known.names}
        scores = ScoreMatrix.concat([scores, known])
    context = Context(scores=scores, progress=progress)
    missing = {name: measurer for name, measurer in built.items() if name not in found}
    found |= measure_together(missing, labels, context)
    return ScoreMatrix.of({name: found[name] for name in built}, scores.label_sources)


def check_fusion(
    specs: Sequence[MeasureSpec], measurers: Sequence[str], *, has_models: bool
) -> None:
    """Refuse measures that a run cannot compute, before its measurers have scored anything."""
    check_names([*measurers, *(spec.name for spec in specs)])
    known = [*measurers]
    for spec in specs:
        if not asks_models(spec):
            made = build_measure(spec, {})
            missing = sorted(made.requires & _ABSENT)
            if missing:
                raise InputError(
                    f"measure {spec.name!r} requires {', '.join(missing)}, which a run does not "
                    "have; leave it out."
                )
        elif not has_models:
            raise InputError(
                f"measure {spec.name!r} asks a model, and where the labels come with their scores "
                "none is trained to measure; leave the measure out, or the scores (scored_by)."
            )
        inputs = spec.options.get("of")
        for name in inputs if isinstance(inputs, list) else [inputs]:
            if isinstance(name, str) and name not in known:
                raise InputError(f"{spec.name!r} fuses {name!r}: {near_matches(name, known)}")
        known.append(spec.name)


def fuse_stages(
    work: Trainings,
    scores: ScoreMatrix,
    measures: Sequence[MeasureSpec],
    stages: Mapping[str, Stage],
    *,
    teacher: bool = False,
) -> tuple[ScoreMatrix, str]:
    """Return the training labels' scores by further measures, and the name of their file.

    Measures that ask a model ask those of the stages; with `teacher` their teachers, if they exist.
    """
    run, labels, progress = work.run, work.labels, work.progress
    facts = {
        "measures": [identity_of(spec) for spec in measures],
        "scores": hashlib.sha256(scores.scores.tobytes()).hexdigest(),
        "models": {name: stage.key for name, stage in stages.items()},
        "teacher": teacher,
    }
    key = scores_key(run.stage(**facts).key, "measures")

    def lasting(models: Mapping[str, Any]) -> ScoreMatrix | None:
        """Return the scores that depend on frozen towers alone: made once, for all rounds."""
        from clipvg.reliability.image_measure import ImageMeasure

        towers = {
            name: measure.towers_key
            for name, measure in build_measures(measures, models).items()
            if isinstance(measure, ImageMeasure) and measure.towers_key is not None
        }
        asked = [spec for spec in measures if spec.name in towers]
        identity = [[identity_of(spec), towers[spec.name]] for spec in asked]
        key = scores_key(run.stage(lasting=identity).key, "lasting")

        def make() -> ScoreMatrix:
            return fuse(scores, labels, asked, models, progress=progress)

        return kept_scores(run, key, make) if asked else None

    def make() -> ScoreMatrix:
        folders = {name: stage.measuring_folder(teacher) for name, stage in stages.items()}
        models = {name: work.learner.load(folder) for name, folder in folders.items()}
        known = lasting(models)
        return fuse(scores, labels, measures, models, known=known, progress=progress)

    return kept_scores(run, key, make), key
