"""Charts of the rescoring benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.ticker import LogLocator, NullFormatter

from clipvg.report.canvas import legend_below, new_figure, save_figure
from clipvg.report.style import BLUE, CYCLE, GRAY, ORANGE, SKY, VERMILION

_COLOURS = {"baseline": GRAY, "fp32": BLUE, "bf16": VERMILION, "fp16": ORANGE, "ablation": SKY}


def draw_bars(records: list[dict[str, Any]], path: str | Path, title: str) -> Path:
    """Horizontal bars of labels/s: reference, engine, engine without each optimisation."""
    shown = [record for record in records if record.get("without") or record["kind"] != "ablation"]
    plain = [record for record in shown if record["kind"] != "ablation"]
    without = [record for record in shown if record["kind"] == "ablation"]
    ordered = plain + sorted(without, key=lambda record: -record["labels_per_s"])
    figure = new_figure(7.6, 1.2 + 0.3 * len(ordered))
    axes = figure.add_subplot()
    for place, record in enumerate(ordered):
        kind = record["precision"] if record["kind"] == "engine" else record["kind"]
        rate = record["labels_per_s"]
        axes.barh(place, rate, color=_COLOURS[kind], height=0.72)
        ratio = f"  ({record['ratio']:.1f}×)" if record.get("ratio", 1) != 1 else ""
        axes.text(rate, place, f" {_short(rate)}{ratio}", va="center", fontsize=9)
    axes.set_yticks(range(len(ordered)), [_name(record) for record in ordered], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2 * max(record["labels_per_s"] for record in ordered))
    axes.set_xlabel("labels per second, all measurers")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    return save_figure(figure, path)


def draw_sweep(records: list[dict[str, Any]], path: str | Path, title: str) -> Path:
    """Two panels: cost per label over expressions per image and over measurers."""
    figure = new_figure(9.0, 3.9)
    panels = figure.subplots(1, 2)
    names = {"k": "expressions per image", "n": "measurers"}
    for axes, (axis, name) in zip(panels, names.items(), strict=True):
        rows = [record for record in records if record["axis"] == axis]
        for i, precision in enumerate(dict.fromkeys(row["precision"] for row in rows)):
            points = [row for row in rows if row["precision"] == precision]
            x = [row[axis] for row in points]
            if i == 0:
                y = [1e3 * row["reference_seconds_per_label"] for row in points]
                label = "reference" if axis == "k" else None
                axes.plot(x, y, color=GRAY, linestyle="--", marker="s", markersize=4, label=label)
            y = [1e3 * row["seconds_per_label"] for row in points]
            label = f"engine {precision}" if axis == "k" else None
            axes.plot(x, y, color=CYCLE[i], marker="o", markersize=4, label=label)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(x, [str(value) for value in x])
        other = next(f"{o} = {rows[0][o]}" for o in names if o != axis)
        axes.set(xlabel=f"{name} ({other})", ylabel="ms per label")
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontsize=11)
    legend_below(figure)
    return save_figure(figure, path)


def draw_memory(records: list[dict[str, Any]], path: str | Path, title: str) -> Path:
    """Memory above that of models and label table, over the number of labels."""
    figure = new_figure(7.2, 3.4)
    axes = figure.add_subplot()
    labels = [record["labels"] for record in records]
    in_use = [record["settled_mib"] - record["before_mib"] for record in records]
    for values, colour, style, name in (
        ([record["growth_mib"] for record in records], BLUE, "-", "peak"),
        (in_use, VERMILION, "-", "in use at the end"),
        ([record["score_columns_mib"] for record in records], GRAY, ":", "score columns"),
    ):
        axes.plot(labels, values, color=colour, linestyle=style, marker="o", label=name)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set(xlabel="labels", ylabel="MiB above models and labels")
    axes.grid(alpha=0.3)
    axes.set_title(title, fontsize=11)
    legend_below(figure)
    return save_figure(figure, path)


def _name(record: dict[str, Any]) -> str:
    if record.get("without") == "all":
        return f"everything off ({record['precision']})"
    if record["kind"] == "baseline":
        return "reference access pattern (fp32)"
    return f"{record['name']} ({record['precision']})" if "without" in record else record["name"]


def _short(rate: float) -> str:
    return f"{rate:.3g}" if rate < 1000 else f"{rate:,.0f}"
