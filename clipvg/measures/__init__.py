"""Registry of reliability measures other than the paper's IoU.

Every measure is a `Measurer`: its `Scores` are float32 (N,) in [0, 1], higher = more reliable, NaN
where a label is not scored. docs/measures.md compares them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from clipvg.errors import InputError, near_matches
from clipvg.runtime.imports import import_named, lazy_names, refuse_code

if TYPE_CHECKING:
    from clipvg.measures.verifier import write_questions

_PLACES = {
    "confidence": "confidence:PredictionConfidence",
    "likelihood": "confidence:LabelConfidence",
    "agreement": "ensemble:Agreement",
    "variance": "ensemble:Variance",
    "mutual_information": "ensemble:MutualInformation",
    "kl": "ensemble:Divergence",
    "mc_dropout": "ensemble:DropoutAgreement",
    "aleatoric": "aleatoric:AleatoricVariance",
    "attention_mass": "attention:AttentionMass",
    "attention_entropy": "attention:AttentionEntropy",
    "region": "region:RegionAlignment",
    "proposal_entropy": "region:ProposalEntropy",
    "match": "match.measures:RegionTextMatch",
    "knn": "density:NearestNeighbours",
    "mahalanobis": "density:Mahalanobis",
    "kde": "density:KernelDensity",
    "clusters": "density:Clusters",
    "ambiguity": "cleanliness:Ambiguity",
    "consistency": "cleanliness:Consistency",
    "hygiene": "cleanliness:Hygiene",
    "unique": "unique:Unique",
    "noise_level": "fusion.measures:NoiseLevel",
    "loss_mean": "dynamics:LossMean",
    "loss_variance": "dynamics:LossVariance",
    "forgetting": "dynamics:Forgetting",
    "error_rate": "dynamics:ErrorRate",
    "learning_time": "dynamics:LearningTime",
    "gradient_norm": "gradient:GradientNorm",
    "update_size": "gradient:UpdateSize",
    "weighted_mean": "fusion.measures:WeightedMean",
    "rank_mean": "fusion.measures:RankMean",
    "vote": "fusion.measures:Vote",
    "cascade": "fusion.measures:Cascade",
    "mixture": "fusion.measures:MixtureCalibration",
    "verifier": "verifier:Verifier",
    # grounders not trained by clipvg, whose boxes are compared with the labels'
    "reclip": "clipvg.grounders.reclip:ReCLIP",
    "heatmap": "clipvg.grounders.heat:HeatMap",
    "gradcam": "clipvg.grounders.heat:GradCam",
    "detector": "clipvg.grounders.detector:Detector",
    "vlm": "clipvg.grounders.vlm:VisionLanguageModel",
}


class _Registry(Mapping[str, type]):
    """Measure classes by name, each imported on first access."""

    def __getitem__(self, name: str) -> type:
        module, _, member = _PLACES[name].partition(":")
        full_name = module if module.startswith("clipvg.") else f"{__name__}.{module}"
        return getattr(importlib.import_module(full_name), member)

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


#: Class of every measure by its name.
MEASURES: Mapping[str, type] = _Registry()


def find_measure(name: str) -> type:
    """Return the class of a measure; anything but a measure class is refused, never called.

    Args:
        name: a name of `MEASURES`, or the import path ``package.module:Class`` of a user's own
            measure, whose module is imported. Pass names from someone else's file through
            `refuse_measures` first.

    Raises:
        InputError: there is no such measure.
    """
    if ":" not in name:
        if name not in MEASURES:
            raise InputError(
                f"no measure {name!r}: {near_matches(name, MEASURES)}; a measure of your own is "
                "named package.module:Class"
            )
        return MEASURES[name]
    found = import_named(name, "measure", "Class")
    if not (isinstance(found, type) and callable(getattr(found, "measure", None))):
        raise InputError(
            f"measure {name!r} is not a measure class; expected one with name, requires and "
            "measure(labels, context)."
        )
    return found


def refuse_measures(texts: Iterable[str], file: str) -> None:
    """Refuse measures named in a file if they would import code from outside this package.

    Args:
        texts: measures, ``[COLUMN=]METHOD[,option=value,...]`` each.
        file: the file that names them.

    Raises:
        InputError: a METHOD is an import path; the message says how to use it nevertheless.
    """
    for text in texts:
        refuse_code(text.partition(",")[0].rpartition("=")[2], "measure", file)


_MODULES = {member: module for module, _, member in (p.partition(":") for p in _PLACES.values())}

__getattr__ = lazy_names(__name__, _MODULES | {"write_questions": "verifier"})

__all__ = ["MEASURES", "find_measure", "refuse_measures", "write_questions"]
