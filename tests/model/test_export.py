"""Exports that run without clipvg: ONNX and torch.export."""

from __future__ import annotations

import json
import runpy
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipvg.data.preset import get_preset
from clipvg.errors import InputError, MissingExtraError
from clipvg.model import Backbone, GroundingConfig, GroundingModel, Tokenizer, load
from clipvg.model.export import export_checkpoint, programs
from clipvg.model.export.parts import WholeModel
from clipvg.model.quality import QualityHead
from clipvg.model.towers import build_towers

pytestmark = pytest.mark.onnx

SMALL_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "mlp_ratio": 4.0},
    "text_cfg": {"width": 64, "heads": 1, "layers": 2},
}

TEXTS = [
    "the left dog", "Don't STOP", "naïve café 日本語", "a 😀👍🏽 and ½", "  spaces \t ", "ΟΔΟΣ",
    "!!! <|endoftext|>", "it’s “here” tom &amp; jerry", "ﬁn e\u0301", "dog " * 90, "x" * 200,
]  # fmt: skip


@pytest.fixture(scope="module")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    small = {"width": 32, "layers": 2, "heads": 4, "feedforward": 48, "pretrained": None}
    config = GroundingConfig(backbone="small", **small)
    folder = tmp_path_factory.mktemp("small")
    model = GroundingModel(config, Backbone(build_towers(SMALL_CLIP), config))
    head = QualityHead(32)
    head.weights.uniform_(-1, 1)
    model.keep_quality(head)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exported(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    return export_checkpoint(
        small_checkpoint, tmp_path_factory.mktemp("onnx") / "whole", format="onnx"
    )


@pytest.fixture
def picture() -> Image.Image:
    values = np.random.default_rng(0).integers(0, 255, (30, 47, 3), np.uint8)
    return Image.fromarray(values).resize((470, 300))


def test_the_example_gives_the_boxes_of_the_model(exported, small_checkpoint, picture, repository):
    example = runpy.run_path(str(repository / "examples" / "predict_with_onnxruntime.py"))
    grounder = example["Grounder"](exported)
    texts = ["dog", "the left cup on the red table", "It's a tree!"]
    expected = load(small_checkpoint).predict(picture, texts)
    boxes, scores, present = grounder.predict(picture, texts)
    np.testing.assert_allclose(boxes, expected, atol=1e-4 * 470)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(present, expected.present, atol=1e-4)
    assert len({*scores.tolist(), *present.tolist()}) == 6


def test_batches_of_images_and_any_length_of_text(exported, small_checkpoint, make_batch):
    model = load(small_checkpoint)
    batch = make_batch(model)
    run = programs.open_program(exported / "model.onnx")
    for length in (9, 30, 77):
        ids, mask = batch.tokens[:, :length].contiguous(), batch.text_mask[:, :length].contiguous()
        inputs = (batch.images, batch.pixel_mask, ids, mask, batch.image_index)
        with torch.no_grad():
            expected = model(batch).numpy()
        np.testing.assert_allclose(run(*inputs)[0], expected, atol=1e-4)
    one = (batch.images[:1], batch.pixel_mask[:1], ids[:1], mask[:1], batch.image_index[:1])
    np.testing.assert_allclose(run(*one)[0], expected[:1], atol=1e-4)


def test_the_folder_says_how_to_prepare_and_how_close_it_is(exported):
    assert {path.name for path in exported.iterdir()} == {
        *("image.onnx", "text.onnx", "fusion.onnx", "model.onnx", "weights.bin"),
        *("tokenizer.json", "preprocessing.json"),
    }
    facts = json.loads((exported / "preprocessing.json").read_text())
    assert facts["image_size"] == 32
    assert list(facts["agreement"]["largest_change"]) == ["boxes", "scores", "present"]
    assert max(facts["agreement"]["largest_change"].values()) <= 1e-4
    weights, graphs = (exported / "weights.bin").stat().st_size, exported.glob("*.onnx")
    assert all(path.stat().st_size < weights / 5 for path in graphs)  # weights are stored once


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_rounded_weights_change_boxes_by_little(small_checkpoint, tmp_path, exported, precision):
    out = export_checkpoint(small_checkpoint, tmp_path / "e", format="onnx", precision=precision)
    agreement = json.loads((out / "preprocessing.json").read_text())["agreement"]
    assert all(1e-7 < change < 0.05 for change in agreement["largest_change"].values())
    smaller = (out / "weights.bin").stat().st_size / (exported / "weights.bin").stat().st_size
    assert smaller < 0.9


def test_a_torch_program_gives_the_boxes_of_the_model(
    small_checkpoint, tmp_path, make_batch, exported
):
    out = export_checkpoint(small_checkpoint, tmp_path / "program", format="torch")
    model = load(small_checkpoint)
    batch = make_batch(model)
    inputs = (batch.images, batch.pixel_mask, batch.tokens, batch.text_mask, batch.image_index)
    whole = torch.export.load(out / "model.pt2").module()
    torch.testing.assert_close(whole(*inputs), WholeModel(model)(*inputs))


@pytest.mark.parametrize(
    ("preset", "prefix"), [("default", None), ("published", "published"), ("default", (5, 6))]
)
def test_the_tokenizer_file_gives_our_ids(tmp_path, preset, prefix):
    tokenizers = pytest.importorskip("tokenizers", reason="the extra onnx is not installed")
    from clipvg.model.export.tokenizer_file import write_tokenizer

    ours = Tokenizer(get_preset(preset), prefix=prefix)
    write_tokenizer(ours, tmp_path / "tokenizer.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    texts = [text for text in TEXTS if preset == "default" or len(text) < 60]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # long texts are cut
        ids, _ = ours(texts)
    rows = theirs.encode_batch(texts)
    length = len(rows[0].ids)
    assert [row.ids for row in rows] == ids[:, :length].tolist()
    assert not ids[:, length:].any()
    assert [sum(row.attention_mask) for row in theirs.encode_batch(["a", "a dog"])] == [
        3 + len(ours.prefix), 4 + len(ours.prefix)
    ]  # fmt: skip


def test_an_export_replaces_only_an_export(exported, small_checkpoint, tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(InputError, match="holds other files"):
        export_checkpoint(small_checkpoint, tmp_path, format="onnx")
    with pytest.raises(InputError, match="is a file"):
        export_checkpoint(small_checkpoint, tmp_path / "thesis.tex", format="torch")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match="int8"):
        export_checkpoint(small_checkpoint, tmp_path / "p", format="torch", precision="int8")
    with pytest.raises(InputError, match="onnx and torch"):
        export_checkpoint(small_checkpoint, tmp_path / "p", format="safetensors", precision="fp16")


def test_an_interrupted_export_leaves_nothing(small_checkpoint, exported, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(programs, "write_tokenizer", interrupt)
    monkeypatch.setattr(programs, "trace", lambda model: {})
    monkeypatch.setattr(programs, "write_onnx", lambda *_: None)
    monkeypatch.setattr(
        programs,
        "open_program",
        lambda path: lambda *i: [np.zeros((len(i[2]), 4)), *np.zeros((2, len(i[2])))],
    )
    monkeypatch.setattr(programs, "MOST_CHANGE", 2)
    with pytest.raises(KeyboardInterrupt):
        export_checkpoint(small_checkpoint, tmp_path / "e", format="onnx")
    assert not [*tmp_path.iterdir()]


def test_without_the_extra_the_command_is_said(small_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'clipvg\[onnx\]'"):
        export_checkpoint(small_checkpoint, tmp_path / "e", format="onnx")
    assert not [*tmp_path.iterdir()]
