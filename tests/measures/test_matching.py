"""The matcher on synthetic features: it finds wrong words and judges out of sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.tiny import make_labels, make_model

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.measures import RegionTextMatch
from clipvg.measures.match.features import token_features, whitening
from clipvg.model import GroundingModel
from clipvg.model.quality import Matcher
from clipvg.reliability import Context, measure
from clipvg.reliability.histogram import auroc
from clipvg.training.matching import RaggedLists, displaced, one_word_away, rivals_of

IMAGES, EACH = 120, 3
QUICK = {"folds": 2, "rounds": 2, "epochs": 80, "width": 32}
WORDS = ("red dog", "blue car", "sky", "green tree", "man", "small yellow cup")


@pytest.fixture(scope="module")
def model() -> GroundingModel:
    return make_model()


def things(seed: int = 0) -> tuple[np.ndarray, LabelTable, np.ndarray]:
    """Return the features of labels whose regions show things, the labels, and which are right.

    A quarter of the expressions name a thing that their region does not show; displaced boxes
    show nothing.
    """
    rng = np.random.default_rng(seed)
    count, kinds, width = IMAGES * EACH, len(WORDS), 20
    thing = np.concatenate([rng.permutation(kinds)[:EACH] for _ in range(IMAGES)])
    right = rng.random(count) > 0.25
    named = np.where(right, thing, (thing + rng.integers(1, kinds, count)) % kinds)
    looks = rng.normal(size=(kinds, width))
    regions = rng.normal(size=(count, 3, 9, width)) * 0.3
    regions[:, 0] += looks[thing][:, None]
    corner = np.tile([[0, 0], [40, 0], [0, 40]], (IMAGES, 1))
    boxes = np.concatenate([corner, corner + 20], axis=1).astype(float)
    views = np.repeat(np.concatenate([corner + 10, np.full((count, 2), 20)], axis=1) / 100, 3, 0)
    views = views.reshape(count, 12)
    seen = np.concatenate([views, regions.reshape(count, -1)], axis=1).astype(np.float32)
    image = [f"{i // EACH}.png" for i in range(count)]
    expressions = [WORDS[i] for i in named]
    return seen, LabelTable.from_columns(image=image, expression=expressions, box=boxes), right


HALF = IMAGES * EACH // 2


@pytest.fixture(scope="module")
def learned(model: GroundingModel) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a trained matcher, and which labels are right.

    In the first half of the images the second box shows the same thing as the first.
    """
    seen, labels, right = things()
    seen[1:HALF:EACH, 12:] = seen[0:HALF:EACH, 12:]
    return RegionTextMatch(model, **QUICK).score(seen, labels, Context()).values, right


def test_wrong_words_score_lower(learned: tuple[np.ndarray, np.ndarray]) -> None:
    scores, right = learned
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    assert auroc(scores[HALF:], right[HALF:]) > 0.95


def test_an_expression_that_fits_two_boxes_scores_lower(
    learned: tuple[np.ndarray, np.ndarray],
) -> None:
    scores, right = learned
    twice, once = scores[:HALF:EACH][right[:HALF:EACH]], scores[HALF::EACH][right[HALF::EACH]]
    assert np.median(twice) < 0.75 * np.median(once)


def test_a_label_is_judged_by_what_others_taught(model: GroundingModel) -> None:
    """Changing a label changes no score of its own fold, whose matcher did not learn from it."""
    seen, labels, _ = things()
    matcher = RegionTextMatch(model, epochs=1, rounds=1, folds=3, width=8)
    before = matcher.score(seen, labels, Context()).values
    changed = seen.copy()
    changed[[0, 1]] = seen[[1, 0]]  # regions of two labels of image 0 swapped
    after = matcher.score(changed, labels, Context()).values
    image = np.arange(len(seen)) // EACH
    same_fold = (image % 3 == 0) & (image != 0)
    np.testing.assert_allclose(after[same_fold], before[same_fold], atol=1e-4)
    assert np.abs(after - before)[image % 3 != 0].max() > 1e-4


def test_it_repeats_and_leaves_the_random_state(model: GroundingModel) -> None:
    seen, labels, _ = things()
    state = torch.get_rng_state()
    first = (
        RegionTextMatch(model, folds=2, rounds=1, epochs=1, width=8, seed=3)
        .score(seen, labels, Context())
        .values
    )
    assert torch.equal(torch.get_rng_state(), state)
    again = (
        RegionTextMatch(model, folds=2, rounds=1, epochs=1, width=8, seed=3)
        .score(seen, labels, Context())
        .values
    )
    np.testing.assert_array_equal(again, first)
    other = (
        RegionTextMatch(model, folds=2, rounds=1, epochs=1, width=8, seed=4)
        .score(seen, labels, Context())
        .values
    )
    assert (other != first).any()


def test_rows_that_were_not_seen_are_not_scored(model: GroundingModel) -> None:
    seen, labels, _ = things()
    seen[[4, 9]] = np.nan
    scores = (
        RegionTextMatch(model, folds=2, epochs=1, rounds=1).score(seen, labels, Context()).values
    )
    assert np.flatnonzero(np.isnan(scores)).tolist() == [4, 9]


def test_nothing_seen(model: GroundingModel) -> None:
    seen, labels, _ = things()
    scores = RegionTextMatch(model).score(np.full_like(seen, np.nan), labels, Context()).values
    assert np.isnan(scores).all()


def test_too_few_labels_say_so(
    model: GroundingModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    labels = make_labels(tmp_path_factory.mktemp("images"))
    found = measure(RegionTextMatch(model), labels, Context())
    assert np.isnan(found.values).all()
    assert found.reasons[0] == "match: 12 other labels are too few to learn from"


def test_from_pictures(model: GroundingModel, tmp_path_factory: pytest.TempPathFactory) -> None:
    labels = make_labels(tmp_path_factory.mktemp("images"), images=20, per_image=8)
    scores = measure(
        RegionTextMatch(model, folds=2, epochs=1, rounds=1, width=16), labels, Context()
    ).values
    assert ((scores > 0) & (scores < 1)).all()


def test_a_text_tower_that_learns(tmp_path_factory: pytest.TempPathFactory) -> None:
    labels = make_labels(tmp_path_factory.mktemp("images"), images=20, per_image=8)
    learned = make_model(prefix="learned")
    scores = measure(
        RegionTextMatch(learned, folds=2, epochs=1, rounds=1, width=16), labels, Context()
    ).values
    assert ((scores > 0) & (scores < 1)).all()


def test_others_are_drawn_from_the_lists_that_have_members() -> None:
    others = RaggedLists(np.array([2, 0, 2]), np.array([7, 8, 9]), 4)
    places, members = others.draw(torch.tensor([0, 1, 2, 3] * 20), torch.Generator().manual_seed(0))
    pairs = set(zip((places % 4).tolist(), members.tolist(), strict=True))
    assert pairs == {(0, 8), (2, 7), (2, 9)}


def test_rivals_are_other_objects_of_the_picture() -> None:
    boxes = torch.tensor([[2, 2, 2, 2], [2, 2, 2, 1.8], [6, 6, 2, 2], [2, 2, 2, 2]]) / 10
    pairs = rivals_of(np.array([0, 0, 0, 1]), boxes).T.tolist()
    assert sorted(pairs) == [[0, 2], [1, 2], [2, 0], [2, 1]]


def test_texts_one_word_away() -> None:
    texts = ["red dog", "Blue dog", "red car", "the red dog", "blue dog", "green dog"]
    near = one_word_away(texts, np.array([0, 1, 2, 3, 4]))
    draw = torch.Generator().manual_seed(0)
    places, found = near.draw(torch.arange(6).repeat(40), draw)
    pairs = set(zip((places % 6).tolist(), found.tolist(), strict=True))
    assert {b for a, b in pairs if a == 0} == {1, 2, 4}
    assert {b for a, b in pairs if a == 2} == {0}
    assert not {a for a, _ in pairs} & {3, 5}  # no text nearby, or not used


def test_of_many_texts_near_some_are_drawn() -> None:
    texts = [f"w{i}" for i in range(5_000)]
    near = one_word_away(texts, np.arange(5_000))
    _, found = near.draw(torch.full((4_000,), 4_990), torch.Generator().manual_seed(0))
    assert set(found.tolist()) == {*range(4_991, 5_000), *range(55)}


def test_displaced_boxes_are_elsewhere_and_repeat() -> None:
    boxes = torch.rand(50, 4, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.35
    boxes[:, 2:] *= 0.5
    made = displaced(boxes, np.arange(50), 0)
    assert made.shape == (50, 3, 4)
    assert torch.equal(made[:, 0], boxes)
    assert torch.equal(displaced(boxes[7:9], np.array([7, 8]), 0), made[7:9])
    low, high = made[..., :2] - made[..., 2:] / 2, made[..., :2] + made[..., 2:] / 2
    assert (low >= -1e-6).all()
    assert (high <= 1 + 1e-6).all()
    sides = torch.minimum(high[:, :1], high) - torch.maximum(low[:, :1], low)
    both, areas = sides.clamp(min=0).prod(-1), made[..., 2:].prod(-1)
    assert (both / (areas + areas[:, :1] - both))[:, 1:].max() < 0.5


def test_whitened_features_have_deviation_1_in_all_directions() -> None:
    values = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)) @ torch.randn(6, 6) + 3
    white = (values - values.mean(0)) @ whitening(values)
    torch.testing.assert_close(white.T @ white / 500, torch.eye(6), atol=1e-3, rtol=1e-3)


def test_tokens_of_long_texts_are_cut(model: GroundingModel) -> None:
    texts, masks = token_features(model, ["sky", "red dog", "very " * 70 + "small"])
    assert texts.shape[:2] == masks.shape
    assert masks.shape[1] <= 48
    assert (texts[~masks] == 0).all()
    assert masks.sum(1)[0] < masks.sum(1)[1] < masks.sum(1)[2]


def test_a_matcher_reads_real_tokens_only() -> None:
    torch.manual_seed(0)
    net = Matcher(5, 7, 9, 8).eval()
    box, region, text = torch.rand(3, 4), torch.randn(3, 9, 5), torch.randn(3, 4, 7)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]).bool()
    logits = net(box, region, text, mask)
    alone = net(box[:1], region[:1], text[:1, :2], mask[:1, :2])
    torch.testing.assert_close(logits[:1], alone)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("option", ["folds", "rounds", "epochs", "width"])
def test_bad_options(model: GroundingModel, option: str) -> None:
    with pytest.raises(InputError, match=f"{option} is 0"):
        RegionTextMatch(model, **{option: 0})


def test_a_width_that_the_heads_do_not_divide(model: GroundingModel) -> None:
    with pytest.raises(InputError, match="width is 30, expected a multiple of 4"):
        RegionTextMatch(model, width=30)
