from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import group_by_image
import pytest
import torch
import training_step
from reference_training import ReferenceTrainer

from clipvg.model import create_model
from clipvg.training.losses import box_losses


def test_a_variant_is_timed_beside_the_reference(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    words = ["--quick", "--variants", "own", "--batch-size", "4"]
    training_step.main([*words, "--json", str(file)])
    records = json.loads(file.read_text())["records"]
    assert [r["provider"] for r in records] == ["reference", "own"]
    check(records)


@pytest.mark.slow
def test_what_is_timed_again_takes_the_place_of_its_record(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    training_step.main(["--quick", "--variants", "own", "grouped-bf16", "--json", str(file)])
    training_step.main(["--quick", "--variants", "own", "--json", str(file)])
    records = json.loads(file.read_text())["records"]
    assert [r["provider"] for r in records] == ["reference", "grouped-bf16", "reference", "own"]
    check(records)


def check(records: list[dict[str, Any]]) -> None:
    assert all(r["ms_50"] > 0 and r["speedup"] > 0 for r in records)
    assert records[0]["speedup"] == 1
    assert records[0]["peak_mib"] > 0


def test_the_reference_computes_our_loss_and_gradients(tmp_path: Path) -> None:
    options = {"width": 32, "layers": 2, "heads": 2, "feedforward": 32, "dropout": 0.0}
    torch.manual_seed(0)
    model = create_model("clipvg-tiny", None, train_visual_positions=True, **options)
    args = training_step.parse(["--quick"])
    labels = training_step.make_labels(tmp_path, 16)
    batch = training_step.make_batches(args, model, labels, 4)[0]
    assert len(batch.images) < len(batch.row)
    reference = ReferenceTrainer(model)
    assert len({id(p) for p in reference.parameters}) == len(reference.parameters)
    loss = reference.loss(batch)
    loss.backward()
    mine = sum(box_losses(model(batch), batch.target)).mean()
    torch.testing.assert_close(loss, mine)
    theirs = [p.grad for layer in reference.model.layers for p in layer.self_attn.parameters()]
    table = model.backbone.clip.visual.positional_embedding
    positions = table.grad.clone()
    model.zero_grad()
    mine.backward()
    torch.testing.assert_close(table.grad, positions, atol=1e-6, rtol=1e-4)
    own = [p.grad for layer in model.fusion.layers for p in layer.self_attn.parameters()]
    for gradient, other in zip(own, theirs, strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-6, rtol=1e-4)
    before = table.detach().clone()
    reference.step(dataclasses.replace(batch))
    assert not torch.equal(table, before)


def test_accuracy_of_groups_resumes(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    arguments = ["--quick", "--sizes", "1", "4", "--json", str(file)]
    first = group_by_image.main(arguments)
    assert [r["group_by_image"] for r in first] == [1, 4, 1, 4]
    assert group_by_image.main(arguments) == json.loads(file.read_text())["records"]
