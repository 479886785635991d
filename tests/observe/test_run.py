"""From a folder of images to a file of observations, with models of random weights."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from support.pretrained import save

from clipvg import generate, read_observations
from clipvg.errors import InputError
from clipvg.observe import looking, run
from clipvg.observe.looking import best_boxes
from clipvg.observe.options import ObserveOptions
from clipvg.observe.run import list_images, observe
from clipvg.pseudo import Detection, Options

COLOURS = ("red", "green", "blue", "white")


@pytest.fixture
def images(tmp_path):
    """A folder of ten images, one of them in a subfolder, one damaged."""
    root = tmp_path / "images"
    (root / "more").mkdir(parents=True)
    for number in range(9):
        image = Image.new("RGB", (96 + 8 * number, 80), COLOURS[number % 4])
        image.save(root / ("more" if number == 8 else "") / f"{number}.jpg")
    (root / "damaged.png").write_bytes(b"no image")
    (root / "notes.txt").write_text("no image either")
    (root / ".hidden.jpg").write_bytes(b"")
    return root


def test_images_are_found_by_name(images, tmp_path) -> None:
    assert list_images(images) == [*(f"{n}.jpg" for n in range(8)), "damaged.png", "more/8.jpg"]
    with pytest.raises(InputError, match="no such folder"):
        list_images(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images in it"):
        list_images(tmp_path / "empty")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing looks at the images; name a detector, an open_detector or a captioner"),
        ({"open_detector": "x"}, "open_detector needs classes"),
        ({"detector": "x", "classes": ("dog",)}, "classes are what an open_detector looks for"),
        ({"captioner": "x", "describer": "x"}, "describer needs detections"),
        ({"captioner": "x", "attributes": "clip"}, "attributes needs detections"),
        ({"detector": "x", "min_score": 2.0}, "min_score is 2.0, expected at most 1"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message) -> None:
    with pytest.raises(InputError, match=message):
        ObserveOptions(**options)


def test_of_boxes_of_one_thing_the_best_is_described() -> None:
    boxes = [(0, 0, 10, 10), (0, 0, 10, 11), (50, 0, 60, 10), (80, 0, 90, 10)]
    found = [Detection("dog", box, p) for box, p in zip(boxes, (0.5, 0.9, 0.4, 0.8), strict=True)]
    assert best_boxes(found, 10) == [1, 2, 3]
    assert best_boxes(found, 2) == [1, 3]


@pytest.fixture
def options(tmp_path):
    return ObserveOptions(
        detector=save("detr", tmp_path / "detr"),
        open_detector=save("owlv2", tmp_path / "owlv2"),
        classes=("person", "traffic light"),
        captioner=save("blip", tmp_path / "blip"),
        describer=save("llava", tmp_path / "llava"),
        attributes="clip",
        backbone="clipvg-tiny",
        min_score=0.0,
        regions=2,
        max_new_tokens=4,
        batch_size=4,
    )


@pytest.mark.transformers
class TestObserve:
    def test_every_image_has_a_row_and_labels_come_of_them(self, images, options, tmp_path) -> None:
        out = tmp_path / "seen.jsonl"
        observed = observe(images, out, options=options)
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert [row["image"] for row in rows] == list_images(images)
        failed = rows.pop(8)
        assert failed.keys() == {"image", "unobserved"}
        assert "damaged.png: not an image" in failed["unobserved"]
        for row in rows:
            assert len(row["captions"]) == 1
            assert 1 <= len(row["candidates"]) <= 2
            assert {one["class"] for one in row["detections"]} & {"traffic light", "person"}
        assert observed.reasons.total() == 1
        seen = read_observations(out, images=images)
        assert len(seen.dropped) == 1
        labels = generate(seen, ["region"], options=Options(ambiguous="keep"))
        assert len(labels) > 9

    def test_killed_and_resumed_is_equal_and_looks_at_nothing_twice(
        self, images, options, tmp_path, monkeypatch
    ) -> None:
        monkeypatch.setattr(run, "SHARD", 4)
        whole, stopped = tmp_path / "whole.parquet", tmp_path / "stopped.parquet"
        observe(images, whole, options=options)
        look, looked = looking.Models._look, []

        def until_killed(models, names, given):
            if len(looked) == 2:
                raise KeyboardInterrupt
            looked.append(names)
            return look(models, names, given)

        monkeypatch.setattr(looking.Models, "_look", until_killed)
        with pytest.raises(KeyboardInterrupt):
            observe(images, stopped, options=options)
        assert not stopped.exists()
        looked.clear()
        looked.append([])
        monkeypatch.setattr(
            looking.Models, "_look", lambda m, n, i: (looked.append(n), look(m, n, i))[1]
        )
        assert observe(images, stopped, options=options).found == 8
        assert [name for names in looked for name in names] == ["more/8.jpg"]
        assert stopped.read_bytes() == whole.read_bytes()
        assert observe(images, stopped, options=options).found == 10

    def test_another_question_or_model_is_looked_at_anew(self, images, options, tmp_path) -> None:
        from dataclasses import replace

        plain = replace(options, describer=None, captioner=None, attributes=None)
        out = tmp_path / "seen.parquet"
        assert observe(images, out, options=plain).found == 0
        assert observe(images, out, options=replace(plain, min_score=0.2)).found == 0
        save("rt-detr", tmp_path / "rt-detr")
        shutil.copytree(tmp_path / "rt-detr", tmp_path / "detr", dirs_exist_ok=True)
        assert observe(images, out, options=plain).found == 0

    def test_an_image_that_a_model_refuses_has_the_reason(
        self, images, options, tmp_path, monkeypatch
    ) -> None:
        from clipvg.observe.detect import Detector

        detect = Detector.detect

        def detects(self, given, min_score):
            if any(image.width == 104 for image in given):
                raise ValueError("too narrow\nby far")
            return detect(self, given, min_score)

        monkeypatch.setattr(Detector, "detect", detects)
        observed = observe(images, tmp_path / "seen.jsonl", options=options)
        assert "1.jpg: ValueError: too narrow by far" in observed.reasons
        assert observed.reasons.total() == 2

        def refuses(self, given, min_score):
            raise ValueError("this model takes no images")

        monkeypatch.setattr(Detector, "detect", refuses)
        with pytest.raises(InputError, match=r"none of the first 9 images: .*takes no images"):
            observe(images, tmp_path / "other.jsonl", options=options)
        assert not (tmp_path / "other.jsonl").exists()


@pytest.mark.parametrize("fault", [torch.AcceleratorError, torch.OutOfMemoryError, MemoryError])
def test_a_fault_of_the_machine_is_no_fault_of_an_image(fault, monkeypatch) -> None:
    def fails(*_):
        raise fault("device-side assert triggered")

    monkeypatch.setattr(looking.Models, "_look", fails)
    with pytest.raises(fault):
        object.__new__(looking.Models).look(["a.jpg"], [Image.new("RGB", (8, 8))])


def test_a_describer_that_is_the_captioner_decides_what_is_kept(images, tmp_path, monkeypatch):
    """The same models with and without descriptions have separate shards."""
    monkeypatch.setattr(looking, "Writer", lambda loaded: loaded)
    monkeypatch.setattr(looking, "Detector", lambda loaded: loaded)
    loaded = SimpleNamespace(identity="one", model=SimpleNamespace(dtype="fp32"))
    monkeypatch.setattr(looking, "load_pretrained", lambda *_, **__: loaded)
    device = SimpleNamespace(type="cpu")
    alone = ObserveOptions(detector="d", captioner="w")
    both = ObserveOptions(detector="d", captioner="w", describer="w")
    found = [looking.Models(options, device) for options in (alone, both)]
    assert found[0].identity != found[1].identity
    assert found[1].describer is not None
    assert found[0].describer is None
