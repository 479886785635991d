"""What an evaluation says: accuracy in all and by group."""

from dataclasses import dataclass, field

import numpy as np

from clipvg.features.cache import Against
from clipvg.runtime.files import Json

THRESHOLDS = (0.25, 0.5, 0.75)


@dataclass
class Group:
    """Accuracy of some labels: their number, share with IoU >= t by threshold t, and mean IoU.

    Shares and mean are in [0, 1], higher is better; NaN when there are no labels.
    """

    count: int
    accuracy: dict[float, float]
    mean_iou: float

    @classmethod
    def of(cls, iou: np.ndarray) -> "Group":
        """The group of labels with these IoUs."""
        if not len(iou):
            return cls(0, dict.fromkeys(THRESHOLDS, float("nan")), float("nan"))
        values = iou.astype(np.float64)
        accuracy = {t: float((values >= t).mean()) for t in THRESHOLDS}
        return cls(len(iou), accuracy, float(values.mean()))

    def to_dict(self) -> Json:
        """`count`, `acc_0.25`, `acc_0.5`, `acc_0.75`, `mean_iou`; None for NaN."""
        values = {f"acc_{t}": share for t, share in self.accuracy.items()}
        values["mean_iou"] = self.mean_iou
        return {"count": self.count, **{k: None if v != v else v for k, v in values.items()}}


@dataclass
class Evaluation(Group):
    """Accuracy over a table of labels.

    Attributes:
        by_size: groups "small" (box below 1/300 of the image's area), "medium" and "large"
            (from 3/100): COCO's 32^2 and 96^2 pixels as shares of 640 x 480.
        by_length: groups of expressions of "1-3", "4-6" and "7+" words.
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
    by_length: dict[str, Group] = field(default_factory=dict)
    iou: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32), repr=False)

    def to_dict(self) -> Json:
        """Everything but `iou`, as plain values for JSON."""
        return {
            **super().to_dict(),
            "against": self.against,
            "skipped": self.skipped,
            "fingerprint": self.fingerprint,
            "by_size": {name: group.to_dict() for name, group in self.by_size.items()},
            "by_length": {name: group.to_dict() for name, group in self.by_length.items()},
        }
