"""From scenes without labels to labels with known truth: observers, the reader, every source."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from clipvg.data.scenes import (
    PERFECT,
    ObserverErrors,
    Scene,
    SceneObject,
    is_correct,
    observe,
    observe_scenes,
    read,
    sample_scene,
    with_truth,
)
from clipvg.labels import LabelTable
from clipvg.pseudo import ObservationTable
from clipvg.pseudo.generate import generate


def look(count: int, errors: ObserverErrors, seed: int = 0) -> tuple[ObservationTable, dict]:
    """Return observations of scenes that are never rendered, and the scenes."""
    rng, eyes = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    scenes = {f"{number}.jpg": sample_scene(rng) for number in range(count)}
    seen = [observe(scene, name, eyes, errors) for name, scene in scenes.items()]
    return ObservationTable.from_observations(seen), scenes


def precision(source: str, errors: ObserverErrors, count: int = 120) -> tuple[float, LabelTable]:
    seen, scenes = look(count, errors)
    labels = with_truth(generate(seen, [source]), scenes)
    return float(is_correct(labels).mean()), labels


@pytest.mark.parametrize(
    ("source", "least", "labels"),
    [("template", 0.97, 400), ("relation", 0.97, 400), ("caption", 0.95, 30)],
)
def test_labels_of_perfect_observations_are_right(source: str, least: float, labels: int) -> None:
    share, made = precision(source, PERFECT)
    assert share >= least
    assert len(made) >= labels


@pytest.mark.parametrize(
    ("kind", "rate"),
    [("missed", 0.4), ("loose", 0.4), ("wrong_class", 0.3), ("wrong_attribute", 0.5)],
)
def test_every_error_of_an_observer_makes_labels_wrong(kind: str, rate: float) -> None:
    errors = ObserverErrors(**{**asdict(PERFECT), kind: rate})
    share, _ = precision("template", errors, count=60)
    assert 0.3 < share < 0.97


def test_errors_change_no_scene_and_the_seed_fixes_both(tmp_path: Path) -> None:
    seen, scenes = observe_scenes(tmp_path / "a", 3, errors=PERFECT, seed=1)
    again, same = observe_scenes(tmp_path / "b", 3, seed=1)
    assert same == scenes
    assert seen.fingerprint() != again.fingerprint()
    assert observe_scenes(tmp_path / "c", 3, seed=1)[0].fingerprint() == again.fingerprint()
    first = next(iter(seen))
    assert [found.box for found in first.detections] == [
        o.box for o in scenes["000000.jpg"].objects
    ]
    assert (seen.images / "000002.jpg").is_file()


ROW = Scene(
    100,
    60,
    (
        SceneObject("ring", "red", "plain", (2, 10, 22, 30)),
        SceneObject("ring", "blue", "striped", (36, 10, 56, 30)),
        SceneObject("ring", "red", "dotted", (70, 6, 98, 34)),
        SceneObject("star", "green", "plain", (40, 36, 60, 56)),
    ),
    0,
)


@pytest.mark.parametrize(
    ("expression", "meant"),
    [
        ("star", (3,)),
        ("the blue ring", (1,)),
        ("red ring", (0, 2)),
        ("dotted red ring", (2,)),
        ("yellow ring", ()),
        ("left ring", (0,)),
        ("rightmost ring", (2,)),
        ("ring on the far left", (0,)),
        ("middle ring", (1,)),
        ("second ring from the right", (1,)),
        ("third ring from the left", (2,)),
        ("leftmost of the three rings", (0,)),
        ("left one of the two rings", ()),
        ("biggest ring", (2,)),
        ("smallest ring", ()),
        ("star on the left", (3,)),
        ("red ring left of the star", (0,)),
        ("ring above the star", (0, 1, 2)),
        ("ring closest to the star", (1,)),
        ("ring between the other two rings", (1,)),
        ("ring to the left of the other rings", (0,)),
        ("ring to the left of the other ring", ()),
        ("blue ring at the top and a star", ()),
        ("blue ring on the left", (1,)),
        ("dotted ring on the left", ()),
    ],
)
def test_reader(expression: str, meant: tuple[int, ...]) -> None:
    assert read(expression, ROW) == meant


@pytest.mark.slow
def test_images_alone_become_a_model(tmp_path: Path) -> None:
    example = Path(__file__).parents[1] / "examples" / "scenes_end_to_end.py"
    report = run_path(str(example))["run"](tmp_path, 40, 4, 0, ObserverErrors())
    assert set(report["precision"]) == {"template", "relation", "caption"} == set(report["order"])
    for rules in report["precision"].values():
        assert 0 < rules["all"]["right"] < 1
        assert rules["all"]["labels"] == sum(v["labels"] for k, v in rules.items() if k != "all")
    assert 0 <= report["acc_0.5"] <= 1
    assert (tmp_path / "msa" / "model").is_dir()
    assert (tmp_path / "report.json").is_file()
