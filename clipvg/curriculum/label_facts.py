"""What a run's summary says of labels: those trained on, and those that decided."""

from __future__ import annotations

from dataclasses import dataclass

from clipvg.curriculum.labelled import is_labelled
from clipvg.labels import LabelTable
from clipvg.runs.record import Record, whole_root


@dataclass(frozen=True, kw_only=True)
class LabelFacts(Record):
    """Labels of a run: how many, on how many images, of which sources, below which folder."""

    count: int
    images: int
    sources: list[str]
    fingerprint: str
    root: str | None
    labelled: int = 0  # annotated ones beside pseudo-labels

    @classmethod
    def of(cls, labels: LabelTable) -> LabelFacts:
        """Return the facts of labels."""
        return cls(
            count=len(labels),
            images=labels.num_images,
            sources=sorted(set(labels.sources())),
            fingerprint=labels.fingerprint(),
            root=whole_root(labels),
            labelled=int(is_labelled(labels).sum()),
        )


@dataclass(frozen=True, kw_only=True)
class ValidationFacts(LabelFacts):
    """The labels that decided: ``kind`` is "given" or "held out", ``statement`` is for people."""

    kind: str
    weighted: bool
    statement: str

    @classmethod
    def told(cls, labels: LabelTable, *, held_out: bool, weighted: bool) -> ValidationFacts:
        """Return the facts of labels that decided, which may be held-out pseudo-labels."""
        statement = "Decided on the validation labels given."
        if held_out:
            weighting = (
                "Each counts by how far the measurers of other sources agree with it (mean "
                "reliability). "
            )
            statement = (
                f"No validation labels were given: decided on {len(labels)} pseudo-labels of "
                f"{labels.num_images} held-out image(s), which nothing was trained on. "
                f"{weighting if weighted else ''}Their boxes are pseudo-labels too, wrong ones "
                "among them, so scores are agreement with pseudo-labels, not accuracy."
            )
        return cls(
            **vars(LabelFacts.of(labels)),
            kind="held out" if held_out else "given",
            weighted=weighted,
            statement=statement,
        )

    @property
    def is_held_out(self) -> bool:
        """Whether held-out pseudo-labels decided."""
        return self.kind == "held out"
