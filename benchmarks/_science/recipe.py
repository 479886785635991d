"""Compare the recipe `recommended` with the plain methods, and with as many steps without it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from _science.world import MOSTLY, SOURCES, STANDARD
from clipvg.curriculum import Beyond
from clipvg.data.scenes import NoiseConfig
from clipvg.labels import LabelTable

if TYPE_CHECKING:
    from _science.experiments import Bench

Record = dict[str, Any]


def recommended_one(bench: Bench) -> Record:
    """Compare plain SSA and the recipe on the mixed source."""
    return _one_source(bench, "recommended-one", "ssa-mixed", STANDARD)


def recommended_mostly_wrong(bench: Bench) -> Record:
    """Compare plain SSA and the recipe where 70 % of the labels are wrong."""
    return _one_source(bench, "recommended-70", "ssa-mixed-70", MOSTLY)


def searched_mostly_wrong(bench: Bench) -> Record:
    """Compare plain SSA and the recipe with searched thresholds where 70 % are wrong."""
    changes = {"calibrated": None, "skip_search": False}
    return _one_source(bench, "searched-70", "ssa-mixed-70", MOSTLY, **changes)


def recommended_three(bench: Bench) -> Record:
    """Compare plain MSA and the recipe on three sources."""
    labels = bench.world.three_sources()
    seen = bench.world.observations(labels, *SOURCES)
    plain = {"msa": bench.msa("msa", labels)}
    return plain | _with_recipe(bench, "recommended-three", labels, seen)


def recommended_generated(bench: Bench) -> Record:
    """Compare plain MSA and the recipe on labels that three sources make of observations."""
    labels = bench.world.generated_sources()
    seen = bench.world.folder / "generated-sources" / "observations.parquet"
    plain = {"msa": bench.msa("msa-generated", labels)}
    return plain | _with_recipe(bench, "recommended-generated", labels, seen)


def longer_one(bench: Bench) -> Record:
    """Train on all labels, and on the right ones, for the most steps that the recipe can take."""
    return bench.longer("recommended").ends(bench.world.training())


def longer_three(bench: Bench) -> Record:
    """Do the same as `longer_one` on three sources."""
    return bench.longer("recommended").ends(bench.world.three_sources())


def poor_source(bench: Bench) -> Record:
    """Run MSA with a source that is 90 % wrong, and also without the sources that harm."""
    labels = bench.world.three_sources(poor="relation")
    record = bench.msa("msa-poor", labels, beyond=Beyond(drop_sources=True))
    return {**bench.ends(labels), "msa": record}


def _one_source(bench: Bench, name: str, ssa: str, noise: NoiseConfig, **changes: Any) -> Record:
    labels = bench.world.training(noise=noise)
    seen = bench.world.observations(labels, "mixed", noise=noise)
    plain = {"ssa": bench.ssa(ssa, labels)}
    return plain | _with_recipe(bench, name, labels, seen, **changes)


def _with_recipe(bench: Bench, name: str, labels: LabelTable, seen: Path, **changes: Any) -> Record:
    made = bench.recipe(name, labels, "recommended", observations=str(seen), **changes)
    return {**bench.ends(labels), "recommended": made}
