"""Checkpoint folders: round trips, and errors that name what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from clipvg.data.dataset import Batch
from clipvg.errors import InputError
from clipvg.model import GroundingModel, create_model, load
from clipvg.model.config import TINY, TINY_TAG
from clipvg.model.towers import build_towers, tiny_files

Make = Callable[..., GroundingModel]
MakeBatch = Callable[[GroundingModel], Batch]


@pytest.fixture
def tiny_tag(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Random weights for the tag of the packaged CLIP; only their identity matters."""
    config, _ = tiny_files()
    torch.manual_seed(0)
    clip = build_towers(json.loads(config.read_text(encoding="utf-8"))).clip
    weights = tmp_path / "scenes.safetensors"
    save_file({k: v.half().contiguous() for k, v in clip.state_dict().items()}, weights)
    monkeypatch.setattr("clipvg.model.towers.tiny_files", lambda: (config, weights))
    return weights


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"visual": "last"},
        {"prefix": "learned"},
        {"prefix": "published", "preset": "published"},
        {"prompt": "the region of {}", "trained_on": ["template", "relation"]},
        {"train_visual_positions": True, "levels": [0, 3]},
    ],
)
def test_a_saved_model_comes_back_equal(
    make_model: Make, make_batch: MakeBatch, tmp_path: Path, options: dict
) -> None:
    model = make_model(**options)
    model.save_pretrained(tmp_path / "model")
    before = torch.get_rng_state()
    again = load(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), before)  # no weights were drawn
    assert again.config == model.config
    assert again.preset == model.preset
    assert again.backbone.image_key == model.backbone.image_key
    assert not again.training
    state, restored = model.state_dict(), again.state_dict()
    assert state.keys() == restored.keys()
    assert all(torch.equal(state[name], restored[name]) for name in state)
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    assert learning == [name for name, p in again.named_parameters() if p.requires_grad]
    batch = make_batch(model)
    assert torch.equal(model(batch), again(batch))
    assert torch.equal(model(batch), load(f"local-dir:{tmp_path / 'model'}")(batch))


def test_weights_of_a_tag_are_not_stored(tiny_tag: Path, tmp_path: Path) -> None:
    model = create_model(TINY, width=32, layers=1, heads=4, feedforward=32)
    assert model.config.pretrained == TINY_TAG
    model.save_pretrained(tmp_path)
    names = load_file(tmp_path / "model.safetensors")
    assert not any(name.startswith("backbone") for name in names)
    header = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert header["clip_stored"] is False
    assert header["clip_sha256"] == model.backbone.weights_sha256()
    again = load(tmp_path)
    assert again.backbone.image_key == model.backbone.image_key


def test_other_weights_under_the_same_tag_are_an_error(tiny_tag: Path, tmp_path: Path) -> None:
    create_model(TINY, width=32, layers=1, heads=4, feedforward=32).save_pretrained(tmp_path)
    state = load_file(tiny_tag)
    save_file({name: tensor + 1 for name, tensor in state.items()}, tiny_tag)
    with pytest.raises(InputError, match="SHA-256") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_changed_weights_of_a_tag_are_stored(tiny_tag: Path, tmp_path: Path) -> None:
    model = create_model(
        TINY, width=32, layers=1, heads=4, feedforward=32, train_visual_positions=True
    )
    model.backbone.clip.visual.positional_embedding.data.add_(1)
    model.save_pretrained(tmp_path)
    again = load(tmp_path).backbone.clip.visual.positional_embedding
    assert torch.equal(again, model.backbone.clip.visual.positional_embedding)


def test_weights_in_half_precision_become_float32(tiny_tag: Path) -> None:
    model = create_model(TINY, width=32, layers=1, heads=4, feedforward=32)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    conv = load_file(tiny_tag)["visual.conv1.weight"]
    assert_close(model.backbone.clip.visual.conv1.weight.data, conv.float())


def test_saving_again_replaces_the_old_model(make_model: Make, tmp_path: Path) -> None:
    make_model(seed=0).save_pretrained(tmp_path)
    model = make_model(seed=1)
    model.save_pretrained(tmp_path)
    assert torch.equal(load(tmp_path).position.weight, model.position.weight)
    assert not list(tmp_path.glob(".*"))
    (tmp_path / "usual").touch()
    usual = (tmp_path / "usual").stat().st_mode  # safetensors would let the owner alone read it
    assert {path.stat().st_mode for path in tmp_path.iterdir()} == {usual}


def test_damage_is_named_in_one_line(make_model: Make, tmp_path: Path) -> None:
    good = tmp_path / "good"
    make_model().save_pretrained(good)

    def broken(change: Callable[[Path], object], match: str) -> None:
        folder = tmp_path / "bad"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(good, folder)
        change(folder)
        with pytest.raises(InputError, match=match) as error:
            load(folder)
        assert "\n" not in str(error.value)

    def edit(folder: Path, **values: object) -> None:
        header = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(header | values), encoding="utf-8")

    def drop(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        state.pop("position.weight")
        save_file(state, folder / "model.safetensors")

    weights = "model.safetensors"
    broken(lambda f: (f / "config.json").unlink(), "has no config.json")
    broken(lambda f: (f / "config.json").write_text("{"), "damaged, or not JSON")
    broken(lambda f: (f / "config.json").write_text("[]"), "not the configuration")
    broken(lambda f: edit(f, format=99), "format 99")
    broken(lambda f: edit(f, model={"widht": 3}), "did you mean 'width'")
    header = json.loads((good / "config.json").read_text(encoding="utf-8"))
    partial = json.dumps({name: value for name, value in header.items() if name != "clip"})
    broken(lambda f: (f / "config.json").write_text(partial), "not the configuration")
    broken(lambda f: (f / weights).unlink(), "is missing")
    broken(lambda f: (f / weights).write_bytes((f / weights).read_bytes()[:1000]), "is damaged")
    broken(drop, "'position.weight'")


def test_load_teaches(make_model: Make, tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path / "run" / "model")
    with pytest.raises(InputError, match=r"run has no config.json. Use .*run.model"):
        load(tmp_path / "run")
    with pytest.raises(InputError, match=r"did you mean .*run\?"):
        load(tmp_path / "rum")
    with pytest.raises(InputError, match=r"Use its folder"):
        load(tmp_path / "run" / "model" / "model.safetensors")
    with pytest.raises(InputError, match="hf-hub:org/name"):
        load(tmp_path / "no" / "such" / "place")
