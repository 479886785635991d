"""Readers, configurations, the command line and operators on inputs that were tampered with.

Each case ends with a result or an `InputError` of one line: no other error, no hang, no flood of
memory. `make test` tries 200 cases a target, 50 of command lines; `make fuzz` tries 5,000, going on
where it stopped. A failure names target and case, and
`FUZZ_CASE=1234 pytest -k TARGET tests/test_fuzz.py` repeats it. A case that once failed is kept as
a test of its own, beside the tests of the part that failed.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
import yaml
from support.sound import FILES, image_bytes

from clipvg.cli.commands import load_command
from clipvg.cli.failure import UsageError, explain
from clipvg.errors import InputError
from clipvg.ops import box_reliability, box_reliability_numpy

CASES = int(os.environ.get("FUZZ_CASES", "200"))
# fewer, as each case builds a parser
COMMANDS = int(os.environ.get("FUZZ_CASES", "50"))
ONE_CASE = os.environ.get("FUZZ_CASE")
SECONDS = 10
EXTRA_BYTES = 2 * 2**30
REFUSALS = (InputError, UsageError)
TOKENS = [
    b"9" * 5000, b"-1", b"1e999", b"NaN", b"null", b"[", b"{" * 50, b'"', b"\x00", b"\xff\xfe",
    b"\n", b"\\ud800", b"../", b"&a *a", b"<!ENTITY", b"\x1b[31m", b"18446744073709551616",
    b"\x85" * 99,
]  # fmt: skip
VALUES = [
    None, True, -1, 0, 2**31, 2**63, 10**400, 0.5, float("nan"), float("inf"), "", "x" * 3000,
    "\ud800", "\x00", [], [[]], {}, {"a": {}}, [None] * 5, "../../x", "/etc/passwd", 1e39,
]  # fmt: skip


def tamper(rng: np.random.Generator, data: bytes) -> bytes:
    """Change, cut or repeat bytes, or insert what parsers dislike, once or a few times."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(0, len(changed) + 1))
        kind = rng.integers(0, 5)
        if kind == 0 and at < len(changed):
            changed[at] = rng.integers(0, 256)
        elif kind == 1:
            del changed[at : at + int(rng.integers(1, 30))]
        elif kind == 2:
            changed[at:at] = changed[at : at + 40] * int(rng.integers(1, 20))
        elif kind == 3:
            changed[at:at] = TOKENS[rng.integers(0, len(TOKENS))]
        elif rng.random() < 0.2:
            del changed[at:]
    return bytes(changed)


def tamper_values(rng: np.random.Generator, value: Any) -> Any:
    """Replace, drop or add a value somewhere in nested lists and dictionaries."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = list(value)[rng.integers(0, len(value))]
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: tamper_values(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        index = int(rng.integers(0, len(value)))
        return [*value[:index], tamper_values(rng, value[index]), *value[index + 1 :]]
    return VALUES[rng.integers(0, len(VALUES))]


@pytest.fixture(autouse=True)
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Limit memory to `EXTRA_BYTES` more than is used now."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + EXTRA_BYTES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def hang(*_: object) -> NoReturn:
    raise SystemExit(f"more than {SECONDS} s")  # no `except Exception` stops it


def run_cases(
    name: str, try_case: Callable[[np.random.Generator], object], count: int = CASES
) -> None:
    """Try every case that is not known to pass."""
    place = Path("build", "fuzz", name.replace("/", "_"))
    start = int(place.read_text()) if "FUZZ_CASES" in os.environ and place.is_file() else 0
    cases = [int(ONE_CASE)] if ONE_CASE else range(start, count)
    handled = {number: signal.signal(number, hang) for number in (signal.SIGPROF, signal.SIGALRM)}
    try:
        for case in cases:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # CPU time, as others may use the machine
            signal.alarm(12 * SECONDS)
            message = ""
            try:
                try_case(np.random.default_rng([case, len(name)]))
            except REFUSALS as error:
                message = explain(error)[0]  # as the command prints it
            except BaseException as error:
                raise AssertionError(
                    f"{name}, case {case}: {type(error).__name__}: {error}"
                ) from error
            assert "\n" not in message, f"{name}, case {case}: more than one line"
            assert len(message) < 3000, f"{name}, case {case}: a message of {len(message)}"
            if "FUZZ_CASES" in os.environ and case % 100 == 99:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(str(case + 1))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in handled.items():
            signal.signal(number, handler)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_files(name: str, tmp_path: Path) -> None:
    content, read = FILES[name]
    for other, (honest, _) in FILES.items():
        if "/" in name and name.split("/")[0] == other.split("/")[0]:  # they need each other
            (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / other).write_bytes(honest)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    (path.parent / "a.jpg").write_bytes(image_bytes("JPEG"))
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    read(path)

    def try_case(rng: np.random.Generator) -> None:
        is_json = name.removesuffix(".gz").endswith(("json", "jsonl")) and rng.random() < 0.5
        data = json.dumps(tamper_values(rng, json.loads(content))).encode() if is_json else None
        data = tamper(rng, content) if data is None else data
        if name.endswith(".gz"):
            data = gzip.compress(data) if rng.random() < 0.8 else tamper(rng, gzip.compress(data))
        path.write_bytes(data)
        read(path)

    run_cases(name, try_case)


@pytest.mark.filterwarnings("ignore")
def test_configurations_of_models(tmp_path: Path) -> None:
    from clipvg.model import create_model, load

    clip = {"model": {"width": 16, "layers": 1, "heads": 2, "feedforward": 16, "pretrained": None}}
    create_model("clipvg-tiny", **clip["model"]).save_pretrained(tmp_path / "honest")
    header = json.loads((tmp_path / "honest" / "config.json").read_text())
    shutil.copytree(tmp_path / "honest", tmp_path / "model")

    def try_case(rng: np.random.Generator) -> None:
        changed = tamper_values(rng, header)
        (tmp_path / "model" / "config.json").write_text(json.dumps(changed))
        load(tmp_path / "model")

    run_cases("config.json", try_case)


def test_configurations_of_commands(tmp_path: Path) -> None:
    command = load_command("adapt")
    path = tmp_path / "recipe.yaml"
    honest = {
        "backbone": "clipvg-tiny",
        "model": {"width": 16, "levels": [1, 2], "dropout": 0.1},
        "training": {"epochs": 3, "lr": 0.1, "augment": False, "seed": 1},
        "search": {"start": 0.5, "min_kept": 3},
        "beyond": {"measures": ["hygiene"], "rounds": 1},
    }

    def try_case(rng: np.random.Generator) -> None:
        if rng.random() < 0.5:
            path.write_bytes(tamper(rng, yaml.safe_dump(honest).encode()))
        else:
            path.write_text(json.dumps(tamper_values(rng, honest)))
        command.parse("adapt", ["l.csv", "--images", "d", "--out", "o", "--config", str(path)])

    run_cases("recipe.yaml", try_case, COMMANDS)


def configurations() -> list[type]:
    """Return every class of options."""
    from clipvg.curriculum import Beyond, MSAConfig, SSAConfig
    from clipvg.data.scenes.labels import NoiseConfig
    from clipvg.data.scenes.observe import ObserverErrors
    from clipvg.data.scenes.world import SceneConfig
    from clipvg.features import CacheOptions
    from clipvg.model import ModelOptions
    from clipvg.pseudo import Options
    from clipvg.reliability.ray.cluster import RayOptions
    from clipvg.rescoring import EngineConfig
    from clipvg.training import FitConfig

    return [
        Beyond, MSAConfig, SSAConfig, NoiseConfig, ObserverErrors, SceneConfig, CacheOptions,
        ModelOptions, Options, RayOptions, EngineConfig, FitConfig,
    ]  # fmt: skip


def test_objects_of_options() -> None:
    classes = configurations()

    def try_case(rng: np.random.Generator) -> None:
        cls = classes[rng.integers(0, len(classes))]
        names = [field.name for field in dataclasses.fields(cls)]
        chosen = rng.choice(names, rng.integers(1, 4))
        honest = dataclasses.asdict(cls())
        cls(**{name: tamper_values(rng, honest[name]) for name in chosen})

    run_cases("options", try_case)


def test_words_of_command_lines() -> None:
    words = ["l.csv", "--images", "d", "--out", "o", "--training.epochs", "3", "--search.step=0.1"]
    command = load_command("adapt")

    def try_case(rng: np.random.Generator) -> None:
        changed = list(words)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(0, len(changed)))
            changed[at] = tamper(rng, changed[at].encode("utf-8", "surrogateescape")).decode(
                "utf-8", "surrogateescape"
            )
        if not {"-h", "--help", "--config"} & {word.partition("=")[0] for word in changed}:
            try:
                command.parse("adapt", changed)
            except SystemExit as stop:  # -hX is help to the argparse of Python 3.13
                if stop.code:
                    raise

    run_cases("words", try_case, COMMANDS)


def test_inputs_of_operators() -> None:
    numbers = [-1, 0, 1, 2, 10, 2**24, 2**25, 2**62, 10**400, 0.5, -0.5, 1e-16, 1e-60, 1e300]
    odd = [None, True, "3", float("nan"), float("inf"), *numbers]

    def try_case(rng: np.random.Generator) -> None:
        shape = (int(rng.integers(0, 3)), int(rng.integers(0, 40)), 4)
        boxes = rng.normal(0.5, 0.5, shape)
        boxes[rng.random(shape) < 0.02] = rng.choice([np.nan, np.inf, 1e30, -1e300])
        target = rng.normal(0.5, 0.5, shape[1:])
        options: dict[str, Any] = {"bins": 10}
        for option in ("bins", "eps", "num_groups", "fmt"):
            if rng.random() < 0.4:
                options[option] = odd[rng.integers(0, len(odd))]
        if {options["bins"], options.get("num_groups")} & {2**24, 2**25}:
            options = {}  # allowed, but takes much memory
        if rng.random() < 0.3:
            # Each is small or refused: what lies between is allowed, but takes much memory.
            options["group"] = rng.choice(np.array([-2, 0, 3, 2**31, 2**40]), shape[1])
        if rng.random() < 0.5:
            box_reliability_numpy(boxes, target, **options)
        else:
            if "group" in options:
                options["group"] = torch.from_numpy(options["group"])
            box_reliability(torch.from_numpy(boxes), torch.from_numpy(target), **options)

    run_cases("operators", try_case)
