"""The variance head: it recovers a known scale, reaches the minimum, and is cross-fitted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny import make_labels, make_model

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.measures import AleatoricVariance
from clipvg.measures.aleatoric import VarianceHead
from clipvg.reliability import Context, measure


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    return make_labels(tmp_path_factory.mktemp("images"))


def noisy(count: int = 4000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return states, Laplace residuals whose scale depends on the first feature, and the scale."""
    rng = np.random.default_rng(0)
    states = torch.from_numpy(rng.normal(size=(count, 3)))
    scale = torch.exp(0.8 * states[:, :1] - 1.0).repeat(1, 4)
    return states, torch.from_numpy(rng.laplace(size=(count, 4))) * scale, scale


def test_the_fit_recovers_the_scale() -> None:
    states, residuals, scale = noisy()
    head = VarianceHead.fit(states, residuals, decay=1e-6)
    error = (head.scale(states).log() - scale.log()).abs()
    assert error.median() < 0.1
    fresh = VarianceHead.fit(states, residuals, decay=1e-6)
    assert torch.equal(fresh.tensors["weight"], head.tensors["weight"])


def test_the_fit_is_the_minimum() -> None:
    states, residuals, _ = noisy(300)
    head = VarianceHead.fit(states, residuals, decay=0.1)

    def loss(weight: torch.Tensor, bias: torch.Tensor) -> float:
        t = head.tensors
        logs = (states - t["mean"]) / t["std"] @ weight.T + bias
        likelihood = ((residuals.abs() + 0.01) * torch.exp(-logs) + logs).mean()
        return float(likelihood + 0.05 * weight.square().sum())

    best = loss(head.tensors["weight"], head.tensors["bias"])
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        step = torch.randn(4, 4, generator=generator, dtype=torch.float64) * 0.01
        assert loss(head.tensors["weight"] + step[:, :3], head.tensors["bias"] + step[:, 3]) > best


def test_a_saved_head_gives_the_same_scores(labels: LabelTable, tmp_path: Path) -> None:
    model = make_model(1)
    rng = torch.Generator().manual_seed(0)
    head = VarianceHead.fit(torch.randn(50, 32, generator=rng), torch.rand(50, 4, generator=rng))
    head.save(tmp_path / "head.safetensors")
    expected = measure(AleatoricVariance(model, head=head), labels, Context()).values
    read = AleatoricVariance(model, head=tmp_path / "head.safetensors")
    np.testing.assert_array_equal(measure(read, labels, Context()).values, expected)
    assert ((expected > 0) & (expected <= 1)).all()


def test_expressions_with_noisy_labels_score_lower(labels: LabelTable) -> None:
    model = make_model(1)
    seen = np.random.default_rng(0).normal(size=(400, 4 + 6)).astype(np.float32)
    names = [f"{i}.png" for i in range(100) for _ in range(4)]
    table = LabelTable.from_columns(image=names, expression=["x"] * 400, box=[[0, 0, 1, 1]] * 400)
    steady = seen[:, 4] > 0
    seen[:, :4] *= np.where(steady, 0.05, 1.0)[:, None]
    scores = AleatoricVariance(model).score(seen, table, Context()).values
    assert scores[steady].mean() > scores[~steady].mean() + 0.2


def test_a_row_that_was_not_seen_is_not_scored(labels: LabelTable) -> None:
    model = make_model(1)
    seen = np.random.default_rng(0).normal(size=(8, 7)).astype(np.float32)
    seen[3] = np.nan
    table = LabelTable.from_columns(
        image=[f"{i}.png" for i in range(8)], expression=["x"] * 8, box=[[0, 0, 1, 1]] * 8
    )
    scores = AleatoricVariance(model).score(seen, table, Context()).values
    assert np.flatnonzero(np.isnan(scores)).tolist() == [3]


def test_too_few_labels_to_fit_on_say_so(labels: LabelTable) -> None:
    found = measure(AleatoricVariance(make_model()), labels.select([0]), Context())
    assert np.isnan(found.values).all()
    assert found.reasons == {0: "aleatoric: 0 other label(s) are too few to fit on"}


def test_errors_name_the_remedy(labels: LabelTable, tmp_path: Path) -> None:
    model = make_model(1)
    with pytest.raises(InputError, match=r"none\.safetensors: no such file"):
        AleatoricVariance(model, head=tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="not a variance head"):
        AleatoricVariance(model, head=tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match="folds is 1"):
        AleatoricVariance(model, folds=1)
    narrow = VarianceHead.fit(torch.randn(9, 5), torch.rand(9, 4))
    with pytest.raises(InputError, match="width 5, and this model's have 32"):
        measure(AleatoricVariance(model, head=narrow), labels, Context())
