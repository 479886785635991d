"""Run directory: identity, lock, stages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ledger, toy
from support.processes import environment
from support.toy import make_labels

from clipvg.curriculum import Beyond, Previous, Run, RunSummary
from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels
from clipvg.runtime.files import to_json


@pytest.fixture(scope="module")
def labels() -> LabelTable:
    return make_labels(20)


def test_holds_config_and_labels(tmp_path: Path, labels: LabelTable) -> None:
    with Run(tmp_path / "run", config={"lr": 0.1}, labels=labels) as run:
        pass
    assert read_labels(run.folder / "labels.parquet").fingerprint() == labels.fingerprint()
    assert "lr: 0.1" in (run.folder / "config.yaml").read_text()


def test_another_config_or_other_labels_are_refused(tmp_path: Path, labels: LabelTable) -> None:
    Run(tmp_path, config={"training": {"lr": 0.1}}, labels=labels).close()
    with pytest.raises(InputError, match=r"training\.lr is 0\.1 there, 0\.2 now.*another --out"):
        Run(tmp_path, config={"training": {"lr": 0.2}}, labels=labels)
    with pytest.raises(InputError, match=r"labels\.count is 20 there, 10 now"):
        Run(tmp_path, config={"training": {"lr": 0.1}}, labels=labels.select(range(10)))
    with pytest.raises(InputError, match="validation"):
        Run(tmp_path, config={"training": {"lr": 0.1}}, labels=labels, validation=labels)
    Run(tmp_path, config={"training": {"lr": 0.1}}, labels=labels).close()


def test_truth_is_no_part_of_the_identity(tmp_path: Path, labels: LabelTable) -> None:
    Run(tmp_path, config={}, labels=labels).close()
    Run(tmp_path, config={}, labels=labels.drop_columns("truth")).close()


def test_a_file_is_no_run(tmp_path: Path, labels: LabelTable) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        Run(tmp_path / "file", config={}, labels=labels)


def test_what_is_refused_leaves_nothing_behind(tmp_path: Path, labels: LabelTable) -> None:
    (tmp_path / "there").mkdir()
    for folder in (tmp_path / "there", tmp_path / "new" / "and" / "below"):
        with pytest.raises(InputError), Run(folder, config={}, labels=labels):
            raise InputError("no such backbone")
    (tmp_path / "there" / "labels.parquet").write_text("mine")
    with pytest.raises(InputError, match="belongs to no run"):
        Run(tmp_path / "there", config={}, labels=labels)
    assert {*tmp_path.rglob("*")} == {tmp_path / "there", tmp_path / "there" / "labels.parquet"}


def test_a_pipe_is_no_configuration(tmp_path: Path, labels: LabelTable) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(InputError, match=r"config\.yaml is damaged.*Delete that file"):
        Run(tmp_path, config={}, labels=labels)


def test_two_processes_do_not_share_a_run(tmp_path: Path, labels: LabelTable) -> None:
    code = (
        "import sys; from clipvg.curriculum import Run; from support.toy import *\n"
        "try: Run(sys.argv[1], config={}, labels=make_labels(20))\n"
        "except ValueError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    options = {"env": environment(), "capture_output": True, "text": True, "check": True}
    with Run(tmp_path, config={}, labels=labels):
        busy = subprocess.run(command, **options)
    free = subprocess.run(command, **options)
    assert f"in use by process {os.getpid()}" in busy.stdout
    assert free.stdout == ""


def test_stages_have_a_key_each(tmp_path: Path, labels: LabelTable) -> None:
    with Run(tmp_path, config={}, labels=labels) as run:
        first, second = run.stage(subset="a", seed=0), run.stage(subset="a", seed=1)
        assert first.key != second.key
        assert first == run.stage(seed=0, subset="a")
        first.finish({"score": float("nan")}, lambda folder: (folder / "w").write_text("1"))
        assert first.is_finished
        assert not second.is_finished
        assert first.read() == {"score": None}
        assert (first.model_folder / "w").read_text() == "1"


def test_metrics_are_written_whole(tmp_path: Path, labels: LabelTable) -> None:
    for _ in range(2):  # a resumed run records again without duplicates
        with Run(tmp_path, config={}, labels=labels) as run:
            run.record(event="a", score=0.5)
            run.record(event="b", score=float("inf"))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"event": "a", "score": 0.5},
        {"event": "b", "score": None},
    ]


def test_a_file_is_made_once(tmp_path: Path, labels: LabelTable) -> None:
    with Run(tmp_path, config={}, labels=labels) as run:
        for content in ("first", "second"):
            read = run.once(
                tmp_path / "made.txt",
                lambda content=content: content,
                lambda text, path: path.write_text(text),
                Path.read_text,
            )
            assert read == "first"


def test_summaries_are_read_as_they_were_written(tmp_path: Path) -> None:
    toy.adapt(tmp_path / "ssa")
    ledger.adapt(tmp_path / "msa", beyond=Beyond(soft=True, rounds=1))
    previous = Previous.read(tmp_path / "ssa")
    assert previous.summary.steps[0].source == "template"
    for name in ("ssa", "msa"):
        content = json.loads((tmp_path / name / "summary.json").read_text())
        assert to_json(RunSummary.from_dict(content).to_dict()) == content
