"""Results of an evaluation: accuracy overall and by group."""

from dataclasses import dataclass, field

import numpy as np

from clipvg.features.cache import Against
from clipvg.runtime.files import Json

THRESHOLDS = (0.25, 0.5, 0.75, 0.9)
AVERAGED = tuple(percent / 100 for percent in range(50, 100, 5))  # thresholds of acc_0.5:0.95


@dataclass
class Group:
    """Accuracy of some labels: their number, share with IoU >= t by threshold t, and mean IoU.

    `mean_accuracy` is the mean of the shares at 0.5, 0.55, ..., 0.95. Shares and means are in
    [0, 1], higher is better; NaN when there are no labels.
    """

    count: int
    accuracy: dict[float, float]
    mean_iou: float
    mean_accuracy: float

    @classmethod
    def of(cls, iou: np.ndarray) -> "Group":
        """Return the group of labels with these IoUs."""
        if not len(iou):
            nothing = float("nan")
            return cls(0, dict.fromkeys(THRESHOLDS, nothing), nothing, nothing)
        values = iou.astype(np.float64)
        accuracy = {t: float((values >= t).mean()) for t in THRESHOLDS}
        averaged = float(np.mean([(values >= t).mean() for t in AVERAGED]))
        return cls(len(iou), accuracy, float(values.mean()), averaged)

    def to_dict(self) -> Json:
        """Return `count`, `acc_0.25` to `acc_0.9`, `acc_0.5:0.95`, `mean_iou`; None for NaN."""
        values = {f"acc_{t}": share for t, share in self.accuracy.items()}
        values |= {"acc_0.5:0.95": self.mean_accuracy, "mean_iou": self.mean_iou}
        return {"count": self.count, **{k: None if v != v else v for k, v in values.items()}}


@dataclass
class Evaluation(Group):
    """Accuracy over a table of labels.

    Attributes:
        by_size: groups "small" (box below 1/300 of the image's area), "medium" and "large"
            (from 3/100): COCO's 32^2 and 96^2 pixels as shares of 640 x 480.
        by_pixels: the same groups by COCO's own pixels, whatever the size of the image.
        by_length: groups of expressions of "1-3", "4-6" and "7+" words.
        by_kind: groups by how an expression tells its object from others, see
            `clipvg.pseudo.entities.kind_of`.
        any_box: accuracy against the best-fitting of a phrase's boxes (ANY-BOX of Flickr30k
            Entities; the rest is its MERGED-BOX); None if labels do not list their boxes.
        against: "box" or "truth".
        skipped: labels left out because they have no true box.
        fingerprint: SHA-256 (hex) of the labels and the boxes compared with; equal fingerprints
            mean the same split.
        iou: (N,) float32 IoU of each label, NaN where left out.
    """

    against: Against = "box"
    skipped: int = 0
    fingerprint: str = ""
    by_size: dict[str, Group] = field(default_factory=dict)
    by_pixels: dict[str, Group] = field(default_factory=dict)
    by_length: dict[str, Group] = field(default_factory=dict)
    by_kind: dict[str, Group] = field(default_factory=dict)
    any_box: Group | None = None
    iou: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32), repr=False)

    def to_dict(self) -> Json:
        """Return everything but `iou`, as plain values for JSON."""
        groups = {
            name: {key: group.to_dict() for key, group in getattr(self, name).items()}
            for name in ("by_size", "by_pixels", "by_length", "by_kind")
        }
        any_box = {} if self.any_box is None else {"any_box": self.any_box.to_dict()}
        return {
            **super().to_dict(),
            "against": self.against,
            "skipped": self.skipped,
            "fingerprint": self.fingerprint,
            **groups,
            **any_box,
        }
