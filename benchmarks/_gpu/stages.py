"""Run stages that can be stopped at any time and resumed.

A stage is a list of commands with a time limit. Its record is one JSON file, its part, written as
soon as it ends; a stage that has a part for the current sources is not run again.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PYTHON = sys.executable
TAIL = 3000  # characters of output that a record keeps
STOP_S = 5  # between SIGTERM and SIGKILL
SOURCES = ("benchmarks", "clipvg", "csrc", "kernels", "tests", "setup.py", "pyproject.toml")
KINDS = {".cpp", ".cu", ".h", ".py", ".sh", ".toml", ".yaml"}  # a build writes other kinds
JSON = "{json}"  # placeholder in a command for the file of its result


@dataclass(frozen=True)
class Stage:
    """Commands to run within a time limit.

    Attributes:
        name: name of the stage and of its part's file.
        limit_s: seconds for all commands together.
        commands: run one after the other; the first that fails ends the stage. `JSON` in one is
            replaced by a path, and the file that is found there is the result.
        environment: variables that are added to those of this process.
    """

    name: str
    limit_s: float
    commands: tuple[tuple[str, ...], ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def hash_sources(root: Path) -> str:
    """Return a hash of the paths and contents of all that is built and run, without using git."""
    found = hashlib.sha256()
    tops = [root / name for name in SOURCES]
    files = [file for top in tops for file in (top.rglob("*") if top.is_dir() else [top])]
    for file in sorted(file for file in files if file.suffix in KINDS and file.is_file()):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        found.update(f"{file.relative_to(root).as_posix()} {content}\n".encode())
    return found.hexdigest()[:16]


def read_part(part: Path, sources: str) -> dict[str, Any] | None:
    """Return the record of a stage, or None if there is none for these sources."""
    if not part.exists():
        return None
    record: dict[str, Any] = json.loads(part.read_text())
    return record if record.get("sources") == sources else None


def restore_parts(result: Path, parts: Path) -> None:
    """Write the parts that are missing but contained in a merged result file."""
    if not result.exists():
        return
    parts.mkdir(parents=True, exist_ok=True)
    for name, record in json.loads(result.read_text())["stages"].items():
        part = parts / f"{name}.json"
        if not part.exists():
            write_json(part, record)


def run_stages(
    stages: Iterable[Stage],
    parts: Path,
    sources: str,
    budget_s: float,
    after: Callable[[dict[str, dict[str, Any]]], None],
) -> dict[str, dict[str, Any]]:
    """Run the stages that have no part yet, until the time is used up.

    Args:
        stages: stages to run, in this order.
        parts: folder of the parts.
        sources: hash of the sources; parts of other sources do not count.
        budget_s: seconds for all stages; one for which less than its limit is left waits for the
            next run, unless it is the first of this one.
        after: called with the records so far after each stage.

    Returns:
        The records by name: `status` ("passed", "failed", "out of time"), `seconds`, `commands`,
        `sources`, `output` (its end) and, where there is one, `result`.
    """
    parts.mkdir(parents=True, exist_ok=True)
    records: dict[str, dict[str, Any]] = {}
    start, ran = time.monotonic(), 0
    for stage in stages:
        part = parts / f"{stage.name}.json"
        if (before := read_part(part, sources)) is not None:
            records[stage.name] = before
            say(stage, before, "done before")
            continue
        left = budget_s - (time.monotonic() - start)
        if ran and left < stage.limit_s:
            print(f"{stage.name:24s} waits: {left:.0f} s left, it may take {stage.limit_s:.0f}")
            continue
        ran += 1
        record = run_stage(stage, parts) | {"sources": sources}
        write_json(part, record)
        records[stage.name] = record
        say(stage, record, "now")
        after(records)
    after(records)
    return records


def run_stage(stage: Stage, parts: Path) -> dict[str, Any]:
    """Run the commands of a stage; see `run_stages` for the record."""
    log, result = parts / f"{stage.name}.log", parts / f"{stage.name}.result.json"
    result.unlink(missing_ok=True)
    start, status = time.monotonic(), "passed"
    commands = [[part.replace(JSON, str(result)) for part in one] for one in stage.commands]
    with log.open("wb") as output:
        for command in commands:
            output.write(f"$ {' '.join(command)}\n".encode())
            output.flush()
            left = stage.limit_s - (time.monotonic() - start)
            code = _run(command, {**os.environ, **stage.environment}, output, left)
            if code != 0:
                status = "out of time" if code is None else "failed"
                break
    text = log.read_text(errors="replace")
    record: dict[str, Any] = {"status": status, "seconds": round(time.monotonic() - start, 1)}
    record |= {"limit_s": stage.limit_s}
    record["commands"] = [_anywhere(" ".join(one)) for one in stage.commands]
    try:
        record["result"] = json.loads(result.read_text())
    except FileNotFoundError:
        if status == "passed" and any(JSON in part for one in stage.commands for part in one):
            record["status"], text = "failed", f"{text}\nno result was written"
    except json.JSONDecodeError as error:  # stopped while it was writing
        record["status"], text = "failed", f"{text}\nthe result is no JSON: {error}"
    return record | {"output": _anywhere(text)[-TAIL:]}


def _anywhere(text: str) -> str:
    """Return the text without the locations of this repository and interpreter."""
    return text.replace(PYTHON, "python").replace(str(Path.cwd()), ".")


def _run(
    command: list[str], environment: dict[str, str], output: Any, limit_s: float
) -> int | None:
    """Run a command; return its exit code, or None if it was stopped because its time was up."""
    options: dict[str, Any] = {"env": environment, "stdout": output, "stderr": output}
    try:
        process = subprocess.Popen(command, process_group=0, **options)
    except OSError as error:
        output.write(f"{error}\n".encode())
        output.flush()
        return 127
    try:
        return process.wait(max(0.1, limit_s))
    except subprocess.TimeoutExpired:
        return None
    finally:  # also end children that it left running, and all of it if this process is stopped
        for kind in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, kind)
                process.wait(STOP_S)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file atomically: it appears complete or not at all."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content, indent=1) + "\n")
    new.replace(path)


def say(stage: Stage, record: dict[str, Any], when: str) -> None:
    """Print the outcome of a stage, and the end of its output if it did not pass."""
    print(f"{stage.name:24s} {record['status']} in {record['seconds']} s ({when})", flush=True)
    if record["status"] != "passed":
        print("    " + "\n    ".join(record["output"].splitlines()[-15:]), flush=True)
