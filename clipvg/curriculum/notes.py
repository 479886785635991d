"""What people should know before they use the result of a run."""

from __future__ import annotations

from clipvg.curriculum.config import LEAST_SHARE
from clipvg.curriculum.summary import RunSummary


def notes(summary: RunSummary) -> tuple[str, ...]:
    """Return sentences: where the result is below an earlier stage, or rests on few labels."""
    found = []
    stages = {
        f"the model after source {step.source!r}": (step.score, stage.stage)
        for step in summary.steps[:-1]
        for stage in step.stages
        if stage.threshold == step.threshold
    }
    if (base := summary.no_curriculum) is not None and base.score is not None:
        stages[f"the model trained on {summary.first_name}"] = base.score, base.stage
    if stages:
        name, (score, stage) = max(stages.items(), key=lambda item: item[1][0])
        if score > summary.score:
            found.append(
                f"The result ({_percent(summary.score)}) is worse than {name} ({_percent(score)}), "
                f"which is kept in stages/{stage}/model."
            )
    if summary.beyond is not None and (said := summary.beyond.winner.said_of_sources):
        found.append(f"The result was trained {said}.")
    if summary.kept < LEAST_SHARE * summary.labels.count:
        found.append(
            f"Only {summary.kept:,} of {summary.labels.count:,} labels were kept: few teach "
            "little, and their validation score may be luck. A higher min_kept asks for more."
        )
    return tuple(found)


def _percent(score: float) -> str:
    return f"{100 * score:.1f} %"
