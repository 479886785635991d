"""One pass for many measures: equal scores, each picture read and encoded once, robustness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny import make_labels, make_model

from clipvg.errors import InputError
from clipvg.features import images as decode_module
from clipvg.grounders import Grounder
from clipvg.labels import LabelTable
from clipvg.measures import MEASURES
from clipvg.measures.specs import build_measures
from clipvg.model import GroundingModel
from clipvg.reliability import Context, ScoreMatrix, measure
from clipvg.reliability.image_measure import ImageMeasure, measure_together
from clipvg.rescoring import EngineConfig

SAMPLED = {"mc_dropout"}  # its random numbers depend on the batches
FITTED = {"aleatoric"}  # exact up to the tolerance of its solver
LEARNED = {"match"}  # needs more labels than these; see test_matching.py
# Grounders bring models of their own: tests/grounders.
OWN = [name for name, kind in MEASURES.items() if not issubclass(kind, Grounder)]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    return make_labels(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def models() -> dict[str, GroundingModel]:
    return {"a": make_model(1, dropout=0.1), "b": make_model(2)}


def looking(models: dict[str, GroundingModel]) -> dict[str, Any]:
    """Every measure that looks at pictures."""
    names = [name for name, kind in MEASURES.items() if issubclass(kind, ImageMeasure)]
    assert len(names) > 12
    return build_measures(names, models)


def context_of(labels: LabelTable) -> Context:
    """Return a context with history and scores for measures that need them."""
    rng = np.random.default_rng(0)
    scores = rng.random((2, len(labels)), dtype=np.float32)
    return Context(
        history=rng.random((6, len(labels))),
        scores=ScoreMatrix(("m", "n"), scores, labels.sources()),
    )


def every(
    models: dict[str, GroundingModel], folder: Path, answers: str = "0,yes\n"
) -> dict[str, Any]:
    """Return one of every measure but the grounders."""
    (folder / "answers.csv").write_text(f"row,answer\n{answers}")
    options = {"verifier": f",path={folder / 'answers.csv'}", "cascade": ",of=m+n"}
    return build_measures([name + options.get(name, "") for name in OWN], models)


@pytest.mark.parametrize("per_chunk", [1, 2])
def test_together_equals_alone(
    labels: LabelTable, models: dict[str, GroundingModel], per_chunk: int
) -> None:
    measures = looking(models)
    whole = measure_together(measures, labels, Context())
    for name, measurer in measures.items():
        if name in SAMPLED:
            continue
        context = Context(engine=EngineConfig(batch_size=3, images_per_chunk=per_chunk))
        alone = measure(measurer, labels, context).values
        atol = 2e-3 if name in FITTED else 2e-5
        np.testing.assert_allclose(alone, whole[name].values, atol=atol, err_msg=name)


def test_scores_are_numbers_in_range(
    labels: LabelTable, models: dict[str, GroundingModel], tmp_path: Path
) -> None:
    measures = every(models, tmp_path)
    assert list(measures) == OWN
    found = measure_together(measures, labels, context_of(labels))
    for name, one in found.items():
        scores = one.values
        assert scores.dtype == np.float32
        assert scores.shape == (len(labels),)
        assert ((scores >= 0) & (scores <= 1) | np.isnan(scores)).all(), name
        assert name in {"consistency", "unique", *LEARNED} or not np.isnan(scores[0]), name


def test_pictures_are_read_and_encoded_once(
    labels: LabelTable, models: dict[str, GroundingModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, encoded = [], []
    read_image = decode_module.read_image
    monkeypatch.setattr(
        decode_module, "read_image", lambda path, **o: reads.append(path) or read_image(path, **o)
    )
    names = ["likelihood", "agreement", "attention_mass", "knn", "gradient_norm", "mc_dropout"]
    measures = build_measures(names, models)
    for model in models.values():
        backbone = model.backbone
        features = backbone.image_features
        monkeypatch.setattr(
            backbone, "image_features",
            lambda x, features=features: encoded.append(len(x)) or features(x),
        )  # fmt: skip
    measure_together(measures, labels, Context())
    assert len(reads) == labels.num_images
    assert sum(encoded) == labels.num_images  # both models share one image tower


def test_unreadable_pictures_leave_their_labels_unscored(
    models: dict[str, GroundingModel], tmp_path: Path
) -> None:
    labels = make_labels(tmp_path)
    (tmp_path / "2.png").write_bytes(b"no picture")
    bad = np.array([name == "2.png" for name in labels.image_names])
    found = measure_together(looking(models), labels, Context())
    for name, scores in found.items():
        if name not in LEARNED:
            np.testing.assert_array_equal(np.isnan(scores.values), bad, err_msg=name)
        told = [row for row, why in scores.reasons.items() if "2.png" in why]
        assert sorted(told) == np.flatnonzero(bad).tolist()
    with pytest.raises(InputError, match=r"2\.png"):
        measure_together(looking(models), labels, Context(on_error="raise"))


def test_no_pictures_at_all(models: dict[str, GroundingModel], labels: LabelTable) -> None:
    gone = labels.with_images("nowhere")
    for name, scores in measure_together(looking(models), gone, Context()).items():
        assert np.isnan(scores.values).all(), name


@pytest.mark.filterwarnings("error")
def test_empty_tables(
    labels: LabelTable, models: dict[str, GroundingModel], tmp_path: Path
) -> None:
    empty = labels.select([])
    measures = every(models, tmp_path, answers="")
    for name, scores in measure_together(measures, empty, context_of(empty)).items():
        assert scores.values.shape == (0,), name


def test_truth_is_never_read(
    labels: LabelTable, models: dict[str, GroundingModel], tmp_path: Path
) -> None:
    names = [name for name in OWN if name not in ("verifier", "cascade")]
    noise = np.random.default_rng(0).uniform(0, 50, (len(labels), 4))
    scores = [
        measure_together(build_measures(names, models), table, context_of(labels))
        for table in (labels, labels.with_column("truth", noise))
    ]
    for name in names:
        first, second = (found[name].values for found in scores)
        np.testing.assert_array_equal(first, second, err_msg=name)


def test_fused_measures_see_those_of_the_same_call(
    labels: LabelTable, models: dict[str, GroundingModel]
) -> None:
    texts = ["weighted_mean,of=likelihood+m", "likelihood"]
    found = measure_together(build_measures(texts, models), labels, context_of(labels))
    assert list(found) == ["weighted_mean", "likelihood"]
    expected = (found["likelihood"].values + context_of(labels).scores["m"]) / 2
    np.testing.assert_allclose(found["weighted_mean"].values, expected, rtol=1e-6)


def test_models_come_back_as_they_were(
    labels: LabelTable, models: dict[str, GroundingModel]
) -> None:
    models["a"].train()
    try:
        measure_together(looking(models), labels, Context())
        assert models["a"].training
        assert models["a"].fusion.training
    finally:
        models["a"].eval()
    assert all(p.grad is None for model in models.values() for p in model.parameters())


def test_predictions_that_are_not_finite_name_the_rows(labels: LabelTable) -> None:
    broken = make_model(1)
    with torch.no_grad():
        broken.head.layers[2].bias[0] = torch.nan
    with pytest.raises(InputError, match=r"not finite for label row\(s\)"):
        measure_together(build_measures(["likelihood"], {"m": broken}), labels, Context())


@pytest.mark.parametrize("options", [{"preset": "published"}, {"prefix": "learned"},
                                     {"levels": [1, 3]}, {"visual": "last"}])  # fmt: skip
def test_models_of_every_kind(labels: LabelTable, options: dict[str, Any]) -> None:
    models = {"a": make_model(1, dropout=0.1), "b": make_model(2, dropout=0.1, **options)}
    texts = [f"{name},model=b" if "model" in _takes(kind) else name
             for name, kind in MEASURES.items() if issubclass(kind, ImageMeasure)]  # fmt: skip
    for name, found in measure_together(build_measures(texts, models), labels, Context()).items():
        assert name in LEARNED or ((found.values >= 0) & (found.values <= 1)).all(), name


@pytest.mark.gpu
def test_on_a_gpu(labels: LabelTable, models: dict[str, GroundingModel]) -> None:
    here = measure_together(looking(models), labels, Context())
    moved = {"a": make_model(1, dropout=0.1).cuda(), "b": make_model(2).cuda()}
    there = measure_together(looking(moved), labels, Context())
    ranked = {"knn", "mahalanobis", "kde", "clusters"}  # rounding may swap two neighbours
    for name, scores in there.items():
        if name not in SAMPLED:
            atol = 0.2 if name in ranked else 5e-3
            np.testing.assert_allclose(scores.values, here[name].values, atol=atol, err_msg=name)


def _takes(kind: Any) -> list[str]:
    import inspect

    return list(inspect.signature(kind).parameters)
