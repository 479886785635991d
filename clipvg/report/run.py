"""Draw the report page of a run directory from the files that the run left there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from clipvg.curriculum import RunSummary
from clipvg.errors import InputError
from clipvg.labels import read_labels
from clipvg.labels.read import TRUSTED
from clipvg.report.cases import training_cases
from clipvg.report.curriculum import curriculum_report
from clipvg.report.figures import training_curves
from clipvg.report.html import PageImage, Report, Table, write_html
from clipvg.report.numbers import listed, percent, points
from clipvg.runtime.files import Json, read_json
from clipvg.runtime.gate import read_yaml

DEMO_NAMES = {
    "all_labels": "all labels (no SSA)",
    "ssa": "SSA",
    "clean_labels": "correct labels only (ceiling)",
}


def draw_report(folder: str | Path) -> Path:
    """Write `report.html` into a run directory, see `report_run`, and return its path."""
    return write_html(report_run(folder), Path(folder) / "report.html")


def report_run(folder: str | Path) -> Report:
    """Return the report of a run directory, as data.

    It reads `summary.json`, `metrics.jsonl`, `config.yaml` and, for a curriculum, its tables of
    labels and `scores/`; what is missing is left out. `model/`, if there is one, predicts the boxes
    on the images.

    Raises:
        InputError: there is neither a summary nor metrics, or a file is damaged.
    """
    folder = Path(folder)
    summary = read_json(folder / "summary.json")
    metrics = _read_lines(folder / "metrics.jsonl")
    if not summary and not metrics:
        raise InputError(
            f"{folder} is not the directory of a run: it has neither summary.json nor "
            "metrics.jsonl. Name the --out of clipvg train, adapt or demo."
        )
    if isinstance(summary.get("acc_0.5"), Mapping):
        report = _demo(folder, summary)
    elif summary.get("method") in ("ssa", "msa"):
        report = curriculum_report(folder, RunSummary.read(folder))
    else:
        report = _training(folder, summary, metrics)
    report.config = _read_config(folder / "config.yaml") or report.config
    report.command = str(summary.get("command", ""))
    return report


def _training(folder: Path, summary: Json, rows: Sequence[Json]) -> Report:
    epochs = [row for row in rows if "loss" in row]
    last: Json = epochs[-1] if epochs else {}
    facts = [("epochs", f"{len(epochs)}")]
    if "loss" in last:
        facts.append(("last loss", f"{last['loss']:.4f}"))
    scores = [row["val_acc_0.5"] for row in epochs if row.get("val_acc_0.5") is not None]
    if scores:
        facts.append(("best validation Acc@0.5", percent(max(scores))))
    root, path = summary.get("root"), folder / "labels.parquet"
    gallery, roles = [], ["predicted", "pseudo"]
    if root and path.is_file():
        labels = read_labels(path, images=root, options=TRUSTED)
        gallery = training_cases(labels, folder / "model")
        roles += ["true"] * labels.has_truth
    return Report(
        title=f"Training {folder.name}",
        facts=facts,
        gallery=gallery,
        gallery_note="Labels of the training and the boxes of its model, some drawn by chance and "
        "of 48 looked at those that it misses furthest.",
        gallery_roles=roles,
        figures=[_curves(epochs)] if epochs else [],
        timings={"training": float(summary["seconds"])} if "seconds" in summary else {},
    )


def _curves(epochs: Sequence[Json]) -> PageImage:
    return PageImage.of_figure(
        training_curves(epochs),
        f"Curves of training loss and validation accuracy over {len(epochs)} records.",
        "Loss per label (L1 + GIoU) and performance on the validation labels.",
    )


def _demo(folder: Path, summary: Json) -> Report:
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
            ("AUROC of reliability", ", ".join(map(percent, summary.get("auroc", [])))),
        ],
        tables=[gain_table(accuracy)],
        timings=summary.get("timings") or {"whole demo": float(summary.get("seconds", 0))},
    )
    inner = _first_curriculum(folder)
    if inner is not None:
        part = curriculum_report(inner, RunSummary.read(inner))
        report.figures, report.gallery = part.figures, part.gallery
        report.gallery_note, report.gallery_roles = part.gallery_note, part.gallery_roles
        report.terms = part.terms
        if len(accuracy["ssa"]) > 1:
            first = f" Of the run {inner.relative_to(folder)}."
            report.gallery_note += first
            report.figures = [replace(f, caption=f.caption + first) for f in part.figures]
        report.config = _read_config(inner / "config.yaml")
    return report


def gain_table(accuracy: Mapping[str, Sequence[float]]) -> Table:
    """Return the demo's accuracy by training labels, with the gain over the first row."""
    seeds = len(accuracy["all_labels"])
    base = np.asarray(accuracy["all_labels"], dtype=float)
    rows = []
    for key, name in DEMO_NAMES.items():
        values, is_base = np.asarray(accuracy[key], dtype=float), key == "all_labels"
        gains = values - base
        row = [name, percent(float(values.mean())), "" if is_base else points(float(gains.mean()))]
        if seeds > 1:
            row.append("" if is_base else f"{int((gains > 0).sum())} of {seeds}")
            row.append(", ".join(f"{100 * value:.1f}" for value in values))
        rows.append(row)
    header = ["trained on", "Acc@0.5", "gain (points)"]
    if seeds > 1:
        header += ["seeds with a gain", "each seed (%)"]
    return Table("Acc@0.5 against the truth, test scenes", header, rows)


def _first_curriculum(folder: Path) -> Path | None:
    for path in sorted(folder.glob("*/summary.json")) + sorted(folder.glob("*/*/summary.json")):
        if read_json(path).get("method") == "ssa":
            return path.parent
    return None


def _read_lines(path: Path) -> list[Json]:
    rows = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.splitlines():
        with suppress(ValueError):  # the last line of a killed run may be cut
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]


def _read_config(path: Path) -> Json:
    content = read_yaml(path, "the options of a run") if path.is_file() else None
    return content if isinstance(content, dict) else {}
