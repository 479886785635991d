"""The experiments: each takes a seed's `Bench` and returns a record of plain numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from _science.answers import measure_answers
from _science.folds import adapt_with_folds, measure_folds
from _science.lab import Lab
from _science.options import ALL_MSA, ALL_SSA, CHOSEN_MSA, CHOSEN_SSA, METHODS
from _science.quality import by_kind, quality
from _science.recipe import (
    longer_one,
    longer_three,
    poor_source,
    recommended_generated,
    recommended_mostly_wrong,
    recommended_one,
    recommended_three,
    searched_mostly_wrong,
)
from _science.settings import measure_cleaning, measure_semisupervised, measure_weakly
from _science.world import KINDS, SOURCES, STANDARD, World, only
from clipvg.configs import read_recipe
from clipvg.curriculum import Beyond, MSAConfig, Run, SSAConfig, msa, ssa
from clipvg.data.scenes import is_correct
from clipvg.labels import LabelTable
from clipvg.measures.specs import build_measures
from clipvg.reliability import ScoreMatrix
from clipvg.reliability.histogram import kept
from clipvg.reliability.image_measure import measure_together
from clipvg.reliability.measurer import Context

GRID = tuple(round(0.1 * k, 1) for k in range(11))
# Trainings in a chain of warm starts, by recipe: the measurer, a first selection, and each round.
CHAIN = {"semisupervised": 4, "recommended": 5, "cleaning": 2}
Record = dict[str, Any]


@dataclasses.dataclass
class Bench:
    """What the experiments of a seed work with.

    Attributes:
        world: scenes of the seed.
        lab: trains, and caches its trainings.
        folder: keeps the run directories of the curricula.
        second: makes a lab whose trainings start from another head.
    """

    world: World
    lab: Lab
    folder: Path
    second: Callable[[], Lab]

    def train(self, labels: LabelTable, **options: Any) -> Record:
        """Train on labels; return the accuracy."""
        model = self.lab.fit(labels, seed=self.world.seed, **options).model
        return {
            "test": self.lab.accuracy(model, self.world.test),
            "validation": self.lab.accuracy(model, self.world.validation),
            "labels": len(labels),
        }

    def ends(self, labels: LabelTable) -> Record:
        """Train without curriculum and at the clean ceiling, between which a method lies."""
        correct = is_correct(labels)
        return {
            "labels": len(labels),
            "wrong": float(1 - correct.mean()),
            "all": self.train(labels),
            "clean": self.train(labels.select(correct)),
        }

    def longer(self, recipe: str) -> Bench:
        """Return the bench whose trainings take as many steps as a recipe's longest chain."""
        return dataclasses.replace(self, lab=self.lab.shorter(CHAIN[recipe]))

    def ssa(
        self,
        name: str,
        labels: LabelTable,
        *,
        search: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Record:
        """Run SSA on labels as one source, with some options of its search."""
        config = SSAConfig(seed=self.world.seed, **(search or {}))
        return self._adapt(name, ssa, labels, config, **options)

    def recipe(self, name: str, labels: LabelTable, recipe: str, **changes: Any) -> Record:
        """Run a recipe of SSA, with changes of `Beyond`, on labels of any number of sources."""
        options = read_recipe(recipe)
        config = SSAConfig(seed=self.world.seed, **options["search"])
        return self._adapt(name, ssa, labels, config, beyond=Beyond(**options["beyond"] | changes))

    def msa(self, name: str, labels: LabelTable, **options: Any) -> Record:
        """Run MSA on labels, source by source."""
        config = MSAConfig(seed=self.world.seed, baseline=False)
        return self._adapt(name, msa, labels, config, **options)

    def _adapt(
        self,
        name: str,
        method: Callable[..., Any],
        labels: LabelTable,
        config: SSAConfig,
        **options: Any,
    ) -> Record:
        """Run a curriculum; return its summary with the test accuracy of its model and variants."""
        validation = self.world.validation
        identity = {"curriculum": dataclasses.asdict(config), "scale": self.world.scale.to_dict()}
        beyond = options.get("beyond")
        further = {} if beyond is None else {"further": dataclasses.asdict(beyond)}
        folder = self.folder / name
        with Run(folder, config=identity, labels=labels, validation=validation, **further) as run:
            result = method(self.lab, run, config=config, **options)
        summary = result.summary.to_dict()
        record = {
            "test": self.lab.accuracy(folder / "model", self.world.test),
            **_qualities(result.scores, labels),
            **{k: summary[k] for k in ("score", "kept", "num_trainings", "num_steps", "winner")},
        }
        if "search" in summary:
            record["search"] = summary["search"]
        else:
            record |= {k: summary[k] for k in ("order", "complexity", "steps")}
        if "beyond" in summary:
            record["beyond"] = self._variants(summary["beyond"], folder)
        return record

    def _variants(self, beyond: Mapping[str, Any], folder: Path) -> Record:
        variants = [
            variant
            | {
                "test": self.lab.accuracy(
                    folder / "stages" / variant["stage"] / "model", self.world.test
                )
            }
            for variant in beyond["variants"]
        ]
        return {"chosen": beyond["chosen"], "stopped": beyond["stopped"], "variants": variants}


def _qualities(scores: ScoreMatrix, labels: LabelTable) -> Record:
    """Return AUROC, also by kind of error, of a run's scores and of means with `match` twice."""
    columns = {name: scores[name] for name in scores.names}
    if "match" in columns:
        for name in {"measurer", "adapted"} & set(columns):
            columns[f"{name} and match"] = (columns[name] + 2 * columns["match"]) / 3
    correct = is_correct(labels)
    if "scene.error" not in labels.table.column_names:  # generated: errors are of many kinds
        return {"auroc": {n: quality(column, correct)["auroc"] for n, column in columns.items()}}
    error = labels.table.column("scene.error").to_numpy()
    found = {name: by_kind(column, correct, error) for name, column in columns.items()}
    return {
        "auroc": {name: each["auroc"] for name, each in found.items()},
        "auroc_by_kind": {name: each["kinds"] for name, each in found.items()},
    }


def one_source(bench: Bench) -> Record:
    """Compare no curriculum, SSA and the clean ceiling on the mixed source at the standard mix."""
    return _with_ssa(bench, "ssa-mixed", bench.world.training())


def three_sources(bench: Bench) -> Record:
    """Compare no curriculum, MSA, the clean ceiling, and SSA by source, on three sources."""
    labels = bench.world.three_sources()
    source_of = np.array(labels.sources())
    record = bench.ends(labels)
    record["msa"] = bench.msa("msa", labels)
    for source in SOURCES:
        record[f"ssa {source}"] = bench.ssa(f"ssa-{source}", labels.select(source_of == source))
    return record


def generators(bench: Bench) -> Record:
    """Compare no curriculum, SSA and the clean ceiling on template labels of each preset."""
    made = bench.world.generated()
    return {preset: _with_ssa(bench, f"ssa-{preset}", labels) for preset, labels in made.items()}


def sweep(bench: Bench) -> Record:
    """Train at every threshold of the grid of SSA's search on the mixed source."""
    labels = bench.world.training()
    model = bench.lab.fit(labels, seed=bench.world.seed).model
    reliability = bench.lab.measurer(model).measure(labels, Context()).values
    found: Record = {}
    for h in GRID:
        keep = kept(reliability, h)
        if keep.any():
            found[f"{h:g}"] = bench.train(labels if keep.all() else labels.select(keep))
    return {"curve": found}


def error_kinds(bench: Bench) -> Record:
    """Return the AUROC of reliability with each kind of error alone, at three rates."""
    found: Record = {}
    for kind in KINDS:
        for rate in (0.2, 0.4, 0.7):
            labels = bench.world.training(noise=only(kind, rate))
            model = bench.lab.fit(labels, seed=bench.world.seed).model
            scores = bench.lab.measurer(model).measure(labels, Context()).values
            found[f"{kind} {rate:g}"] = {
                **quality(scores, is_correct(labels)),
                "wrong": float(1 - is_correct(labels).mean()),
                "test": bench.lab.accuracy(model, bench.world.test),
            }
    return {"kinds": found}


def error_rates(bench: Bench) -> Record:
    """Compare no curriculum, SSA and the clean ceiling on the mixed source at other error rates."""
    found = {}
    for rate in (0.2, 0.7):
        labels = bench.world.training(noise=dataclasses.replace(STANDARD, rate=rate))
        found[f"{rate:g}"] = _with_ssa(bench, f"ssa-mixed-{100 * rate:g}", labels)
    return {"rates": found}


def together(bench: Bench) -> Record:
    """Run SSA on the mixed source with candidates trained in one pass, to compare with `one`."""
    labels, search = bench.world.training(), {"candidates": "together"}
    return {"ssa": bench.ssa("ssa-together", labels, search=search)}


def options_one_source(bench: Bench) -> Record:
    """Run SSA on the mixed source with all options beyond the paper; continues the run of `one`."""
    return {"ssa": bench.ssa("ssa-mixed", bench.world.training(), beyond=ALL_SSA)}


def options_three_sources(bench: Bench) -> Record:
    """Run MSA with all options beyond the paper; continues the run of `three`."""
    return {"msa": bench.msa("msa", bench.world.three_sources(), beyond=ALL_MSA)}


def confirm_one_source(bench: Bench) -> Record:
    """Run SSA with what `options-one` chose on some seeds, to confirm it on others."""
    return {"ssa": bench.ssa("ssa-mixed", bench.world.training(), beyond=CHOSEN_SSA)}


def confirm_three_sources(bench: Bench) -> Record:
    """Run MSA on three sources with what `options-one` chose."""
    return {"msa": bench.msa("msa", bench.world.three_sources(), beyond=CHOSEN_MSA)}


def measures(bench: Bench) -> Record:
    """Return AUROC and average precision of measures on the mixed source, also by kind of error.

    `a` is the measurer trained on all labels, `b` the same from another start.
    """
    labels, seed = bench.world.training(), bench.world.seed
    second = bench.second().fit(labels, seed=seed + 1000)
    trained = {"a": bench.lab.fit(labels, seed=seed), "b": second}
    context = Context()
    measurers = {name: bench.lab.measurer(kept.model) for name, kept in trained.items()}
    found = {name: measurer.measure(labels, context) for name, measurer in measurers.items()}
    scores = ScoreMatrix.of(found, labels.encoded_sources())
    context = Context(scores=scores, history=trained["a"].history)
    built = build_measures(METHODS, {name: kept.model for name, kept in trained.items()})
    found = {f"{name} (IoU)": one for name, one in found.items()}
    found |= measure_together(built, labels, context)
    correct, error = is_correct(labels), labels.table.column("scene.error").to_numpy()
    return {"measures": {n: by_kind(s.values, correct, error) for n, s in found.items()}}


def _with_ssa(bench: Bench, name: str, labels: LabelTable) -> Record:
    return {**bench.ends(labels), "ssa": bench.ssa(name, labels)}


EXPERIMENTS: dict[str, Callable[[Bench], Record]] = {
    "one": one_source,
    "three": three_sources,
    "options-one": options_one_source,
    "options-three": options_three_sources,
    "confirm-one": confirm_one_source,
    "confirm-three": confirm_three_sources,
    "recommended-one": recommended_one,
    "recommended-70": recommended_mostly_wrong,
    "searched-70": searched_mostly_wrong,
    "recommended-three": recommended_three,
    "recommended-generated": recommended_generated,
    "longer-one": longer_one,
    "longer-three": longer_three,
    "poor-source": poor_source,
    "sweep": sweep,
    "together": together,
    "measures": measures,
    "generators": generators,
    "kinds": error_kinds,
    "rates": error_rates,
    "folds": measure_folds,
    "folds-ssa": adapt_with_folds,
    "answers": measure_answers,
    "semisupervised": measure_semisupervised,
    "weakly": measure_weakly,
    "cleaning": measure_cleaning,
}
