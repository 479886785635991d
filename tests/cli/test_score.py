"""`clipvg score`: killed and resumed, refused, and run by several processes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.processes import Call, as_two, environment

from clipvg.labels import LabelTable, read_labels
from clipvg.rescoring import plan
from clipvg.runtime.lock import Lock

IMAGES = 240  # sixty shards


def make_images(folder: Path, images: int) -> Path:
    """Write small images, one of them broken, with two labels on each."""
    draw = np.random.default_rng(3)
    for number in range(images):
        pixels = draw.integers(0, 255, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "7.png").write_bytes(b"not an image")
    order = draw.permutation(2 * images)
    LabelTable.from_columns(
        image=[f"{row % images}.png" for row in order],
        expression=[f"thing {row}" for row in order],
        box=[[1.0, 2.0, 10.0 + row % 20, 9.0 + row % 11] for row in order],
    ).write(folder / "labels.parquet")
    return folder


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels on 240 images: sixty shards."""
    return make_images(tmp_path_factory.mktemp("many"), IMAGES)


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels on 40 images: ten shards."""
    return make_images(tmp_path_factory.mktemp("few"), 40)


def words(folder: Path, checkpoint: Path, out: Path, *more: object) -> list[str]:
    command = ["score", folder / "labels.parquet", "--images", folder, "--out", out, *more]
    command += ["--measurer", f"a={checkpoint}", "--measurer", f"b={checkpoint}/../other", "--json"]
    return list(map(str, command))


@pytest.fixture(scope="session")
def measurers(checkpoint: Path) -> Path:
    """The checkpoint, with a second one beside it in `other`."""
    import torch

    from clipvg.model import create_model

    torch.manual_seed(5)
    model = create_model("clipvg-tiny", None, width=16, layers=1, heads=2, feedforward=16)
    model.save_pretrained(checkpoint.parent / "other")
    return checkpoint


def start(command: list[str]) -> Call:
    return Call("support.shards:score", command)


def finished_shards(out: Path) -> int:
    return len(list(out.with_suffix(".scores").glob("*/*.parquet")))


def kill_during(command: list[str], out: Path, shards: int, seconds: float) -> bool:
    """Kill the command after some more shards and some time; False if it ended before that."""
    process, before = start(command), finished_shards(out)
    deadline = time.monotonic() + 120
    while process.code is None and finished_shards(out) < before + shards:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(seconds)
    if process.code is None:
        process.send(signal.SIGKILL)
    return process.end() < 0


def check_kills(many: Path, measurers: Path, tmp_path: Path, kills: int) -> None:
    whole, cut = tmp_path / "whole" / "scored.parquet", tmp_path / "cut" / "scored.parquet"
    first = start(words(many, measurers, whole))
    assert first.end() == 0, first.err
    draw, killed = random.Random(kills), 0
    for _ in range(kills):
        # Before, during and after the writing of shards; sometimes while it starts.
        shards, seconds = draw.choice([0, 1, 1, 2, 3, 4]), draw.uniform(0, 0.05)
        if not shards:
            seconds = draw.uniform(0, 4)
        killed += kill_during(words(many, measurers, cut), cut, shards, seconds)
    assert killed == kills
    assert 0 < finished_shards(cut) < finished_shards(whole)
    last = start(words(many, measurers, cut))
    assert last.end() == 0, last.err
    assert cut.read_bytes() == whole.read_bytes()
    results = [json.loads(process.out) for process in (first, last)]
    assert [result["unscored_labels"] for result in results] == [2, 2]
    assert results[0]["scores"] == {"asked": 4 * IMAGES, "found": 0}
    assert results[1]["scores"]["found"] > 0
    files = [sorted(p.name for p in o.parent.rglob("*.parquet")) for o in (whole, cut)]
    assert files[0] == files[1]  # no partial file is left


@pytest.mark.slow
def test_killed_five_times_ends_with_the_same_bytes(
    many: Path, measurers: Path, tmp_path: Path
) -> None:
    check_kills(many, measurers, tmp_path, 5)


@pytest.mark.slow
def test_killed_twenty_times_ends_with_the_same_bytes(
    many: Path, measurers: Path, tmp_path: Path
) -> None:
    check_kills(many, measurers, tmp_path, 20)


@pytest.mark.parametrize(
    ("numbers", "codes"),
    [
        ([signal.SIGINT], {130}),
        ([signal.SIGHUP], {129}),
        ([signal.SIGINT, signal.SIGTERM], {130, 143}),
    ],
)
def test_a_second_process_is_refused_and_a_signal_says_how_to_go_on(
    clipvg: Any, many: Path, measurers: Path, tmp_path: Path, numbers: list[int], codes: set[int]
) -> None:
    out = tmp_path / "scored.parquet"
    first = start(words(many, measurers, out))
    while finished_shards(out) < 2:
        assert first.code is None, first.err
        time.sleep(0.002)
    first.send(signal.SIGSTOP)
    assert f"in use by process {first.pid}" in clipvg(*words(many, measurers, out)).error
    for number in numbers:
        first.send(number)
    first.send(signal.SIGCONT)
    assert first.end() in codes
    assert first.out == ""
    assert first.err.splitlines()[-1].startswith("clipvg score: interrupted; finished shards")
    assert not out.exists()
    assert not out.with_name(".scored.parquet.lock").exists()
    assert not list(tmp_path.rglob(".*.tmp.*"))


def test_two_on_one_output_are_refused(
    clipvg: Any, checkpoint: Path, labels: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scored.parquet"
    command = ["score", labels, "--images", pictures, "--measurer", f"m={checkpoint}", "--out", out]
    with Lock(out):
        line = clipvg(*command, "--store", tmp_path / "elsewhere").error
        assert f"{out} is in use by process {os.getpid()}" in line
    with Lock(tmp_path):
        line = clipvg(*command, "--store", tmp_path).error
        assert f"{tmp_path} is in use by process {os.getpid()}" in line
        assert "another --store" in line
    assert not out.exists()
    assert clipvg(*command).code == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["scored.parquet", "scored.scores"]


def test_scores_are_found_again(
    clipvg: Any, checkpoint: Path, labels: Path, pictures: Path, tmp_path: Path
) -> None:
    command = ["score", labels, "--images", pictures, "--measurer", f"m={checkpoint}"]
    first = clipvg(*command, "--out", tmp_path / "a.parquet", "--json").json
    assert first["scores"] == {"asked": 16, "found": 0}
    store = ["--store", tmp_path / "a.scores"]
    second = clipvg(*command, "--out", tmp_path / "b.parquet", *store)
    assert "16 of 16" in second.out
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    more = ["--batch_size", 3, "--precision", "bf16", "--out", tmp_path / "c.jsonl", "--json"]
    third = clipvg(*command, *store, *more).json
    assert third["scores"]["found"] == 0


def test_not_one_picture_that_can_be_read(
    clipvg: Any, checkpoint: Path, labels: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "scored.parquet"
    line = clipvg(
        "score", labels, "--images", tmp_path / "empty", "--measurer", f"m={checkpoint}",
        "--out", out,
    ).error  # fmt: skip
    assert "not one of the 8 images could be read" in line
    assert "0.png: no such file" in line
    assert "is written all the same" in line
    table = read_labels(out)
    assert np.isnan(table.reliability("m")).all()
    assert all("no such file" in reason for reason in table.table["unscored"].to_pylist())


def test_reasons_are_counted(
    clipvg: Any, checkpoint: Path, labels: Path, pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes((pictures / f"{number}.png").read_bytes())
    command = ["score", labels, "--images", folder, "--measurer", f"m={checkpoint}", "--out"]
    text = clipvg(*command, tmp_path / "a.parquet").out
    assert "not scored, with the reason in the column 'unscored': 10" in text
    assert "  2: " in text
    assert "  4: other reasons" in text
    result = clipvg(*command, tmp_path / "b.parquet", "--json").json
    assert [reason["labels"] for reason in result["reasons"]] == [2, 2, 2]


def by_torchrun(command: list[str]) -> str:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, "-m", "support.shards", *command],
        env=environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_two(command: list[str]) -> str:
    codes, out, err = as_two("support.shards:score", command)
    assert codes == [0, 0], err
    return out


@pytest.mark.parametrize("share", [by_two, pytest.param(by_torchrun, marks=pytest.mark.slow)])
def test_two_processes_fill_one_store(
    clipvg: Any,
    few: Path,
    measurers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    share: Callable[[list[str]], str],
) -> None:
    monkeypatch.setattr(plan, "IMAGES_PER_SHARD", 4)
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    alone = clipvg(*words(few, measurers, one)).json
    result = json.loads(share(words(few, measurers, two)))
    assert result["unscored_labels"] == alone["unscored_labels"] == 2
    tables = [read_labels(path) for path in (one, two)]
    assert tables[0].expressions == tables[1].expressions
    assert tables[0].table["unscored"].equals(tables[1].table["unscored"])
    for name in "ab":
        scores = [table.reliability(name) for table in tables]
        np.testing.assert_array_equal(np.isnan(scores[0]), np.isnan(scores[1]))
        np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)
    shards = sorted(two.with_suffix(".scores").glob("*/*.parquet"))
    assert len(shards) == 10
    for path in shards[::3]:
        path.unlink()
    assert json.loads(by_two(words(few, measurers, two)))["scores"]["found"] > 0
    assert read_labels(two).table.equals(tables[1].table)


def test_an_error_of_one_process_ends_both(few: Path, measurers: Path, tmp_path: Path) -> None:
    command = words(few, measurers, tmp_path / "s.parquet")
    codes, out, err = as_two("support.shards:score", [*command, "--unreadable_images", "raise"])
    assert (codes, out.strip()) == ([2, 2], "")
    assert "7.png" in err
    with Lock(tmp_path / "s.parquet"):
        codes, out, err = as_two("support.shards:score", command)
    assert (codes, out.strip()) == ([2, 2], "")
    assert f"in use by process {os.getpid()}" in err
