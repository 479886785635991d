from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from training import toy

from clipvg.labels import LabelTable
from clipvg.training import evaluate, fit

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def together(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What two processes under torchrun trained and measured."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    launcher += [f"--master-port={port}", str(SCRIPT)]
    settings = {"images": str(pictures), "out": str(folder)}
    subprocess.run(
        [*launcher, json.dumps(settings)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=120,
    )
    return torch.load(folder / "result.pt", weights_only=True)


def test_two_processes_train_as_one(
    labels: LabelTable, validation: LabelTable, together: dict
) -> None:
    one = fit(toy.make_model(), labels, config=toy.QUICK, validation=validation, progress=False)
    difference = toy.largest_difference(toy.state(one.model), together["last"], key_biases=False)
    assert difference < 1e-5
    for mine, theirs in zip(one.metrics, together["metrics"], strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)
    np.testing.assert_allclose(one.history, together["history"].numpy(), atol=2e-3)


def test_processes_end_with_equal_weights(together: dict) -> None:
    assert together["equal"]


def test_each_label_is_counted_once(validation: LabelTable, together: dict) -> None:
    odd = validation.select(np.arange(23))
    alone = evaluate(toy.make_model(), odd).to_dict()
    assert together["evaluation"] == pytest.approx(
        {k: alone[k] for k in ("count", "acc_0.5", "mean_iou")}, abs=1e-6
    )


def test_augmented_training_runs_with_an_uneven_last_batch(together: dict) -> None:
    assert together["augmented"] < 3.0


def test_two_processes_share_pictures_as_one(labels: LabelTable, together: dict) -> None:
    config = dataclasses.replace(toy.QUICK, augment=True, group_by_image=3, epochs=2)
    one = fit(toy.make_model(), labels, config=config, progress=False)
    difference = toy.largest_difference(toy.state(one.model), together["shared"], key_biases=False)
    assert difference < 1e-5


def test_several_processes_resume(together: dict) -> None:
    assert together["resumed"] == 0
