"""Weight files of backbones, as OpenAI, open_clip and training scripts save them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import nn

from clipvg.errors import InputError
from clipvg.model import load
from clipvg.model.towers import open_towers
from tests.model.conftest import Make, small_clip

State = dict[str, torch.Tensor]
NAME = "small"


@pytest.fixture
def clip(monkeypatch: pytest.MonkeyPatch) -> CLIP:
    """Small towers that open_clip knows as one model with GELU and one with QuickGELU."""
    config = {**small_clip(), "quick_gelu": False}
    known = {NAME: config, f"{NAME}-quickgelu": {**config, "quick_gelu": True}}
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: known.get(name))
    monkeypatch.setattr(open_clip, "list_models", lambda: list(known))
    torch.manual_seed(3)
    return CLIP(**config)


def opened(path: Path, name: str = NAME) -> tuple[State, str]:
    towers = open_towers(name, str(path))
    block = towers.clip.visual.transformer.resblocks[0]
    activation = type(block.mlp.gelu).__name__
    assert towers.config["quick_gelu"] == (activation == "QuickGELU")
    return towers.clip.state_dict(), activation


def equal(found: State, clip: CLIP) -> None:
    state = clip.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": {f"module.{n}": t for n, t in state.items()}, "epoch": 3},
        lambda state: {f"_orig_mod.{n}": t for n, t in state.items()},
        lambda state: {"model": {f"clip.{n}": t for n, t in state.items()}},
    ],
    ids=["bare", "of open_clip's training", "compiled", "in a larger model"],
)
def test_files_of_open_clip(wrap: Callable[[State], Any], clip: CLIP, tmp_path: Path) -> None:
    torch.save(wrap(clip.state_dict()), tmp_path / "clip.pt")
    with pytest.warns(UserWarning, match=r"does not say which activation.*'small-quickgelu'"):
        state, activation = opened(tmp_path / "clip.pt")
    equal(state, clip)
    assert activation == "GELU"
    assert opened(tmp_path / "clip.pt", f"{NAME}-quickgelu")[1] == "QuickGELU"  # without a warning


class Published(nn.Module):
    """A module with OpenAI's attribute names, which tracing makes TorchScript."""

    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        for name, part in [*clip.named_children(), *clip.named_parameters(recurse=False)]:
            setattr(self, name, part)
        for name, size in {
            "input_resolution": 32,
            "context_length": 77,
            "vocab_size": 49408,
        }.items():
            self.register_buffer(name, torch.tensor(size))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.visual(images) * self.logit_scale.exp()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
def test_the_archive_of_openai_brings_its_activation(clip: CLIP, tmp_path: Path) -> None:
    traced = torch.jit.trace(Published(clip).eval(), torch.zeros(1, 3, 32, 32))
    traced.save(tmp_path / "ViT.pt")
    with pytest.warns(UserWarning, match="weights of OpenAI, which were trained with QuickGELU"):
        state, activation = opened(tmp_path / "ViT.pt")
    equal(state, clip)
    assert activation == "QuickGELU"


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_the_mixed_precision_of_openai_is_known(clip: CLIP, suffix: str, tmp_path: Path) -> None:
    """What ``clip.load(name)[0].state_dict()`` gives on a GPU."""
    path = tmp_path / f"saved.{suffix}"
    state = {n: t.half() if t.ndim > 1 else t for n, t in clip.state_dict().items()}
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    with pytest.warns(UserWarning, match="weights of OpenAI"):
        assert opened(path)[1] == "QuickGELU"


def test_files_that_are_no_clip_or_not_finite_are_refused(clip: CLIP, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"fc.weight": torch.ones(2, 2)}, path)
    with pytest.raises(InputError, match=r"x.pt: no weights of a CLIP ViT.*'visual.conv1.weight'"):
        open_towers(NAME, str(path))
    state = clip.state_dict()
    state["ln_final.bias"][0] = float("nan")
    torch.save(state, path)
    with pytest.raises(InputError, match=r"x.pt: tensor 'ln_final.bias' holds 1 numbers"):
        open_towers(NAME, str(path))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"x\.pt"):
        open_towers(NAME, str(path))


def test_a_saved_model_whose_weights_are_not_finite_is_refused(
    make_model: Make, tmp_path: Path
) -> None:
    model = make_model()
    with torch.no_grad():
        model.position.weight[0, 0] = float("inf")
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"model.safetensors: tensor 'position.weight' holds 1 "):
        load(tmp_path)
