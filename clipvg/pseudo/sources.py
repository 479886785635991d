"""Registry of pseudo-label sources, including those of other packages, and their options.

A source is a module, or any object, with these names:

- ``default(observation, options) -> list[Candidate]``: all its expressions of one image. It is
  pure: the same image and options give the same candidates. Boxes lie inside the image.
- ``published(observation, options)``: the same by the rules of a published program. Optional.
- ``NEEDS``: the kinds of observation it needs, by preset: ``{"default": ("captions",
  "detections")}`` needs both, ``("relations|detections",)`` either. Optional.
- ``SEES_FAINT``: True if ``default`` wants detections below ``options.min_score`` too: not to
  describe them, but because an expression might be taken to mean them. Optional.
- ``DRAWN``: False if the published program gives all its candidates instead of a random draw.
  Optional.
- ``made_with(options) -> str``: tools of ``default`` and ``published`` that differ between
  machines, such as a parser and its version; an interrupted call resumes only with the same.
  Optional.

Other packages add theirs by an entry point of the group ``clipvg.sources``. Programs in other
languages write their expressions into the observations, under ``candidates``: see
docs/pseudo-labels.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Literal

from clipvg.errors import InputError, near_matches
from clipvg.pseudo.observation import Candidate, Observation
from clipvg.runtime.fields import check_fields

Preset = Literal["default", "published"]
PUBLISHED_SEED = 20211024


@dataclass(frozen=True)
class Options:
    """Options of pseudo-label generation.

    Args:
        preset: "published" follows the published generators to the letter, faults included.
        min_score: lowest score of a detection that is described.
        objects: number of objects that the template source describes in an image.
        per_image: largest number of labels that a source gives an image.
        seed: seed of the draw among the candidates; by default 0, or 20211024 with the published
            preset.
        ambiguous: drop or keep expressions that fit several boxes of their image.
        pipeline: spaCy pipeline that parses captions, by name or folder; by default spaCy's
            English one where it is installed, else rules.
    """

    preset: Preset = "default"
    min_score: Annotated[float, (0, 1)] = 0.0
    objects: Annotated[int, (1, 10**6)] = 3
    per_image: Annotated[int, (1, 10**6)] = 6
    seed: Annotated[int | None, (0, 2**63 - 1)] = None
    ambiguous: Literal["drop", "keep"] = "drop"
    pipeline: str | None = None

    def __post_init__(self) -> None:
        check_fields(self, "options of generating")

    @property
    def drawn_with(self) -> int:
        """The seed of the draw."""
        if self.seed is not None:
            return self.seed
        return PUBLISHED_SEED if self.preset == "published" else 0


SOURCES = {
    "template": "clipvg.pseudo.template",
    "relation": "clipvg.pseudo.relation",
    "caption": "clipvg.pseudo.caption",
    "region": "clipvg.pseudo.region",
}
GROUP = "clipvg.sources"

Generator = Callable[[Observation, Options], list[Candidate]]


@dataclass(frozen=True)
class Source:
    """A source under one preset."""

    name: str  # written to the column ``source`` of its labels
    candidates: Generator  # all its expressions of one image
    needs: tuple[str, ...] = ()  # kinds of observation that it needs; "a|b" is either
    drawn: bool = True  # whether labels are a random draw among the candidates
    given: bool = False  # whether its candidates are part of the observations
    sees_faint: bool = False  # whether it wants detections below the lowest score too
    # tools that it uses, given the options
    made_with: Callable[[Options], str] = lambda options: ""

    def missing(self, kinds: set[str]) -> str | None:
        """Return the first need that none of the given kinds meets, or None if all are met."""
        unmet = (need for need in self.needs if not kinds & set(need.split("|")))
        return next(unmet, None)


def load_source(name: str, preset: Preset, given: frozenset[str] = frozenset()) -> Source:
    """Return a source by name.

    Raises:
        InputError: there is no such source, or it has no such preset.
    """
    installed = _installed()
    if name in SOURCES:
        part: object = import_module(SOURCES[name])
    elif name in installed:
        part = installed[name].load()
    elif name in given:
        return Source(name, _given(name), ("candidates",), given=True)
    else:
        raise InputError(
            f"source {name!r}: {near_matches(name, [*SOURCES, *installed, *sorted(given)])}"
        )
    generator = getattr(part, preset, None)
    if generator is None:
        raise InputError(f"source {name!r} has no preset {preset!r}; leave the source out")
    needs = tuple(getattr(part, "NEEDS", {}).get(preset, ()))
    is_default = preset == "default"
    drawn = is_default or getattr(part, "DRAWN", True)
    sees_faint = is_default and getattr(part, "SEES_FAINT", False)
    made_with = getattr(part, "made_with", Source.made_with)
    return Source(name, generator, needs, drawn, sees_faint=sees_faint, made_with=made_with)


def check_names(names: Iterable[str], files: Iterable[str]) -> None:
    """Refuse misspelt sources early; names that the observations may provide pass.

    Raises:
        InputError: an unknown name resembles an existing one, or no file can provide candidates.
    """
    can_bring = any(not file.endswith((".json", ".xml", ".txt", ".pth", ".npy")) for file in files)
    known = [*SOURCES, *_installed()]
    for name in names:
        near = near_matches(name, known)
        if name not in known and (near.startswith("did") or not can_bring):
            raise InputError(f"source {name!r}: {near}")


def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _given(name: str) -> Generator:
    return lambda observation, options: list(observation.candidates.get(name, ()))
