"""Distances from a reference against brute force; outliers come last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.one_label import one_row
from support.tiny import make_labels, make_model

from clipvg.data import load_square
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.measures import Clusters, KernelDensity, Mahalanobis, NearestNeighbours
from clipvg.measures.attention import patch_coverage
from clipvg.measures.density import _components
from clipvg.model import GroundingModel
from clipvg.reliability import Context, measure
from clipvg.reliability.image_measure import observe

KINDS = [NearestNeighbours, Mahalanobis, KernelDensity, Clusters]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    return make_labels(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def model() -> GroundingModel:
    return make_model()


def table(count: int) -> LabelTable:
    return LabelTable.from_columns(
        image=["a.jpg"] * count, expression=["x"] * count, box=[[0, 0, 1, 1]] * count
    )


def cloud(count: int = 60, width: int = 4) -> np.ndarray:
    """Points around (3, 3, …) and one far away, in float32."""
    points = np.random.default_rng(0).normal(3, 0.3, (count, width)).astype(np.float32)
    points[7] = [-5, 4, -3, 2][:width]
    return points


@pytest.mark.parametrize("kind", KINDS)
def test_the_outlier_is_the_least_reliable(model: GroundingModel, kind: Any) -> None:
    points = cloud()
    scores = kind(model).score(points, table(len(points)), Context()).values
    assert scores.dtype == np.float32
    assert ((scores > 0) & (scores <= 1)).all()
    assert int(scores.argmin()) == 7
    assert scores[7] == pytest.approx(1 / len(points))


@pytest.mark.parametrize("kind", KINDS)
def test_a_reference_judges_strangers(model: GroundingModel, kind: Any) -> None:
    reference = np.delete(cloud(), 7, axis=0)
    values = np.stack([reference.mean(0), cloud()[7], np.full(4, np.nan, np.float32)])
    scores = kind(model, reference=reference).score(values, table(3), Context()).values
    assert scores[0] > 0.5
    assert scores[1] == pytest.approx(1 / 60)  # (1 + 0) / (1 + 59): nothing lies further out
    assert np.isnan(scores[2])


def test_neighbours_by_brute_force(model: GroundingModel) -> None:
    points = cloud()
    points[20] = points[21]  # identical points
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    distances = np.linalg.norm(unit[:, None] - unit, axis=2)
    np.fill_diagonal(distances, np.inf)
    third = np.sort(distances, axis=1)[:, 2]
    expected = [(third >= d - 1e-7).mean() for d in third]
    scores = NearestNeighbours(model, k=3).score(points, table(60), Context()).values
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_neighbours_of_strangers_by_brute_force(model: GroundingModel) -> None:
    points = cloud()
    reference, values = points[:40], points[40:]
    found = NearestNeighbours(model, k=2).fit(reference)(values, np.full(20, -1))
    unit = [p / np.linalg.norm(p, axis=1, keepdims=True) for p in (reference, values)]
    distances = np.sort(np.linalg.norm(unit[1][:, None] - unit[0], axis=2), axis=1)
    np.testing.assert_allclose(found, distances[:, 1], atol=1e-6)


def test_density_by_brute_force(model: GroundingModel) -> None:
    points = cloud(30)
    measure_ = KernelDensity(model, bandwidth=0.7, components=2)
    distances = measure_.fit(points[:20])
    inside, outside = distances(points[:20], np.arange(20)), distances(points[20:], np.full(10, -1))
    transform, reference = _components(points[:20], 2)
    values = transform(points[20:])

    def density(at: np.ndarray, others: np.ndarray) -> float:
        squared = ((at - others) ** 2).sum(1)
        return np.exp(-squared / (2 * 0.7**2)).sum() / 20 / (2 * np.pi * 0.7**2)

    own = [density(x, np.delete(reference, i, axis=0)) for i, x in enumerate(reference)]
    np.testing.assert_allclose(inside, -np.log(own), rtol=1e-5)
    np.testing.assert_allclose(outside, [-np.log(density(x, reference)) for x in values], rtol=1e-5)


def test_mahalanobis_by_definition(model: GroundingModel) -> None:
    from sklearn.covariance import ledoit_wolf

    points = cloud()
    inside = Mahalanobis(model).fit(points)(points, np.arange(60))
    centred = points - points.mean(0)
    inverse = np.linalg.inv(ledoit_wolf(points)[0])
    np.testing.assert_allclose(inside, ((centred @ inverse) * centred).sum(1), rtol=1e-3)


def test_clusters_measure_in_radii(model: GroundingModel) -> None:
    rng = np.random.default_rng(0)
    corners, radii = [(0, 0), (10, 0), (0, 10)], [0.1, 0.2, 0.3]
    groups = [rng.normal(c, r, (50, 2)) for c, r in zip(corners, radii, strict=True)]
    points = np.concatenate(groups).astype(np.float32)
    inside = Clusters(model, clusters=3).fit(points)(points, np.arange(150))
    for group in inside.reshape(3, 50):
        assert np.sqrt((group**2).mean()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("features", ["joint", "label", "region", "text", "image"])
def test_features_of_a_label(model: GroundingModel, labels: LabelTable, features: str) -> None:
    (found,), _ = observe([NearestNeighbours(model, features=features)], labels, Context())
    for row in (0, 5):
        *parts, target = one_row(model, labels, row)
        ids, mask = model.tokenize([labels.expressions[row]])
        with torch.no_grad():
            text = model.encode_text(ids)[0, int(mask.sum()) - 1].numpy()
            if features == "joint":
                expected = model.fusion(*parts)[0].numpy()
            else:
                expected = text / np.linalg.norm(text)
            if features in ("image", "region", "label"):
                picture = image_tokens(model, labels, row)
                share = patch_coverage(target, model.backbone.grid)[0]
                share = share * parts[2][0, -len(share) :]
                vector = (
                    picture[0] if features == "image" else (share[:, None] * picture[1:]).sum(0)
                )
                vector = (vector / vector.norm()).numpy()
                expected = np.append(vector, expected) if features == "label" else vector
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def image_tokens(model: GroundingModel, labels: LabelTable, row: int) -> torch.Tensor:
    pixels, _, _ = load_square(
        labels.image_path(labels.image_names[row]), model.backbone.image_size, model.preset
    )
    with torch.no_grad():
        return model.encode_images(pixels[None])[0, :, -model.backbone.width :]


def test_references_of_all_kinds(model: GroundingModel, labels: LabelTable, tmp_path: Path) -> None:
    labels.write(tmp_path / "clean.parquet")
    trusted = measure(NearestNeighbours(model, k=2, reference=labels), labels, Context()).values
    read = NearestNeighbours(model, k=2, reference=str(tmp_path / "clean.parquet"))
    np.testing.assert_array_equal(measure(read, labels, Context()).values, trusted)
    waiting = NearestNeighbours(model, k=2, reference="context")
    assert waiting.requires == {"images", "reference"}
    np.testing.assert_array_equal(
        measure(waiting, labels, Context(reference=labels)).values, trusted
    )
    with pytest.raises(InputError, match="requires reference"):
        measure(waiting, labels, Context())
    with pytest.raises(InputError, match="expected a LabelTable or"):
        measure(waiting, labels, Context(reference=3))
    with pytest.raises(InputError, match="of the labels' width"):
        measure(waiting, labels, Context(reference=np.zeros((9, 3))))


def test_a_large_reference_is_sampled(model: GroundingModel) -> None:
    points = cloud()
    small = NearestNeighbours(model, k=2, max_reference=20)
    first = small.score(points, table(60), Context()).values
    np.testing.assert_array_equal(small.score(points, table(60), Context()).values, first)
    assert first[7] <= 1 / 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_reference_of_one_is_refused(model: GroundingModel, kind: Any) -> None:
    with pytest.raises(InputError, match="max_reference is 1, expected at least 2"):
        kind(model, max_reference=1)


def test_one_label_has_no_neighbours(model: GroundingModel) -> None:
    scores = NearestNeighbours(model).score(cloud()[:1], table(1), Context())
    assert np.isnan(scores.values).all()
    assert "nothing to compare" in scores.reasons[0]
