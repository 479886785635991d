from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from support import fits

from clipvg.data import LabelDataset, TrainTransform, collate, group_by_image
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.training import Fit, FitConfig, fit
from clipvg.training.losses import box_losses


def train(labels: LabelTable, *, model: Any = None, weights: Any = None, **options: Any) -> Fit:
    validation = options.pop("validation", None)
    config = dataclasses.replace(fits.QUICK, **options)
    model = model or fits.make_model()
    return fit(model, labels, config=config, validation=validation, weights=weights, progress=False)


def differs(a: Fit, b: Fit, **options: bool) -> float:
    return fits.difference(a.model, b.model, **options)


def test_it_learns_and_freezes_the_towers(labels: LabelTable) -> None:
    model = fits.make_model()
    towers = {n: p.clone() for n, p in model.backbone.named_parameters()}
    corner = labels.with_column("box", [[2, 2, 22, 22]] * len(labels))  # easy to learn
    result = train(corner, model=model, epochs=15, lr=5e-3)
    losses = [line["loss"] for line in result.metrics]
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(p, towers[n]) for n, p in model.backbone.named_parameters())
    assert not result.model.training


def test_metrics_have_one_line_per_epoch(labels: LabelTable) -> None:
    result = train(labels)
    assert [line["epoch"] for line in result.metrics] == [1, 2, 3]
    last = result.metrics[-1]
    assert last["step"] == 9
    assert last["loss"] == pytest.approx(last["loss_l1"] + last["loss_giou"])


def test_two_trainings_with_one_seed_are_equal_bit_for_bit(labels: LabelTable) -> None:
    first, again, other = (
        train(labels, model=fits.make_model(dropout=0.2), seed=seed) for seed in (5, 5, 6)
    )
    assert differs(first, again) == 0
    assert first.metrics == again.metrics
    assert differs(first, other) > 0


def test_steps_override_epochs(labels: LabelTable) -> None:
    result = train(labels, steps=4)
    assert [line["step"] for line in result.metrics] == [3, 4]


def test_accumulated_parts_are_one_batch(labels: LabelTable) -> None:
    whole = train(labels, batch_size=8)
    parts = train(labels, batch_size=2, accumulate=4)
    assert differs(whole, parts, key_biases=False) < 1e-5
    assert whole.metrics[-1]["loss"] == pytest.approx(parts.metrics[-1]["loss"], abs=1e-5)


def test_history_holds_every_label_by_epoch(labels: LabelTable) -> None:
    history = train(labels, drop_last=False, batch_size=7).history
    assert history is not None
    assert history.shape == (3, len(labels))
    assert np.isfinite(history).all()
    partial = train(labels, drop_last=True, batch_size=7).history
    assert partial is not None
    assert np.isnan(partial[0]).sum() == len(labels) % 7
    assert train(labels, history=False).history is None


def test_labels_of_weight_zero_teach_nothing(labels: LabelTable) -> None:
    """Whatever their boxes, the model's weights are the same."""
    keep = np.arange(len(labels)) % 2 == 0
    boxes = labels.boxes().copy()
    boxes[~keep] = [0, 0, 5, 5]
    other = LabelTable.from_columns(
        image=labels.image_names, expression=labels.expressions, box=boxes, images=labels.images
    )
    first = train(labels, weights=keep, clip_norm=0.0)
    second = train(other, weights=keep, clip_norm=0.0)
    assert differs(first, second) == 0


def test_a_batch_without_weight_only_decays(labels: LabelTable) -> None:
    """The gradient is 0, so AdamW only decays the weights, here by a decay of 0."""
    model = fits.make_model()
    before = fits.state(model)
    weights = np.zeros(len(labels))
    options = {"batch_size": 1, "steps": 1, "lr": 1e-3, "weight_decay": 0.0}
    first_row = int(np.random.default_rng([0, 0]).permutation(len(labels))[0])
    weights[(first_row + 1) % len(labels)] = 1.0
    train(labels, model=model, weights=weights, **options)
    assert all(torch.equal(p, before[n]) for n, p in fits.state(model).items())


def test_weights_multiply_the_labels_own(labels: LabelTable) -> None:
    own = np.linspace(0.1, 1, len(labels)).astype(np.float32)
    in_table = train(labels.with_column("weight", own))
    given = train(labels, weights=own)
    assert differs(in_table, given) == 0


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1.0], "one per label"), (-1, "negative"), (np.nan, "not finite"), (0, "weight 0")],
)
def test_unusable_weights_are_refused(labels: LabelTable, weights: Any, message: str) -> None:
    given = weights if isinstance(weights, list) else np.full(len(labels), weights)
    with pytest.raises(InputError, match=message):
        train(labels, weights=given)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_stays_close(labels: LabelTable, amp: str) -> None:
    exact, mixed = train(labels), train(labels, amp=amp)
    assert mixed.metrics[-1]["loss"] == pytest.approx(exact.metrics[-1]["loss"], rel=0.02)


def test_cached_features_and_pictures_train_alike(labels: LabelTable) -> None:
    cached = train(labels)
    pictures = train(labels, cache_features=False)
    assert differs(cached, pictures, key_biases=False) < 1e-5


def test_augmentation_does_not_depend_on_the_workers(labels: LabelTable) -> None:
    here, workers = (train(labels, augment=True, epochs=2, num_workers=count) for count in (0, 2))
    assert differs(here, workers) == 0
    plain = train(labels, augment=False, epochs=2)
    assert differs(here, plain) > 1e-5


def test_a_shared_picture_is_encoded_once_and_teaches_as_its_copies(labels: LabelTable) -> None:
    model = fits.make_model()
    size, preset = model.backbone.image_size, model.preset
    data = LabelDataset(
        labels,
        model.tokenize,
        size,
        preset,
        transform=TrainTransform(size, preset),
    )
    rows, leader = group_by_image(labels.distinct_images()[1], 3, 9)
    data.set_epoch(0, leader)
    shared = collate(data.__getitems__(rows[:9]))
    assert len(shared.images) == 3
    apart = dataclasses.replace(
        shared,
        images=shared.images[shared.image_index],
        pixel_mask=shared.pixel_mask[shared.image_index],
        image_index=torch.arange(9),
    )
    gradients = []
    for batch in (shared, apart):
        model.zero_grad()
        sum(box_losses(model(batch), batch.target)).mean().backward()
        gradients.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
        )
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-6, rtol=1e-4)


def test_the_best_epoch_is_kept(labels: LabelTable, validation: LabelTable) -> None:
    result = train(labels, validation=validation, epochs=4, lr=5e-3)
    accuracies = [line["val_acc_0.5"] for line in result.metrics]
    assert result.best is not None
    assert result.best.accuracy == max(accuracies)
    assert result.best.epoch == 1 + accuracies.index(max(accuracies))


def test_evaluation_every_second_epoch_and_at_the_end(
    labels: LabelTable, validation: LabelTable
) -> None:
    result = train(labels, validation=validation, evaluate_every=2)
    evaluated = ["val_acc_0.5" in line for line in result.metrics]
    assert evaluated == [False, True, True]


def test_no_validation_labels_are_refused(labels: LabelTable) -> None:
    nothing = labels.select(np.zeros(0, dtype=int))
    with pytest.raises(InputError, match="no validation labels"):
        fit(fits.make_model(), labels, config=fits.QUICK, validation=nothing, progress=False)


def test_divergence_is_an_error(labels: LabelTable) -> None:
    with pytest.raises(InputError, match="training diverged"):
        train(labels, lr=1e30, clip_norm=0.0)


def test_the_image_tower_may_learn(labels: LabelTable) -> None:
    model = fits.make_model(train_visual_positions=True)
    positions = {n: p.clone() for n, p in fits.state(model).items() if n.startswith("backbone")}
    assert positions
    train(labels, model=model, steps=2)
    assert any(not torch.equal(fits.state(model)[n], p) for n, p in positions.items())
    with pytest.raises(InputError, match="frozen image tower"):
        train(labels, model=model, cache_features=True)


def test_a_learned_prefix_learns(labels: LabelTable) -> None:
    model = fits.make_model(prefix="learned")
    assert model.prefix is not None
    before = model.prefix.clone()
    train(labels, model=model, steps=2)
    assert not torch.equal(model.prefix, before)


def test_the_default_options_are_the_published_recipe() -> None:
    config = FitConfig()
    assert (config.lr, config.weight_decay, config.batch_size) == (2.5e-4, 1e-4, 64)
    assert (config.schedule, config.schedule_by, config.clip_norm) == ("cosine", "epoch", 0)
    augmentation = (config.augment, config.crop, config.scale, config.translate, config.jitter)
    assert augmentation == (True,) * 5
    assert not config.blur
