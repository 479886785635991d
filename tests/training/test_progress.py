"""Progress bars appear on standard error, for work that takes over two seconds."""

from __future__ import annotations

import pytest
from support import fits

from clipvg.features import CacheOptions
from clipvg.labels import LabelTable
from clipvg.runtime import progress as module
from clipvg.training import FeatureCache, evaluate, fit


def test_what_ends_soon_shows_nothing(
    labels: LabelTable, capfd: pytest.CaptureFixture[str]
) -> None:
    evaluate(fits.make_model(), labels, progress=True)
    fit(fits.make_model(), labels, config=fits.QUICK, validation=labels, progress=True)
    assert capfd.readouterr() == ("", "")


def test_evaluation_and_encoding_show_how_far_they_are(
    labels: LabelTable, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DELAY", 0.0)
    monkeypatch.setattr(module, "_IN_FILES", 0.0)
    evaluate(fits.make_model(), labels, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "predict: 100%" in err
    assert f"{len(labels)}/{len(labels)}" in err
    assert "encode:" in err
    FeatureCache(fits.make_model(), labels, CacheOptions(progress=True))
    assert "encode:" in capfd.readouterr().err
    evaluate(fits.make_model(), labels)
    assert capfd.readouterr().err == ""
