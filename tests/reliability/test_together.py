"""Two processes under torchrun score as one: in memory and with a store."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reliability.scenery import make_labels, make_model

from clipvg.labels import LabelTable
from clipvg.reliability import score_labels
from clipvg.rescoring import plan

SCRIPT = Path(__file__).with_name("two_processes.py")
WAYS = ["memory", "store", "again"]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    folder = tmp_path_factory.mktemp("images")
    labels = make_labels(folder, 9)
    (folder / labels.image_names[3]).write_bytes(b"not an image")
    labels.write(folder / "labels.parquet")
    return labels


@pytest.fixture(scope="module")
def together(labels: LabelTable) -> list[dict[str, Any]]:
    """Scores, reasons and refusals of both processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    folder = labels.image_path("")
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    subprocess.run(
        [*launcher, f"--master-port={port}", str(SCRIPT), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        check=True,
        timeout=120,
    )
    found = []
    for rank in (0, 1):
        reasons, refused = json.loads((folder / f"{rank}.json").read_text())
        found.append({"scores": np.load(folder / f"{rank}.npz"), "reasons": reasons,
                      "refused": refused})  # fmt: skip
    return found


@pytest.mark.parametrize("way", WAYS)
def test_both_get_all_scores(
    labels: LabelTable, together: list[dict[str, Any]], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "IMAGES_PER_SHARD", 2)
    alone = score_labels(labels, {"a": make_model(1), "b": make_model(2)})
    assert np.isnan(alone.scores).any()
    for process in together:
        scores = process["scores"][way]
        np.testing.assert_array_equal(np.isnan(scores), np.isnan(alone.scores))
        np.testing.assert_allclose(scores, alone.scores, atol=1e-6)
        assert dict(map(tuple, process["reasons"][way])) == alone.reasons


def test_both_processes_raise_what_one_meets(
    labels: LabelTable, together: list[dict[str, Any]]
) -> None:
    for process in together:
        assert len(process["refused"]) == 3
        for message in process["refused"]:
            assert labels.image_names[3] in message


def test_both_have_equal_bytes(together: list[dict[str, Any]]) -> None:
    one, two = (process["scores"] for process in together)
    for way in WAYS:
        assert one[way].tobytes() == two[way].tobytes()
