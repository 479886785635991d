"""`clipvg observe`: run detectors, captioners and CLIP on images, as input to `clipvg generate`."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path

from clipvg.cli.commands import Command, check_writable, pairs
from clipvg.cli.options import add_group, add_shared, add_store, set_max_pixels, take_group
from clipvg.cli.parser import CommandParser
from clipvg.errors import InputError
from clipvg.runtime.files import Json
from clipvg.runtime.gate import check_file, check_local, reading

_REASONS_SHOWN = 3


def _configure(parser: CommandParser) -> None:
    from clipvg.observe.options import ObserveOptions

    add_shared(parser, "--images")
    parser.add_argument(
        "--out", required=True, metavar="FILE",
        help="where to write what is seen: .parquet or .jsonl, one row per image",
    )  # fmt: skip
    title = "models, each a hub name or a local folder, and what they are asked"
    add_group(parser, "", ObserveOptions, title=title)
    add_store(parser, "what is seen in finished images", "observed")
    add_shared(parser, "--device", "--max_pixels", "--quiet")


def _run(args: Namespace) -> Json:
    from clipvg.observe.options import ObserveOptions

    start = time.perf_counter()
    out = check_writable(Path(args.out), (".parquet", ".jsonl"))
    if args.store:
        check_writable(check_local(args.store) / "shard")
    args.classes = _classes(args.classes)
    options = take_group(args, "", ObserveOptions)
    set_max_pixels(args)
    from clipvg.observe.run import default_store, list_images, observe
    from clipvg.runtime.distributed import choose_device

    list_images(Path(args.images))  # before any model is loaded
    observed = observe(
        args.images,
        out,
        options=options,
        store=args.store,
        device=choose_device(args.device),
        progress=not args.quiet,
    )
    seen, reasons = observed.table, observed.reasons
    return {
        "out": str(out),
        "store": args.store or str(default_store(out)),
        "images": len(seen),
        "observed": len(seen) - reasons.total(),
        "found": observed.found,
        "detections": sum(len(one.detections) for one in seen),
        "attributes": sum(len(found.attributes) for one in seen for found in one.detections),
        "captions": sum(len(one.captions) for one in seen),
        "descriptions": sum(len(made) for one in seen for made in one.candidates.values()),
        "reasons": [*reasons][:_REASONS_SHOWN],
        "seconds": round(time.perf_counter() - start, 3),
    }


def _classes(words: list[str]) -> tuple[str, ...]:
    """Return the distinct classes: the words themselves, or the lines of a text file."""
    if len(words) == 1 and words[0].lower().endswith(".txt"):
        path = check_file(words[0])
        with reading(path, "classes, one a line"):
            words = path.read_text(encoding="utf-8").split("\n")
    kept = [word.strip() for word in words if word.strip()]
    if words and not kept:
        raise InputError("--classes: no class in it; write one per line")
    return tuple(dict.fromkeys(kept))


def _describe(result: Json) -> str:
    counted = ("detections", "attributes", "captions", "descriptions")
    lines = [pairs({name: f"{result[name]:,}" for name in counted if result[name]})]
    lines += [f"observed: {result['observed']:,} of {result['images']:,} images"]
    lines += [f"  {why}" for why in result["reasons"]]
    more = result["images"] - result["observed"] - len(result["reasons"])
    lines += [f"  and {more:,} more"] if more > 0 else []
    if found := result["found"]:
        lines.append(f"seen before, from {result['store']}: {found:,}")
    return "\n".join([*filter(None, lines), f"written: {result['out']}"])


COMMAND = Command(
    example="clipvg observe --images images/ --detector facebook/detr-resnet-50 "
    "--captioner Salesforce/blip-image-captioning-base --out seen.parquet",
    configure=_configure,
    run=_run,
    describe=_describe,
    first="images out detector open_detector classes captioner describer attributes",
    kept="finished images are kept beside --out, in FILE.observed; run the same command again to "
    "go on.",
)
