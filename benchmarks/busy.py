"""Measure how k spinning processes slow down training, scoring, prediction and the tests.

python benchmarks/busy.py --json benchmarks/results/busy-PROCESSOR-cpu2-pt214.json
python benchmarks/busy.py --quick

Each kind of work runs with each of `--settings`, in a process of its own that stays alive:
"default" (of the OpenMP runtime), "clipvg" (as the `clipvg` command runs), "passive" (waiting
threads do not spin), "spin:N" (they spin N times before they sleep) and "threads:N". For each k,
the settings take turns. The *fair speed* is that of an equal share of the cores: the first
setting's speed at k = 0 times t / (t + k), for t threads on t cores. With the same number of
threads the results must be bit-identical.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from clipvg.runtime.waiting import DECIDING, SHORT_SPIN, ask_for_short_slices

ROOT = Path(__file__).parents[1]
SPINNING = (0, 1, 2, 4)
TESTS = ("tests/model/test_grounder.py", "tests/training/test_losses.py")
# Program of a spinning process; it ends with the benchmark, even if that is killed.
SPIN = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000): pass
"""
Work = Callable[[], bytes]


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    args = parse(arguments)
    records: list[dict[str, Any]] = []
    for work in args.work:
        records += measure(work, args)
        if args.json:
            save(args, records)
    return records


def measure(work: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time one kind of work with every setting beside every number of spinning processes."""
    records: list[dict[str, Any]] = []
    threads = args.threads or os.cpu_count() or 1
    with ExitStack() as ending:
        children = {s: ending.enter_context(Child(work, s, args)) for s in args.settings}
        # another number of threads sums in another order
        digests = {c.digest for s, c in children.items() if not s.startswith("threads")}
        if len(digests) > 1:
            sys.exit(f"{work}: the settings do not compute the same: {sorted(digests)}")
        for k in args.spinning:
            seconds: dict[str, list[float]] = {setting: [] for setting in children}
            with spinning(k):
                for _ in range(args.quiet_runs if k == 0 else args.busy_runs):
                    for setting, child in children.items():
                        seconds[setting].append(child.run())
            if k == 0:
                quiet = fair = seconds[args.settings[0]]  # compared turn by turn: machines drift
            else:
                fair = [fair_seconds(median(quiet), threads, k)] * args.busy_runs
            for setting, found in seconds.items():
                shares = [f / s for f, s in zip(fair, found, strict=True)]
                record = {
                    "case": work, "setting": setting, "spinning": k, "threads": threads,
                    "seconds": [round(s, 3) for s in found], "median_s": round(median(found), 3),
                    "fair_s": round(median(fair), 3),
                    "share_of_fair_speed": round(median(shares), 3),
                    "bit_equal": not setting.startswith("threads"),
                }  # fmt: skip
                records.append(record)
                print(
                    f"{work:8s} k={k} {setting:10s} {record['median_s']:8.2f} s  "
                    f"{record['share_of_fair_speed']:6.1%} of the fair speed",
                    flush=True,
                )
    return records


def fair_seconds(quiet: float, threads: int, spinning: int) -> float:
    """Return the seconds of work that takes `quiet` alone, if every thread gets an equal share."""
    return quiet * (threads + spinning) / threads


class Child:
    """A process that does one kind of work with one setting, as often as it is asked to."""

    def __init__(self, work: str, setting: str, args: argparse.Namespace) -> None:
        command = [sys.executable, __file__, "--child", work, "--size", str(args.size)]
        command += ["--settings", setting]
        self._process = subprocess.Popen(
            command, env=environment(setting), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=ROOT,
        )  # fmt: skip
        self.digest = self._answer()
        self.run()  # warm-up: the first run allocates pages and makes plans

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()

    def run(self) -> float:
        """Do the work once; return its seconds."""
        self._process.stdin.write("again\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"a process of the benchmark ended with {self._process.wait()}")
        return line.strip()


def environment(setting: str) -> dict[str, str]:
    """Return the caller's environment, with its thread settings replaced by those of a setting."""
    kind, _, number = setting.partition(":")
    own = {
        "default": {}, "clipvg": SHORT_SPIN, "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
        "spin": {"GOMP_SPINCOUNT": number}, "threads": {"OMP_NUM_THREADS": number},
    }[kind]  # fmt: skip
    kept = {k: v for k, v in os.environ.items() if k not in (*DECIDING, "OMP_NUM_THREADS")}
    return {**kept, **own}


@contextmanager
def spinning(count: int) -> Iterator[None]:
    """Run `count` spinning processes."""
    processes = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]
    time.sleep(0.5 * bool(count))
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def serve(work: str, size: float) -> None:
    """Serve as a child: print a digest of the result, then the seconds of each requested run."""
    answers, sys.stdout = sys.stdout, sys.stderr
    with TemporaryDirectory() as folder:
        run = WORK[work](Path(folder), size)
        print(hashlib.sha256(run()).hexdigest(), file=answers, flush=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            run()
            print(time.perf_counter() - start, file=answers, flush=True)


def training(folder: Path, size: float) -> Work:
    """Return training by the recipe `scenes`, on features in memory."""
    import copy
    import dataclasses

    from clipvg.data.scenes import NoiseConfig, make_labels
    from clipvg.demo import recipe
    from clipvg.features import FeatureCache
    from clipvg.training import fit

    *_, config = recipe()
    model = small_model(0).train()
    labels = make_labels(folder, 60, source="mixed", noise=NoiseConfig(), seed=0)
    features = FeatureCache(model, labels)
    config = dataclasses.replace(config, steps=max(2, round(60 * size)))

    def run() -> bytes:
        done = fit(
            copy.deepcopy(model), labels, config=config, features=features, progress=False
        ).model
        state = sorted(done.state_dict().items())
        return b"".join(value.numpy().tobytes() for _, value in state)

    return run


def scoring(folder: Path, size: float) -> Work:
    """Return rescoring by three measurers."""
    from clipvg.data.scenes import NoiseConfig, make_labels
    from clipvg.reliability import score_labels

    labels = make_labels(folder, max(4, round(150 * size)), noise=NoiseConfig(), seed=0)
    measurers = {f"m{seed}": small_model(seed) for seed in range(3)}
    return lambda: score_labels(labels, measurers).scores.tobytes()


def prediction(folder: Path, size: float) -> Work:
    """Return calls of `predict`, image by image."""
    from clipvg.data.scenes import NoiseConfig, make_labels

    labels = make_labels(folder, max(4, round(100 * size)), noise=NoiseConfig(), seed=0)
    model = small_model(0)
    asked = [
        (labels.image_path(name), [e for n, e in zip(labels.image_names, labels.expressions,
                                                     strict=True) if n == name])
        for name in dict.fromkeys(labels.image_names)
    ]  # fmt: skip

    def run() -> bytes:
        return b"".join(
            model.predict(path, words, scores=False).boxes.tobytes() for path, words in asked
        )

    return run


def testing(folder: Path, size: float) -> Work:
    """Return tests in two pytest-xdist workers, like `make test` but with the setting's threads."""
    tests = TESTS if size >= 1 else TESTS[1:]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *tests]

    def run() -> bytes:
        subprocess.run(command, check=True, stdout=sys.stderr, cwd=ROOT)
        return b""

    return run


def small_model(seed: int) -> Any:
    """Return a model of the recipe `scenes` whose head has random weights."""
    from dataclasses import asdict

    import torch

    from clipvg.demo import recipe
    from clipvg.model import create_model

    backbone, options, _ = recipe()
    torch.manual_seed(seed)
    return create_model(backbone, **{**asdict(options), "pretrained": "scenes-v1"}).eval()


WORK = {"train": training, "score": scoring, "predict": prediction, "pytest": testing}


def save(args: argparse.Namespace, records: list[dict[str, Any]]) -> None:
    import _harness

    _harness.write(args.json, records, "cpu")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--work", nargs="+", choices=WORK, default=list(WORK))
    settings = ["default", "clipvg", "passive"]
    add("--settings", nargs="+", default=settings, help="the first is the baseline")
    add("--spinning", nargs="+", type=int, default=SPINNING, help="processes beside, 0 first")
    add("--threads", type=int, help="of the work, for the fair speed; the cores when left out")
    add("--quiet_runs", type=int, default=7)
    add("--busy_runs", type=int, default=3)
    add("--size", type=float, default=1.0, help="of the work, about 2 s each")
    add("--quick", action="store_true", help="smoke test")
    add("--json", type=Path)
    add("--child", choices=WORK, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.quick:
        args.size, args.quiet_runs, args.busy_runs, args.spinning = 0.02, 1, 1, (0, 1)
    return args


if __name__ == "__main__":
    options = parse(None)
    if options.child:
        if options.settings == ["clipvg"]:
            ask_for_short_slices()  # before torch starts threads
        serve(options.child, options.size)
    else:
        main()
