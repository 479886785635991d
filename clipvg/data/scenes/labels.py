"""Render scenes to disk with simulated pseudo-labels of three sources and their true boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isclose
from numbers import Real
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa

from clipvg.boxes import iou
from clipvg.data.scenes.language import (
    Expression,
    ambiguous,
    describe,
    phrase,
    referents,
    to_text,
    with_wrong_attribute,
)
from clipvg.data.scenes.observe import detected_box, loose_box
from clipvg.data.scenes.render import render_scene
from clipvg.data.scenes.world import Box, Scene, SceneConfig, sample_scene
from clipvg.labels import LabelTable
from clipvg.runtime.fields import check_fields

STANDARD_MIX = {"same_class": 0.35, "loose_box": 0.25, "wrong_attribute": 0.2, "ambiguous": 0.2}

_EVERYDAY = {"attribute": 0.5, "position": 0.3, "relation": 0.2}
# Share of each kind of expression in a source. "human" is for evaluation; "mixed" is a single
# pseudo-label source with the same shares.
SOURCES: dict[str, dict[str, float]] = {
    "human": _EVERYDAY,
    "mixed": _EVERYDAY,
    "template": {"attribute": 0.6, "position": 0.4},
    "relation": {"relation": 1.0},
    "caption": {"attribute": 0.7, "relation": 0.3},
}


@dataclass(frozen=True)
class NoiseConfig:
    """Simulated errors of the pseudo-labels.

    Attributes:
        rate: share of wrong labels.
        mix: share of each kind of error among the wrong labels; the shares sum to 1.
        jitter: standard deviation of a correct box's edges, as a share of its side.
    """

    rate: Annotated[float, (0, 1)] = 0.4
    mix: Mapping[str, float] = field(default_factory=lambda: dict(STANDARD_MIX))
    jitter: Annotated[float, (0, 1)] = 0.05

    def __post_init__(self) -> None:
        """Refuse values that are not shares, and unknown kinds of error."""
        shares = [*self.mix.values()] if isinstance(self.mix, Mapping) else []
        is_whole = all(isinstance(share, Real) and 0 <= share <= 1 for share in shares) and isclose(
            sum(shares), 1, abs_tol=1e-6
        )
        unknown = set(self.mix) - set(STANDARD_MIX) if is_whole else set()
        further = [] if is_whole else [f"mix is {self.mix!r}, expected shares with the sum 1"]
        further += [f"no kind of error {kind!r}" for kind in sorted(map(str, unknown))]
        check_fields(self, "errors of labels", further=further)


CLEAN = NoiseConfig(rate=0.0, jitter=0.0)


@dataclass(frozen=True)
class _Label:
    expression: str
    kind: str
    box: Box
    truth: Box | None
    error: str | None


def make_labels(
    folder: str | Path,
    num_images: int,
    *,
    source: str = "human",
    noise: NoiseConfig = CLEAN,
    labels_per_image: int = 4,
    seed: int = 0,
    config: SceneConfig | None = None,
) -> LabelTable:
    """Render `num_images` scenes below `folder` and label them.

    Args:
        folder: receives `images/NNNNNN.jpg`; existing files of these names are replaced.
        num_images: number of scenes.
        source: "template", "relation", "caption", "mixed" or "human".
        noise: rate and kinds of wrong labels; a label is *correct* when IoU(box, truth) >= 0.5.
        labels_per_image: labels tried per scene; a scene may give fewer.
        seed: determines scenes, expressions and errors.
        config: distribution of scenes.

    Returns:
        LabelTable in xyxy pixels with `source`, `width`, `height`, `truth` (the box that a reader
        of the expression would choose, null if there is none), `scene.error` (kind of error,
        null if the label is correct) and `scene.kind` (attribute, position or relation).
    """
    images = Path(folder) / "images"
    images.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, Scene, _Label]] = []
    made = label_scenes(
        num_images,
        source=source,
        noise=noise,
        labels_per_image=labels_per_image,
        seed=seed,
        config=config,
    )
    for number, (scene, labels) in enumerate(made):
        name = f"{number:06d}.jpg"
        render_scene(scene).save(images / name, quality=95)
        rows += [(name, scene, label) for label in labels]
    return _to_table(rows, source, images)


def label_scenes(
    num_images: int,
    *,
    source: str = "human",
    noise: NoiseConfig = CLEAN,
    labels_per_image: int = 4,
    seed: int = 0,
    config: SceneConfig | None = None,
) -> Iterator[tuple[Scene, list[_Label]]]:
    """Yield the scenes that `make_labels` renders, with their labels; see there for arguments."""
    rng = np.random.default_rng((seed, num_images))
    wanted = _plan_errors(num_images * labels_per_image, noise, rng)
    for _ in range(num_images):
        scene = sample_scene(rng, config)
        yield scene, _label_scene(scene, source, noise, wanted, labels_per_image, rng)


def is_correct(labels: LabelTable) -> np.ndarray:
    """Return (N,) bool: IoU(box, truth) >= 0.5; False where there is no truth."""
    truth = labels.truth()
    known = ~np.isnan(truth).any(axis=1)
    return known & (iou(labels.boxes(), np.where(known[:, None], truth, 0)) >= 0.5)


def _plan_errors(count: int, noise: NoiseConfig, rng: np.random.Generator) -> Counter[str | None]:
    """Return how many labels of each kind of error (None: correct) are to be made."""
    kinds = list(noise.mix)
    num_wrong = round(count * noise.rate)
    drawn: np.ndarray | list[str] = (
        rng.choice(kinds, size=num_wrong, p=[noise.mix[k] for k in kinds]) if num_wrong else []
    )
    return Counter([*map(str, drawn), *[None] * (count - num_wrong)])


def _label_scene(
    scene: Scene,
    source: str,
    noise: NoiseConfig,
    wanted: Counter[str | None],
    count: int,
    rng: np.random.Generator,
) -> list[_Label]:
    labels: dict[str, _Label] = {}
    for _ in range(4 * count):
        if len(labels) == count:
            break
        # Draw kinds by how many are still missing: rates hold although not every scene has each.
        kinds = [k for k in wanted if wanted[k] > 0]
        if not kinds:
            break
        shares = np.array([wanted[k] for k in kinds], dtype=float)
        error = kinds[rng.choice(len(kinds), p=shares / shares.sum())]
        label = _make_label(scene, source, error, noise.jitter, rng)
        if label is not None and label.expression not in labels:
            labels[label.expression] = label
            wanted[error] -= 1
    return list(labels.values())


def _make_label(
    scene: Scene, source: str, error: str | None, jitter: float, rng: np.random.Generator
) -> _Label | None:
    """Return a label with the given error for a random object, or None if the scene has none."""
    index = int(rng.integers(len(scene.objects)))
    kinds = SOURCES[source]
    kind = str(rng.choice(list(kinds), p=list(kinds.values())))
    make = ambiguous if error == "ambiguous" else describe
    expression = make(scene, index, kind, rng)
    if expression is None:
        return None
    labelled = index
    if error == "wrong_attribute":
        expression = with_wrong_attribute(expression, rng)
    elif error == "same_class":
        shape = scene.objects[index].shape
        others = [i for i, o in enumerate(scene.objects) if i != index and o.shape == shape]
        if not others:
            return None
        labelled = int(rng.choice(others))
    found = referents(expression, scene)
    truth = scene.objects[found[0]].box if len(found) == 1 else None
    if error == "wrong_attribute" and found == (index,):
        return None
    if error == "loose_box":
        box = loose_box(scene, index, rng)
    else:
        box = detected_box(scene, labelled, rng, jitter)
    return _Label(_text(scene, index, source, expression, rng), expression.kind, box, truth, error)


def _text(
    scene: Scene, index: int, source: str, expression: Expression, rng: np.random.Generator
) -> str:
    text = to_text(expression, rng)
    others = [item for i, item in enumerate(scene.objects) if i != index]
    if source != "caption" or not others or expression.relation:
        return text
    return f"{text} and {phrase(scene, others[rng.integers(len(others))], rng)}"


def _to_table(rows: list[tuple[str, Scene, _Label]], source: str, images: Path) -> LabelTable:
    columns = {
        "image": [name for name, _, _ in rows],
        "expression": [label.expression for _, _, label in rows],
        "box": [label.box for _, _, label in rows],
        "source": [source] * len(rows),
        "width": [scene.width for _, scene, _ in rows],
        "height": [scene.height for _, scene, _ in rows],
        "truth": [label.truth for _, _, label in rows],
        "scene.kind": [label.kind for _, _, label in rows],
        "scene.error": pa.array([label.error for _, _, label in rows], pa.string()),
    }
    return LabelTable.from_columns(images=images, **columns)
