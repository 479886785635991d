"""What the experiments try: options beyond the paper, and measures."""

import dataclasses

from _science.world import SOURCES
from clipvg.curriculum import Beyond


def _fused(measurers: str) -> tuple[str, str]:
    """`match`, and its geometric mean with the measurers' IoU, which selects."""
    return "match", f"both=weighted_mean,of={measurers}+match,geometric=true"


FUSED_SSA = Beyond(measures=_fused("measurer"), calibrated=0.5)
FUSED_MSA = Beyond(measures=_fused("+".join(SOURCES)), calibrated=0.5)
ALL_SSA = dataclasses.replace(FUSED_SSA, soft=True, correct=0.7, rounds=1)
ALL_MSA = dataclasses.replace(FUSED_MSA, soft=True, correct=0.7, rounds=1)
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
)
