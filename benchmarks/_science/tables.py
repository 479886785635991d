"""Markdown tables of the summary over all seeds."""

from __future__ import annotations

from collections.abc import Callable

from _science.answers import NUMBERS
from _science.folds import SEARCHES
from _science.settings import SETTINGS, settings_table
from _science.statistics import signed, table
from _science.summary import Record
from _science.world import KINDS, PRESETS

_NAMES = {"all": "all labels", "ssa": "SSA", "msa": "MSA", "clean": "correct labels alone"}


def tables(found: Record) -> dict[str, str]:
    """Return the Markdown tables by experiment."""
    makers: dict[str, Callable[[Record], str]] = {
        "one": _method_table,
        "three": _method_table,
        "options-one": _option_table,
        "options-three": _option_table,
        "confirm-one": _option_table,
        "confirm-three": _option_table,
        "poor-source": _option_table,
        "recommended-one": _recommended_table,
        "recommended-70": _recommended_table,
        "searched-70": _recommended_table,
        "recommended-three": _recommended_table,
        "recommended-generated": _recommended_table,
        "longer-one": _longer_table,
        "longer-three": _longer_table,
        "generators": _generator_table,
        "auroc": _auroc_table,
        "sweep": lambda record: table(
            ["threshold", "test accuracy"], [(h, v["mean"]) for h, v in record["curve"].items()]
        ),
        "together": lambda record: table(
            ["candidates trained", "Acc@0.5", "gain (95 %)"],
            [
                ("one by one", record["separate"]["mean"], None),
                ("together", record["test"]["mean"], signed(record["over separate"])),
            ],
        ),
        "measures": _measure_table,
        "kinds": _kind_table,
        "rates": _rate_table,
        "answers": _answer_table,
        "folds": _fold_table,
        "folds-ssa": _folds_ssa_table,
        **dict.fromkeys(SETTINGS, settings_table),
    }
    return {name: makers[name](record) for name, record in found.items()}


def _method_table(found: Record) -> str:
    rows = []
    for name, record in found.items():
        if not isinstance(record, dict) or "values" not in record:
            continue
        gain = signed(record["gain"]) if "gain" in record else None
        label = _NAMES.get(name, name.replace("ssa ", "SSA on "))
        recovered = record.get("recovered")
        share = None if recovered is None else f"{recovered:.0f} %"
        rows.append((label, record["test"]["mean"], gain, share, record.get("trainings")))
    return table(["", "Acc@0.5", "gain (95 %)", "of the gap", "trainings"], rows)


def _recommended_table(found: Record) -> str:
    steps, recovered = found["steps"], found["recovered"]
    own = [
        ("gap recovered, %", None if recovered is None else signed(recovered)),
        ("over the plain method", signed(found["over plain"])),
        *((f"steps, {_NAMES.get(name, name)}", value) for name, value in steps.items()),
        *((f"{name} over all labels", signed(gain)) for name, gain in found["variants"].items()),
    ]
    text = f"{_method_table(found)}\n\n{table(['', 'recipe'], own)}"
    if "auroc by kind" not in found:
        return text
    by_kind = found["auroc by kind"]
    kinds = [*next(iter(by_kind.values()))]
    rows = [
        (
            f"`{name}`",
            f"{found['auroc'][name]['mean']:.3f}",
            *(f"{v['mean']:.3f}" for v in row.values()),
        )
        for name, row in by_kind.items()
    ]
    return f"{text}\n\n{table(['AUROC', 'all', *(kind.replace('_', ' ') for kind in kinds)], rows)}"


def _longer_table(found: Record) -> str:
    gain = found["recommended over all"]
    rows = [
        ("all labels", found["all"]["mean"], gain and signed(gain)),
        ("correct labels alone", found["clean"]["mean"], None),
    ]
    return table(["as many steps as the recipe", "Acc@0.5", "the recipe gains (95 %)"], rows)


def _option_table(found: Record) -> str:
    rows = [
        (
            name,
            len(record["seeds"]),
            record["test"]["mean"],
            signed(record["over plain"]) if name != "plain" else None,
            None if record["recovered"] is None else f"{record['recovered']:.0f} %",
            record["trainings"],
        )
        for name, record in found["variants"].items()
    ]
    own = found["chosen"]
    number, gain = len(own["names"]), signed(own["over plain"])
    rows.append(("chosen by the run", number, own["test"]["mean"], gain, None, None))
    header = ["variant", "seeds", "Acc@0.5", "over plain (95 %)", "of the gap", "trainings"]
    return table(header, rows)


def _auroc_table(found: Record) -> str:
    rows = []
    for name, record in sorted(found.items(), key=lambda item: -item[1]["mean"]):
        low, high = record["low"], record["high"]
        range_ = None if low is None else f"{low:.3f} to {high:.3f}"
        rows.append((f"`{name}`", record["n"], f"{record['mean']:.3f}", range_))
    return table(["measure", "seeds", "AUROC", "95 %"], rows)


def _measure_table(found: Record) -> str:
    kinds = next(iter(found.values()))["kinds"]
    rows = [
        (
            f"`{name}`",
            f"{record['auroc']['mean']:.3f}",
            f"{record['average_precision']['mean']:.3f}",
            f"{100 * record['scored']:.0f} %",
            *(f"{value:.2f}" for value in record["kinds"].values()),
        )
        for name, record in sorted(found.items(), key=lambda item: -item[1]["auroc"]["mean"])
    ]
    return table(
        ["measure", "AUROC", "AP", "scored", *(kind.replace("_", " ") for kind in kinds)], rows
    )


def _kind_table(found: Record) -> str:
    cases = [case.split() for case in found]
    rates = list(dict.fromkeys(rate for _, rate in cases))
    rows = [
        (kind.replace("_", " "), *(f"{found[f'{kind} {rate}']['mean']:.3f}" for rate in rates))
        for kind in dict.fromkeys(kind for kind, _ in cases)
    ]
    return table(["alone", *(f"{100 * float(rate):g} % wrong" for rate in rates)], rows)


def _generator_table(found: Record) -> str:
    rows = [
        (
            _NAMES[name],
            *(found[preset][name]["test"]["mean"] for preset in PRESETS),
            signed(difference),
        )
        for name, difference in found["default over published"].items()
    ]
    return table(["", *PRESETS, "default over published (95 %)"], rows)


def _fold_table(found: Record) -> str:
    rows = [
        (f"{100 * float(rate):g} %", name, *(f"{each['mean']:.3f}" for each in quality.values()))
        for rate, measured in found.items()
        for name, quality in measured.items()
    ]
    return table(["wrong", "measured", "AUROC", *(kind.replace("_", " ") for kind in KINDS)], rows)


def _folds_ssa_table(found: Record) -> str:
    rows: list[tuple[object, ...]] = [
        ("all labels", found["all"]["test"]["mean"], None, None, None)
    ]
    rows += [
        (
            f"SSA, {name}",
            found[name]["test"]["mean"],
            signed(found[name]["over in-sample"]),
            f"{found[name]['auroc']['mean']:.3f}",
            found[name]["steps"],
        )
        for name in SEARCHES
    ]
    return table(["measured", "Acc@0.5", "over in-sample (95 %)", "AUROC", "steps"], rows)


def _rate_table(found: Record) -> str:
    rows = [
        (f"{100 * float(rate):g} %", *(r[k]["test"]["mean"] for k in ("all", "ssa", "clean")))
        for rate, r in found.items()
    ]
    return table(["wrong", "all labels", "SSA", "correct labels alone"], rows)


def _answer_table(found: Record) -> str:
    rows = []
    for by, name in (("head", "quality head"), ("measures", "measures, without a head")):
        ranges = [found[by][number] for number in NUMBERS]
        rows.append((name, *(f"{each['mean']:.3f} ({_span(each)})" for each in ranges)))
    header = [f"{what}, {measure.upper()}" for what, measure in (n.split("_") for n in NUMBERS)]
    return table(["by", *header], rows)


def _span(found: Record) -> str:
    return "one seed" if found["low"] is None else f"{found['low']:.3f} to {found['high']:.3f}"
