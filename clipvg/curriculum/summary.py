"""What the summaries of SSA and MSA share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from clipvg.curriculum.config import ADAPTED
from clipvg.curriculum.holdout import describe
from clipvg.curriculum.material import Material
from clipvg.curriculum.run import Run, Stage
from clipvg.curriculum.trainings import Entry, Trainings
from clipvg.curriculum.variants import Variants
from clipvg.errors import InputError
from clipvg.reliability.matrix import ScoreMatrix

GIVEN = "given"


def check_names(names: Iterable[str]) -> None:
    """Refuse names of measurers that the curriculum uses itself, and an empty one."""
    for name in names:
        if not name:
            raise InputError(
                "some labels have no source; name one with source=..., or take all labels as one "
                "source with method='ssa'."
            )
        if name == ADAPTED:
            raise InputError(f"{name!r} is what the adapted model is called; choose another name.")


def keep_given(run: Run, scores: ScoreMatrix) -> ScoreMatrix:
    """Write scores that came with the labels into the run, and return them."""
    run.write(lambda: scores.write(run.scores_path(GIVEN)))
    return scores


def outcome(
    work: Trainings, material: Material, base: Entry | None, variants: Variants
) -> dict[str, Any]:
    """Return the part of a summary that SSA and MSA share.

    Args:
        work: trainings of the run.
        material: its labels.
        base: what was recorded of the training without curriculum; None where there was none.
        variants: the best of them is the result.
    """
    before = None if base is None else base["score"]
    best, score = variants.best, variants.best.score
    beyond = {"beyond": variants.to_dict()} if variants.beyond else {}
    return {
        "labels": describe(work.labels),
        "validation": material.validation.to_dict(),
        "options": asdict(work.config),
        "no_curriculum": base and {"stage": base["stage"], "score": before, "kept": base["kept"]},
        "kept": int(best.selected.sum()),
        "score": score,
        "gain": None if before is None else score - before,
        "winner": best.stage.key,
        "num_trainings": len({entry["stage"] for entry in work.entries}),
        **beyond,
    }


def describe_measurers(
    scores: ScoreMatrix, stages: Mapping[str, Stage], files: Sequence[str]
) -> list[dict[str, Any]]:
    """Return what a summary says of the n measurers.

    Args:
        scores: by them.
        stages: of those that were trained, by name.
        files: n names of files of scores, see `Run.scores_path`.
    """
    return [
        {
            "name": name,
            "stage": stages[name].key if name in stages else None,
            "trained_on": trained_on,
            "scores": file,
        }
        for name, trained_on, file in zip(scores.names, scores.trained_on, files, strict=True)
    ]


def some_reasons(scores: ScoreMatrix, count: int = 100) -> dict[str, str]:
    """Return why some labels are not scored, by row."""
    return {str(row): reason for row, reason in list(scores.reasons.items())[:count]}
