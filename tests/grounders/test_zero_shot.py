"""Zero-shot grounders: hand-worked boxes, the tower against CLIP itself, and missing inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clipvg.cli import main
from clipvg.data.scenes.observe import PERFECT, observe_scenes
from clipvg.errors import InputError
from clipvg.grounders import GradCam, HeatMap, ReCLIP, build_grounder
from clipvg.grounders.heat import _shares, best_box
from clipvg.grounders.reclip import holds, resolve
from clipvg.grounders.tower import before_last, pooled
from clipvg.grounders.zeroshot import ZeroShotGrounder
from clipvg.labels import LabelTable
from clipvg.pseudo import Observation, ObservationTable
from clipvg.pseudo.meaning.phrases import read_phrase
from clipvg.reliability import BoxPredictor, Context, Measurer, measure

TINY: dict[str, Any] = {"backbone": "clipvg-tiny", "device": "cpu"}
BOXES = np.array([[0, 0, 20, 20], [40, 0, 60, 40], [80, 0, 100, 20], [42, 5, 50, 12]], float)


def test_relations_of_boxes() -> None:
    assert holds("left", BOXES)[0].tolist() == [0, 1, 1, 1]
    assert holds("above", BOXES)[:, 1].tolist() == [1, 0, 1, 1]
    assert holds("bigger", BOXES)[1].tolist() == [1, 0, 1, 1]
    assert holds("inside", BOXES).nonzero()[0].tolist() == [3]
    for one, other in (("left", "right"), ("above", "below"), ("bigger", "smaller")):
        np.testing.assert_array_equal(holds(one, BOXES), holds(other, BOXES).T)


@pytest.mark.parametrize(
    ("expression", "best"),
    [
        ("left dog", 0), ("dog on the right", 2), ("middle dog", 1), ("biggest dog", 1),
        ("second dog from the left", 1), ("third dog from the left", 2), ("cat", 3),
        ("dog to the right of the cat", 2), ("cat inside the dog", 3), ("left cat", 3),
        ("dog above the cat", 0), ("dog bigger than the cat", 0),
    ],
)  # fmt: skip
def test_places_and_relations_are_resolved(expression: str, best: int) -> None:
    dogs, cats = np.array([0.33, 0.32, 0.32, 0.03]), np.array([0.01, 0.01, 0.01, 0.97])
    chances = resolve(
        read_phrase(expression), BOXES, (100, 40), lambda text: cats if "cat" in text else dogs
    )
    assert chances.sum() == pytest.approx(1)
    assert int(chances.argmax()) == best


def test_the_hottest_box() -> None:
    heat = np.zeros((8, 8))
    heat[2:4, 4:8] = 1
    box, share = best_box(heat, (160, 80), 0.5)
    np.testing.assert_allclose(box, [80, 20, 160, 40])
    assert share == pytest.approx(1)
    given = np.array([[0.0, 0, 80, 80], [70, 10, 160, 50], [80, 20, 100, 40]])
    assert best_box(heat, (160, 80), 0.5, given)[0].tolist() == [70, 10, 160, 50]
    assert best_box(heat, (160, 80), 0.0)[1] == pytest.approx(1)


def test_all_boxes_of_a_raster_are_tried_as_given_ones() -> None:
    heat = np.random.default_rng(0).random((7, 9))
    box, share = best_box(heat, (90, 140), 0.7)
    again, own = best_box(heat, (90, 140), 0.7, box[None].astype(float))
    assert box.tolist() == again.tolist()
    assert share == pytest.approx(own, rel=1e-5)
    corner = np.zeros((8, 8))
    corner[0, 7] = 1
    assert best_box(corner, (64, 64), 0.9)[0].tolist() == [56, 0, 64, 8]


def test_shares_of_superpixels_lie_where_they_do() -> None:
    part = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 1], [2, 2, 2, 2]])
    assert _shares(part, (2, 2)).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0.25], [0, 0, 1, 0.75]]


def test_options_of_a_wrong_kind_are_refused() -> None:
    for options, message in {
        "heatmap,backbone=none": "backbone is None, expected str",
        "gradcam,prompt=5": "prompt is 5, expected str",
        "reclip,relations=5": "relations is 5, expected bool",
    }.items():
        with pytest.raises(InputError, match=message):
            build_grounder(options)
    with pytest.raises(InputError, match="takes no backbone"):
        build_grounder("detector,model=x", backbone="ViT-B-16")


def test_the_parted_tower_is_that_of_clip() -> None:
    towers = GradCam(**TINY)._towers
    pixels = torch.randn(3, towers.image_size, towers.image_size)
    with torch.no_grad():
        dense = before_last(towers.clip.visual, pixels)
        found = pooled(towers.clip.visual, dense, lambda logits: logits.softmax(-1))
        whole = towers.clip.encode_image(pixels[None], normalize=True)[0]
        finer = before_last(towers.clip.visual, pixels, finer=2)
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-4)
    assert finer.grid == (2 * towers.grid - 1,) * 2


@pytest.mark.parametrize("name", ["heatmap", "gradcam"])
def test_heat_is_a_map_of_the_image(name: str) -> None:
    grounder = build_grounder(f"{name},backbone=clipvg-tiny", device="cpu")
    assert isinstance(grounder, HeatMap | GradCam)
    image = Image.new("RGB", (90, 60), "white")
    image.paste((205, 40, 40), (60, 30, 85, 55))
    heat = grounder.heat(image, ["red square", "x"])
    assert heat.min() >= 0
    assert heat.max() == pytest.approx(1)
    found = grounder.answer(image, ["red square", "x"])
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    given = grounder.among(image, ["red square"], BOXES[:2])
    assert given.boxes[0].tolist() in BOXES[:2].tolist()


def test_heat_of_the_lowest_temperature_is_where_the_hottest_superpixel_is() -> None:
    grounder = build_grounder("heatmap,backbone=clipvg-tiny,temperature=0.0001", device="cpu")
    assert isinstance(grounder, HeatMap)
    image = Image.new("RGB", (90, 60), "white")
    image.paste((205, 40, 40), (60, 30, 85, 55))
    heat = grounder.heat(image, ["red square"])
    assert np.isfinite(heat).all()
    assert 0 < (heat > 0).mean() < 0.5


@pytest.mark.parametrize("name", ["reclip", "gradcam"])
def test_a_box_without_area_in_the_image_is_never_chosen(name: str) -> None:
    grounder = build_grounder(f"{name},backbone=clipvg-tiny", device="cpu")
    assert isinstance(grounder, ZeroShotGrounder)
    image = Image.new("RGB", (90, 60), "white")
    boxes = np.array([[5, 5, 5, 5], [200, 200, 300, 300], [-9, 10, 30, 40]])
    found = grounder.among(image, ["dog"], boxes)
    assert found.boxes.tolist() == [[0, 10, 30, 40]]
    none = grounder.among(image, ["dog"], boxes[:2])
    assert none.reasons == ["nothing was detected in this image"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[LabelTable, ObservationTable]:
    folder = tmp_path_factory.mktemp("scenes")
    seen, _ = observe_scenes(folder, 12, errors=PERFECT, seed=3)
    rows = [(one.image, found) for one in seen for found in one.attribute_detections]
    labels = LabelTable.from_columns(
        images=folder / "images",
        image=[image for image, _ in rows],
        expression=[f"{next(iter(found.attributes))} {found.name}" for _, found in rows],
        box=[found.box for _, found in rows],
    )
    seen.write(folder / "seen.jsonl")
    labels.write(folder / "labels.csv")
    return labels, seen


def test_proposals_by_clip_find_what_chance_does_not(
    scenes: tuple[LabelTable, ObservationTable],
) -> None:
    labels, seen = scenes
    grounder = ReCLIP(**TINY, observations=seen, prompt="{}")
    assert isinstance(grounder, Measurer)
    assert isinstance(grounder, BoxPredictor)
    found = measure(grounder, labels, Context())
    right = (found.values > 0.5).mean()
    counts = {one.image: len(one.detections) for one in seen}
    chance = np.mean([1 / counts[name] for name in labels.image_names])
    assert right > chance + 0.2
    assert grounder.evaluate(labels).accuracy[0.5] == pytest.approx(right, abs=1e-6)


def test_what_is_not_there_is_said(scenes: tuple[LabelTable, ObservationTable]) -> None:
    labels, seen = scenes
    some = ObservationTable.from_observations(
        [Observation(labels.image_names[0], 96, 96)], seen.images
    )
    found = measure(ReCLIP(**TINY, observations=some), labels, Context())
    assert np.isnan(found.values).all()
    assert found.reasons[0] == "nothing was detected in this image"
    assert found.reasons[len(labels) - 1] == "no observations of this image"
    with pytest.raises(InputError, match="give it observations"):
        measure(ReCLIP(**TINY), labels, Context())
    with pytest.raises(InputError, match=r"has no '\{\}'"):
        ReCLIP(**TINY, prompt="a dog")
    lost = labels.with_column("image", ["gone.jpg"] * len(labels))
    reasons = measure(GradCam(**TINY), lost.select([0]), Context()).reasons
    assert "gone.jpg" in reasons[0]


def test_evaluate_takes_a_zero_shot_grounder(
    scenes: tuple[LabelTable, ObservationTable], capsys: pytest.CaptureFixture[str]
) -> None:
    images = Path(scenes[0].images or "")
    words = ["evaluate", str(images.parent / "labels.csv"), "--images", str(images), "--json",
             "--quiet", "--device", "cpu", "--backbone", "clipvg-tiny"]  # fmt: skip
    seen = str(images.parent / "seen.jsonl")
    assert main([*words, "--grounder", "reclip", "--observations", seen]) == 0
    assert '"acc_0.5"' in capsys.readouterr().out
    assert main([*words, "--grounder", "reclip"]) == 2
    assert "give it --observations FILE" in capsys.readouterr().err
    assert main([*words, "--checkpoint", "x"]) == 2
    assert "--backbone goes with --grounder" in capsys.readouterr().err


def test_predict_takes_what_evaluate_takes(
    scenes: tuple[LabelTable, ObservationTable],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    labels, observed = scenes
    folder = Path(labels.images or "").parent
    seen = ["--observations", str(folder / "seen.jsonl"), "--device", "cpu"]
    words = ["--grounder", "reclip", "--backbone", "clipvg-tiny", *seen]
    expected = ReCLIP(**TINY, observations=observed).predict(labels, Context())
    image = str(labels.image_path(labels.image_names[0]))
    assert main(["predict", image, labels.expressions[0], *words, "--json"]) == 0
    (box,) = json.loads(capsys.readouterr().out)["boxes"]
    np.testing.assert_allclose(box, expected[0], atol=1e-2)
    table, out = [str(folder / "labels.csv"), "--images", str(labels.images)], tmp_path / "a.jsonl"
    assert main(["predict", *table, *words, "--quiet", "--out", str(out)]) == 0
    boxes = [json.loads(line)["box"] for line in out.read_text().splitlines()]
    np.testing.assert_allclose(boxes, expected, atol=1e-2)
    capsys.readouterr()
    assert main(["predict", *table, *words, "--out", str(folder / "seen.jsonl")]) == 2
    assert "seen.jsonl, which is read" in capsys.readouterr().err
    assert main(["predict", image, "dog", "--checkpoint", "x", *seen]) == 2
    assert "--observations goes with --grounder" in capsys.readouterr().err


def test_one_image_is_known_by_its_path(
    scenes: tuple[LabelTable, ObservationTable], tmp_path: Path
) -> None:
    labels, seen = scenes
    folder = Path(labels.images or "").parent
    grounder = ReCLIP(**TINY, observations=folder / "seen.jsonl")
    assert grounder.key() == ReCLIP(**TINY, observations=seen).key()
    path = labels.image_path(labels.image_names[0])
    found = grounder.answer(path, [labels.expressions[0]])
    boxes = next(one for one in seen if one.image == labels.image_names[0]).detections
    assert any(np.allclose(found.boxes[0], each.box, atol=1e-3) for each in boxes)
    other = tmp_path / "other.png"
    Image.new("RGB", (40, 40)).save(other)
    assert grounder.answer(other, ["dog"]).reasons == ("no observations of this image",)
    assert len(GradCam(**TINY).answer(other, [])) == 0
    with pytest.raises(InputError, match="give it observations"):
        grounder.answer(Image.new("RGB", (40, 40)), ["dog"])


def test_what_goes_unnoticed_beside_a_grounder_is_refused(
    scenes: tuple[LabelTable, ObservationTable], capsys: pytest.CaptureFixture[str]
) -> None:
    images = Path(scenes[0].images or "")
    words = ["evaluate", str(images.parent / "labels.csv"), "--images", str(images)]
    for option in ("batch_size", "num_workers"):
        assert main([*words, "--grounder", "gradcam", f"--{option}", "2"]) == 2
        assert f"--{option} is for --checkpoint" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reclip", "heatmap", "gradcam"])
def test_over_a_real_backbone_of_random_weights(name: str) -> None:
    grounder = build_grounder(f"{name},backbone=ViT-B-16,pretrained=none", device="cpu")
    assert isinstance(grounder, ZeroShotGrounder)
    image = Image.effect_noise((120, 90), 80).convert("RGB")
    found = grounder.among(image, ["left dog", "x"], BOXES)
    assert np.isfinite(found.boxes).all()
    assert not any(found.reasons)
