"""The field's settings on scenes: semi- and weakly supervised, and cleaning annotated labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from _science.statistics import interval, paired, signed, table
from _science.world import STANDARD
from clipvg.curriculum import join_labelled
from clipvg.data.scenes import CLEAN, is_correct
from clipvg.measures import RegionTextMatch
from clipvg.measures.match.placing import place_expressions
from clipvg.pseudo.reading import as_observations

if TYPE_CHECKING:
    from _science.experiments import Bench
    from clipvg.labels import LabelTable

SETTINGS = ("semisupervised", "weakly", "cleaning")
SHARES = (0.01, 0.05, 0.1)
WRONG = (0.05, 0.1)
Record = dict[str, Any]


def measure_semisupervised(bench: Bench) -> Record:
    """Compare few annotated labels alone with adding the pseudo-labels of the mixed source.

    Here and below, "longer" takes as many steps as the chain of trainings to the recipe's model.
    """
    annotated, pseudo = bench.world.training(noise=CLEAN), bench.world.training()
    record: Record = {"all annotated": bench.train(annotated), "pseudo": bench.train(pseudo)}
    longer = bench.longer("semisupervised")
    for share in SHARES:
        few = annotated.select(annotated.distinct_images()[1] < share * annotated.num_images)
        name = f"semi-{100 * share:g}"
        record[f"{100 * share:g} %"] = {
            "alone": bench.train(few),
            "alone, longer": longer.train(few),
            "with pseudo": bench.recipe(name, join_labelled(few, pseudo), "semisupervised"),
        }
    return {"settings": record}


def measure_weakly(bench: Bench) -> Record:
    """Train on expressions of the mixed source without their boxes, placed on detections."""
    world, labels = bench.world, bench.world.training()
    file = world.observations(labels, "mixed")
    placed = _placed(bench, labels, str(file))
    correct = is_correct(placed)
    record = {
        "right": float(100 * correct.mean()),
        "all": bench.train(placed),
        "all, longer": bench.longer("recommended").train(placed),
        "recommended": bench.recipe("weakly", placed, "recommended", observations=str(file)),
    }
    return {"settings": record}


def _placed(bench: Bench, labels: LabelTable, file: str) -> LabelTable:
    """Return the labels with the boxes on which their expressions were placed; kept in `world`."""
    from clipvg.labels import read_labels

    path = bench.world.folder / "placed.parquet"
    if not path.exists():
        matcher = RegionTextMatch(bench.lab.make_model(0).eval(), seed=bench.world.seed)
        found = place_expressions(labels, as_observations(file), matcher)
        key = {each: row for row, each in enumerate(_keys(labels))}
        rows = np.array([key[each] for each in _keys(found)])
        found.with_column("truth", labels.truth()[rows]).write(path)
    return read_labels(path, images=labels.images)


def _keys(labels: LabelTable) -> list[tuple[str, str]]:
    return list(zip(labels.image_names, labels.expressions, strict=True))


def measure_cleaning(bench: Bench) -> Record:
    """Train on annotated labels, a few wrong: on all, those the recipe keeps, the right ones."""
    record: Record = {}
    for rate in WRONG:
        labels = bench.world.training(noise=dataclasses.replace(STANDARD, rate=rate))
        correct = is_correct(labels)
        record[f"{100 * rate:g} %"] = {
            "wrong": float(1 - correct.mean()),
            "all": bench.train(labels),
            "all, longer": bench.longer("cleaning").train(labels),
            "clean": bench.train(labels.select(correct)),
            "cleaned": bench.recipe(f"cleaning-{100 * rate:g}", labels, "cleaning"),
        }
    return {"settings": record}


def summarise(records: Sequence[Record]) -> Record:
    """Return the accuracy of each training of a setting, and its gain over its group's first."""
    rows = [_rows(record["settings"]) for record in records]
    return {
        name: {
            "test": interval([row[name][0] for row in rows]),
            "values": [row[name][0] for row in rows],
            "gain": paired(*zip(*(row[name] for row in rows), strict=True)),
        }
        for name in rows[0]
    }


def settings_table(found: Record) -> str:
    """Return the Markdown table of a result of `summarise`."""
    rows = [
        (
            name,
            each["test"]["mean"],
            ", ".join(f"{value:.1f}" for value in each["values"]),
            signed(each["gain"]),
        )
        for name, each in found.items()
    ]
    return table(["", "Acc@0.5", "each seed", "gain (95 %)"], rows)


def _rows(record: Record) -> dict[str, tuple[float, float]]:
    """Return the accuracy of each training of a seed, and of the first training of its group."""
    found: dict[str, tuple[float, float]] = {}
    groups = {"": record}
    groups |= {n: e for n, e in record.items() if isinstance(e, dict) and not _is_training(e)}
    for group, trainings in groups.items():
        own = {name: each["test"] for name, each in trainings.items() if _is_training(each)}
        for name, test in own.items():
            found[f"{group} {name}".strip()] = test, next(iter(own.values()))
    return found


def _is_training(record: object) -> bool:
    return isinstance(record, dict) and "test" in record
