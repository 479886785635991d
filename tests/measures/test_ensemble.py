"""Ensembles and dropout against plain Python."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from support.one_label import pair_iou, predicted, targets
from support.tiny import make_labels, make_model

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.measures import (
    Agreement,
    Divergence,
    DropoutAgreement,
    MutualInformation,
    Variance,
)
from clipvg.measures.attention import patch_coverage
from clipvg.measures.ensemble import spread
from clipvg.model import GroundingModel
from clipvg.reliability import Context, GroundingMeasurer, measure


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    return make_labels(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def models() -> list[GroundingModel]:
    """Three models that differ a little, so that their boxes overlap."""
    made = [make_model(0) for _ in range(3)]
    for seed, model in enumerate(made):
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.trainable_parameters():
                parameter.add_(torch.randn_like(parameter) * 0.01)
    return made


def test_agreement_is_the_mean_iou_over_pairs(
    models: list[GroundingModel], labels: LabelTable
) -> None:
    boxes = [predicted(model, labels) for model in models]
    found = measure(Agreement(models), labels, Context()).values
    for row in range(len(labels)):
        pairs = [pair_iou(a[row], b[row]) for a, b in combinations(boxes, 2)]
        assert found[row] == pytest.approx(np.mean(pairs), abs=2e-5)
    assert found.max() > 0.2


def test_agreement_with_the_label_is_the_mean_reliability(
    models: list[GroundingModel], labels: LabelTable
) -> None:
    found = measure(Agreement(models, against="label"), labels, Context()).values
    each = [measure(GroundingMeasurer(model), labels, Context()).values for model in models]
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=2e-5)


def test_spread_and_variance(models: list[GroundingModel], labels: LabelTable) -> None:
    boxes = np.stack([predicted(model, labels).numpy() for model in models]).astype(np.float64)
    sides = boxes.mean(0)[:, [2, 3, 2, 3]]
    u = np.sqrt((boxes.var(0) / sides**2).mean(1))
    found = measure(Variance(models), labels, Context()).values
    np.testing.assert_allclose(found, np.exp(-u), rtol=1e-3)
    # Members at cx = 0.4 and 0.6 with width 0.5: σ = 0.1 = 0.2 widths in one of four coordinates.
    two = torch.tensor([[[0.4, 0.5, 0.5, 0.5]], [[0.6, 0.5, 0.5, 0.5]]])
    assert spread(two).item() == pytest.approx(0.1)


@pytest.mark.parametrize("kind", [MutualInformation, Divergence])
def test_information_over_boxes_by_definition(
    models: list[GroundingModel], labels: LabelTable, kind: type
) -> None:
    found = measure(kind(models, over="box"), labels, Context()).values
    square = [i for i, name in enumerate(labels.image_names) if name == "3.png"]  # no padding
    assert square
    grid = models[0].backbone.grid
    covered = torch.stack([patch_coverage(predicted(m, labels), grid) + 1e-3 for m in models])
    p = (covered / covered.sum(-1, keepdim=True)).double().numpy()
    for row in square:
        q = p[:, row]
        if kind is MutualInformation:
            mean = q.mean(0)
            information = -(mean * np.log(mean)).sum() + (q * np.log(q)).sum() / len(q)
            expected = 1 - information / np.log(len(q))
        else:
            pairs = [(a * np.log(a / b)).sum() for a, b in permutations(q, 2)]
            expected = np.exp(-np.mean(pairs))
        assert found[row] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", [MutualInformation, Divergence])
@pytest.mark.parametrize("over", ["attention", "box"])
def test_equal_members_agree_wholly(
    models: list[GroundingModel], labels: LabelTable, kind: type, over: str
) -> None:
    same = measure(kind([models[0], models[0]], over=over), labels, Context()).values
    np.testing.assert_allclose(same, 1, atol=1e-5)
    differ = measure(kind(models, over=over), labels, Context()).values
    assert (differ < same).all()
    assert (differ >= 0).all()


def test_equal_members_have_full_agreement(
    models: list[GroundingModel], labels: LabelTable
) -> None:
    for kind in (Agreement, Variance):
        np.testing.assert_allclose(
            measure(kind([models[0]] * 2), labels, Context()).values, 1, atol=1e-5
        )


def test_dropout_repeats_and_leaves_the_model_as_it_was(labels: LabelTable) -> None:
    model = make_model(1, dropout=0.3)
    sampler = DropoutAgreement(model, passes=4, against="members", seed=3)
    state = torch.get_rng_state()
    first = measure(sampler, labels, Context()).values
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    assert not model.fusion.training
    np.testing.assert_array_equal(measure(sampler, labels, Context()).values, first)
    other = measure(
        DropoutAgreement(model, passes=4, against="members", seed=4), labels, Context()
    ).values
    assert (other != first).any()
    assert first.max() < 1


def test_dropout_near_zero_is_the_model_itself(labels: LabelTable) -> None:
    model = make_model(1, dropout=1e-9)
    found = measure(DropoutAgreement(model, passes=2), labels, Context()).values
    boxes, wanted = predicted(model, labels), targets(model, labels)
    expected = [pair_iou(a, b) for a, b in zip(boxes, wanted, strict=True)]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="was given 1; give at least 2"):
        Agreement([make_model()])
    with pytest.raises(InputError, match="dropout=0"):
        DropoutAgreement(make_model(dropout=0.0))
    with pytest.raises(InputError, match="passes is 1"):
        DropoutAgreement(make_model(dropout=0.1), passes=1)
    with pytest.raises(InputError, match="against is 'member', expected one of 'members', 'label'"):
        Agreement([make_model()] * 2, against="member")
