"""CLIP on regions, against encoding one region at a time; proposals and rasters by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from support.tiny import make_labels, make_model

from clipvg.data import get_preset, load_square
from clipvg.data.scenes import make_labels as make_scenes
from clipvg.errors import InputError
from clipvg.features.regions import encode_regions, region_images
from clipvg.labels import LabelTable
from clipvg.measures import ProposalEntropy, RegionAlignment
from clipvg.measures.region import Proposals
from clipvg.model import GroundingModel, create_model
from clipvg.reliability import Context, measure
from clipvg.rescoring import EngineConfig


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    return make_labels(tmp_path_factory.mktemp("images"), images=3)


@pytest.fixture(scope="module")
def model() -> GroundingModel:
    return make_model()


def shares_one_by_one(
    model: GroundingModel, labels: LabelTable, row: int, prompt: str
) -> tuple[np.ndarray, int]:
    """Return the softmax over the boxes of a label's picture, and the index of its own box."""
    backbone, clip = model.backbone, model.backbone.clip
    preset = get_preset("default", backbone.mean, backbone.std)
    name = labels.image_names[row]
    image = Image.open(labels.image_path(name)).convert("RGB")
    rows = [i for i, other in enumerate(labels.image_names) if other == name]
    blurred = image.filter(ImageFilter.GaussianBlur(0.15 * max(image.size)))
    text = model.tokenize([prompt.format(labels.expressions[row])])[0]
    logits = []
    with torch.no_grad():
        words = clip.encode_text(text, normalize=True)[0]
        for i in rows:
            x1, y1, x2, y2 = labels.boxes()[i]
            box = (int(x1), int(y1), int(np.ceil(x2)), int(np.ceil(y2)))
            blur = blurred.copy()
            blur.paste(image.crop(box), box[:2])
            cosine = 0.0
            for region in (image.crop(box), blur):
                square = load_square(region, backbone.image_size, preset).pixels
                cosine += float(clip.encode_image(square[None], normalize=True)[0] @ words)
            logits.append(cosine * float(clip.logit_scale.exp()))
    shares = torch.tensor(logits).softmax(0).numpy()
    return shares, rows.index(row)


def test_alignment_and_entropy_equal_one_region_at_a_time(
    model: GroundingModel, labels: LabelTable
) -> None:
    prompt = "picture of {}"
    found = measure(RegionAlignment(model, prompt=prompt), labels, Context()).values
    clear = measure(ProposalEntropy(model, prompt=prompt), labels, Context()).values
    for row in range(len(labels)):
        shares, own = shares_one_by_one(model, labels, row, prompt)
        assert found[row] == pytest.approx(shares[own], abs=1e-4)
        entropy = -(shares * np.log(shares)).sum() / np.log(len(shares))
        assert clear[row] == pytest.approx(1 - entropy, abs=1e-4)


def test_the_right_box_scores_higher_than_another(tmp_path: Path) -> None:
    """With the shipped CLIP, which knows the colours of the scenes."""
    labels = make_scenes(tmp_path, 40, seed=5)
    clip = create_model("clipvg-tiny", width=32, layers=1, heads=2, feedforward=32)
    right = measure(RegionAlignment(clip, prompt="{}"), labels, Context()).values
    boxes, (_, image_of) = labels.boxes(), labels.distinct_images()
    other = boxes.copy()
    for i in range(len(labels)):
        away = np.flatnonzero(
            (image_of == image_of[i]) & (np.abs(boxes - boxes[i]).max(axis=1) > 10)
        )
        other[i] = boxes[away[0]] if len(away) else boxes[i]
    changed = (other != boxes).any(axis=1)
    swapped = LabelTable.concat([labels, labels.with_column("box", other)])
    wrong = measure(RegionAlignment(clip, prompt="{}"), swapped, Context()).values[len(labels) :]
    usable = changed & ~np.isnan(right) & ~np.isnan(wrong)
    assert usable.sum() > 50
    assert right[usable].mean() > wrong[usable].mean() + 0.05


def test_a_label_alone_on_its_picture(model: GroundingModel, labels: LabelTable) -> None:
    first = labels.select([0])
    found = measure(RegionAlignment(model), first, Context())
    assert np.isnan(found.values).all()
    assert found.reasons == {0: "region: the image has one proposal, nothing to compare with"}
    assert 0 < measure(RegionAlignment(model, grid=2), first, Context()).values[0] < 1
    others = measure(RegionAlignment(model, proposals=labels), first, Context()).values
    np.testing.assert_allclose(
        others, measure(RegionAlignment(model), labels, Context()).values[:1], atol=1e-5
    )


def test_modes_differ_and_batches_do_not(model: GroundingModel, labels: LabelTable) -> None:
    crop, blur = (
        measure(RegionAlignment(model, mode=mode), labels, Context()).values
        for mode in ("crop", "blur")
    )
    assert np.abs(crop - blur).max() > 1e-3
    small = Context(engine=EngineConfig(batch_size=3, images_per_chunk=2))
    again = measure(RegionAlignment(model, mode="crop"), labels, small).values
    np.testing.assert_allclose(again, crop, atol=1e-5)


def test_proposals_are_distinct_boxes_by_picture() -> None:
    labels = LabelTable.from_columns(
        image=["a", "b", "a", "a"],
        expression=list("wxyz"),
        box=[[0, 0, 4, 4], [1, 1, 2, 2], [2, 2, 8, 8], [0, 0, 4, 4]],
    )
    found = Proposals.of(labels)
    assert found.counts.tolist() == [2, 1]
    assert found.place_of.tolist() == [0, 0, 1, 0]
    assert found.pixels(0, (10, 10), 0).tolist() == [[0, 0, 4, 4], [2, 2, 8, 8]]
    more = LabelTable.from_columns(
        image=["b", "c"], expression=["", ""], box=[[0, 0, 1, 1], [5, 5, 6, 6]]
    )
    wider = Proposals.of(labels, more)
    assert wider.counts.tolist() == [2, 2]
    assert wider.place_of.tolist() == [0, 1, 1, 0]


def test_rasters_and_boxes_outside_the_picture() -> None:
    labels = LabelTable.from_columns(
        image=["a"] * 3, expression=list("xyz"),
        box=[[-5, 2.4, 3.2, 30], [12, 12, 14, 14], [4, 4, 4, 4]],
    )  # fmt: skip
    found = Proposals.of(labels, grid=2)
    assert found.counts.tolist() == [8]
    boxes = found.pixels(0, (10, 8), 2)
    expected = [[0, 2, 4, 8], [4, 4, 5, 5], [9, 7, 10, 8], [0, 0, 5, 4], [5, 0, 10, 4],
                [0, 4, 5, 8], [5, 4, 10, 8], [0, 0, 10, 8]]  # fmt: skip
    assert boxes.tolist() == expected
    assert Proposals.of(labels, grid=1).counts.tolist() == [4]


def test_region_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    box = np.array([[3, 4, 9, 16]])
    (crop,) = region_images(image, box, "crop")
    assert (np.asarray(crop) == pixels[4:16, 3:9]).all()
    (blur,) = region_images(image, box, "blur")
    assert (np.asarray(blur)[4:16, 3:9] == pixels[4:16, 3:9]).all()
    assert np.asarray(blur)[:, 10:].std() < pixels[:, 10:].std() / 4


def test_an_image_of_many_regions_is_encoded_in_batches(
    model: GroundingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All crops of a large photograph at once would not fit into memory."""
    rng, clip, sizes = np.random.default_rng(0), model.backbone.clip, []
    image = Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8))
    corner = rng.integers(0, 10, (150, 2))
    shown, modes = [(image, np.concatenate([corner, corner + 8], 1))], ("crop", "blur")
    alone = [encode_regions(model.backbone, [(image, box[None])], modes) for box in shown[0][1]]
    encode = clip.encode_image

    def counted(pixels: torch.Tensor, **options: bool) -> torch.Tensor:
        sizes.append(len(pixels))
        return encode(pixels, **options)

    monkeypatch.setattr(clip, "encode_image", counted)
    found = encode_regions(model.backbone, shown, modes)
    assert sizes == [64, 64, 64, 64, 22, 22]
    torch.testing.assert_close(found, torch.cat(alone, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "croped"}, "mode is 'croped', expected one of 'crop'"),
        ({"prompt": "a dog"}, "has no '{}'"),
        ({"grid": -1}, "grid is -1"),
    ],
)
def test_bad_options(model: GroundingModel, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RegionAlignment(model, **options)
