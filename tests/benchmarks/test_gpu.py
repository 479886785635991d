"""The stages of benchmarks/gpu.sh: they resume, record what failed, and are merged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gpu
import pytest
from _gpu.stages import JSON, Stage, run_stages


def shell(name: str, *scripts: str, limit_s: float = 20) -> Stage:
    return Stage(name, limit_s, tuple(("sh", "-c", script, "sh", JSON) for script in scripts))


def run(stages: list[Stage], parts: Path, budget_s: float = 60) -> dict[str, dict[str, Any]]:
    seen: list[int] = []
    records = run_stages(stages, parts, budget_s, lambda found: seen.append(len(found)))
    assert seen == sorted(seen)
    assert seen[-1] == len(records)
    return records


def test_a_stage_that_is_done_is_not_run_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    stage = shell("one", f"""echo run >> {log}; echo '{{"ms": 3}}' > $1""")
    first, second = (run([stage], tmp_path / "parts") for _ in range(2))
    assert first == second
    assert first["one"]["status"] == "passed"
    assert first["one"]["result"] == {"ms": 3}
    assert log.read_text() == "run\n"


def test_a_failure_is_recorded_and_the_next_stage_runs(tmp_path: Path) -> None:
    stages = [
        shell("broken", "echo before; echo why >&2; exit 3", "echo never"),
        Stage("absent", 5, (("no-such-program-anywhere",),)),
        shell("silent", "true"),
        shell("torn", "printf '{' > $1"),
        shell("good", "echo '{}' > $1"),
    ]
    records = run(stages, tmp_path)
    statuses = [records[stage.name]["status"] for stage in stages]
    assert statuses == ["failed", "failed", "failed", "failed", "passed"]
    assert records["broken"]["output"].endswith("before\nwhy\n")
    assert "No such file" in records["absent"]["output"]
    assert "no result was written" in records["silent"]["output"]
    assert "no JSON" in records["torn"]["output"]
    assert "result" not in records["broken"]


def test_a_stage_out_of_time_ends_with_its_children(tmp_path: Path) -> None:
    pid, start = tmp_path / "pid", time.monotonic()
    script = f"echo '{{}}' > $1; sleep 60 & echo $! > {pid}; wait"
    records = run([shell("slow", script, limit_s=0.5), shell("next", "echo '{}' > $1")], tmp_path)
    assert records["slow"]["status"] == "out of time"
    assert records["slow"]["result"] == {}  # what was written until then
    assert records["next"]["status"] == "passed"
    assert time.monotonic() - start < 10
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid.read_text().strip()}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_stages_that_may_not_end_in_time_wait_for_the_next_run(tmp_path: Path) -> None:
    write = "echo '{}' > $1"
    stages = [shell("long", write, limit_s=99), shell("b", write, limit_s=99), shell("c", write)]
    assert list(run(stages, tmp_path, budget_s=30)) == ["long", "c"]
    assert list(run(stages, tmp_path, budget_s=30)) == ["long", "b", "c"]


def test_limits_together_are_eight_minutes() -> None:
    for device in ("cpu", "cuda"):
        assert sum(stage.limit_s for stage in gpu.stages(device)) <= gpu.BUDGET_S <= 480


@pytest.fixture
def two_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    good = shell("good", "echo '{\"ms\": 1}' > $1")
    bad = shell("bad", f"echo '{{}}' > $1; echo tried >> {tmp_path}/tries; exit 1")
    monkeypatch.setattr(gpu, "stages", lambda device: [good, bad])
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    return tmp_path


def merged(folder: Path) -> dict[str, Any]:
    (file,) = (folder / "out").glob("gpu-*-pt*.json")
    return json.loads(file.read_text())


def test_one_file_holds_all_stages(two_stages: Path) -> None:
    common = ["--device", "cpu", "--out", str(two_stages / "out")]
    assert gpu.main([*common, "--only", "good"]) == 0
    assert merged(two_stages)["missing"] == ["bad"]
    assert gpu.main(common) == 1
    found = merged(two_stages)
    assert found["missing"] == []
    assert {name: stage["status"] for name, stage in found["stages"].items()} == {
        "good": "passed",
        "bad": "failed",
    }
    assert found["stages"]["good"]["result"] == {"ms": 1}
    assert found["conditions"]["torch"]
    assert gpu.main([*common, "--only", "good"]) == 0
    assert merged(two_stages) == found  # a stage not asked for keeps its part


def test_retry_repeats_what_failed(two_stages: Path) -> None:
    common = ["--device", "cpu", "--out", str(two_stages / "out")]
    for options, tries in (([], 1), ([], 1), (["--retry"], 2), (["--fresh"], 3)):
        gpu.main([*common, *options])
        assert (two_stages / "tries").read_text() == "tried\n" * tries


def test_unknown_stages_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main(["--device", "cpu", "--only", "rescorin"])
    assert "no stage rescorin; there are tests, box_reliability" in capsys.readouterr().err


def test_the_script_lists_its_stages_from_any_folder(repository: Path, tmp_path: Path) -> None:
    found = subprocess.run(
        ["bash", str(repository / "benchmarks" / "gpu.sh"), "--list", "--device", "cpu"],
        cwd=tmp_path,
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split()[0] == "tests"
    assert "rescoring" in found.stdout
