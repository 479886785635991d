"""Export a folder of programs that run without clipvg (ONNX or torch.export), with tokenizer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clipvg.boxes import convert, iou
from clipvg.data.letterbox import make_square
from clipvg.data.scenes import SceneConfig, render_scene, sample_scene
from clipvg.data.scenes.language import describe, to_text
from clipvg.errors import InputError, MissingExtraError, near_matches
from clipvg.model.export.onnx import PRECISIONS, open_program, write_onnx
from clipvg.model.export.parts import Program, WholeModel, answered, trace
from clipvg.model.export.tokenizer_file import write_tokenizer
from clipvg.model.grounder import GroundingModel
from clipvg.runtime.files import Json, atomic_folder, write_json

FACTS_FILE = "preprocessing.json"
TOKENIZER_FILE = "tokenizer.json"
MOST_CHANGE = 1e-4  # largest error of a coordinate in [0, 1] or a probability, in single precision
_SCENES = 8

Run = Callable[..., list[np.ndarray]]


def write_programs(model: GroundingModel, out: Path, *, format: str, precision: str) -> None:
    """Write a folder with the programs of a model, its tokenizer and `FACTS_FILE`.

    The model must be in evaluation mode and on the CPU; for "fp16" its weights are rounded in
    place. The written programs are run and compared with the model on rendered scenes; `FACTS_FILE`
    records by how much they differ.

    Raises:
        RuntimeError: the answers of single-precision programs differ from the model's.
    """
    questions = list(_questions(model))
    with torch.no_grad():
        expected = [_arrays(WholeModel(model)(*question)) for question in questions]
    programs = trace(model.half() if precision == "fp16" else model)
    with atomic_folder(out) as folder:
        if format == "onnx":
            write_onnx(programs, folder, precision)
            run = open_program(folder / "model.onnx")
        else:
            run = _write_torch(programs, folder)
        found = [run(*question) for question in questions]
        agreement = _compare(answered(model), found, expected)
        change = max(agreement["largest_change"].values())
        if precision == "fp32" and not change <= MOST_CHANGE:
            raise RuntimeError(
                f"the exported answers differ from the model's by up to {change:.1e}"
            )
        write_tokenizer(model.tokenizer, folder / TOKENIZER_FILE)
        facts = {"format": format, "precision": precision, "agreement": agreement}
        write_json(folder / FACTS_FILE, {**facts, **_facts(model)})


def _arrays(answers: Iterable[Tensor]) -> list[np.ndarray]:
    return [answer.detach().numpy() for answer in answers]


def check_request(out: Path, format: str, precision: str) -> None:
    """Check an export request before any work; arguments are those of `write_programs`.

    Raises:
        InputError: an unknown precision, or a folder that holds something else.
        MissingExtraError: the extra `onnx` is not installed.
    """
    choices = PRECISIONS if format == "onnx" else PRECISIONS[:2]
    if precision not in choices:
        raise InputError(
            f"precision={precision!r} is not for {format}: {near_matches(precision, choices)}"
        )
    if out.is_dir() and any(out.iterdir()) and not (out / FACTS_FILE).is_file():
        raise InputError(
            f"{out} holds other files, and an export replaces its folder; name a new one, e.g. "
            f"{out / 'export'}"
        )
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
        import tokenizers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError.for_extra("the export to other runtimes", "onnx") from error


def _write_torch(programs: Mapping[str, Program], folder: Path) -> Run:
    for name, program in programs.items():
        torch.export.save(program.traced, folder / f"{name}.pt2")
    whole = torch.export.load(folder / "model.pt2").module()
    return lambda *inputs: _arrays(whole(*inputs))


def _facts(model: GroundingModel) -> Json:
    """Return what one must know to prepare images and expressions for the programs."""
    preset, tokenizer = model.preset, model.tokenizer
    return {
        "image_size": model.backbone.image_size,
        "mean": preset.mean,
        "std": preset.std,
        "exif": preset.exif,
        "prompt": tokenizer.prompt,
        "context_length": tokenizer.context_length,
        "prefix_length": len(tokenizer.prefix),
        "overlength": preset.overlength,
        "boxes": "cxcywh of the square, in [0, 1]",
        "answers": list(answered(model)),
        "trained_on": model.config.trained_on,
    }


def _questions(model: GroundingModel) -> Iterator[tuple[Tensor, ...]]:
    """Yield inputs of `WholeModel`: scenes, with an expression for each object that has one."""
    rng = np.random.default_rng(0)
    for _ in range(_SCENES):
        scene = sample_scene(rng, SceneConfig())
        said = [describe(scene, i, "position", rng) for i in range(len(scene.objects))]
        texts = [to_text(expression, rng) for expression in said if expression] or ["a thing"]
        square = make_square(render_scene(scene), model.backbone.image_size, model.preset)
        ids, mask = model.tokenize(texts)
        length = int(mask.sum(1).max())
        yield (
            square.pixels[None],
            square.mask[None],
            ids[:, :length].contiguous(),
            mask[:, :length].contiguous(),
            torch.zeros(len(texts), dtype=torch.int64),
        )


def _compare(
    names: Sequence[str], found: list[list[np.ndarray]], expected: list[list[np.ndarray]]
) -> Json:
    """Return how far the answers of an export (boxes cxcywh) are from those of the model."""
    ours, theirs = (
        [np.concatenate(part).astype(np.float64) for part in zip(*answers, strict=True)]
        for answers in (expected, found)
    )
    overlap = iou(*(convert(boxes, "cxcywh", "xyxy") for boxes in (ours[0], theirs[0])))
    changes = (float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))
    return {
        "answers": len(ours[0]),
        "largest_change": dict(zip(names, changes, strict=True)),
        "mean_iou": float(overlap.mean()),
        "least_iou": float(overlap.min()),
    }
