"""Simulate imperfect models on scenes: detections, attributes, captions and scene graphs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np

from clipvg.boxes import iou
from clipvg.data.scenes.language import RELATIONS, caption, is_related
from clipvg.data.scenes.render import render_scene
from clipvg.data.scenes.world import (
    COLOURS,
    SHAPES,
    TEXTURES,
    Box,
    Scene,
    SceneConfig,
    SceneObject,
    sample_scene,
)
from clipvg.pseudo import Detection, Observation, ObservationTable, Relation
from clipvg.runtime.fields import check_fields


def detected_box(scene: Scene, index: int, rng: np.random.Generator, jitter: float = 0.05) -> Box:
    """Return a detector's box of object `index`: each edge is off by N(0, jitter) of its side."""
    x1, y1, x2, y2 = scene.objects[index].box
    edges = np.array([x1, y1, x2, y2]) + rng.normal(0, jitter, 4) * np.array([x2 - x1, y2 - y1] * 2)
    return _inside(scene, edges)


def loose_box(scene: Scene, index: int, rng: np.random.Generator) -> Box:
    """Return a badly placed box whose IoU with object `index` lies in [0.2, 0.5)."""
    truth = np.array(scene.objects[index].box)
    side = np.array([truth[2] - truth[0], truth[3] - truth[1]] * 2)
    for spread in np.linspace(0.25, 0.6, 200):
        box = _inside(scene, truth + rng.normal(0, spread, 4) * side)
        overlap = float(iou(np.array([box]), truth[None])[0])
        if box[2] - box[0] > 4 and box[3] - box[1] > 4 and 0.2 <= overlap < 0.5:
            return box
    # Else 1.7 times as wide and high around the same centre: IoU 0.35 unless the border cuts it.
    centre = np.array([*scene.objects[index].centre] * 2)
    return _inside(scene, centre + (truth - centre) * 1.7)


def scene_graph(scene: Scene) -> list[tuple[int, str, int]]:
    """Return every true (subject, relation, object), with subject and object as indices."""
    indices = range(len(scene.objects))
    return [
        (i, relation, j)
        for i in indices
        for j in indices
        for relation in RELATIONS
        if is_related(scene, i, relation, j)
    ]


def _inside(scene: Scene, edges: np.ndarray) -> Box:
    x1, x2 = np.sort(np.clip(edges[[0, 2]], 0, scene.width))
    y1, y2 = np.sort(np.clip(edges[[1, 3]], 0, scene.height))
    return round(float(x1), 1), round(float(y1), 1), round(float(x2), 1), round(float(y2), 1)


Share = Annotated[float, (0, 1)]


@dataclass(frozen=True)
class ObserverErrors:
    """Error rates of the simulated models; each model errs independently of the others.

    Attributes:
        missed: share of objects that a detector misses.
        loose: share of detected objects whose box has an IoU of only 0.2 to 0.5 with them.
        wrong_class: share of detected objects that are named as another shape.
        wrong_attribute: share of colours and textures that are named as others.
        doubled: share of detected objects that are detected a second time, with another box.
        wrong_relation: share of a scene graph's edges with a wrong predicate.
        jitter: standard deviation of a good box's edges, as a share of its side.
    """

    missed: Share = 0.2
    loose: Share = 0.28
    wrong_class: Share = 0.1
    wrong_attribute: Share = 0.15
    doubled: Share = 0.1
    wrong_relation: Share = 0.15
    jitter: Share = 0.05

    def __post_init__(self) -> None:
        """Refuse values that are not shares."""
        check_fields(self, "errors of models")


PERFECT = ObserverErrors(0, 0, 0, 0, 0, 0, 0)


def observe_scenes(
    folder: str | Path,
    num_images: int,
    *,
    errors: ObserverErrors | None = None,
    seed: int = 0,
    config: SceneConfig | None = None,
) -> tuple[ObservationTable, dict[str, Scene]]:
    """Render `num_images` scenes below `folder`, as `make_labels` does, and observe them.

    Errors are made by the simulated models and change no scene; the seed determines both.

    Returns:
        The observations of a detector, an attribute detector, a captioner and a scene-graph model;
        and the scenes by image name, which only `with_truth` should see.
    """
    images = Path(folder) / "images"
    images.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((seed, num_images, 1))
    scenes = {f"{number:06d}.jpg": sample_scene(rng, config) for number in range(num_images)}
    for name, scene in scenes.items():
        render_scene(scene).save(images / name, quality=95)
    eyes = np.random.default_rng((seed, num_images, 2))
    seen = (observe(scene, name, eyes, errors) for name, scene in scenes.items())
    return ObservationTable.from_observations(seen, images), scenes


def observe(
    scene: Scene, image: str, rng: np.random.Generator, errors: ObserverErrors | None = None
) -> Observation:
    """Return what the four simulated models observe in one scene."""
    errors = errors or ObserverErrors()
    described = _mistaken(scene, errors, rng)
    return Observation(
        image,
        scene.width,
        scene.height,
        detections=tuple(found for _, found in _detect(scene, errors, rng)),
        attribute_detections=tuple(
            replace(found, attributes=_attributes(described.objects[index], rng))
            for index, found in _detect(described, replace(errors, wrong_class=0), rng)
        ),
        captions=(caption(_mistaken(scene, errors, rng), rng),),
        relations=tuple(_relate(scene, errors, rng)),
    )


def _mistaken(scene: Scene, errors: ObserverErrors, rng: np.random.Generator) -> Scene:
    """Return the scene as a model perceives it, with some shapes, colours and textures changed."""

    def seen(value: str, values: Iterable[str], rate: float) -> str:
        others = [other for other in values if other != value]
        return str(rng.choice(others)) if rng.random() < rate else value

    objects = tuple(
        replace(
            item,
            shape=seen(item.shape, SHAPES, errors.wrong_class),
            colour=seen(item.colour, COLOURS, errors.wrong_attribute),
            texture=seen(item.texture, TEXTURES, errors.wrong_attribute),
        )
        for item in scene.objects
    )
    return replace(scene, objects=objects)


def _detect(
    scene: Scene, errors: ObserverErrors, rng: np.random.Generator
) -> Iterator[tuple[int, Detection]]:
    """Yield object indices and detections; wrong ones score lower on average, as in practice."""
    called = _mistaken(scene, errors, rng)
    for index, item in enumerate(called.objects):
        if rng.random() < errors.missed:
            continue
        is_loose = rng.random() < errors.loose
        if is_loose:
            box = loose_box(scene, index, rng)
        else:
            box = detected_box(scene, index, rng, errors.jitter)
        is_right = not is_loose and item.shape == scene.objects[index].shape
        yield index, Detection(item.shape, box, _score(rng, is_right))
        if rng.random() < errors.doubled:
            double = detected_box(scene, index, rng, jitter=0.15)
            yield index, Detection(item.shape, double, _score(rng, is_right=False))


def _score(rng: np.random.Generator, is_right: bool) -> float:
    return round(float(rng.beta(8, 2) if is_right else rng.beta(4, 4)), 3)


def _attributes(item: SceneObject, rng: np.random.Generator) -> dict[str, float]:
    said = [item.colour] if item.texture == "plain" else [item.colour, item.texture]
    return {word: round(float(rng.uniform(0.5, 1)), 3) for word in said}


def _relate(scene: Scene, errors: ObserverErrors, rng: np.random.Generator) -> Iterator[Relation]:
    """Yield the edges between the objects that the scene-graph model's own detector finds."""
    found = dict(_detect(scene, replace(errors, doubled=0), rng))
    for first, predicate, second in scene_graph(scene):
        if first not in found or second not in found:
            continue
        if rng.random() < errors.wrong_relation:
            predicate = str(rng.choice([other for other in RELATIONS if other != predicate]))
        one, other = found[first], found[second]
        scores = (one.score, round(float(rng.uniform(0.3, 1)), 3), other.score)
        yield Relation(one.name, predicate, other.name, one.box, other.box, scores)
