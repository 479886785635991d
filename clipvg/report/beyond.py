"""The parts of a report about variants beyond the published method."""

from __future__ import annotations

from clipvg.curriculum import RunSummary
from clipvg.curriculum.beyond.facts import BeyondFacts, VariantFacts
from clipvg.report.html import Table
from clipvg.report.numbers import percent, points


def searched_name(summary: RunSummary, method: str) -> str:
    """Return the method's name, with ", fused" if the summary has the search of that variant."""
    variants = summary.beyond.variants if summary.beyond else ()
    searched = [each for each in variants if each.name in ("plain", "fused")]
    best = max(searched, key=lambda each: each.score or 0, default=None)
    return method if best is None or best.name == "plain" else f"{method}, {best.name}"


def variants_facts(summary: RunSummary) -> list[tuple[str, str]]:
    """Return the name and score of the chosen variant, unless it is the first one."""
    chosen = _chosen(summary.beyond) if summary.beyond else None
    return [] if chosen is None else [(chosen.name, percent(chosen.score))]


def variants_lead(beyond: BeyondFacts) -> str:
    """Return a sentence on the chosen variant."""
    chosen = _chosen(beyond)
    if chosen is None:
        return f" No variant was better than {_first(beyond)}."
    return (
        f" The model is that of the variant “{chosen.name}”, with {percent(chosen.score)} "
        f"({points(chosen.gain or 0)} points over {_first(beyond)})."
    )


def variants_table(
    beyond: BeyondFacts, metric: str, before: float | None, first: str = "all labels"
) -> Table:
    """Return a table that compares all variants: labels, corrected boxes, trainings, performance.

    They are also compared with the training on the labels called `first`, whose performance is
    `before`.
    """
    rows = [] if before is None else [(first, "", "", "", "1", percent(before), "", "")]
    rows += [
        (
            variant.name + (" ★" if variant.name == beyond.chosen else ""),
            f"{variant.kept:,}",
            "" if variant.weight is None else f"{variant.weight:,.0f}",
            "" if variant.corrected is None else f"{variant.corrected:,}",
            f"{variant.trainings}",
            percent(variant.score),
            "" if variant.gain is None else points(variant.gain),
            "" if variant.score is None or before is None else points(variant.score - before),
        )
        for variant in beyond.variants
    ]
    notes = [f"{name}: {why}" for name, why in beyond.skipped.items()]
    notes += [f"{each.name}: {each.said_of_sources}" for each in beyond.variants if each.left_out]
    notes += filter(None, [beyond.stopped])
    threshold = "the calibrated threshold" if beyond.options["skip_search"] else "as published"
    is_fused = beyond.variants[0].name == "fused"
    by = f"Fused: {beyond.options['measures'][-1]}" if is_fused else "Plain: the measurers alone"
    return Table(
        "Beyond the published method: variants",
        (
            "variant",
            "labels",
            "sum of weights",
            "corrected boxes",
            "trainings",
            metric,
            f"over {beyond.variants[0].name}",
            f"over {first}",
        ),
        rows,
        f"{by}, {threshold}; ★ the result. Trainings: all that the variant "
        "rests on. " + ("; ".join(notes) + "." if notes else ""),
    )


def _first(beyond: BeyondFacts) -> str:
    """Return the name of the variant that the others are compared with."""
    name = beyond.variants[0].name
    return "the plain method" if name == "plain" else f"“{name}”"


def _chosen(beyond: BeyondFacts) -> VariantFacts | None:
    """Return the chosen variant; None if it is the first one."""
    return None if beyond.chosen == beyond.variants[0].name else beyond.winner
