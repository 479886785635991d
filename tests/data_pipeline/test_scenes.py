"""Scenes: the reader defines the truth, errors occur at their rates, a seed fixes the files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from clipvg.boxes import iou
from clipvg.data.scenes import CLEAN, NoiseConfig, is_correct, make_labels, render_scene
from clipvg.data.scenes.labels import label_scenes
from clipvg.data.scenes.language import (
    KINDS,
    Expression,
    caption,
    describe,
    place,
    referents,
    to_text,
)
from clipvg.data.scenes.observe import detected_box, loose_box, scene_graph
from clipvg.data.scenes.world import Scene, SceneConfig, SceneObject, sample_scene
from clipvg.labels import check_labels

RED_LEFT = SceneObject("circle", "red", "plain", (5.0, 40.0, 35.0, 70.0))
RED_RIGHT = SceneObject("circle", "red", "striped", (60.0, 40.0, 90.0, 70.0))
SQUARE = SceneObject("square", "blue", "plain", (35.0, 5.0, 60.0, 30.0))
SCENE = Scene(96, 96, (RED_LEFT, RED_RIGHT, SQUARE), seed=3)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (Expression("square"), (2,)),
        (Expression("circle"), (0, 1)),
        (Expression("circle", texture="striped"), (1,)),
        (Expression("circle", colour="green"), ()),
        (Expression("circle", position="left"), (0,)),
        (Expression("circle", position="right"), (1,)),
        # Both circles are at the same height: a reader cannot choose the top one.
        (Expression("circle", position="top"), ()),
        # A superlative about a single object says nothing.
        (Expression("square", position="left"), ()),
        (Expression("circle", size="big"), ()),
        (Expression("circle", relation="left of", anchor=Expression("square")), (0,)),
        (Expression("circle", relation="below", anchor=Expression("square")), (0, 1)),
        # The anchor itself must be unique.
        (Expression("square", relation="above", anchor=Expression("circle")), ()),
    ],
)
def test_referents(expression: Expression, expected: tuple[int, ...]) -> None:
    assert referents(expression, SCENE) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_described_object_is_the_only_referent(kind: str) -> None:
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(60):
        scene = sample_scene(rng)
        for index in range(len(scene.objects)):
            expression = describe(scene, index, kind, rng)
            if expression is not None:
                found += 1
                assert expression.kind == kind
                assert referents(expression, scene) == (index,)
                assert expression.shape in to_text(expression, rng)
    assert found > 30


def test_scene_stays_inside_its_picture_and_overlaps_little() -> None:
    config = SceneConfig()
    for seed in range(50):
        scene = sample_scene(np.random.default_rng(seed), config)
        assert max(scene.width, scene.height) == config.long_side
        assert render_scene(scene).size == (scene.width, scene.height)
        for item in scene.objects:
            x1, y1, x2, y2 = item.box
            assert 0 <= x1 < x2 <= scene.width + 0.1
            assert 0 <= y1 < y2 <= scene.height + 0.1


def test_box_is_tight_around_the_painted_object() -> None:
    without = Scene(96, 96, (), seed=7)
    item = SceneObject("star", "yellow", "plain", (20.0, 30.0, 60.0, 75.0))
    difference = np.abs(
        np.asarray(render_scene(Scene(96, 96, (item,), seed=7)), dtype=int)
        - np.asarray(render_scene(without), dtype=int)
    ).max(axis=2)
    rows, columns = np.nonzero(difference > 40)
    painted = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(np.array(painted) - np.array(item.box)).max() <= 3


def test_a_larger_image_shows_the_same_scene() -> None:
    scene = sample_scene(np.random.default_rng(3))
    small, large = render_scene(scene), render_scene(scene, scale=3)
    assert large.size == (3 * scene.width, 3 * scene.height)
    difference = np.asarray(large.reduce(3), dtype=int) - np.asarray(small, dtype=int)
    assert np.abs(difference).mean() < 6


def test_observers() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([RED_LEFT.box])
    for _ in range(40):
        assert iou(np.array([detected_box(SCENE, 0, rng)]), truth)[0] > 0.6
        assert 0.2 <= iou(np.array([loose_box(SCENE, 0, rng)]), truth)[0] < 0.5
    assert (0, "left of", 1) in scene_graph(SCENE)
    assert (1, "left of", 0) not in scene_graph(SCENE)
    assert place(SCENE, SQUARE) == "top"
    assert any(shape in caption(SCENE, rng) for shape in ("circle", "square"))


@pytest.mark.parametrize("source", ["template", "relation", "caption", "mixed"])
def test_noisy_labels_have_the_standard_mix(source: str, tmp_path: Path) -> None:
    labels = make_labels(tmp_path, 150, source=source, noise=NoiseConfig(), seed=1)
    correct = is_correct(labels)
    errors = labels.table["scene.error"].to_pylist()
    # The recorded error and the definition of correctness agree on every label.
    assert [e is None for e in errors] == correct.tolist()
    assert abs((~correct).mean() - 0.4) < 0.03
    counts, wrong = Counter(errors), (~correct).sum()
    for kind, share in NoiseConfig().mix.items():
        assert abs(counts[kind] / wrong - share) < 0.09
    assert set(labels.sources()) == {source}
    assert not np.isnan(labels.truth()[correct]).any()
    assert check_labels(labels).ok


def test_clean_labels_are_all_correct_and_repeatable(tmp_path: Path) -> None:
    first = make_labels(tmp_path / "a", 20, noise=CLEAN, seed=5)
    again = make_labels(tmp_path / "b", 20, noise=CLEAN, seed=5)
    other = make_labels(tmp_path / "c", 20, noise=CLEAN, seed=6)
    assert is_correct(first).all()
    np.testing.assert_array_equal(first.boxes(), first.truth())
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    for name in first.image_names[:3]:
        assert first.image_path(name).read_bytes() == again.image_path(name).read_bytes()


def test_scenes_of_labels_are_those_that_were_rendered(tmp_path: Path) -> None:
    labels = make_labels(tmp_path, 6, seed=3)
    scenes = [scene for scene, _ in label_scenes(6, seed=3)]
    for truth, name in zip(labels.truth(), labels.image_names, strict=True):
        boxes = [item.box for item in scenes[int(name[:6])].objects]
        assert np.isclose(boxes, truth, atol=1e-3).all(1).any()
