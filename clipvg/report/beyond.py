"""What the report says of the variants beyond the published method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipvg.report.html import Table
from clipvg.report.numbers import percent, points


def searched_name(summary: Mapping[str, Any], method: str) -> str:
    """The method, with the measure whose search the summary tells of where that is a fused one."""
    variants = summary["beyond"]["variants"] if "beyond" in summary else []
    searched = [each for each in variants if each["name"] in ("plain", "fused")]
    best = max(searched, key=lambda each: each["score"] or 0, default=None)
    return method if best is None or best["name"] == "plain" else f"{method}, {best['name']}"


def variants_facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The result, where another variant than the plain method gave it."""
    chosen = _chosen(summary["beyond"]) if "beyond" in summary else None
    return [] if chosen is None else [(chosen["name"], percent(chosen["score"]))]


def variants_lead(beyond: Mapping[str, Any]) -> str:
    """A sentence on the variant that was chosen."""
    chosen = _chosen(beyond)
    if chosen is None:
        return " No variant was better than the plain method."
    return (
        f" The model is that of the variant “{chosen['name']}”, with {percent(chosen['score'])} "
        f"({points(chosen['gain'])} points beside the plain method)."
    )


def variants_table(beyond: Mapping[str, Any], metric: str) -> Table:
    """All variants on equal footing: labels, corrected boxes, trainings, performance."""
    rows = []
    for variant in beyond["variants"]:
        is_chosen = variant["name"] == beyond["chosen"]
        gain = variant["gain"]
        rows.append(
            (
                variant["name"] + (" ★" if is_chosen else ""),
                f"{variant['kept']:,}",
                f"{variant['weight']:,.0f}" if "weight" in variant else "",
                f"{variant['corrected']:,}" if "corrected" in variant else "",
                f"{variant['trainings']}",
                percent(variant["score"]),
                "" if gain is None else points(gain),
            )
        )
    skipped = [f"{name}: {why}" for name, why in beyond["skipped"].items()]
    notes = [*skipped, *filter(None, [beyond["stopped"]])]
    plain = "the calibrated threshold" if beyond["options"]["skip_search"] else "as published"
    return Table(
        "Beyond the published method: variants",
        ("variant", "labels", "sum of weights", "corrected boxes", "trainings", metric, "gain"),
        rows,
        f"Plain: the measurers' IoU alone, {plain}; ★ the result. Trainings: all that the variant "
        "rests on. " + ("; ".join(notes) + "." if notes else ""),
    )


def _chosen(beyond: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The chosen variant; None where it is the plain method."""
    first = beyond["variants"][0]["name"]
    if beyond["chosen"] == first:
        return None
    chosen: Mapping[str, Any]
    (chosen,) = (each for each in beyond["variants"] if each["name"] == beyond["chosen"])
    return chosen
