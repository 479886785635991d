"""Figures for docs/: accuracy of methods, performance-reliability curve, measures, calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipvg.report.canvas import legend_below, new_figure, save_figure
from clipvg.report.style import BLUE, CYCLE, GRAY, ORANGE, SKY, VERMILION

_COLOURS = {"all": GRAY, "clean": SKY, "msa": VERMILION, "ssa": BLUE}
_NAMES = {"all": "all labels", "clean": "correct labels alone", "msa": "MSA", "ssa": "SSA"}


def draw_figures(found: dict[str, Any], folder: Path) -> list[Path]:
    """Draw the figures of all experiments that were run; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    methods = {name: found[name] for name in ("one", "three") if name in found}
    if methods:
        made.append(_draw_methods(methods, folder / "science-methods.png"))
    if "sweep" in found:
        made.append(_draw_curve(found["sweep"], folder / "science-curve.png"))
    if "measures" in found:
        made.append(_draw_measures(found["measures"], folder / "science-measures.png"))
    if "answers" in found:
        made.append(_draw_answers(found["answers"], folder / "science-answers.png"))
    return made


def _draw_methods(found: dict[str, Any], path: Path) -> Path:
    """Test accuracy of every method: a diamond for the mean, a dot for each seed."""
    figure = new_figure(4.6 * len(found), 3.6)
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    titles = {"one": "one source", "three": "three sources"}
    for axes, (name, record) in zip(panels, found.items(), strict=True):
        methods = {k: v for k, v in record.items() if isinstance(v, dict) and "values" in v}
        for place, (method, result) in enumerate(methods.items()):
            test, values = result["test"], result["values"]
            colour = _COLOURS.get(method, ORANGE)
            axes.plot(values, [place] * len(values), ".", color=GRAY, markersize=5)
            axes.plot(test["mean"], place, "D", color=colour, markersize=7)
            axes.annotate(
                f"{test['mean']:.1f}",
                (test["mean"], place),
                (0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        labels = [_NAMES.get(m, m.replace("ssa ", "SSA, ")) for m in methods]
        axes.set_yticks(range(len(methods)), labels, fontsize=9)
        axes.set_ylim(len(labels) - 0.5, -0.7)
        axes.margins(x=0.08)
        axes.set_xlabel("Acc@0.5 on test scenes (%)", fontsize=9)
        axes.grid(axis="x", alpha=0.3)
        axes.set_title(titles[name], fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    return save_figure(figure, path)


def _draw_curve(found: dict[str, Any], path: Path) -> Path:
    """Test accuracy over the threshold: the paper's performance-reliability curve."""
    figure = new_figure(5.2, 3.4)
    axes = figure.add_subplot()
    thresholds = [float(h) for h in found["curve"]]
    means = [value["mean"] for value in found["curve"].values()]
    if all(value["low"] is not None for value in found["curve"].values()):
        low, high = ([v[side] for v in found["curve"].values()] for side in ("low", "high"))
        axes.fill_between(thresholds, low, high, color=BLUE, alpha=0.15, linewidth=0)
    axes.plot(thresholds, means, color=BLUE, marker="o", markersize=4)
    axes.set_xlabel("reliability threshold h")
    axes.set_ylabel("Acc@0.5 on test scenes (%)")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return save_figure(figure, path)


def _draw_measures(found: dict[str, Any], path: Path) -> Path:
    """AUROC of every measure, on all wrong labels and by kind of error."""
    ordered = sorted(found, key=lambda name: found[name]["auroc"]["mean"])
    figure = new_figure(7.0, 1.4 + 0.24 * len(ordered))
    axes = figure.add_subplot()
    for i, kind in enumerate(next(iter(found.values()))["kinds"]):
        values = [found[name]["kinds"][kind] for name in ordered]
        label = kind.replace("_", " ")
        axes.plot(values, range(len(ordered)), "o", color=CYCLE[i], markersize=3.5, label=label)
    values = [found[name]["auroc"]["mean"] for name in ordered]
    axes.plot(values, range(len(ordered)), "kD", markersize=5, label="all wrong labels")
    axes.axvline(0.5, color=GRAY, linewidth=0.8)
    axes.set_yticks(range(len(ordered)), ordered, fontsize=8)
    axes.set_xlabel("AUROC at finding wrong labels")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    legend_below(figure)
    return save_figure(figure, path)


def _draw_answers(found: dict[str, Any], path: Path) -> Path:
    """Reliability diagrams: share that came true over the probability given, a line per seed."""
    figure = new_figure(7.2, 3.6)
    titles = {"scores": "scores: the box is right", "present": "present: something fits"}
    for axes, (name, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        axes.plot([0, 1], [0, 1], color=GRAY, linewidth=0.8, label="calibrated")
        for by, colour, words in (("measures", SKY, "measures"), ("head", BLUE, "quality head")):
            for number, diagram in enumerate(found[by]["diagrams"]):
                chance, share, _ = zip(*diagram[name], strict=True)
                label = words if not number else None
                axes.plot(chance, share, ".-", color=colour, linewidth=1, label=label)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability given", title=title, aspect="equal")
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("share that came true")
    legend_below(figure, figure.axes[0])
    return save_figure(figure, path)
