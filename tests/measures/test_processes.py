"""Two processes under torchrun measure as one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
from measures.two_processes import METHODS
from reliability.scenery import make_labels, make_model

from clipvg.measures.specs import build_measures
from clipvg.reliability import score_labels


def test_two_processes_measure_as_one(tmp_path: Path) -> None:
    labels = make_labels(tmp_path, 9)
    (tmp_path / labels.image_names[3]).write_bytes(b"not an image")
    labels.write(tmp_path / "labels.parquet")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).with_name("two_processes.py")
    path = os.pathsep.join(filter(None, [str(script.parents[1]), os.environ.get("PYTHONPATH")]))
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2",
         f"--master-port={port}", str(script), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}, check=True, timeout=120,
    )  # fmt: skip
    models = {"a": make_model(1), "b": make_model(2)}
    whole = score_labels(labels, {**models, **build_measures(METHODS, models)})
    for rank in (0, 1):
        reasons, refused = json.loads((tmp_path / f"{rank}.json").read_text())
        np.testing.assert_allclose(np.load(tmp_path / f"{rank}.npy"), whole.scores, atol=1e-5)
        assert dict(map(tuple, reasons)) == whole.reasons
        assert labels.image_names[3] in refused
