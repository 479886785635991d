"""Compare the recipe `recommended` with the plain methods, and with as many steps without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from _science.world import MOSTLY, SOURCES
from clipvg.curriculum import Beyond

if TYPE_CHECKING:
    from _science.experiments import Bench

Record = dict[str, Any]


def recommended_one(bench: Bench) -> Record:
    """Compare plain SSA and the recipe on the mixed source."""
    labels = bench.world.training()
    record = {**bench.ends(labels), "ssa": bench.ssa("ssa-mixed", labels)}
    seen = bench.world.observations(labels, "mixed")
    made = bench.recipe("recommended-one", labels, "recommended", observations=str(seen))
    return {**record, "recommended": made}


def recommended_mostly_wrong(bench: Bench) -> Record:
    """Compare plain SSA and the recipe where 70 % of the labels are wrong."""
    return _mostly_wrong(bench, "recommended-70")


def searched_mostly_wrong(bench: Bench) -> Record:
    """Compare plain SSA and the recipe with searched thresholds where 70 % are wrong."""
    return _mostly_wrong(bench, "searched-70", calibrated=None, skip_search=False)


def recommended_three(bench: Bench) -> Record:
    """Compare plain MSA and the recipe on three sources."""
    labels = bench.world.three_sources()
    record = {**bench.ends(labels), "msa": bench.msa("msa", labels)}
    seen = bench.world.observations(labels, *SOURCES)
    made = bench.recipe("recommended-three", labels, "recommended", observations=str(seen))
    return {**record, "recommended": made}


def longer_one(bench: Bench) -> Record:
    """Train on all labels, and on the right ones, for the most steps that the recipe can take."""
    return bench.longer("recommended").ends(bench.world.training())


def longer_three(bench: Bench) -> Record:
    """Do the same as `longer_one` on three sources."""
    return bench.longer("recommended").ends(bench.world.three_sources())


def recommended_generated(bench: Bench) -> Record:
    """Compare plain MSA and the recipe on labels that three sources make of observations."""
    labels = bench.world.generated_sources()
    record = {**bench.ends(labels), "msa": bench.msa("msa-generated", labels)}
    seen = bench.world.folder / "generated-sources" / "observations.parquet"
    made = bench.recipe("recommended-generated", labels, "recommended", observations=str(seen))
    return {**record, "recommended": made}


def poor_source(bench: Bench) -> Record:
    """Run MSA with a source that is 90 % wrong, and also without the sources that harm."""
    labels = bench.world.three_sources(poor="relation")
    record = bench.msa("msa-poor", labels, beyond=Beyond(drop_sources=True))
    return {**bench.ends(labels), "msa": record}


def _mostly_wrong(bench: Bench, name: str, **changes: Any) -> Record:
    labels = bench.world.training(noise=MOSTLY)
    record = {**bench.ends(labels), "ssa": bench.ssa("ssa-mixed-70", labels)}
    seen = bench.world.observations(labels, "mixed", noise=MOSTLY)
    made = bench.recipe(name, labels, "recommended", observations=str(seen), **changes)
    return {**record, "recommended": made}
