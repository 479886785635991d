"""Measure what the curriculum gains on scenes, whose truth is known.

python benchmarks/science.py run --experiment one three --seeds 0 1 2 3 4
python benchmarks/science.py write

`run` can be killed and resumes: finished trainings are kept below --work and shared by all
experiments of a seed. Several processes may work on different seeds. `write` adds the results to
the JSON, which may hold seeds that were run on other machines, draws the figures of all results
and prints the tables. docs/science-log.md explains both.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import _harness
import torch
from _science.experiments import EXPERIMENTS, Bench
from _science.figures import draw_figures
from _science.lab import Lab
from _science.summary import summarise
from _science.tables import tables
from _science.world import Scale, World

from clipvg.data.scenes import SCENES_VERSION
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.runtime.files import atomic_path
from clipvg.runtime.lock import Lock

IMAGES = Path(__file__).parents[1] / "docs" / "images"
_MIXED = {
    "one",
    "options-one",
    "confirm-one",
    "recommended-one",
    "longer-one",
    "sweep",
    "together",
    "measures",
    "answers",
    "semisupervised",
    "weakly",
}  # experiments on the mixed source
_THREE = {"three", "options-three", "confirm-three", "recommended-three", "longer-three"}


def main(arguments: list[str] | None = None) -> None:
    args = _parse(arguments)
    if args.command == "write":
        write(args.work, args.json, args.images)
        return
    torch.set_num_threads(args.threads)
    options = json.loads(args.options)
    scale = Scale(args.scenes, args.validation, args.test, args.start, args.steps, options)
    try:
        for seed in args.seeds:
            run(args.work, seed, args.experiment, scale)
    except InputError as error:
        raise SystemExit(f"error: {error}") from error


def run(work: Path, seed: int, names: list[str], scale: Scale) -> None:
    """Run the experiments of a seed that are not done; write each result as soon as it is there."""
    folder = work / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    _check_scale(folder, scale)
    missing = [name for name in names if not _part(work, name, seed).exists()]
    if not missing:
        return
    with Lock(folder, "--work"):
        world = World(folder, seed, scale)
        labels = _union(world, set(missing))
        labs = [partial(make_lab, work, world, labels, start) for start in (seed, seed + 1000)]
        bench = Bench(world, labs[0](), folder / "runs", labs[1])
        for name in missing:
            began = time.monotonic()
            record = EXPERIMENTS[name](bench)
            facts = {"experiment": name, "seed": seed, "scale": scale.to_dict()}
            facts["seconds"] = round(time.monotonic() - began, 1)
            facts["conditions"] = _harness.conditions("cpu")
            path = _part(work, name, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as part:
                part.write_text(json.dumps({**facts, **record}, indent=1))
            print(f"{name}, seed {seed}: {facts['seconds']} s", flush=True)


def _check_scale(folder: Path, scale: Scale) -> None:
    """Refuse a folder made at another scale: its images and results would be mixed in."""
    path, facts = folder / "scale.json", json.dumps(scale.to_dict())
    if path.exists() and path.read_text() != facts:
        raise InputError(f"{folder} was made at another scale; choose another --work.")
    path.write_text(facts)


def make_lab(work: Path, world: World, labels: LabelTable, seed: int) -> Lab:
    """Return a lab whose trainings all start from one head, which is past the first plateau.

    Args:
        work: folder of all seeds.
        world: the world of the labels.
        labels: the union of the labels to train on.
        seed: seed of the head to start from.
    """
    folder, scale, start = world.folder / "trainings", world.scale, None
    if scale.start:
        kind = {k: v for k, v in scale.options.items() if k == "feature_dtype"}
        lab = Lab(folder, world.start, {**kind, "steps": scale.start}, work / "features")
        start = lab.fit(world.start, seed=seed)
    return Lab(folder, labels, {**scale.options, "steps": scale.steps}, work / "features", start)


def write(work: Path, target: Path, images: Path) -> dict[str, Any]:
    """Add the results to the JSON, print tables, draw figures; return the summary of all seeds."""
    written = json.loads(target.read_text())["parts"].values() if target.exists() else ()
    run = [json.loads(path.read_text()) for path in sorted((work / "results").glob("*.json"))]
    if not run:
        raise SystemExit(f"{work} holds no results; run experiments first: science.py run --help")
    records = {(each["experiment"], each["seed"]): each for each in [*chain(*written), *run]}
    if len({json.dumps(each["scale"]) for each in records.values()}) > 1:
        raise SystemExit(
            f"{work} and {target} hold results of several scales; keep each scale in a --work and "
            "a --json of its own"
        )
    parts: dict[str, list[dict[str, Any]]] = {}
    for (experiment, _), record in sorted(records.items()):
        parts.setdefault(experiment, []).append(record)
    found = summarise(parts)
    for name, text in tables(found).items():
        print(f"\n{name}\n\n{text}")
    everything = {"scenes": SCENES_VERSION, "summary": found, "parts": parts}
    with atomic_path(target) as part:
        part.write_text(json.dumps(everything, indent=1) + "\n")
    print(f"\nwrote {target}")
    for path in draw_figures(found, images):
        print(f"wrote {path}")
    return found


def _part(work: Path, name: str, seed: int) -> Path:
    return work / "results" / f"{name}-{seed}.json"


def _union(world: World, names: set[str]) -> LabelTable:
    """Return all labels that the experiments train and test on, to be encoded in one block."""
    found = [world.validation, world.test]
    if names & _MIXED:
        found.append(world.training())
    if names & _THREE:
        found.append(world.three_sources())
    if "poor-source" in names:
        found.append(world.three_sources(poor="relation"))
    if "recommended-generated" in names:
        found.append(world.generated_sources())
    if "generators" in names:
        found += world.generated().values()
    return LabelTable.concat(found)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    runs, writes = commands.add_parser("run"), commands.add_parser("write")
    for command in (runs, writes):
        command.add_argument("--work", type=Path, default=Path("runs/science"))
    runs.add_argument("--experiment", nargs="+", choices=list(EXPERIMENTS), default=["one"])
    runs.add_argument("--seeds", nargs="+", type=int, default=[0])
    runs.add_argument("--threads", type=int, default=1)
    scale = Scale()
    for name in ("scenes", "validation", "test", "start", "steps"):
        runs.add_argument(f"--{name}", type=int, default=getattr(scale, name))
    runs.add_argument(
        "--options",
        default='{"batch_size": 64, "feature_dtype": "float16", "warmup_steps": 50}',
        help="JSON, of FitConfig; the start takes feature_dtype alone",
    )
    results = _harness.RESULTS / f"science-{SCENES_VERSION.replace('-', '_')}.json"
    writes.add_argument("--json", type=Path, default=results)
    writes.add_argument("--images", type=Path, default=IMAGES)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
