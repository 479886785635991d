"""Build, test and time everything on a CUDA GPU, in resumable stages; see gpu.sh.

python benchmarks/gpu.py [--device cuda|cpu] [--only NAME …] [--retry] [--fresh] [--list]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from _gpu.decide import decide
from _gpu.pack import NEEDED, pack
from _gpu.stages import (
    JSON,
    PYTHON,
    Stage,
    hash_sources,
    read_part,
    restore_parts,
    run_stages,
    write_json,
)

sys.path.append(str(Path(__file__).parents[1]))  # clipvg, until the first stage has installed it
from _harness import RESULTS, conditions

ROOT = Path(__file__).parents[1]
CALL_S = 290  # budget of one call: less than five minutes with its start-up
CHECK_BUILD = (
    "import sys;"
    "from clipvg.ops import backends;"
    "rows = [r for r in backends() if (r['device'], r['backend']) == (sys.argv[1], 'native')];"
    "print(rows);"
    "assert any(r['operator'] == 'box_reliability' and r['available'] for r in rows)"
)


def stages(device: str) -> list[Stage]:
    """Return all stages, the most valuable first; on a CPU, small versions of them to rehearse.

    The limits of the first five add up to the budget of one call; the others fit into another.
    """
    gpu = device == "cuda"
    return [
        build(gpu),
        tests(gpu),
        operator("box_reliability", 35, device, "100000000" if gpu else "1 x 10000 "),
        operator("packed_attention", 70, device, "" if gpu else "1 x 8 labels"),
        operator("multilevel_projection", 40, device, "" if gpu else "1 x 197 float32"),
        Stage("rescoring", 100, (rescoring(gpu),)),
        Stage("training_step", 70, (training(gpu),)),
        sanitizer("memcheck", gpu),
        sanitizer("racecheck", gpu),
    ]


def build(gpu: bool) -> Stage:
    """Build for the present GPU only; a rehearsal also builds for a GPU if there is nvcc."""
    install = (PYTHON, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "-e", ".")
    capability = torch.cuda.get_device_capability() if torch.cuda.is_available() else (9, 0)
    variables = {"TORCH_CUDA_ARCH_LIST": "{}.{}".format(*capability)}
    variables["CLIPVG_BUILD"] = "cuda" if gpu else "auto"
    check = (PYTHON, "-c", CHECK_BUILD, "cuda" if gpu else "cpu")
    return Stage("build", 65, (install, check), variables)


def tests(gpu: bool) -> Stage:
    reliability = (
        "tests/rescoring/test_engine.py",
        "tests/measures/test_together.py",
    )
    which = [("-m", "gpu", "tests/ops", *reliability)] if gpu else []
    which.append(("-k", "opcheck", "-m", "not gpu", "tests/ops"))
    pytest = (PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    pytest += ("-n", "8") if gpu else ()  # most of the time goes into compiling kernels
    return Stage("tests", 80, tuple((*pytest, *some) for some in which))


def sanitizer(tool: str, gpu: bool) -> Stage:
    program = (PYTHON, "benchmarks/_gpu/sanitized.py", "cuda" if gpu else "cpu")
    command = ("compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *program)
    # Every tensor gets its own allocation, so that an access past its end is detected.
    variables = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    return Stage(f"sanitizer_{tool}", 50, (command if gpu else program,), variables)


def operator(name: str, limit_s: float, device: str, case: str) -> Stage:
    """Benchmark an operator on the cases whose names contain `case`; "" selects all of them."""
    script = (PYTHON, f"benchmarks/ops/{name}.py", "--device", device, "--json", JSON)
    script += ("--quick",) if device == "cpu" else ()
    return Stage(name, limit_s, ((*script, *(("--case", case) if case else ())),))


def rescoring(gpu: bool) -> tuple[str, ...]:
    much = ("--decoded", "--labels", "2048", "--precision", "bf16", "fp32", "--ablate")
    much += ("--device", "cuda", "--ablation-labels", "512", "--baseline-labels", "256")
    little = ("--quick", "--decoded", "--device", "cpu", "--precision", "bf16", "fp32")
    return (PYTHON, "benchmarks/rescoring.py", *(much if gpu else little), "--json", JSON)


def training(gpu: bool) -> tuple[str, ...]:
    # Few batches: most of the time would go into augmenting their images on the CPU.
    much = ("--device", "cuda", "--batch-size", "64", "--batches", "2", "--warm-up", "2")
    little = ("--device", "cpu", "--quick", "--variants", "own", "cached-bf16")
    return (PYTHON, "benchmarks/training_step.py", *(much if gpu else little), "--json", JSON)


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a stage's processes end too
    known = stages(args.device)
    if args.decide:
        print(decide(json.loads(args.decide.read_text())))
        return 0
    if args.pack:
        return pack(ROOT, args.pack)
    if args.list:
        for stage in chosen(known, args.only):
            print(f"{stage.name:24s} {stage.limit_s:4.0f} s")
        return 0
    if args.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device; --device cpu tries the stages without one", file=sys.stderr)
        return 2
    print_lacking(args.device)
    name = f"gpu-{device_name(args.device)}-pt{''.join(torch.__version__.split('.')[:2])}"
    parts, result = ROOT / "build" / "gpu" / name, args.out / f"{name}.json"
    sources = hash_sources(ROOT)
    for earlier in (result, RESULTS / result.name):  # from a call on a machine that is gone
        restore_parts(earlier, parts)
    if not any((ROOT / "clipvg").glob("_ops*.so")):
        (parts / "build.json").unlink(missing_ok=True)
    stale = read_part(parts / "build.json", sources) is None
    wanted = chosen(known, [*args.only, *(["build"] if stale else [])] if args.only else None)
    for stage in wanted:
        forget(parts / f"{stage.name}.json", sources, fresh=args.fresh, failed=args.retry)
    found = {**conditions(args.device), "triton": triton_version(), "sources": sources}

    def merge(records: dict[str, dict[str, Any]]) -> None:
        args.out.mkdir(parents=True, exist_ok=True)
        every = {  # including stages that were done before and are not requested now
            stage.name: records.get(stage.name) or read_part(parts / f"{stage.name}.json", sources)
            for stage in known
        }
        missing = [stage for stage, record in every.items() if record is None]
        done = {stage: record for stage, record in every.items() if record is not None}
        write_json(result, {"conditions": found, "missing": missing, "stages": done})

    records = run_stages(wanted, parts, sources, args.budget, merge)
    print(f"wrote {result}")
    if len(records) < len(wanted):
        print("not all stages were run: call it again")
    return int(any(record["status"] != "passed" for record in records.values()))


def chosen(known: list[Stage], names: list[str] | None) -> list[Stage]:
    """Return the stages with these names, in the order of `known`; all if there are no names."""
    return [stage for stage in known if not names or stage.name in names]


def forget(part: Path, sources: str, *, fresh: bool, failed: bool) -> None:
    """Remove a part that is to be made again."""
    record = read_part(part, sources)
    if record is not None and (fresh or (failed and record["status"] != "passed")):
        part.unlink()


def print_lacking(device: str) -> None:
    """Print the missing packages and programs for which later stages would fail."""
    lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    programs = ("compute-sanitizer",) if device == "cuda" else ()
    lacking += [name for name in programs if shutil.which(name) is None]
    if lacking:
        print(f"lacking here: {', '.join(lacking)}; stages that need them will fail", flush=True)


def device_name(device: str) -> str:
    """Return the GPU's name for a file name: "nvidia-h100-80gb-hbm3"."""
    name = torch.cuda.get_device_name() if device == "cuda" else "dry-run-on-cpu"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def triton_version() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return None
    import triton

    return triton.__version__


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: tries the stages on little")
    add("--out", type=Path, default=RESULTS, help="folder of the JSON")
    add("--only", nargs="+", metavar="NAME", help="these, after the build; --list names them")
    add("--budget", type=float, default=CALL_S, help="seconds after which no stage is begun")
    add("--retry", action="store_true", help="stages that failed or ran out of time, once more")
    add("--fresh", action="store_true", help="all stages once more")
    add("--pack", type=Path, metavar="FOLDER", help="fetch wheels that a GPU machine lacks; sizes")
    add("--decide", type=Path, metavar="JSON", help="print the lines that a recorded run fills")
    add("--list", action="store_true", help="name the stages and their limits")
    args = parser.parse_args(arguments)
    names = [stage.name for stage in stages(args.device)]
    unknown = [name for name in args.only or () if name not in names]
    if unknown:
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(names)}")
    return args


if __name__ == "__main__":
    sys.exit(main())
