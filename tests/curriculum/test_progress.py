"""Progress of a search: which training it is, of how many, and the score of the last one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support import toy

from clipvg.curriculum import Fitted
from clipvg.runtime import progress


class _Talking(toy.ToyLearner):
    """A learner that shows a progress bar, as a real training does."""

    def fit(self, *args: Any, **options: Any) -> Fitted[toy.Model]:
        with progress.progress_bar(2, desc="train", unit="step", show=True) as bar:
            bar.update(2)
            bar.refresh()
        return super().fit(*args, **options)


def test_trainings_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_DELAY", 0.0)
    toy.adapt(tmp_path, learner=_Talking())
    said = capsys.readouterr().err
    assert "\r" not in said  # no terminal: whole lines, as for a log file
    lines = [line.partition(" train: ")[0] for line in said.splitlines()]
    assert any(" train: 100%" in line for line in said.splitlines()), said
    distinct = [*dict.fromkeys(lines)]
    assert distinct[0] == "all labels,"
    candidates = distinct[1:]
    assert len(candidates) >= 3
    for number, line in enumerate(candidates, start=1):
        pattern = rf"r ≥ 0\.\d \(candidate {number} of at most 11(, 0\.\d gave 0\.\d{{3}})?\),"
        assert re.fullmatch(pattern, line), line
    assert "gave" in candidates[-1]


def test_a_log_file_gets_few_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_DELAY", 0.0)
    with progress.progress_bar(10_000, desc="train", unit="step", show=True) as bar:
        for _ in range(10_000):
            bar.update()
    said = capsys.readouterr().err
    assert "\r" not in said
    assert 1 <= len(said.splitlines()) <= 2


def test_a_terminal_gets_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_DELAY", 0.0)
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    with (
        progress.task("all labels"),
        progress.progress_bar(2, desc="train", unit="step", show=True),
    ):
        pass
    said = capsys.readouterr().err
    assert said.startswith("\rall labels, train:   0%")
