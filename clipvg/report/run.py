"""The report page of a run directory, from the files that the run left there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels
from clipvg.report.html import Picture, Report, Table, write_html
from clipvg.report.numbers import listed, percent, points
from clipvg.report.sections import (
    correct_labels,
    curve_section,
    gain_table,
    histogram_section,
    label_picture,
    training_section,
)

DEMO_NAMES = {
    "all_labels": "all labels (no SSA)",
    "ssa": "SSA",
    "clean_labels": "correct labels only (ceiling)",
}
_GALLERY = 12


def draw_report(folder: str | Path, *, command: str = "") -> Path:
    """Writes `report.html` into a run directory and returns its path.

    Args:
        folder: of `clipvg train`, `adapt` or `demo`.
        command: what was typed; by default what the run recorded, if it did.

    Raises:
        InputError: the folder holds no run.
    """
    report = report_run(folder)
    if command:
        report = replace(report, command=command)
    return write_html(report, Path(folder) / "report.html")


def report_run(folder: str | Path) -> Report:
    """The report of a run directory, as data.

    Read are `summary.json`, `metrics.jsonl`, `config.yaml`, and for a curriculum `labels.parquet`
    and `scores/`; what is missing is left out. `model/`, where there is one, predicts the boxes of
    the pictures.

    Raises:
        InputError: neither summary nor metrics are there.
    """
    folder = Path(folder)
    summary = _read_json(folder / "summary.json")
    metrics = _read_lines(folder / "metrics.jsonl")
    if not summary and not metrics:
        raise InputError(
            f"{folder} is not the directory of a run: it has neither summary.json nor "
            "metrics.jsonl. Name the --out of clipvg train, adapt or demo."
        )
    if isinstance(summary.get("acc_0.5"), Mapping):
        report = _demo(folder, summary)
    elif summary.get("method") == "ssa":
        report = _curriculum(folder, summary)
    else:
        report = _training(folder, summary, metrics)
    report.config = _read_config(folder / "config.yaml") or report.config
    report.command = str(summary.get("command", ""))
    return report


def _training(
    folder: Path, summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Report:
    epochs = [row for row in rows if "loss" in row]
    last: Mapping[str, Any] = epochs[-1] if epochs else {}
    facts = [("epochs", f"{len(epochs)}")]
    if "loss" in last:
        facts.append(("last loss", f"{last['loss']:.4f}"))
    scores = [row["val_acc_0.5"] for row in epochs if row.get("val_acc_0.5") is not None]
    if scores:
        facts.append(("best validation Acc@0.5", percent(max(scores))))
    return Report(
        title=f"Training {folder.name}",
        facts=facts,
        figures=[training_section(epochs)] if epochs else [],
        timings={"training": float(summary["seconds"])} if "seconds" in summary else {},
    )


def _demo(folder: Path, summary: Mapping[str, Any]) -> Report:
    accuracy: Mapping[str, Sequence[float]] = summary["acc_0.5"]
    base, adapted, ceiling = (float(np.mean(accuracy[key])) for key in DEMO_NAMES)
    report = Report(
        title="clipvg demo: CLIP adapted to visual grounding from noisy pseudo-labels",
        lead=f"Self-paced adapting changes Acc@0.5 from {percent(base)} to {percent(adapted)} "
        f"({points(adapted - base)} points); training on the correct labels alone gives "
        f"{percent(ceiling)}.",
        facts=[
            ("no SSA", percent(base)),
            ("SSA", percent(adapted)),
            ("gain (points)", points(adapted - base)),
            ("threshold h", listed(summary.get("threshold"))),
            ("AUROC of reliability", listed(summary.get("auroc"), ".3f")),
        ],
        tables=[gain_table(accuracy, DEMO_NAMES, title="Acc@0.5 against the truth, test scenes")],
        timings=summary.get("timings") or {"whole demo": float(summary.get("seconds", 0))},
    )
    inner = _first_curriculum(folder)
    if inner is not None:
        part = _curriculum(inner, _read_json(inner / "summary.json"))
        report.figures, report.gallery = part.figures, part.gallery
        report.gallery_note, report.gallery_roles = part.gallery_note, part.gallery_roles
        if len(accuracy["ssa"]) > 1:
            first = f" Of the run {inner.relative_to(folder)}."
            report.gallery_note += first
            report.figures = [replace(f, caption=f.caption + first) for f in part.figures]
        report.config = _read_config(inner / "config.yaml")
    return report


def _curriculum(folder: Path, summary: Mapping[str, Any]) -> Report:
    threshold, before, after = summary["threshold"], summary["no_curriculum"], summary["score"]
    held_out = summary["validation"].get("kind") == "held out"
    metric = "agreement, held-out labels" if held_out else "Acc@0.5, validation labels"
    labels, reliability = _scored_labels(folder, summary)
    correct = None if labels is None else correct_labels(labels)
    figures = []
    if reliability is not None:
        figures.append(histogram_section(reliability, correct=correct, threshold=threshold))
    figures.append(
        curve_section(
            summary["stages"][1:], chosen=threshold, baseline=before["score"], metric=metric
        )
    )
    gain = after - before["score"]
    return Report(
        title=f"Self-paced adapting {folder.name}",
        lead=f"The labels with reliability r ≥ {threshold:g} give {percent(after)} instead of "
        f"{percent(before['score'])} ({points(gain)} points). "
        f"{summary['validation'].get('statement', '')}",
        facts=[
            ("no SSA", percent(before["score"])),
            ("SSA", percent(after)),
            ("gain (points)", points(gain)),
            ("threshold h", f"{threshold:g}"),
            ("labels kept", f"{summary['kept']:,} of {before['kept']:,}"),
        ],
        tables=[_stages(summary, metric)],
        figures=figures,
        gallery=_gallery(folder, labels, reliability, threshold, _is_strict(summary)),
        gallery_note="Training labels drawn by chance, some that the threshold keeps and some that "
        "it leaves out; the predicted box is the adapted model's.",
        gallery_roles=("predicted", "pseudo")
        if correct is None
        else ("predicted", "true", "pseudo"),
        timings=_stage_times(summary["stages"]),
    )


def _stages(summary: Mapping[str, Any], metric: str) -> Table:
    base = summary["no_curriculum"]["score"]
    rows = []
    for stage in summary["stages"]:
        h, score = stage.get("threshold"), stage.get("score")
        name = "all labels (no SSA)" if h is None else f"r ≥ {h:g}"
        chosen = h is not None and h == summary["threshold"]
        gain = "" if h is None or score is None else points(score - base)
        rows.append(
            (name + (" (chosen)" if chosen else ""), f"{stage['kept']:,}", percent(score), gain)
        )
    return Table("Models that were trained", ("trained on", "labels", metric, "gain"), rows)


def _stage_times(stages: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {
        "all labels" if stage.get("threshold") is None else f"r ≥ {stage['threshold']:g}": float(
            stage.get("seconds") or 0
        )
        for stage in stages
    }


def _scored_labels(
    folder: Path, summary: Mapping[str, Any]
) -> tuple[LabelTable | None, np.ndarray | None]:
    """Training labels and the measurer's reliability of each, without the labels held out."""
    from clipvg.curriculum import hold_out
    from clipvg.reliability import ScoreMatrix

    stage = summary["no_curriculum"]["stage"]
    scores = folder / "scores" / f"{stage}-measurer.parquet"
    if not scores.is_file():
        return None, None
    reliability = ScoreMatrix.read(scores).scores[0]
    path = folder / "labels.parquet"
    if not path.is_file():
        return None, reliability
    labels = read_labels(path, images=summary["labels"].get("root"))
    if summary["validation"].get("kind") == "held out":
        options = summary["options"]
        labels, _ = hold_out(labels, options["holdout"], seed=options["seed"])
    return (labels if len(labels) == len(reliability) else None), reliability


def _is_strict(summary: Mapping[str, Any]) -> bool:
    return bool(summary.get("options", {}).get("strict", False))


def _gallery(
    folder: Path,
    labels: LabelTable | None,
    reliability: np.ndarray | None,
    threshold: float,
    strict: bool,
) -> list[Picture]:
    """Labels that the threshold keeps and leaves out, half of each, drawn by chance."""
    from clipvg.reliability import kept

    if labels is None or reliability is None:
        return []
    draw = np.random.default_rng(0)
    is_kept = kept(reliability, threshold, strict=strict)
    correct = correct_labels(labels)
    rows = [
        row
        for side in (np.flatnonzero(is_kept), np.flatnonzero(~is_kept & np.isfinite(reliability)))
        for row in np.sort(draw.permutation(side)[: _GALLERY // 2])
    ]
    predicted = _predictions(folder / "model", labels, rows)
    pictures = [
        label_picture(
            labels,
            int(row),
            predicted=predicted.get(int(row)),
            remark=_remark(bool(is_kept[row]), reliability[row], correct, int(row)),
        )
        for row in rows
    ]
    return [picture for picture in pictures if picture is not None]


def _remark(is_kept: bool, r: float, correct: np.ndarray | None, row: int) -> str:
    kind = "" if correct is None else "correct label " if correct[row] else "wrong label "
    return f"{kind}{'kept' if is_kept else 'left out'} (r = {r:.2f})"


def _predictions(model_folder: Path, labels: LabelTable, rows: Sequence[int]) -> dict[int, Any]:
    if not model_folder.is_dir():
        return {}
    from clipvg.model import load

    model = load(model_folder)
    some = labels.select(list(rows))
    found = {}
    for row, name, expression in zip(rows, some.image_names, some.expressions, strict=True):
        try:
            found[int(row)] = model.predict(some.image_path(name), [expression])[0]
        except (InputError, OSError):
            continue
    return found


def _first_curriculum(folder: Path) -> Path | None:
    for path in sorted(folder.glob("*/summary.json")) + sorted(folder.glob("*/*/summary.json")):
        if _read_json(path).get("method") == "ssa":
            return path.parent
    return None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path} is not JSON: {error}; run the command of the run again"
        ) from error
    return content if isinstance(content, dict) else {}


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue  # the last line of a killed run may be cut
    return [row for row in rows if isinstance(row, dict)]


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}
