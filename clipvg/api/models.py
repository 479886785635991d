"""Load a grounding model, score labels with one or several, and evaluate one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clipvg.errors import InputError, near_matches
from clipvg.grounders.grounder import Grounder
from clipvg.labels import LabelTable
from clipvg.labels.splits import check_one_split
from clipvg.model import GroundingModel
from clipvg.model import load as load_model
from clipvg.reliability import ScoreMatrix, score_labels
from clipvg.runtime.distributed import Device, choose_device
from clipvg.training import Evaluation
from clipvg.training import evaluate as evaluate_model
from clipvg.training.usable import refuse_long

if TYPE_CHECKING:
    from clipvg.reliability.measurer import OnError
    from clipvg.reliability.score import AnyMeasurer
    from clipvg.rescoring import Precision


def load(
    path: str | Path, *, device: Device = None, precision: Literal["fp32", "bf16", "fp16"] = "fp32"
) -> GroundingModel:
    """Load a grounding model made by clipvg or published by the paper's authors.

    Args:
        path: a model folder, the authors' ``.pth``, ``hf-hub:org/repo`` or ``local-dir:folder``.
        device: such as "cpu", "cuda:1" or "mps"; when None, a CUDA GPU if there is one, else the
            CPU.
        precision: dtype of all weights: "fp32", or "bf16" or "fp16" for half the memory and more
            speed on a GPU. Boxes then move by a pixel or so; docs/predict.md says how much.

    Returns:
        The model in evaluation mode.

    Raises:
        InputError: the path holds no loadable model, or the device or precision does not exist.

    Example:
        >>> model = load("runs/refcoco/model")
        >>> boxes = model.predict("street.jpg", ["man in red", "dog on the left"])
    """
    from clipvg.rescoring.config import DTYPES

    if precision not in DTYPES:
        raise InputError(f"precision={precision!r} is unknown: {near_matches(precision, DTYPES)}")
    return load_model(path).to(choose_device(device), DTYPES[precision])


def score(
    labels: LabelTable,
    measurers: Mapping[str, AnyMeasurer] | Iterable[str],
    *,
    on_error: OnError = "null",
    batch_size: int | None = None,
    precision: Precision = "auto",
    similarity: str = "iou",
    store: str | Path | None = None,
    progress: bool = False,
) -> ScoreMatrix:
    """Measure the reliability of labels; see `clipvg.reliability.score_labels`.

    Args:
        labels: N labels with an image root.
        measurers: name -> model, measurer or checkpoint path; or strings ``[NAME[@SOURCE]=]PATH``.
        on_error: "null" leaves labels with an unreadable image unscored, "raise" stops.
        batch_size: labels fused at a time; None chooses by device and number of tokens.
        precision: "fp32" (exact), "bf16", "fp16", or "auto": fp32 on a CPU, bf16 on a GPU.
        similarity: how reliability compares boxes: "iou", "giou", "dice", "pck", or your own
            function as ``package.module:function``; see `clipvg.similarity`.
        store: folder that keeps the scores of finished shards of images; a call that was killed
            continues from there, and a later one scores only what is missing.
        progress: show a progress bar.

    Returns:
        The score matrix R_ij, labels in input order.

    Example:
        >>> scores = score(labels, {"template": m1, "relation": m2})
        >>> scores.names
        ('template', 'relation')
    """
    from clipvg.rescoring import EngineConfig

    return score_labels(
        labels,
        measurers,
        engine=EngineConfig(batch_size=batch_size, precision=precision, similarity=similarity),
        on_error=on_error,
        store=store,
        progress=progress,
    )


def evaluate(
    model: GroundingModel | Grounder | str | Path,
    labels: LabelTable,
    *,
    against: Literal["box", "truth"] = "box",
    batch_size: int = 64,
    num_workers: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Measure the accuracy and mean IoU of a model; see `clipvg.training.evaluate`.

    Args:
        model: a model, a grounder, or the path of a checkpoint.
        labels: labels of one split, with an image root.
        against: compare with the labels' own boxes, or with their true ones.
        batch_size: labels per forward pass.
        num_workers: threads that decode images.
        progress: show a progress bar.

    Returns:
        The result: ``accuracy`` by threshold, mean IoU and more.

    Raises:
        InputError: the labels are of several splits or have no box to compare with, or an image
            cannot be read.
    """
    check_one_split(labels)
    if isinstance(model, Grounder):
        return model.evaluate(labels, against=against, progress=progress)
    if isinstance(model, str | Path):
        model = load(model)
    refuse_long(labels, [model.tokenizer])  # before anything is computed
    return evaluate_model(
        model,
        labels,
        against=against,
        batch_size=batch_size,
        num_workers=num_workers,
        progress=progress,
    )
