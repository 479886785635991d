"""Training and test data: scenes of a seed, their labels, and the scale of the experiments."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np

from clipvg import generate
from clipvg.data.scenes import (
    CLEAN,
    NoiseConfig,
    SceneConfig,
    make_labels,
    observe,
    observe_scenes,
    with_truth,
)
from clipvg.data.scenes.labels import label_scenes
from clipvg.labels import LabelTable, read_labels
from clipvg.pseudo import Detection, Observation, ObservationTable, Options
from clipvg.pseudo.sources import Preset

SOURCES = ("template", "relation", "caption")
PRESETS: tuple[Preset, ...] = get_args(Preset)
KINDS = ("same_class", "loose_box", "wrong_attribute", "ambiguous")
STANDARD = NoiseConfig()  # the standard mix at 40 %
MOSTLY = NoiseConfig(rate=0.7)
POOR = NoiseConfig(rate=0.9)
_PHOTOGRAPH = 640  # pixels of the longer side
_OBJECTS = SceneConfig(num_objects=(1, 4))  # some scenes with one object: easier to start from


@dataclass(frozen=True)
class Scale:
    """Sizes of an experiment.

    Attributes:
        scenes: training images, about four labels each; each of three sources has a third.
        validation: images of the validation labels, on which searches decide.
        test: images of the test labels, on which nothing is decided.
        start: optimizer steps of the head that all trainings start from; 0 starts them afresh.
        steps: optimizer steps of a training.
        options: changes to the training recipe `scenes`, except for the start.
    """

    scenes: int = 6000
    validation: int = 300
    test: int = 1000
    start: int = 1600
    steps: int = 700
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return dataclasses.asdict(self)


class World:
    """Scenes of one seed, rendered when first asked for and kept in a folder.

    Args:
        folder: keeps images and label tables.
        seed: seed of this world; no two worlds share an image.
        scale: sizes.
    """

    def __init__(self, folder: Path, seed: int, scale: Scale) -> None:
        self.folder, self.seed, self.scale = folder, seed, scale

    def training(self, source: str = "mixed", noise: NoiseConfig = STANDARD) -> LabelTable:
        """Return a source's training labels with errors; "mixed" is as large as all the others."""
        count, seed = self._training(source)
        number = seed - 100 * self.seed
        return self._labels(source + _suffix(noise), count, number, source, noise, _OBJECTS)

    def three_sources(self, poor: str | None = None) -> LabelTable:
        """Return training labels of three sources, each on images of its own; one may be poor."""
        noise = dict.fromkeys(SOURCES, STANDARD) | ({poor: POOR} if poor else {})
        return LabelTable.concat([self.training(s, noise[s]) for s in SOURCES])

    def generated(self) -> dict[Preset, LabelTable]:
        """Return template labels of both presets, from the same imperfect observations of scenes.

        Observations are scaled to images with a longer side of `_PHOTOGRAPH` pixels, because the
        published rules count in the pixels of photographs.
        """
        folder = self.folder / "generated"
        tables = {preset: folder / f"{preset}.parquet" for preset in PRESETS}
        if not all(table.exists() for table in tables.values()):
            seed = 100 * self.seed + 20
            seen, scenes = observe_scenes(folder, self.scale.scenes, seed=seed, config=_OBJECTS)
            factor = _PHOTOGRAPH / _OBJECTS.long_side
            enlarged = ObservationTable.from_observations(
                (_enlarge(one, factor) for one in seen), seen.images
            )
            for preset, table in tables.items():
                labels = _shrink(generate(enlarged, options=Options(preset=preset)), 1 / factor)
                with_truth(labels, scenes).write(table)
        return {p: read_labels(table, images=folder / "images") for p, table in tables.items()}

    def generated_sources(self) -> LabelTable:
        """Return labels of all three sources, from imperfect observations of half the scenes."""
        folder = self.folder / "generated-sources"
        table = folder / "labels.parquet"
        if not table.exists():
            count, seed = self.scale.scenes // 2, 100 * self.seed + 21
            seen, scenes = observe_scenes(folder, count, seed=seed, config=_OBJECTS)
            seen.write(folder / "observations.parquet")
            with_truth(generate(seen, SOURCES), scenes).write(table)
        return read_labels(table, images=folder / "images")

    def observations(
        self, labels: LabelTable, *sources: str, noise: NoiseConfig = STANDARD
    ) -> Path:
        """Return the file of imperfect observations of the scenes of some training labels.

        Args:
            labels: the labels of the sources together, which determine how images are named.
            sources: sources, as for `training`.
            noise: errors of these labels, with which their scenes vary.
        """
        path = self.folder / f"observations-{'-'.join(sources)}{_suffix(noise)}.parquet"
        if not path.exists():
            parts = [part for source in sources for part in self._observed(source, labels, noise)]
            ObservationTable.from_observations(parts).write(path)
        return path

    def _observed(
        self, source: str, labels: LabelTable, noise: NoiseConfig
    ) -> Iterator[Observation]:
        count, seed = self._training(source)
        eyes = np.random.default_rng((seed, count, 3))
        scenes = label_scenes(count, source=source, noise=noise, seed=seed, config=_OBJECTS)
        root = Path() if labels.images else self.folder / (source + _suffix(noise)) / "images"
        for number, (scene, _) in enumerate(scenes):
            yield observe(scene, str(root / f"{number:06d}.jpg"), eyes)

    def _training(self, source: str) -> tuple[int, int]:
        """Return the number of scenes and the seed of a source of training labels."""
        count = self.scale.scenes if source == "mixed" else self.scale.scenes // len(SOURCES)
        return count, 100 * self.seed + 10 + ("mixed", *SOURCES).index(source)

    @property
    def start(self) -> LabelTable:
        """Labels of the standard mix on images of their own, which train the head to start from."""
        return self._labels("start", self.scale.scenes, 3, "mixed", STANDARD, _OBJECTS)

    @property
    def validation(self) -> LabelTable:
        """Annotated labels that searches decide on."""
        return self._labels("validation", self.scale.validation, 1, "human", CLEAN, None)

    @property
    def test(self) -> LabelTable:
        """Annotated labels on which all results are measured."""
        return self._labels("test", self.scale.test, 2, "human", CLEAN, None)

    def _labels(
        self,
        name: str,
        count: int,
        number: int,
        source: str,
        noise: NoiseConfig,
        config: SceneConfig | None,
    ) -> LabelTable:
        folder = self.folder / name
        table = folder / "labels.parquet"
        if not table.exists():
            seed = 100 * self.seed + number
            made = make_labels(folder, count, source=source, noise=noise, seed=seed, config=config)
            made.write(table)
        return read_labels(table, images=folder / "images")


def _enlarge(seen: Observation, factor: float) -> Observation:
    """Return an observation for the template source, scaled to a larger image."""

    def larger(found: Sequence[Detection]) -> tuple[Detection, ...]:
        return tuple(replace(one, box=tuple(factor * v for v in one.box)) for one in found)

    return Observation(
        seen.image,
        round(factor * (seen.width or 0)),
        round(factor * (seen.height or 0)),
        larger(seen.detections),
        larger(seen.attribute_detections),
    )


def _shrink(labels: LabelTable, factor: float) -> LabelTable:
    """Return labels with boxes and sizes scaled to a smaller image."""
    sizes = np.rint(labels.sizes() * factor).astype(np.int32)
    labels = labels.with_column("box", labels.boxes() * factor)
    return labels.with_column("width", sizes[:, 0]).with_column("height", sizes[:, 1])


def only(kind: str, rate: float) -> NoiseConfig:
    """Return errors of one kind alone."""
    return NoiseConfig(rate=rate, mix={kind: 1.0})


def _suffix(noise: NoiseConfig) -> str:
    if noise == STANDARD:
        return ""
    kinds = "mix" if len(noise.mix) > 1 else next(iter(noise.mix))
    return f"-{kinds}-{100 * noise.rate:g}"
