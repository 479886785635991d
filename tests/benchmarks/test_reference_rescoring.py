"""The rescoring benchmark's baseline has the reference's reliabilities and operation count."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from _rescoring.flops import Sizes, reference_flops
from baselines.reference_rescoring import Pairs, ReferenceModel, rescore, square_loader
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from clipvg.labels import LabelTable, read_labels
from clipvg.model import GroundingModel, load
from clipvg.rescoring import Stats

IMAGES = {
    "unc": "other/images/mscoco/images/train2014",
    "flickr": "Flickr30k/flickr30k-images",
    "referit": "referit/images",
}


@pytest.fixture(scope="module")
def mini(data_dir: Path) -> Path:
    return data_dir / "official_mini"


@pytest.fixture(scope="module")
def checkpoint(mini: Path) -> GroundingModel:
    return load(mini / "best_checkpoint.pth")


def labels_of(mini: Path, name: str) -> LabelTable:
    file = mini / name / f"{name}_train_pseudo.pth"
    return read_labels(file, images=mini / "images" / IMAGES[name])


@pytest.mark.parametrize("name", IMAGES)
def test_it_gives_the_stored_reliabilities(
    mini: Path, checkpoint: GroundingModel, name: str
) -> None:
    stored = json.loads((mini / "reliability.json").read_text())["sets"][name]["labels"]
    done = rescore({"m": checkpoint}, labels_of(mini, name), batch=20)
    assert [label["index"] for label in stored] == list(range(done.scores.shape[1]))
    expected = [[label["iou"] for label in stored]]
    np.testing.assert_allclose(done.scores, expected, atol=1e-4, rtol=0)


def test_sources_are_passes_of_their_own_in_label_order(
    mini: Path, checkpoint: GroundingModel
) -> None:
    labels = labels_of(mini, "referit")
    sources = [("a", "b")[i % 2] for i in range(len(labels))]
    split = rescore({"m": checkpoint}, labels.with_column("source", sources))
    whole = rescore({"m": checkpoint}, labels)
    np.testing.assert_allclose(split.scores, whole.scores, atol=1e-6, rtol=0)


def test_every_label_has_all_tokens_and_its_own_image(
    mini: Path, checkpoint: GroundingModel
) -> None:
    """The operation count holds whatever the text's length and the image's shape."""
    labels = labels_of(mini, "unc").select(np.arange(3))
    pairs = Pairs(labels, checkpoint, square_loader(checkpoint))
    batch = [torch.stack(x) for x in zip(*(pairs[i] for i in range(3)), strict=True)][:4]
    assert batch[2].shape == (3, 77)
    plain = copy.deepcopy(checkpoint).requires_grad_(False)
    # The counter knows only some fused kernels and miscounts others, depending on PyTorch's
    # version; it counts plain products alike everywhere.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        counting = FlopCounterMode(display=False)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counting as counter:
            ReferenceModel(plain)(*batch, Stats())
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    counted = 3 * sum(reference_flops(Sizes.of(checkpoint)).values())
    assert counter.get_total_flops() == pytest.approx(counted, rel=1e-6)
