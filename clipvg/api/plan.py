"""Choose between SSA and MSA for `clipvg.adapt`, and check that the options suit the labels."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from clipvg.curriculum import Previous, Sources
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.labels.splits import check_one_split

Method = Literal["auto", "ssa", "msa"]


def check_previous(
    sources: Sources, out: str | Path, validation: LabelTable | None
) -> Previous | None:
    """Return the run to continue, if there is one.

    Raises:
        InputError: it is ``out`` itself, or it had validation labels and none are given now.
    """
    folder = sources.continue_from
    if folder is None:
        return None
    if Path(folder).resolve() == Path(out).resolve():
        raise InputError(f"{out} is the run to continue; choose another --out for what follows.")
    previous = sources.previous
    if validation is None and previous and not previous.summary.validation.is_held_out:
        raise InputError(
            f"{folder} decided on validation labels; pass --validation here too, since all its "
            "labels were trained on."
        )
    return previous


def check_labelled(
    sources: Sources, method: Method, validation: LabelTable | None
) -> LabelTable | None:
    """Return the annotated labels beside the pseudo-labels, if there are any.

    Raises:
        InputError: they are of several splits, combined with MSA, several measurers or a run to
            continue, or given without validation labels.
    """
    if sources.labelled is None:
        return None
    check_one_split(sources.labelled, "labelled")
    others = {
        "method 'msa'": method == "msa",
        "several measurers": len(sources.scored_by) > 1,
        "a run to continue": sources.continue_from is not None,
    }
    if found := [what for what, is_so in others.items() if is_so]:
        raise InputError(f"annotated labels beside pseudo-labels are for SSA, not for {found[0]}.")
    if validation is None:
        raise InputError(
            "what is trained on annotated labels cannot be judged by them; keep some apart and "
            "pass them as validation."
        )
    return sources.labelled


def choose_method(method: Method, labels: LabelTable, sources: Sources) -> Method:
    """Return "ssa" or "msa".

    Raises:
        InputError: the method is unknown, or SSA with several measurers or a run to continue.
    """
    if method not in get_args(Method):
        raise InputError(f"method is {method!r}; choose 'auto', 'ssa' or 'msa'.")
    if sources.labelled is not None:
        return "ssa"
    has_several, goes_on = len(sources.scored_by) > 1, sources.continue_from is not None
    if method == "ssa" and (has_several or goes_on):
        what = "several measurers" if has_several else "a run to continue"
        raise InputError(f"SSA has one measurer and one source, not {what}; choose method 'msa'.")
    several = len(set(labels.sources())) > 1 or has_several or goes_on
    return ("msa" if several else "ssa") if method == "auto" else method
