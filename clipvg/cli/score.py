"""`clipvg score`: score labels with measurers, one column of reliability each."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clipvg.cli.commands import Command, check_writable, table
from clipvg.cli.options import (
    LABELS,
    add_batch_size,
    add_shared,
    add_store,
    check_similarity,
    files_of,
    read_table,
    warn_of_findings,
)
from clipvg.cli.parser import CommandParser
from clipvg.errors import InputError
from clipvg.report.numbers import percent
from clipvg.runtime.files import Json
from clipvg.runtime.gate import check_local

if TYPE_CHECKING:
    from clipvg.labels import LabelTable
    from clipvg.reliability import Measurer, ScoreMatrix
    from clipvg.reliability.measurer import GroundingMeasurer
    from clipvg.rescoring import EngineConfig
    from clipvg.rescoring.store import ScoreStore

_REASONS_SHOWN = 3


def _configure(parser: CommandParser) -> None:
    add_shared(parser, *LABELS)
    parser.add_argument(
        "--measurer", action="append", default=[], metavar="[NAME[@SOURCE]=]CKPT",
        help="a trained model; NAME is its column (by default parent-folder/stem), SOURCE what it "
        "was trained on; repeat the option for more",
    )  # fmt: skip
    parser.add_argument(
        "--measure", action="append", default=[], metavar="[NAME=]MEASURE[,K=V...]",
        help="another measure of reliability: one listed in docs/measures.md, or "
        "package.module:Class; repeat the option for more",
    )  # fmt: skip
    parser.add_argument(
        "--out", required=True, metavar="FILE.parquet",
        help="where to write the labels, with a column reliability.NAME for each measurer",
    )  # fmt: skip
    parser.add_argument("--plot", metavar="FILE", help="also draw histograms")
    parser.add_argument(
        "--refine", metavar="DIR",
        help="also sort the labels by reliability, with one --measurer, into the .pth files of the "
        "published code: eleven thresholds, bad labels, and all results",
    )  # fmt: skip
    parser.add_argument(
        "--unreadable_images", type=Literal["null", "raise"], default="null",
        help="what to do with labels whose image cannot be read: leave them unscored, or stop",
    )  # fmt: skip
    add_store(parser, "the scores of finished images", "scores")
    parser.add_argument(
        "--precision", type=Literal["auto", "fp32", "bf16", "fp16"], default="auto",
        help="number type of the models: fp32 is exact; auto is fp32 on a CPU, bf16 on a GPU",
    )  # fmt: skip
    add_shared(parser, "--similarity")
    parser.add_argument(
        "--ray", nargs="?", type=int, const=2, metavar="ACTORS",
        help="run the models on a Ray cluster (that of RAY_ADDRESS, else one on this machine) in "
        "this many actors, 2 if no number is given; needs clipvg[ray]",
    )  # fmt: skip
    add_shared(parser, "--device")
    add_batch_size(parser, None)
    add_shared(parser, "--quiet")


def _run(args: Namespace) -> Json:
    import numpy as np

    from clipvg.report.canvas import check_figure_path

    reads = files_of(args.labels)
    out = check_writable(Path(args.out), (".parquet", ".jsonl", ".csv"), reads=reads)
    plot = check_writable(check_figure_path(args.plot), reads=reads) if args.plot else None
    folder = check_local(args.store) if args.store else out.with_suffix(".scores")
    check_writable(folder / "shard")
    if not (args.measurer or args.measure):
        raise InputError("nothing to score with; pass --measurer CKPT, or --measure NAME")
    layout, similarity = _refined_layout(args), check_similarity(args)
    labels = read_table(args)  # before torch and the models are loaded
    warn_of_findings(labels)
    from clipvg.measures.specs import build_measures, parse_measure, with_option
    from clipvg.reliability.score import tokenizers_of
    from clipvg.rescoring import EngineConfig
    from clipvg.rescoring.store import open_store
    from clipvg.runtime import distributed
    from clipvg.training.usable import short_labels

    # With --ray the models run elsewhere; other measures run them here.
    measurers = _load(args.measurer, "cpu" if args.ray and not args.measure else args.device)
    specs = [with_option(parse_measure(text), "device", args.device) for text in args.measure]
    measures = build_measures(specs, {name: m.model for name, m in measurers.items()})
    measurers_all = {**measurers, **measures}
    labels = short_labels(labels, tokenizers_of(measurers_all), on_error=args.on_error)
    device = distributed.choose_device(args.device)
    with open_store(folder, device, output=out) as store:
        engine = EngineConfig(args.batch_size, args.precision, similarity=similarity)
        scores = _score(args, labels, measurers_all, engine, store)
        refined = _refine(args, labels, measurers, scores, layout) if layout else {}
        if distributed.join(device).is_main:
            scores.attach(labels).write(out)
            if plot is not None:
                scores.plot(plot)
    # Measures may leave a label out for other reasons; a measurer only if its image is unreadable.
    if scores.reasons and measurers and all(np.isnan(scores[name]).all() for name in measurers):
        raise InputError(
            f"not one of the {labels.num_images:,} images could be read: {scores.reasons[0]}. "
            f"{out} is written all the same, with nulls and the reasons; check --images "
            f"{args.images} and run the command again."
        )
    reasons = Counter(scores.reasons.values()).most_common(_REASONS_SHOWN)
    return {
        "out": str(out),
        "store": str(folder),
        "plot": args.plot,
        "refined": refined,
        "count": len(labels),
        "scores": {"asked": store.asked, "found": store.found},
        "kept_0.5": scores.count_above(0.5),
        "reasons": [{"reason": why, "labels": count} for why, count in reasons],
        **scores.to_dict(),
    }


def _load(texts: Sequence[str], device: str | None) -> dict[str, GroundingMeasurer]:
    """Load measurers by name, after checking that the names differ."""
    from clipvg.model import load
    from clipvg.reliability import GroundingMeasurer, parse_measurer
    from clipvg.reliability.names import check_names
    from clipvg.runtime.distributed import choose_device

    specs = [parse_measurer(text) for text in texts]
    check_names(spec.name for spec in specs)
    place = choose_device(device)
    return {
        spec.name: GroundingMeasurer(
            load(spec.path).to(place), spec.name, trained_on=spec.trained_on
        )
        for spec in specs
    }


def _score(
    args: Namespace,
    labels: LabelTable,
    measurers: Mapping[str, Measurer],
    engine: EngineConfig,
    store: ScoreStore,
) -> ScoreMatrix:
    if args.ray is None:
        from clipvg.reliability import score_labels

        return score_labels(
            labels,
            measurers,
            engine=engine,
            on_error=args.unreadable_images,
            store=store,
            progress=not args.quiet,
        )
    from clipvg.reliability.ray.cluster import RayOptions
    from clipvg.reliability.ray.runner import score_with_ray

    num_gpus = {None: None, "cpu": 0}.get(args.device, 1)
    ray = RayOptions(args.ray, num_gpus=num_gpus, progress=not args.quiet)
    return score_with_ray(
        labels, measurers, ray=ray, engine=engine, on_error=args.unreadable_images, store=store
    )


def _refined_layout(args: Namespace) -> str | None:
    """Return the layout of the files that --refine writes; None without --refine."""
    if args.refine is None:
        return None
    from clipvg.labels.formats.pth import layout_name

    if len(args.measurer) != 1:
        raise InputError(
            f"--refine sorts labels by one measurer, and {len(args.measurer)} are named; pass one "
            "--measurer, and another --refine folder for each of the others"
        )
    if args.similarity != "iou":
        raise InputError(
            f"--refine writes files of the published code, whose reliability is the IoU, and not "
            f"{args.similarity}; leave one of the two out"
        )
    check_writable(Path(args.refine) / "labels.pth")
    return layout_name(args.labels[0], args.layout)


def _refine(
    args: Namespace,
    labels: LabelTable,
    measurers: Mapping[str, GroundingMeasurer],
    scores: ScoreMatrix,
    layout: str,
) -> dict[str, int]:
    """Write the files of --refine; all processes predict, the main one writes."""
    from clipvg.features.images import CacheOptions
    from clipvg.labels.refined import write_refined
    from clipvg.runtime import distributed
    from clipvg.training.evaluate import predict_labels

    ((name, measurer),) = measurers.items()
    model = measurer.model
    reading = CacheOptions(on_error=args.unreadable_images, progress=not args.quiet)
    found = predict_labels(model, labels, reading=reading)
    if not distributed.join(model.device).is_main:
        return {}
    boxes = found.target, found.boxes
    return write_refined(
        labels, scores[name], boxes, args.refine, layout=layout, prompt=model.config.prompt
    )


def _describe(result: Json) -> str:
    from clipvg.labels.scores import REASON

    rows = [
        (measurer, source or "–", *_cell(result["cells"][i][j], result["kept_0.5"][i][j]))
        for i, measurer in enumerate(result["measurers"])
        for j, source in enumerate(result["sources"])
    ]
    lines = [table(("measurer", "labels of", "scored", "not scored", "mean r", "r ≥ 0.5"), rows)]
    if count := result["unscored_labels"]:
        shown = result["reasons"]
        more = count - sum(reason["labels"] for reason in shown)
        lines.append(f"labels not scored, with the reason in the column {REASON!r}: {count:,}")
        lines += [f"  {reason['labels']:,}: {reason['reason']}" for reason in shown]
        lines += [f"  {more:,}: other reasons"] if more else []
    if found := result["scores"]["found"]:
        lines.append(f"scores from {result['store']}: {found:,} of {result['scores']['asked']:,}")
    if counts := result["refined"]:
        lines.append(f"written: {len(counts)} .pth files beside {next(iter(counts))}")
    return "\n".join([*lines, f"written: {result['out']}"])


def _cell(cell: Json, kept: int) -> tuple[str, ...]:
    counts = f"{cell['count']:,}", f"{cell['unscored']:,}"
    if not cell["count"]:
        return *counts, "–", "–"
    return *counts, f"{cell['mean']:.3f}", percent(kept / cell["count"])


COMMAND = Command(
    example="clipvg score unc_train_pseudo.pth --images images/ "
    "--measurer template=runs/template/model --out scored.parquet",
    configure=_configure,
    run=_run,
    is_shared=True,
    describe=_describe,
    first="labels images measurer measure out plot refine device batch_size precision store",
    kept="finished shards of images are kept beside --out, or in --store; run the same command "
    "again to go on.",
)
