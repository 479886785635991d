"""Run the whole method from images alone, on scenes where it is known which labels are right.

An imperfect detector, captioner and scene-graph model observe rendered scenes without labels;
three sources make pseudo-labels of the observations; MSA adapts a small CLIP to these, source by
source; the model is tested on annotated scenes. `report.json` states how many labels of each
source and rule are right; nothing but the report reads this truth.

    python examples/scenes_end_to_end.py --out runs/scenes
"""

import argparse
import json
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path

import clipvg
from clipvg.api import Curriculum, RunOptions
from clipvg.configs import read_recipe
from clipvg.curriculum import MSAConfig
from clipvg.data.scenes import (
    PERFECT,
    ObserverErrors,
    SceneConfig,
    is_correct,
    make_labels,
    observe_scenes,
    with_truth,
)
from clipvg.labels import LabelTable
from clipvg.model import ModelOptions
from clipvg.training import FitConfig

SOURCES = ("template", "relation", "caption")


def main() -> None:
    """Run everything; an interrupted run resumes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/scenes"))
    parser.add_argument("--images", type=int, default=2500)
    parser.add_argument("--steps", type=int, default=1200, help="of each training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--perfect", action="store_true", help="models that never err")
    args = parser.parse_args()
    errors = PERFECT if args.perfect else ObserverErrors()
    report = run(args.out, args.images, args.steps, args.seed, errors)
    for source, rules in report["precision"].items():
        for rule, found in rules.items():
            print(f"{source:10}{rule:18}{found['labels']:6}{found['right']:8.1%}")
    print(f"Acc@0.5 on test scenes: {report['acc_0.5']:.1%}")


def run(out: Path, images: int, steps: int, seed: int, errors: ObserverErrors) -> dict:
    """Make labels, adapt and test the model; return the content of `report.json`."""
    labels = make_pseudo_labels(out / "training", images, seed, errors)
    validation = make_labels(out / "validation", max(8, images // 8), seed=seed + 1)
    test = make_labels(out / "test", max(8, images // 5), seed=seed + 2)
    recipe = read_recipe("scenes")
    training = replace(FitConfig(**recipe["training"]), steps=steps, seed=seed)
    adapted = clipvg.adapt(
        labels,
        validation=validation,
        out=out / "msa",
        backbone=recipe["backbone"],
        model=ModelOptions(**recipe["model"]),
        training=training,
        curriculum=Curriculum(search=MSAConfig(seed=seed)),
        run=RunOptions(report=False),
    )
    report = {
        "errors": asdict(errors),
        "images": images,
        "precision": precision(labels),
        "order": adapted.summary["order"],
        "thresholds": adapted.thresholds,
        "kept": adapted.summary["kept"],
        "acc_0.5": clipvg.evaluate(adapted.model, test, against="truth").accuracy[0.5],
    }
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def make_pseudo_labels(folder: Path, images: int, seed: int, errors: ObserverErrors) -> LabelTable:
    """Return the labels of all sources, made if not there yet; only the report reads the truth."""
    path = folder / "labels.parquet"
    if not path.exists():
        config = SceneConfig(num_objects=(1, 4))
        seen, scenes = observe_scenes(folder, images, errors=errors, seed=seed, config=config)
        seen.write(folder / "observations.jsonl")
        with_truth(clipvg.generate(seen, SOURCES), scenes).write(path)
    return clipvg.read_labels(path, images=folder / "images")


def precision(labels: LabelTable) -> dict:
    """Return the number of labels and the share of right ones, by source and rule."""
    right = defaultdict(list)
    rules = labels.table.column("pseudo.rule").to_pylist()
    for source, rule, is_right in zip(labels.sources(), rules, is_correct(labels), strict=True):
        right[source, "all"].append(is_right)
        right[source, rule].append(is_right)
    found = defaultdict(dict)
    for source, rule in sorted(right):
        group = right[source, rule]
        found[source][rule] = {"labels": len(group), "right": float(sum(group) / len(group))}
    return dict(found)


if __name__ == "__main__":
    main()
