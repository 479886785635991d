"""Summarise all experiments over their seeds: statistics for the JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from _science.answers import NUMBERS
from _science.folds import SEARCHES
from _science.settings import SETTINGS
from _science.settings import summarise as summarise_setting
from _science.statistics import interval, paired
from _science.world import KINDS, PRESETS, SOURCES

Record = dict[str, Any]
Parts = Mapping[str, Sequence[Record]]  # experiment -> its records, by seed


def summarise(parts: Parts) -> Record:
    """Return the statistics of every experiment that was run."""
    makers: dict[str, Callable[[Parts], Record]] = {
        "one": lambda parts: _methods(parts["one"], ("ssa",)),
        "three": _three,
        "options-one": lambda parts: _options(parts, "options-one", "one", "ssa"),
        "options-three": lambda parts: _options(parts, "options-three", "three", "msa"),
        "confirm-one": lambda parts: _options(parts, "confirm-one", "one", "ssa"),
        "confirm-three": lambda parts: _options(parts, "confirm-three", "three", "msa"),
        "poor-source": lambda parts: _options(parts, "poor-source", "poor-source", "msa"),
        "recommended-one": lambda parts: _recommended(parts["recommended-one"], "ssa"),
        "recommended-70": lambda parts: _recommended(parts["recommended-70"], "ssa"),
        "searched-70": lambda parts: _recommended(parts["searched-70"], "ssa"),
        "recommended-three": lambda parts: _recommended(parts["recommended-three"], "msa"),
        "recommended-generated": lambda parts: _recommended(parts["recommended-generated"], "msa"),
        "longer-one": lambda parts: _longer(parts, "one"),
        "longer-three": lambda parts: _longer(parts, "three"),
        "generators": _generators,
        "sweep": _regret,
        "together": _together,
        "measures": _measures,
        "kinds": _kinds,
        "rates": _rates,
        "answers": _answers,
        "folds": _folds,
        "folds-ssa": _folds_ssa,
        **{name: partial(_setting, name) for name in SETTINGS},
    }
    found = {name: make(parts) for name, make in makers.items() if parts.get(name)}
    if "options-one" in found or "confirm-one" in found:
        found["auroc"] = _aurocs(parts)
    return found


def _tests(records: Sequence[Record], name: str) -> list[float]:
    return [record[name]["test"] for record in records]


def _methods(records: Sequence[Record], names: Sequence[str]) -> Record:
    """Accuracy without curriculum, of some methods, and of the clean ceiling."""
    base, clean = _tests(records, "all"), _tests(records, "clean")
    gap = float(np.mean(clean) - np.mean(base))
    found: Record = {
        "seeds": [record["seed"] for record in records],
        "all": {"test": interval(base), "values": base},
        "gap": paired(clean, base),
    }
    for name in names:
        values = _tests(records, name)
        gain = paired(values, base)
        found[name] = {
            "test": interval(values),
            "values": values,
            "gain": gain,
            "recovered": 100 * gain["mean"] / gap if gap else None,
            "trainings": float(np.mean([record[name]["num_trainings"] for record in records])),
        }
    found["clean"] = {"test": interval(clean), "values": clean, "gain": paired(clean, base)}
    last = names[-1]
    found["auroc"] = {
        name: interval([record[last]["auroc"][name] for record in records])
        for name in records[0][last]["auroc"]
    }
    return found


def _three(parts: Parts) -> Record:
    records = parts["three"]
    single = tuple(f"ssa {source}" for source in SOURCES)
    found = _methods(records, (*single, "msa"))
    # "best single" is chosen on validation labels, "oracle" on the test, so it is harder to beat
    chosen = [max(single, key=lambda name: record[name]["score"]) for record in records]
    best = [record[name]["test"] for record, name in zip(records, chosen, strict=True)]
    oracle = [max(record[name]["test"] for name in single) for record in records]
    found["best single"] = chosen
    found["msa over best single"] = paired(_tests(records, "msa"), best)
    found["msa over oracle single"] = paired(_tests(records, "msa"), oracle)
    return found


def _generators(parts: Parts) -> Record:
    """Methods on the labels of each preset, and what the default gains over the published one."""
    records = parts["generators"]
    found: Record = {}
    for preset in PRESETS:
        rows = [{**record[preset], "seed": record["seed"]} for record in records]
        found[preset] = _methods(rows, ("ssa",))
        found[preset] |= {n: [row[n] for row in rows] for n in ("labels", "wrong")}
    found["default over published"] = {
        name: paired(*(_tests([r[preset] for r in records], name) for preset in PRESETS))
        for name in ("all", "ssa", "clean")
    }
    return found


def _recommended(records: Sequence[Record], plain: str) -> Record:
    """The recipe against the plain method: accuracy, gap, steps, each part, AUROC by kind."""
    found = _methods(records, (plain, "recommended"))
    base, clean, own = (_tests(records, name) for name in ("all", "clean", "recommended"))
    found["over plain"] = paired(own, _tests(records, plain))
    gap = np.mean(clean) - np.mean(base)
    # A single seed's gap may be small, so gains are divided by the mean gap.
    found["recovered"] = interval(100 * (np.array(own) - base) / gap) if gap else None
    found["steps"] = {
        name: float(np.mean([r[name]["num_steps"] for r in records]))
        for name in (plain, "recommended")
    }
    names = dict.fromkeys(
        v["name"] for r in records for v in r["recommended"]["beyond"]["variants"]
    )
    found["variants"] = {
        name: paired(
            [v["test"] for r in records for v in _named(r, name)],
            [r["all"]["test"] for r in records for _ in _named(r, name)],
        )
        for name in names
    }
    kinds = [record["recommended"].get("auroc_by_kind") for record in records]
    if all(kinds):
        found["auroc by kind"] = {
            name: {kind: interval([k[name][kind] for k in kinds]) for kind in kinds[0][name]}
            for name in kinds[0]
        }
    return found


def _longer(parts: Parts, sources: str) -> Record:
    """Training for as many steps as the recipe, and what the recipe gains over it."""
    records = parts[f"longer-{sources}"]
    recipe = parts.get(f"recommended-{sources}", ())
    own = {record["seed"]: record["recommended"]["test"] for record in recipe}
    both = [(own[r["seed"]], r["all"]["test"]) for r in records if r["seed"] in own]
    return {
        "seeds": [record["seed"] for record in records],
        "all": interval(_tests(records, "all")),
        "clean": interval(_tests(records, "clean")),
        "recommended over all": paired(*zip(*both, strict=True)) if both else None,
    }


def _named(record: Record, name: str) -> list[Record]:
    """Return the recipe's variant with a name, or nothing if this seed lacks it."""
    variants = record["recommended"]["beyond"]["variants"]
    return [variant for variant in variants if variant["name"] == name]


def _options(parts: Parts, name: str, base: str, method: str) -> Record:
    """Compare every variant with the plain method of the same seed, and with no curriculum."""
    records = parts[name]
    plain_of = {record["seed"]: record for record in parts.get(base, [])}
    variants: dict[str, list[tuple[int, Record, Record]]] = {}
    for record in records:
        own = record[method]["beyond"]["variants"]
        plain = next(v for v in own if v["name"] == "plain")
        for variant in own:
            variants.setdefault(variant["name"], []).append((record["seed"], variant, plain))
    found: Record = {"variants": {}}
    for variant, rows in variants.items():
        tests = [row["test"] for _, row, _ in rows]
        known = [(seed, row) for seed, row, _ in rows if seed in plain_of]
        gained = [row["test"] - plain_of[seed]["all"]["test"] for seed, row in known]
        gaps = [plain_of[s]["clean"]["test"] - plain_of[s]["all"]["test"] for s, _ in known]
        found["variants"][variant] = {
            "seeds": [seed for seed, _, _ in rows],
            "test": interval(tests),
            "over plain": paired(tests, [plain["test"] for _, _, plain in rows]),
            "over all": interval(gained) if known else None,
            "recovered": 100 * sum(gained) / sum(gaps) if sum(gaps) else None,
            "trainings": float(np.mean([row["trainings"] for _, row, _ in rows])),
        }
    chosen = [record[method] for record in records]
    plain = [c["beyond"]["variants"][0]["test"] for c in chosen]
    found["chosen"] = {
        "names": [c["beyond"]["chosen"] for c in chosen],
        "test": interval([c["test"] for c in chosen]),
        "over plain": paired([c["test"] for c in chosen], plain),
    }
    return found


def _aurocs(parts: Parts) -> Record:
    """AUROC of the measures that all runs with options on the mixed source have in common."""
    records = [*parts.get("options-one", []), *parts.get("confirm-one", [])]
    named = [set(record["ssa"]["auroc"]) for record in records]
    shared = sorted(set.intersection(*named) - {"both"})  # "both" is a different mean in each
    return {n: interval([record["ssa"]["auroc"][n] for record in records]) for n in shared}


def _regret(parts: Parts) -> Record:
    """Return the greedy search's loss against the best threshold of the whole grid."""
    greedy = {record["seed"]: record["ssa"] for record in parts.get("one", [])}
    rows = [record for record in parts["sweep"] if record["seed"] in greedy]
    regrets: Record = {"validation": [], "test": []}
    for record in rows:
        curve = record["curve"]
        chosen = greedy[record["seed"]]["search"]["best"]
        best = max(curve, key=lambda h: curve[h]["validation"])
        for split, found in regrets.items():
            found.append(curve[best][split] - curve[f"{chosen:g}"][split])
    thresholds = [h for h in parts["sweep"][0]["curve"] if all(h in r["curve"] for r in rows)]
    return {
        "seeds": [record["seed"] for record in rows],
        "regret": {name: {**interval(v), "values": v} for name, v in regrets.items()},
        "trainings": float(np.mean([greedy[r["seed"]]["search"]["num_evaluations"] for r in rows])),
        "curve": {h: interval([record["curve"][h]["test"] for record in rows]) for h in thresholds},
    }


def _together(parts: Parts) -> Record:
    """Compare SSA whose candidates train in one pass with SSA that trains them one by one."""
    apart = {record["seed"]: record["ssa"]["test"] for record in parts.get("one", [])}
    records = [record for record in parts["together"] if record["seed"] in apart]
    tests, separate = _tests(records, "ssa"), [apart[record["seed"]] for record in records]
    return {
        "seeds": [record["seed"] for record in records],
        "test": interval(tests),
        "separate": interval(separate),
        "over separate": paired(tests, separate),
    }


def _measures(parts: Parts) -> Record:
    records = [record["measures"] for record in parts["measures"]]
    found = {}
    for name in records[0]:
        rows = [record[name] for record in records]
        found[name] = {
            "auroc": interval([row["auroc"] for row in rows]),
            "average_precision": interval([row["average_precision"] for row in rows]),
            "scored": float(np.mean([row["scored"] for row in rows])),
            "kinds": {
                kind: float(np.mean([row["kinds"][kind] for row in rows]))
                for kind in rows[0]["kinds"]
            },
        }
    return found


def _kinds(parts: Parts) -> Record:
    records = [record["kinds"] for record in parts["kinds"]]
    return {case: interval([record[case]["auroc"] for record in records]) for case in records[0]}


def _rates(parts: Parts) -> Record:
    records = parts["rates"]
    return {
        rate: _methods([{**r["rates"][rate], "seed": r["seed"]} for r in records], ("ssa",))
        for rate in records[0]["rates"]
    }


def _answers(parts: Parts) -> Record:
    """Quality of `scores` and `present` with and without a quality head, and what it costs."""
    records = parts["answers"]
    with_head, without = ([r[n] for r in records] for n in ("test_with_head", "test"))
    found: Record = {"seeds": [record["seed"] for record in records]}
    found["with head over without"] = paired(with_head, without)
    for by in ("head", "measures"):
        found[by] = {name: interval([record[by][name] for record in records]) for name in NUMBERS}
        found[by]["diagrams"] = [record[by]["diagram"] for record in records]
    return found


def _setting(name: str, parts: Parts) -> Record:
    return summarise_setting(parts[name])


def _folds_ssa(parts: Parts) -> Record:
    """Accuracy of SSA and AUROC of its reliability, by how reliability was measured."""
    records = parts["folds-ssa"]
    base = _tests(records, "in-sample")
    return {
        name: {
            "test": interval(_tests(records, name)),
            "over in-sample": paired(_tests(records, name), base),
            "auroc": interval([r[name]["auroc"]["measurer"] for r in records]),
            "steps": float(np.mean([r[name]["num_steps"] for r in records])),
        }
        for name in SEARCHES
    } | {"all": {"test": interval(_tests(records, "all"))}}


def _folds(parts: Parts) -> Record:
    """AUROC of each measurer by error rate, for all wrong labels and by kind of error."""
    records = [record["folds"] for record in parts["folds"]]
    return {
        rate: {
            name: {
                "auroc": interval([record[rate][name]["auroc"] for record in records]),
                **{
                    kind: interval([record[rate][name]["kinds"][kind] for record in records])
                    for kind in KINDS
                },
            }
            for name in measured
        }
        for rate, measured in records[0].items()
    }
