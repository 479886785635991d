"""The options beyond the paper and the measures that the experiments try."""

from collections.abc import Sequence

from _science.world import SOURCES
from clipvg.curriculum import Beyond


def _fused(measurers: Sequence[str], options: str) -> tuple[str, str]:
    """Return `match` and its mean with the measurers' IoU; the mean selects the labels."""
    return "match", f"both=weighted_mean,of={'+'.join(measurers)}+match,{options}"


def _all(measurers: Sequence[str]) -> Beyond:
    measures = _fused(measurers, "geometric=true")
    return Beyond(measures=measures, soft=True, calibrated=0.5, correct=0.7, rounds=1)


def _chosen(measurers: Sequence[str]) -> Beyond:
    """Return the best options on seeds 0 and 1: a mean with `match` counted twice, and a round."""
    weights = "+".join(["1"] * len(measurers) + [str(2 * len(measurers))])
    return Beyond(measures=_fused(measurers, f"weights={weights}"), rounds=1)


ALL_SSA, ALL_MSA = _all(["measurer"]), _all(SOURCES)
CHOSEN_SSA, CHOSEN_MSA = _chosen(["measurer"]), _chosen(SOURCES)
METHODS = (
    "likelihood",
    "confidence,against=label",
    "agreement",
    "agreement_label=agreement,against=label",
    "variance",
    "mutual_information",
    "kl",
    "attention_mass,adjust=true",
    "attention_entropy",
    "region",
    "proposal_entropy",
    "match",
    "knn",
    "mahalanobis",
    "kde",
    "aleatoric",
    "clusters",
    "ambiguity",
    "consistency",
    "hygiene",
    "loss_mean",
    "loss_variance",
    "forgetting",
    "error_rate",
    "learning_time",
    "gradient_norm",
    "update_size",
    "mixture,of=a",
    "rank_mean,of=a+b+match",
    "vote,of=a+b+match",
    "mean=weighted_mean,of=a+b+match",
    "geometric=weighted_mean,of=a+b+match,geometric=true",
    "one_to_two=weighted_mean,of=a+match,weights=1+2",
)
