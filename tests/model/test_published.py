"""The authors' checkpoints: exact round trips, and no trust in what they contain."""

from __future__ import annotations

import argparse
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clipvg.errors import InputError
from clipvg.model import GroundingModel, export_published, load

Make = Callable[..., GroundingModel]
State = dict[str, torch.Tensor]


def read(path: Path) -> dict[str, Any]:
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, weights_only=True)


def write(path: Path, change: Callable[[State], object], source: Path) -> Path:
    checkpoint = read(source)
    change(checkpoint["model"])
    torch.save(checkpoint, path)
    return path


def equal(first: State, second: State) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name
        assert first[name].dtype == second[name].dtype


def aliases(state: State) -> dict[str, str]:
    """Map each name to the first name with the same storage."""
    seen: dict[int, str] = {}
    return {name: seen.setdefault(t.data_ptr(), name) for name, t in sorted(state.items())}


def test_architecture_comes_from_shapes(mini_file: Path) -> None:
    """`args` names a ViT-B/16 and a width of 512, neither of which this model has."""
    model = load(mini_file)
    backbone, config = model.backbone, model.config
    assert (backbone.image_size, backbone.patch_size, backbone.width) == (96, 16, 64)
    assert (config.width, config.layers, config.heads, config.feedforward) == (64, 6, 8, 128)
    assert (config.preset, config.visual, config.prefix) == ("published", "levels", None)
    assert model.preset.mean == (0.485, 0.456, 0.406)
    assert config.published is not None
    assert config.published["args"]["model"] == "ViT-B/16"


def test_round_trip_is_exact(mini_file: Path, tmp_path: Path) -> None:
    model = load(mini_file)
    export_published(model, tmp_path / "again.pth")
    first, second = read(mini_file), read(tmp_path / "again.pth")
    assert len(second["model"]) == 473
    equal(first["model"], second["model"])
    assert aliases(first["model"]) == aliases(second["model"])
    assert first["args"] == second["args"]
    assert (first["epoch"], first["val_accu"]) == (second["epoch"], second["val_accu"])
    equal(model.state_dict(), load(tmp_path / "again.pth").state_dict())


def test_round_trip_through_our_folder_is_exact(mini_file: Path, tmp_path: Path) -> None:
    load(mini_file).save_pretrained(tmp_path / "model")
    export_published(load(tmp_path / "model"), tmp_path / "again.pth")
    equal(read(mini_file)["model"], read(tmp_path / "again.pth")["model"])


@pytest.mark.parametrize("with_aliases", [True, False])
def test_half_precision_becomes_float32(
    mini_file: Path, tmp_path: Path, with_aliases: bool
) -> None:
    """As a CUDA run writes it: layers of `clip` in float16, the rest in float32."""
    checkpoint = read(mini_file)
    state = checkpoint["model"]
    kept = (".ln_", "token_embedding", "positional", "class_embedding", "logit_scale")
    for name in [n for n in state if n.startswith("clip.") and not any(k in n for k in kept)]:
        state[name] = state[name].half()
        short = name.removeprefix("clip.")
        image, text = "image_encoder_clip_vg." + short[7:], "text_encoder_clip_vg." + short
        if with_aliases:
            state[image if short.startswith("visual.") else text] = state[name]
    assert sum(t.dtype == torch.float16 for t in state.values()) >= 123
    torch.save(checkpoint, tmp_path / "half.pth")
    equal(load(tmp_path / "half.pth").state_dict(), load(mini_file).state_dict())


def prefixed(prefix: str) -> Callable[[State], dict[str, Any]]:
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        prefixed("module."),
        prefixed("module._orig_mod."),
        prefixed("_orig_mod.module."),
        lambda state: {"state_dict": state},
        lambda state: {"model": {"state_dict": prefixed("module.")(state)}},
        lambda state: {"state_dict": prefixed("model._orig_mod.")(state), "epoch": 3},
        lambda state: {"optimizer": {"state": {0: {"x": torch.ones(1)}}}, "net": {"model": state}},
        lambda state: {n.replace("clip.visual.", "clip.visual._orig_mod."): t
                       for n, t in state.items()},
    ],
    ids=["bare", "parallel", "parallel, compiled", "compiled, parallel", "wrapped", "twice",
         "Lightning", "after the optimizer", "a part compiled"],
)  # fmt: skip
def test_wrapped_and_prefixed_states_load(
    wrap: Callable[[State], Any], mini_file: Path, tmp_path: Path
) -> None:
    torch.save(wrap(read(mini_file)["model"]), tmp_path / "wrapped.pth")
    equal(load(tmp_path / "wrapped.pth").state_dict(), load(mini_file).state_dict())


def test_plain_values_beside_the_weights_load(mini_file: Path, tmp_path: Path) -> None:
    """Training scripts store NumPy scalars, paths and devices there."""
    checkpoint = read(mini_file)
    extra = {"output": Path("/runs/a"), "device": torch.device("cuda", 1)}
    args = argparse.Namespace(**vars(checkpoint["args"]) | extra)
    values = {
        "val_accu": np.float64(0.5), "epoch": np.int64(7), "is_best": np.bool_(True),
        "history": np.arange(3.0), "names": np.array(["a", "b"]), "dtype": torch.float16,
        "log": defaultdict(list, loss=[np.float32(1)]), "counts": Counter("aab"),
    }  # fmt: skip
    torch.save({"checkpoint": {**checkpoint, **values, "args": args}}, tmp_path / "values.pth")
    model = load(tmp_path / "values.pth")
    equal(model.state_dict(), load(mini_file).state_dict())
    assert model.config.published is not None
    found = model.config.published["args"]
    assert (found["output"], found["device"], found["model"]) == ("/runs/a", "cuda:1", "ViT-B/16")
    assert (model.config.published["epoch"], model.config.published["val_accu"]) == (7, 0.5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(
    value: float, mini_file: Path, tmp_path: Path
) -> None:
    name = "bbox_embed.layers.1.weight"
    path = write(tmp_path / "nan.pth", lambda s: s[name].view(-1)[:2].fill_(value), mini_file)
    with pytest.raises(InputError, match=rf"nan.pth: tensor '{name}' holds 2 numbers that are not"):
        load(path)


def test_prompt_variant_keeps_its_ids(mini_file: Path, tmp_path: Path) -> None:
    ids = [49406.0, 3797.0, 4341.0, 851.0, 17436.0, 531.0]
    path = tmp_path / "prompt.pth"
    write(path, lambda s: s.update(language_prompt=torch.tensor(ids)), mini_file)
    model = load(path)
    assert model.config.prefix == "published"
    export_published(model, tmp_path / "again.pth")
    assert read(tmp_path / "again.pth")["model"]["language_prompt"].tolist() == ids
    write(path, lambda s: s.update(language_prompt=torch.tensor([49406.9, 320.2])), mini_file)
    assert load(path).config.prefix == [49406, 320]
    assert load(path).tokenize(["dog"])[0][0, :4].tolist() == [49406, 320, 49406, 1929]


def test_last_layer_variant(mini_file: Path, tmp_path: Path) -> None:
    def change(state: State) -> None:
        del state["ml_visu_proj.weight"], state["ml_visu_proj.bias"]
        state["visu_proj.weight"] = torch.randn(64, 64)

    model = load(write(tmp_path / "last.pth", change, mini_file))
    assert model.config.visual == "last"
    export_published(model, tmp_path / "again.pth")
    equal(read(tmp_path / "last.pth")["model"], read(tmp_path / "again.pth")["model"])


def test_an_own_model_goes_the_published_way(make_model: Make, tmp_path: Path) -> None:
    model = make_model(preset="published")
    export_published(model, tmp_path / "own.pth")
    again = load(tmp_path / "own.pth")
    state = again.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_default_preset_is_warned_about(make_model: Make, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="normalise images"):
        export_published(make_model(), tmp_path / "own.pth")


def test_what_the_reference_cannot_build_is_refused(
    make_model: Make, clip_config: dict[str, Any], tmp_path: Path
) -> None:
    gelu = make_model(clip=clip_config | {"quick_gelu": False})
    heads = make_model(
        clip=clip_config | {"vision_cfg": clip_config["vision_cfg"] | {"head_width": 32}}
    )
    cases = {
        "GELU": gelu,
        "64 channels a head": heads,
        "taps blocks": make_model(levels=[1, 2, 3]),
        "prefix is learned": make_model(prefix="learned"),
    }
    for reason, model in cases.items():
        with pytest.raises(InputError, match=reason):
            export_published(model, tmp_path / "own.pth")
    assert not list(tmp_path.iterdir())


class Trap:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("trap",)


def test_code_in_a_file_is_not_run(
    mini_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": read(mini_file)["model"], "args": Trap()}, "trap.pth")
    with pytest.raises(InputError, match="could run code"):
        load("trap.pth")
    assert not Path("trap").exists()


def test_damaged_files_are_named_in_one_line(mini_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"

    def broken(match: str) -> None:
        with pytest.raises(InputError, match=match) as error:
            load(path)
        assert "x.pth" in str(error.value)
        assert "\n" not in str(error.value)

    path.write_bytes(b"")
    broken("is empty")
    path.write_bytes(b"not a checkpoint")
    broken("not a torch or pickle file")
    path.write_bytes(mini_file.read_bytes()[:200_000])
    broken("damaged")
    path.write_bytes(b"\x80\x02garbage")
    broken("damaged|could run code")
    torch.save([1, 2], path)
    broken("holds a list")
    torch.save({"model": 3}, path)
    broken("has no CLIP-VG model: 'vl_pos_embed.weight' is missing")
    torch.save({"model": {"weight": torch.zeros(1)}}, path)
    broken("has no CLIP-VG model")
    write(path, lambda s: s.pop("reg_token.weight"), mini_file)
    broken("has no CLIP-VG model: 'reg_token.weight' is missing")
    write(path, lambda s: s.pop("bbox_embed.layers.2.bias"), mini_file)
    broken("1 tensors are missing, the first is 'bbox_embed.layers.2.bias'")
    write(path, lambda s: s.pop("vl_transformer.encoder.layers.0.linear1.weight"), mini_file)
    broken("linear1.weight' is missing")
    write(path, lambda s: s.update({"text_proj.bias": torch.zeros(3)}), mini_file)
    broken("size mismatch")
    name = "image_encoder_clip_vg.proj"
    write(path, lambda s: s.update({name: s[name] + 1}), mini_file)
    broken("was altered")


def test_unknown_tensors_are_warned_about(mini_file: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "more.pth", lambda s: s.update(extra=torch.zeros(1)), mini_file)
    with pytest.warns(UserWarning, match="1 tensors are not part of the model"):
        load(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_a_cuda_run_loads_on_the_cpu(
    mini_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    """Also in the format of torch before 1.6."""
    checkpoint = read(mini_file)
    monkeypatch.setattr("torch.serialization.location_tag", lambda storage: "cuda:3")
    torch.save(checkpoint, tmp_path / "cuda.pth", _use_new_zipfile_serialization=zipped)
    assert b"cuda:3" in (tmp_path / "cuda.pth").read_bytes()
    equal(load(tmp_path / "cuda.pth").state_dict(), load(mini_file).state_dict())


def test_missing_arguments_have_the_defaults_of_the_reference(
    mini_file: Path, tmp_path: Path
) -> None:
    checkpoint = read(mini_file) | {"args": argparse.Namespace(model="ViT-B/16")}
    torch.save(checkpoint, tmp_path / "few.pth")
    config = load(tmp_path / "few.pth").config
    assert (config.heads, config.dropout, config.prompt) == (8, 0.1, None)
