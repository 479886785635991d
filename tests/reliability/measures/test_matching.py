"""The matcher on features with known meaning: finds wrong words, judges out of sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reliability.scenery import make_labels, make_model

from clipvg.demo import auroc
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.model import GroundingModel
from clipvg.reliability import Context, measure
from clipvg.reliability.measures import RegionTextMatch
from clipvg.reliability.measures.matching import _Others

IMAGES, EACH, COLOURS = 150, 3, 6


@pytest.fixture(scope="module")
def model() -> GroundingModel:
    return make_model()


def coloured(model: GroundingModel) -> tuple[np.ndarray, LabelTable, np.ndarray]:
    """What is seen of labels whose regions have colours, the labels, and which are right.

    A quarter of the expressions name a colour that the region does not have.
    """
    rng = np.random.default_rng(0)
    count, width = IMAGES * EACH, model.backbone.embed_dim
    colour = np.concatenate([rng.permutation(COLOURS)[:EACH] for _ in range(IMAGES)])
    right = rng.random(count) > 0.25
    named = np.where(right, colour, (colour + rng.integers(1, COLOURS, count)) % COLOURS)
    looks, words = rng.normal(size=(COLOURS, 20)), rng.normal(size=(COLOURS, width))
    region = looks[colour] + rng.normal(size=(count, 20)) * 0.3
    corner = np.tile([[0, 0], [40, 0], [0, 40]], (IMAGES, 1))
    boxes = np.concatenate([corner, corner + 20], axis=1).astype(float)
    seen = np.concatenate([boxes / 100, region, words[named]], axis=1).astype(np.float32)
    image = [f"{i // EACH}.png" for i in range(count)]
    table = LabelTable.from_columns(image=image, expression=["x"] * count, box=boxes)
    return seen, table, right


def test_wrong_words_score_lower(model: GroundingModel) -> None:
    seen, labels, right = coloured(model)
    scores = RegionTextMatch(model, epochs=30).judge(seen, labels, Context())
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    assert auroc(scores, right) > 0.95


def test_a_label_is_judged_by_what_others_taught(model: GroundingModel) -> None:
    """Changing a label changes nothing for the labels of its own fold, which never taught them."""
    seen, labels, _ = coloured(model)
    matcher = RegionTextMatch(model, epochs=3, folds=3)
    before = matcher.judge(seen, labels, Context())
    changed = seen.copy()
    changed[[0, 1], 24:] = seen[[1, 0], 24:]  # texts of two labels of image 0 swapped
    after = matcher.judge(changed, labels, Context())
    image = np.arange(len(seen)) // EACH
    same_fold = (image % 3 == 0) & (image != 0)
    np.testing.assert_allclose(after[same_fold], before[same_fold], atol=1e-4)
    assert np.abs(after - before)[image % 3 != 0].max() > 1e-4


def test_it_repeats_and_leaves_the_random_state(model: GroundingModel) -> None:
    seen, labels, _ = coloured(model)
    state = torch.get_rng_state()
    first = RegionTextMatch(model, epochs=2, seed=3).judge(seen, labels, Context())
    assert torch.equal(torch.get_rng_state(), state)
    again = RegionTextMatch(model, epochs=2, seed=3).judge(seen, labels, Context())
    np.testing.assert_array_equal(again, first)
    other = RegionTextMatch(model, epochs=2, seed=4).judge(seen, labels, Context())
    assert (other != first).any()


def test_rows_that_were_not_seen_are_not_scored(model: GroundingModel) -> None:
    seen, labels, _ = coloured(model)
    seen[[4, 9]] = np.nan
    scores = RegionTextMatch(model, epochs=1).judge(seen, labels, Context())
    assert np.flatnonzero(np.isnan(scores)).tolist() == [4, 9]


def test_too_few_labels_say_so(
    model: GroundingModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    labels = make_labels(tmp_path_factory.mktemp("images"))
    context = Context()
    assert np.isnan(measure(RegionTextMatch(model), labels, context)).all()
    assert context.reasons[0] == "match: 16 other labels are too few to learn from"


def test_from_pictures(model: GroundingModel, tmp_path_factory: pytest.TempPathFactory) -> None:
    labels = make_labels(tmp_path_factory.mktemp("images"), num_images=30)
    scores = measure(RegionTextMatch(model, epochs=2), labels, Context())
    assert ((scores > 0) & (scores < 1)).all()


def test_mismatches_are_other_objects_of_the_picture() -> None:
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 8], [50, 50, 60, 60], [0, 0, 9, 9]], dtype=float)
    others = _Others(np.array([0, 0, 0, 1]), boxes)
    draw = torch.Generator().manual_seed(0)
    asked, shown = others.draw(torch.tensor([0, 1, 2, 3] * 20), draw)
    pairs = set(zip(asked.tolist(), shown.tolist(), strict=True))
    assert pairs == {(0, 2), (1, 2), (2, 0), (2, 1)}


@pytest.mark.parametrize("option", ["folds", "epochs", "width"])
def test_bad_options(model: GroundingModel, option: str) -> None:
    with pytest.raises(InputError, match=f"{option} is 0"):
        RegionTextMatch(model, **{option: 0})
