"""Commands in separate processes can be interrupted and resumed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.processes import environment, killed

TINY = [
    "--backbone", "clipvg-tiny", "--model.pretrained", "null", "--model.width", "16",
    "--model.layers", "1", "--model.heads", "2", "--model.feedforward", "16",
    "--training.batch_size", "4", "--training.augment", "false",
]  # fmt: skip


def start(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "clipvg", *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment(), stdout=pipe, stderr=pipe, text=True)


def in_second_stage(run: Path) -> bool:
    """Return whether a run of `adapt` has finished a stage and is training another."""
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
    for folder in (cut, tmp_path / "whole"):  # on as many threads as the first process
        process = start(*words(folder))
        assert process.communicate()[1] is not None
        assert process.returncode == 0
    models = [folder / "model" / "model.safetensors" for folder in (cut, tmp_path / "whole")]
    assert models[0].read_bytes() == models[1].read_bytes()
    lines = [(folder / "metrics.jsonl").read_text() for folder in (cut, tmp_path / "whole")]
    assert len(lines[0].splitlines()) == len(lines[1].splitlines())
    if verb == "train":
        assert lines[0] == lines[1]


@pytest.mark.parametrize(
    "verb", ["labels show", "predict", pytest.param("export", marks=pytest.mark.slow)]
)
def test_what_a_kill_leaves_is_gone_after_the_next_call(
    clipvg, labels: Path, pictures: Path, checkpoint: Path, tmp_path: Path, verb: str
) -> None:
    name, words = {
        "labels show": ("p.html", [labels, "--images", pictures]),
        "predict": ("p.png", [pictures / "1.png", "dog", "--checkpoint", checkpoint]),
        "export": ("p", [checkpoint, "--format", "safetensors"]),
    }[verb]
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    words = [*verb.split(), *words, "--out"]
    codes = killed("clipvg.cli:main", [*words, cut / name], writes=[2])  # before the rename
    assert codes == [-signal.SIGKILL]
    assert any(".tmp" in path.name for path in cut.rglob("*"))
    for folder in (cut, whole):
        assert clipvg(*words, folder / name).code == 0
    files = [sorted(p.relative_to(folder) for p in folder.rglob("*")) for folder in (cut, whole)]
    assert files[0] == files[1]
