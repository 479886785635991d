"""`clipvg info`: describe this installation, or a checkpoint."""

from __future__ import annotations

import json
import os
import platform
from argparse import Namespace
from importlib import metadata
from importlib.resources import files

import clipvg
from clipvg.cli.commands import Command, pairs, table
from clipvg.cli.parser import CommandParser
from clipvg.report.numbers import percent
from clipvg.runtime import gpu
from clipvg.runtime.files import Json
from clipvg.runtime.waiting import describe_waiting

_LIBRARIES = ("torch", "torchvision", "open_clip_torch", "numpy", "pyarrow", "triton")


def _configure(parser: CommandParser) -> None:
    parser.add_argument(
        "checkpoint", nargs="?", metavar="CKPT",
        help="a model; without one, the installation is described",
    )  # fmt: skip
    parser.add_argument(
        "--backbones", action="store_true", help="list the names that --backbone may be"
    )


def _run(args: Namespace) -> Json:
    if args.backbones:
        from clipvg.model import list_backbones

        return {"backbones": list_backbones()}
    return _checkpoint(args.checkpoint) if args.checkpoint else _installation()


def _checkpoint(path: str) -> Json:
    from clipvg.model import load

    model = load(path)
    config = model.config.to_dict()
    return {
        "checkpoint": path,
        "trained_on": config.pop("trained_on"),
        "parameters": model.num_parameters(),
        "image_size": model.backbone.image_size,
        "patch_size": model.backbone.patch_size,
        "backbone_sha256": model.backbone.image_key,
        "config": config,
    }


def _installation() -> Json:
    from clipvg.ops import backends

    return {
        "clipvg": clipvg.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "devices": _devices(),
        "build": _build(),
        "backends": backends(),
    }


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> list[Json]:
    import torch

    cpu = {
        "device": "cpu",
        "name": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "waiting": describe_waiting(),
    }
    gpus = [
        {
            "device": f"cuda:{index}",
            "name": each.name,
            "capability": "{}.{}".format(*each.capability),
            "memory_gib": each.memory_gib,
        }
        for index, each in enumerate(gpu.facts().gpus)
    ]
    mps = [{"device": "mps", "name": "Apple GPU"}] if torch.backends.mps.is_available() else []
    return [cpu, *gpus, *mps]


def _build() -> Json | None:
    from clipvg.ops._dispatch import built_for

    record = files("clipvg").joinpath("_build.json")
    if not record.is_file():
        return None
    return {**json.loads(record.read_text(encoding="utf-8")), "built_for": built_for()}


def _describe(result: Json) -> str:
    if "backbones" in result:
        return "\n".join(result["backbones"])
    return _describe_checkpoint(result) if "config" in result else _describe_installation(result)


def _describe_checkpoint(result: Json) -> str:
    counts = result["parameters"]
    facts = {
        "checkpoint": result["checkpoint"],
        "trained on": ", ".join(result["trained_on"]) or "unknown",
        "parameters": f"{counts['total']:,}",
        "trainable": f"{counts['trainable']:,} ({percent(counts['share'])})",
        "image size": f"{result['image_size']} (patches of {result['patch_size']})",
    }
    return f"{pairs(facts)}\n\nconfiguration:\n{_indent(_nested(result['config']))}"


def _nested(values: Json) -> str:
    """Return lines "name  value"; objects come last, each with its own lines below its name."""
    inner = {name: value for name, value in values.items() if isinstance(value, dict) and value}
    plain = pairs({name: value for name, value in values.items() if name not in inner})
    below = [f"{name}:\n{_indent(_nested(value))}" for name, value in inner.items()]
    return "\n".join(filter(None, [plain, *below]))


def _describe_installation(result: Json) -> str:
    libraries = {name: version or "not installed" for name, version in result["libraries"].items()}
    facts = {"clipvg": result["clipvg"], "python": result["python"], **libraries}
    devices = {device["device"]: _device_text(device) for device in result["devices"]}
    rows = [
        (
            row["operator"],
            row["device"],
            row["backend"],
            "used" if row["chosen"] else "available" if row["available"] else "no",
            row["reason"] or "",
        )
        for row in result["backends"]
    ]
    return "\n".join(
        [
            pairs(facts),
            "\ndevices:",
            _indent(pairs(devices)),
            "\nnative build:",
            _indent(_build_text(result["build"])),
            "\nbackends:",
            _indent(table(("operator", "device", "backend", "state", "why"), rows, left=5)),
        ]
    )


def _device_text(device: Json) -> str:
    if "capability" in device:
        return (
            f"{device['name']}, compute capability {device['capability']}, "
            f"{device['memory_gib']} GiB"
        )
    if "cores" not in device:
        return device["name"]
    return (
        f"{device['name']}, {device['cores']} cores, torch uses {device['threads']} threads, "
        f"{device['waiting']}"
    )


def _build_text(build: Json | None) -> str:
    if build is None:
        return "no record: the package runs from an uninstalled source tree"
    parts = {part: reason or "built" for part, reason in build.get("missing", {}).items()}
    targets = {"built for": build["built_for"]} if build["built_for"] else {}
    return pairs({"CLIPVG_BUILD": build.get("mode"), **parts, **targets})


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


COMMAND = Command(
    example="clipvg info runs/demo/seed-0/ssa/model",
    configure=_configure,
    run=_run,
    describe=_describe,
)
