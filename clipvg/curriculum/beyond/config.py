"""Options of the extensions of the published method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from clipvg.configs import read_recipe
from clipvg.curriculum.config import ADAPTED
from clipvg.errors import InputError
from clipvg.runtime.fields import ABOVE_ZERO, BELOW_ONE, check_fields

if TYPE_CHECKING:
    from clipvg.measures.specs import MeasureSpec


@dataclass(frozen=True, kw_only=True)
class Beyond:
    """Extensions of the published method. Each option adds variants of its result.

    All variants are judged on the validation labels beside the plain method, and the best one is
    the result; of equals the first wins, and plain comes first. Trainings that variants share are
    done once, so options added to a finished run train only what is new.

    Args:
        measures: further measures of the labels, [COLUMN=]METHOD[,option=value] each, which may
            refer to the measurers by their columns. The last one selects, variant "fused": SSA
            searches a threshold on it, in MSA it is one more candidate for each source's measurer.
        alone: let the last of the measures select in place of the measurers' reliability; variant
            "fused" then replaces "plain" as the first one.
        observations: file of observations of the images, for measures that take one, such as
            `unique`, and name none themselves.
        soft: instead of a threshold, weight every label by its probability of being correct:
            variant "soft".
        calibrated: keep the labels of each source whose probability of being correct is at least
            this: variant "calibrated".
        skip_search: with calibrated, take the calibrated thresholds instead of a search.
        correct: if all models agree on another box for a label that was left out, any two with at
            least this IoU, give it the mean of their boxes: variant "corrected".
        drop_sources: leave out sources whose labels make the model worse: variant "fewer sources".
        rounds: maximum number of rounds, in each of which the best model so far measures the labels
            and they are selected again; stops when a round is no better: variants "round 1",
            "round 2" and so on.
    """

    measures: tuple[str, ...] = ()
    alone: bool = False
    observations: str | None = None
    soft: bool = False
    calibrated: Annotated[float | None, (ABOVE_ZERO, BELOW_ONE)] = None
    skip_search: bool = False
    correct: Annotated[float | None, (ABOVE_ZERO, 1)] = None
    drop_sources: bool = False
    rounds: Annotated[int, (0, 1000)] = 0

    def __post_init__(self) -> None:
        """Refuse values that could not be used, before anything is trained."""
        from clipvg.measures.common.scales import extra
        from clipvg.measures.specs import check_measures, parse_measure

        measures = (self.measures,) if isinstance(self.measures, str) else self.measures
        measures = tuple(measures) if isinstance(measures, list) else measures
        object.__setattr__(self, "measures", measures)
        check_fields(self, "options beyond the method")
        check_measures(measures)
        if ADAPTED in (parse_measure(text).name for text in measures):
            raise InputError(
                f"{ADAPTED!r} is what the adapted model is called; name the measure otherwise, "
                "e.g. mine=METHOD."
            )
        if self.soft or self.calibrated is not None:
            extra("scipy.special", "calibrated reliability")
        if self.alone and not measures:
            raise InputError("alone lets a measure select, but there is none; name it in measures.")
        if self.skip_search and self.calibrated is None:
            raise InputError(
                "without a search something else must select; give calibrated=0.5, for example."
            )

    @classmethod
    def recommended(cls, observations: str | None = None) -> Beyond:
        """Return the options of the recipe `recommended`, see docs/curriculum.md.

        They are for SSA, whose trainings start from the measurer: ``SSAConfig(warm_start=True)``.

        Args:
            observations: see the class; without them only the labels and images are used.
        """
        return cls(**read_recipe("recommended")["beyond"], observations=observations)

    @property
    def specs(self) -> tuple[MeasureSpec, ...]:
        """The parsed measures; those that take observations and name none get the file of these."""
        from clipvg.measures.specs import parse_measure, with_option

        specs = tuple(parse_measure(text) for text in self.measures)
        if self.observations is None:
            return specs
        return tuple(with_option(spec, "observations", self.observations) for spec in specs)

    def __bool__(self) -> bool:
        """Return whether any extension is requested."""
        return self != Beyond()
