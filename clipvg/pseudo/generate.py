"""Generate labels from observations: candidates of each image, then a draw among them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from clipvg.errors import InputError, near_matches
from clipvg.labels import LabelTable
from clipvg.pseudo.candidates import CandidateStore, candidate_table, group_sizes
from clipvg.pseudo.formats.file import Catalogue
from clipvg.pseudo.observation import Candidate, Observation
from clipvg.pseudo.observations import ObservationTable
from clipvg.pseudo.plane import box_faults, clipped, size_of
from clipvg.pseudo.sources import Options, Source, load_source

_SHARD = 1000  # images per shard


def generate(
    observations: ObservationTable,
    sources: Sequence[str] = ("template",),
    *,
    options: Options | None = None,
    candidates: bool = False,
    store: str | Path | None = None,
    progress: bool = False,
) -> LabelTable:
    """Return the pseudo-labels that sources make from observations.

    Args:
        observations: what is known about the images, from `read_observations` or Python.
        sources: template, relation, caption, region, or others (``clipvg.pseudo.sources``).
        options: preset, scores, numbers and seed.
        candidates: return all expressions that could be labels, without the draw.
        store: folder for the candidates of finished images, from which a stopped call resumes.
        progress: show a progress bar.

    Returns:
        Labels by source, then by image, with ``pseudo.rule`` and ``pseudo.detection``: the rule
        that made the expression and the index of the detection among those of its image.

    Raises:
        InputError: an unknown source, a source without its observations, a box that the preset
            does not accept, or no label at all.

    Example:
        >>> from clipvg.pseudo import Detection, Observation, ObservationTable
        >>> dog = Detection("dog", (10, 20, 310, 320), 0.9)
        >>> seen = ObservationTable.from_observations([Observation("a.jpg", 640, 480, (dog,))])
        >>> generate(seen).expressions
        ['dog']
    """
    options = options or Options()
    chosen = _load(observations, sources, options)
    made = _Labels(chosen, options, everything=candidates)
    parts = CandidateStore(store, observations.fingerprint(), options) if store else None
    bar = tqdm(
        total=len(observations), desc="generate", unit="image", disable=not progress, delay=2.0
    )
    with bar:
        for start in range(0, len(observations), _SHARD):
            shard = observations.slice(start, _SHARD)
            for source in chosen:
                table = parts.find(source, start) if parts else None
                if table is None:
                    table = candidate_table(_candidates(shard, source, options))
                    if parts:
                        parts.keep(source, start, table)
                made.add(source, shard, table)
            bar.update(len(shard))
    labels = LabelTable(made.table(), observations.images)
    if not len(labels):
        raise InputError(_why_none(observations, chosen, options))
    return labels


def _load(observations: ObservationTable, names: Sequence[str], options: Options) -> list[Source]:
    if not names:
        raise InputError(
            "no sources; name one or several of template, relation, caption and region"
        )
    kinds = observations.kinds()
    given = observations.given_sources()
    loaded = [load_source(name, options.preset, given) for name in dict.fromkeys(names)]
    for source in loaded:
        if need := source.missing(kinds):
            what = need.replace("|", " or ").replace("_", " ")
            held = ", ".join(sorted(kinds)).replace("_", " ") or "nothing"
            raise InputError(
                f"source {source.name!r} needs {what}, and the observations hold {held}; add a "
                f"file with {what}, or leave the source out{_hint(observations, need)}"
            )
    return loaded


def _hint(observations: ObservationTable, need: str) -> str:
    """Return a hint if a key that no source reads resembles a kind of observation."""
    extra = set().union(*(one.extra for one in observations.slice(0, 100)))
    near = near_matches(need, extra) if extra else ""
    return f" (key {need!r}: {near})" if near.startswith("did") else ""


def _candidates(
    shard: ObservationTable, source: Source, options: Options
) -> Iterator[list[Candidate]]:
    """Yield the candidates of each image, with detection indices as in the observations."""
    catalogue = Catalogue(shard.images)
    for observation in shard:
        seen, kept = _visible(observation, source, options, catalogue)
        found = source.candidates(seen, options)
        if kept is None or source.given:
            yield found
            continue
        yield [
            one if one.detection is None else replace(one, detection=kept[one.detection])
            for one in found
        ]


def _visible(
    observation: Observation, source: Source, options: Options, catalogue: Catalogue
) -> tuple[Observation, list[int] | None]:
    """Return what a source sees of an image, and the indices of its detections; None for all."""
    if size_of(observation) is None:
        width, height = catalogue.size(observation.image)
        observation = replace(observation, width=width, height=height)
    if options.preset == "default":
        faults = box_faults(observation)[1]
        if faults:
            raise InputError(f"{observation.image}: {faults[0]}")
        observation = clipped(observation)
    least = options.min_score
    if source.sees_faint or all(one.score >= least for one in observation.detections):
        return observation, None
    kept = [i for i, one in enumerate(observation.detections) if one.score >= least]
    return replace(observation, detections=tuple(observation.detections[i] for i in kept)), kept


class _Labels:
    """Labels drawn so far, by source."""

    def __init__(self, sources: list[Source], options: Options, *, everything: bool) -> None:
        self._draws = {source.name: _Draw(source, options, everything) for source in sources}
        self._tables: dict[str, list[pa.Table]] = {source.name: [] for source in sources}

    def add(self, source: Source, shard: ObservationTable, table: pa.Table) -> None:
        """Draw labels of one source from the candidates of some images."""
        images = shard.table.column("image").to_pylist()
        draw = self._draws[source.name]
        positions: list[int] = []
        start = 0
        for image, count in zip(images, group_sizes(table, len(images)), strict=True):
            positions += [start + i for i in draw.pick(image, count)]
            start += count
        drawn = table.take(pa.array(positions, pa.int64()))
        rows = drawn.column("row")
        columns = {
            name: shard.table.column(name).take(rows) for name in ("image", "width", "height")
        }
        columns |= {name: drawn.column(name) for name in ("expression", "box")}
        columns["source"] = pa.array([source.name] * len(drawn), pa.string()).dictionary_encode()
        columns["pseudo.detection"] = drawn.column("detection")
        columns["pseudo.rule"] = drawn.column("rule").dictionary_encode()
        self._tables[source.name].append(pa.table(columns))

    def table(self) -> pa.Table:
        """Return all labels, source by source."""
        tables = [part for parts in self._tables.values() for part in parts]
        return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


class _Draw:
    """Draw of the candidates of an image that become labels.

    The published draw is one pass over all images with one random state. The default draw of an
    image depends only on seed, source and image, so that adding images changes no labels.
    """

    def __init__(self, source: Source, options: Options, everything: bool) -> None:
        self._name = source.name
        self._everything = everything or not source.drawn
        self._options = options
        self._published = random.Random(options.drawn_with)

    def pick(self, image: str, count: int) -> Sequence[int]:
        """Return the indices of the drawn candidates among `count`."""
        wanted = self._options.per_image
        if self._everything or count < wanted:
            return range(count)
        if self._options.preset == "published":  # as published, all are shuffled too
            return self._published.sample(range(count), wanted)
        if count == wanted:
            return range(count)
        state = random.Random(f"{self._options.drawn_with} {self._name} {image}")
        return sorted(state.sample(range(count), wanted))


def _why_none(observations: ObservationTable, sources: list[Source], options: Options) -> str:
    names = " and ".join(source.name for source in sources)
    scores = [one.score for seen in observations for one in seen.detections]
    if scores and max(scores) < options.min_score:
        return (
            f"no labels: the best of {len(scores):,} detections has a score of {max(scores):.3g}, "
            f"below --min_score {options.min_score:g}; lower it"
        )
    return (
        f"no labels: {names} found nothing to say of {len(observations):,} images with "
        f"{len(scores):,} detections; lower --min_score, or check classes and boxes (objects "
        "below 1/64 of the image are too small to describe)"
    )
