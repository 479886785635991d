"""Commands in processes of their own: interrupted ones go on, several ones share the work."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clipvg.labels import read_labels

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TINY = [
    "--backbone", "clipvg-tiny", "--model.pretrained", "null", "--model.width", "16",
    "--model.layers", "1", "--model.heads", "2", "--model.feedforward", "16",
    "--training.batch_size", "4", "--training.augment", "false",
]  # fmt: skip


def start(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "clipvg", *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True)


def in_second_stage(run: Path) -> bool:
    """Whether a run of adapt has finished a stage and trains another one."""
    trained = [path.parents[1] for path in run.glob("stages/*/training/checkpoint.pt")]
    return any(run.glob("stages/*/stage.json")) and any(
        not (stage / "stage.json").exists() for stage in trained
    )


def past_first_epoch(run: Path) -> bool:
    return any(path.stat().st_size for path in run.glob("metrics.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "epochs", "is_amid"),
    [("train", 400, past_first_epoch), ("adapt", 200, in_second_stage)],
)
def test_ctrl_c_and_the_same_command_end_like_an_undisturbed_run(
    labels: Path,
    pictures: Path,
    tmp_path: Path,
    verb: str,
    epochs: int,
    is_amid: Callable[[Path], bool],
) -> None:
    def words(folder: Path) -> list[object]:
        return [
            verb, labels, "--images", pictures, "--validation", labels, *TINY,
            "--training.epochs", epochs, "--out", folder, "--json",
        ]  # fmt: skip

    cut = tmp_path / "cut"
    process = start(*words(cut))
    deadline = time.monotonic() + 300
    while not is_amid(cut):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1].startswith(f"clipvg {verb}: interrupted; ")
    assert not (cut / "model").exists()
    for folder in (cut, tmp_path / "whole"):  # as many threads as the first process had
        process = start(*words(folder))
        assert process.communicate()[1] is not None
        assert process.returncode == 0
    models = [folder / "model" / "model.safetensors" for folder in (cut, tmp_path / "whole")]
    assert models[0].read_bytes() == models[1].read_bytes()
    lines = [(folder / "metrics.jsonl").read_text() for folder in (cut, tmp_path / "whole")]
    assert len(lines[0].splitlines()) == len(lines[1].splitlines())
    if verb == "train":
        assert lines[0] == lines[1]


def test_two_processes_score_as_one(
    clipvg, checkpoint: Path, labels: Path, pictures: Path, tmp_path: Path
) -> None:
    table = read_labels(labels)
    names = [name if row % 5 else "gone.png" for row, name in enumerate(table.image_names)]
    table = table.with_column("image", names)
    some = tmp_path / "some.parquet"
    table.write(some)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def words(out: Path) -> list[str]:
        return [
            "score", str(some), "--images", str(pictures), "--measurer", f"m={checkpoint}",
            "--out", str(out), "--json",
        ]  # fmt: skip

    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    together = subprocess.run(
        [*launcher, f"--master-port={port}", "-m", "clipvg", *words(tmp_path / "two.parquet")],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert together.returncode == 0, together.stderr
    alone = clipvg(*words(tmp_path / "one.parquet"))
    assert json.loads(together.stdout)["unscored_labels"] == alone.json["unscored_labels"] == 4
    one, two = (read_labels(tmp_path / f"{name}.parquet") for name in ("one", "two"))
    assert one.expressions == two.expressions
    assert one.table["unscored"].to_pylist() == two.table["unscored"].to_pylist()
    np.testing.assert_allclose(one.reliability("m"), two.reliability("m"), atol=1e-6)
