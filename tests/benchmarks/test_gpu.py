"""The stages of benchmarks/gpu.sh resume, record their failures and are merged into one file."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import _harness
import gpu
import pytest
import torch
from _gpu import pack
from _gpu.stages import JSON, Stage, hash_sources, run_stages


def shell(name: str, *scripts: str, limit_s: float = 20) -> Stage:
    return Stage(name, limit_s, tuple(("sh", "-c", script, "sh", JSON) for script in scripts))


def run(
    stages: list[Stage], parts: Path, budget_s: float = 60, sources: str = "a"
) -> dict[str, dict[str, Any]]:
    seen: list[int] = []
    records = run_stages(stages, parts, sources, budget_s, lambda found: seen.append(len(found)))
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


def test_a_stage_of_other_sources_is_run_again(tmp_path: Path) -> None:
    stage = shell("one", f"""echo run >> {tmp_path}/log; echo '{{}}' > $1""")
    for sources in ("a", "b", "b", "a"):
        record = run([stage], tmp_path / "parts", sources=sources)["one"]
        assert record["sources"] == sources
    assert (tmp_path / "log").read_text() == "run\n" * 3


def test_the_hash_is_of_sources_only(tmp_path: Path) -> None:
    for name in ("setup.py", "csrc/a.cu", "clipvg/ops/b.py", "clipvg/_build.json", "docs/c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    first = hash_sources(tmp_path)
    for name in ("clipvg/_build.json", "clipvg/_C.so", "docs/c.py"):
        (tmp_path / name).write_text("other")
        assert hash_sources(tmp_path) == first
    seen = {first}
    for name in ("setup.py", "csrc/a.cu", "clipvg/ops/b.py", "kernels.py", "tests/new.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("other")
        seen.add(hash_sources(tmp_path))
    assert len(seen) == 5  # kernels.py is not a source


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
    pid = tmp_path / "pid"
    script = f"echo '{{}}' > $1; sleep 60 & echo $! > {pid}; wait"
    records = run([shell("slow", script, limit_s=0.5), shell("next", "echo '{}' > $1")], tmp_path)
    assert records["slow"]["status"] == "out of time"
    assert records["slow"]["result"] == {}  # what it wrote before the timeout
    assert records["next"]["status"] == "passed"
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid.read_text().strip()}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_stages_that_may_not_end_in_time_wait_for_the_next_run(tmp_path: Path) -> None:
    write = "echo '{}' > $1"
    stages = [shell("long", write, limit_s=99), shell("b", write, limit_s=99), shell("c", write)]
    assert list(run(stages, tmp_path, budget_s=30)) == ["long", "c"]
    assert list(run(stages, tmp_path, budget_s=30)) == ["long", "b", "c"]


def test_two_calls_of_less_than_five_minutes_reach_every_stage() -> None:
    first, second = gpu.stages("cuda")[:5], gpu.stages("cuda")[5:]
    assert first[-1].name == "multilevel_projection"
    for part in (first, second):
        assert sum(stage.limit_s for stage in part) <= gpu.CALL_S < 300


def test_a_rehearsal_has_the_same_stages_and_limits() -> None:
    on_gpu, on_cpu = (
        [(stage.name, stage.limit_s, len(stage.commands)) for stage in gpu.stages(device)]
        for device in ("cuda", "cpu")
    )
    assert [each[:2] for each in on_gpu] == [each[:2] for each in on_cpu]
    for stage in gpu.stages("cpu"):
        assert all(not any("cuda" in part for part in command) for command in stage.commands)


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
    assert merged(two_stages) == found  # a stage that is not asked for keeps its record


def test_a_fresh_machine_goes_on_from_the_merged_file(two_stages: Path) -> None:
    common = ["--device", "cpu", "--out", str(two_stages / "out")]
    assert gpu.main([*common, "--only", "good"]) == 0
    before = merged(two_stages)["stages"]["good"]
    shutil.rmtree(two_stages / "build")
    assert gpu.main(common) == 1
    assert merged(two_stages)["stages"]["good"] == before
    assert merged(two_stages)["missing"] == []


def test_what_travels_is_listed_and_held_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in pack.WHEELS:
        (wheels / f"{name}-1.0-py3-none-any.whl").write_bytes(b"0" * 2**20)
    monkeypatch.setattr(pack, "tree_bytes", lambda root: 5 * 2**20)
    assert pack.pack(tmp_path, wheels) == 0
    found = capsys.readouterr().out
    assert "5.00 MiB  the tree without .git" in found
    assert f"{5 + len(pack.WHEELS)}.00 MiB  of 64" in found
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "much").write_bytes(b"")
    os.truncate(tmp_path / "shared" / "much", 60 * 2**20)
    assert pack.pack(tmp_path, wheels) == 1
    assert "60.00 MiB  shared/" in capsys.readouterr().out


def test_what_lacks_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "NEEDED", ("json", "no_such_module_anywhere"))
    gpu.print_lacking("cpu")
    assert "lacking here: no_such_module_anywhere; stages" in capsys.readouterr().out


def test_retry_repeats_what_failed(two_stages: Path) -> None:
    common = ["--device", "cpu", "--out", str(two_stages / "out")]
    for options, tries in (([], 1), ([], 1), (["--retry"], 2), (["--fresh"], 3)):
        gpu.main([*common, *options])
        assert (two_stages / "tries").read_text() == "tried\n" * tries


def test_a_changed_source_repeats_all_and_the_build_unasked(
    two_stages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = [
        Stage(name, 9, (("sh", "-c", f"echo {name} >> {two_stages}/ran"),))
        for name in ("build", "a", "b")
    ]
    monkeypatch.setattr(gpu, "stages", lambda device: known)
    common = ["--device", "cpu", "--out", str(two_stages / "out")]
    (two_stages / "clipvg").mkdir()
    (two_stages / "clipvg" / "_ops.so").touch()

    def ran(*options: str) -> list[str]:
        (two_stages / "ran").write_text("")
        assert gpu.main([*common, *options]) == 0
        return (two_stages / "ran").read_text().split()

    assert ran() == ["build", "a", "b"]
    assert ran("--retry") == []
    (two_stages / "setup.py").touch()
    assert ran("--only", "b") == ["build", "b"]
    assert merged(two_stages)["missing"] == ["a"]  # its record is of other sources
    assert ran("--only", "b") == []
    assert ran() == ["a"]
    assert merged(two_stages)["missing"] == []
    (two_stages / "clipvg" / "_ops.so").unlink()
    assert ran() == ["build"]  # the build's output is gone


def test_the_commit_is_given_or_known_or_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPVG_COMMIT", "abc1234")
    assert _harness.commit() == "abc1234"
    monkeypatch.delenv("CLIPVG_COMMIT")
    monkeypatch.setenv("PATH", "")
    assert _harness.commit() == "unknown"  # git is not found
    monkeypatch.undo()
    monkeypatch.delenv("CLIPVG_COMMIT", raising=False)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert _harness.commit() == "unknown"  # not a checkout


def test_an_alternative_that_cannot_be_made_or_run_is_left_out(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(repository / "benchmarks" / "ops")
    bench = importlib.import_module("packed_attention")
    size = bench.Size(1, 2, "float32", bench.BOTH)
    own = bench.inputs(size, "cpu")

    def gone(*_: object) -> None:
        raise AttributeError("it is no more")

    class NoGradient(torch.autograd.Function):
        @staticmethod
        def forward(_context: object, q: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
            return bench.F.scaled_dot_product_attention(q, *others[:2], attn_mask=others[2])

        @staticmethod
        def backward(_context: object, *_: object) -> None:
            raise RuntimeError

    def no_gradient(own: Any) -> tuple:
        padded, real = own.padded()
        return (lambda q, k, v: NoGradient.apply(q, k, v, real)), padded

    monkeypatch.setattr(bench, "compiles", lambda device, first, quick: False)
    monkeypatch.setattr(bench, "jagged", gone)
    monkeypatch.setattr(bench, "masked", no_gradient)
    args = SimpleNamespace(device="cpu", blocks=False, quick=True)
    found = bench.usable(own, size, args)
    assert set(found) == set(bench.available("cpu"))
    printed = capsys.readouterr().out
    assert "SDPA, jagged is left out: AttributeError: it is no more" in printed
    assert "SDPA, padded, mask is left out: RuntimeError" in printed


def test_memory_of_a_call_is_above_what_was_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 5 << 20)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7 << 20)
    ticks = itertools.count()
    monkeypatch.setattr(_harness, "time", SimpleNamespace(perf_counter=lambda: next(ticks) / 100))
    runs = {"cpu": 0, "cuda": 0}

    def run(device: str) -> None:
        runs[device] += 1

    assert _harness.measure(lambda: run("cuda"), "cuda")["peak_mib"] == 2
    assert "peak_mib" not in _harness.measure(lambda: run("cpu"), "cpu")
    assert runs["cuda"] < runs["cpu"] / 2  # fewer runs: time on a GPU is short


def test_operators_write_each_case_when_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_harness, "MEASURE_S", 0.0)
    monkeypatch.setattr(_harness, "WARM_UP_S", 0.0)
    file, earlier = tmp_path / "out.json", [{"case": "b", "provider": "old"}]
    file.write_text(json.dumps({"records": [{"case": "a", "provider": "old"}, *earlier]}))
    records = _harness.compare("op", _harness.Case("a"), {"x": list, "y": list}, "cpu")
    _harness.write(file, records, "cpu")
    kept = json.loads(file.read_text())["records"]
    assert [(r["case"], r["provider"]) for r in kept] == [("b", "old"), ("a", "x"), ("a", "y")]
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_unknown_stages_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main(["--device", "cpu", "--only", "rescorin"])
    assert "no stage rescorin; there are build, tests, box_reliability" in capsys.readouterr().err


def test_stages_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--list", "--device", "cpu"])
    listed = capsys.readouterr().out
    assert listed.split()[0] == "build"
    assert "rescoring" in listed


def test_the_script_runs_from_any_folder(repository: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$PWD" "$@"\n')
    python.chmod(0o755)
    found = subprocess.run(
        ["bash", str(repository / "benchmarks" / "gpu.sh"), "--list", "--device", "cpu"],
        cwd=tmp_path,
        env=os.environ | {"PYTHON": str(python)},
        capture_output=True,
        text=True,
        check=True,
    )
    last = found.stdout.splitlines()[-1]
    assert last == f"{repository} benchmarks/gpu.py --list --device cpu"


def test_a_case_that_is_not_there_ends_a_benchmark() -> None:
    assert _harness.chosen({"1 x 2": 0, "3 x 2": 1}, "3 x") == {"3 x 2": 1}
    with pytest.raises(SystemExit, match="no case has '4' in its name; there are '1 x 2', '3 x 2'"):
        _harness.chosen({"1 x 2": 0, "3 x 2": 1}, "4")


def test_an_interpreter_without_torch_is_named(repository: Path) -> None:
    found = subprocess.run(
        ["bash", str(repository / "benchmarks" / "gpu.sh")],
        env=os.environ | {"PYTHON": "false"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert "false cannot import torch" in found.stderr
