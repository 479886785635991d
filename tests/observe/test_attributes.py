"""Attributes of detections, by the CLIP that ships with the package."""

from __future__ import annotations

import numpy as np
import pytest

from clipvg.data.scenes.render import render_scene
from clipvg.data.scenes.world import sample_scene
from clipvg.errors import InputError
from clipvg.observe.attributes import WORDS, AttributeReader
from clipvg.pseudo import Detection


@pytest.fixture(scope="module")
def reader() -> AttributeReader:
    return AttributeReader("clipvg-tiny")


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(5)
    return [sample_scene(rng) for _ in range(12)]


def look(reader: AttributeReader, scene) -> tuple[Detection, ...]:
    objects = [Detection(item.shape, item.box, 0.8, {"own": 0.7}) for item in scene.objects]
    return reader.describe(render_scene(scene), objects)


def test_colours_that_are_said_are_mostly_right(reader, scenes) -> None:
    said, right = 0, 0
    for scene in scenes:
        for item, found in zip(scene.objects, look(reader, scene), strict=True):
            words = {*found.attributes} & {*WORDS["colour"]}
            assert len(words) <= 1
            assert found.attributes["own"] == 0.7
            said += len(words)
            right += item.colour in words
    assert said >= 18
    assert right / said > 0.85


def test_shares_of_a_category_add_up_and_low_ones_are_not_said(reader, scenes) -> None:
    scene = scenes[0]
    image = render_scene(scene)
    objects = [Detection(item.shape, item.box) for item in scene.objects]
    for shares in reader.probabilities(image, objects):
        assert shares.keys() == WORDS.keys()
        assert all(sum(of.values()) == pytest.approx(1) for of in shares.values())
        assert "" in shares["pattern"]
    shy = AttributeReader("clipvg-tiny", words={"colour": ["red", "blue"]}, least={"colour": 1.0})
    assert all(found.attributes == {"own": 0.7} for found in look(shy, scene))
    assert reader.describe(image, []) == ()


def test_boxes_at_and_beyond_the_edge_are_cut_out(reader, scenes) -> None:
    image = render_scene(scenes[0])
    width, height = image.size
    thin = [
        Detection("circle", (width - 0.2, height - 0.1, width, height)),
        Detection("ring", (0, 0, 0.4, 2)),
    ]
    assert len(reader.describe(image, thin)) == 2


def test_a_category_without_a_threshold_is_refused() -> None:
    with pytest.raises(InputError, match="no lowest probability for 'mood'"):
        AttributeReader("clipvg-tiny", words={"mood": ["happy"]})
