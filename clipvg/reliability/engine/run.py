"""One pass over the images that scores every label with every model.

Each distinct image is decoded once per input geometry and encoded once per image tower, each
distinct expression once per text tower; then every model's fusion encoder and head run. Features
of an image live only while its labels are scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from clipvg.data.letterbox import Letterbox, load_square
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.ops import box_reliability
from clipvg.reliability.engine.plan import Chunk, plan_chunks
from clipvg.reliability.engine.text import TextFeatures, text_group
from clipvg.training import distributed
from clipvg.training.distributed import World
from clipvg.training.progress import progress_bar

if TYPE_CHECKING:
    from clipvg.model import GroundingModel
    from clipvg.reliability.measurer import Context

IMAGES_PER_CHUNK = 32
DECODE_THREADS = 2

Loaded = tuple[Tensor, Tensor, Letterbox]


def score_models(
    labels: LabelTable, models: Mapping[str, GroundingModel], context: Context
) -> np.ndarray:
    """Score all labels with all models.

    Under `torchrun` the images are shared out and every process gets all scores; all must call.

    Args:
        labels: N labels; their ``truth`` is never read.
        models: n models by name.
        context: batch size, what to do about unreadable images, progress; ``reasons`` is filled.

    Returns:
        (n, N) float32 IoU in label order, NaN where the image cannot be read.

    Raises:
        InputError: an image cannot be read and ``context.on_error`` is "raise"; a prediction is
            not finite (names the measurer and the rows).
    """
    world = distributed.join(next((model.device for model in models.values()), None))
    with torch.inference_mode(), _evaluating(list(models.values())):
        if world.size == 1:
            return _Pass(labels, models, context).run()
        return _share(labels, models, context, world)


def _share(
    labels: LabelTable, models: Mapping[str, GroundingModel], context: Context, world: World
) -> np.ndarray:
    """Score this process's images, exchange the scores and fill in everybody's reasons."""
    _, image_of = labels.distinct_images()
    rows = np.flatnonzero(image_of % world.size == world.rank)
    scores = np.zeros((len(models), len(labels)), dtype=np.float32)  # 0 where not ours
    part = replace(context, progress=context.progress and world.is_main, reasons={})
    error = None
    try:
        scores[:, rows] = _Pass(labels.select(rows), models, part, rows).run()
    except InputError as failure:
        error = str(failure)  # the others wait for the exchange
    reasons = {int(rows[row]): why for row, why in part.reasons.items()}
    for failed, found in distributed.gather_objects((error, reasons), world):
        if failed is not None:
            raise InputError(failed)
        context.reasons.update(found)
    distributed.all_reduce(torch.from_numpy(scores), world)  # in place
    return scores


@dataclass(frozen=True)
class Geometry:
    """What decides the pixels a model sees."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    exif: bool

    @classmethod
    def of(cls, model: GroundingModel) -> Geometry:
        """Return the geometry of a model."""
        preset = model.preset
        assert preset.mean is not None
        assert preset.std is not None
        return cls(model.backbone.image_size, tuple(preset.mean), tuple(preset.std), preset.exif)

    def load(self, path: Any) -> Loaded | InputError:
        """Return pixels, padding mask and letterbox, or why the image cannot be read."""
        try:
            return load_square(path, self.size, mean=self.mean, std=self.std, exif=self.exif)
        except InputError as error:
            return error


@dataclass(frozen=True)
class _Visual:
    """Features (U, 1 + P, LW) and ignored patches (U, P) of images; index (B,) of each row's."""

    features: Tensor
    ignored: Tensor
    index: Tensor


class _Pass:
    """One rescoring pass."""

    def __init__(
        self,
        labels: LabelTable,
        models: Mapping[str, GroundingModel],
        context: Context,
        row_names: np.ndarray | None = None,
    ) -> None:
        self.labels, self.context = labels, context
        # What errors call the rows: their numbers in the table that these labels are a part of.
        self.row_names = np.arange(len(labels)) if row_names is None else row_names
        self.names = list(models)
        self.models = list(models.values())
        self.expressions = labels.table.column("expression")
        self.scores = np.full((len(models), len(labels)), np.nan, dtype=np.float32)
        self.groups: dict[tuple[Any, ...], list[int]] = {}
        self.texts: dict[tuple[Any, ...], TextFeatures] = {}
        self.text_of: list[tuple[Any, ...]] = []
        for i, model in enumerate(self.models):
            key = (model.image_key, model.preset, model.device)
            self.groups.setdefault(key, []).append(i)
            text = text_group(model)
            self.texts.setdefault(text, TextFeatures(model))
            self.text_of.append(text)
        self.geometries = list(dict.fromkeys(Geometry.of(model) for model in self.models))
        self.boxes = {
            integer: labels.boxes(integer=integer)
            for integer in {model.preset.integer_boxes for model in self.models}
        }

    def run(self) -> np.ndarray:
        bar = progress_bar(len(self.labels), desc="score", unit="label", show=self.context.progress)
        with bar, ThreadPoolExecutor(DECODE_THREADS) as pool:
            for chunk, loaded in self._decoded(pool):
                rows = self._readable(chunk, loaded)
                if rows.any():
                    for members in self.groups.values():
                        self._score_group(chunk, rows, members, loaded)
                bar.update(len(chunk.rows))
        return self.scores

    def _decoded(
        self, pool: ThreadPoolExecutor
    ) -> Iterator[tuple[Chunk, dict[Geometry, list[Loaded | InputError]]]]:
        """Yield chunks with their images, the next chunk decoding meanwhile."""
        waiting: tuple[Chunk, dict[Geometry, list[Future[Any]]]] | None = None
        for chunk in [*plan_chunks(self.labels, IMAGES_PER_CHUNK), None]:
            ready = waiting
            if chunk is not None:
                paths = [self.labels.image_path(name) for name in chunk.images]
                waiting = (
                    chunk,
                    {
                        geometry: [pool.submit(geometry.load, path) for path in paths]
                        for geometry in self.geometries
                    },
                )
            if ready is not None:
                yield ready[0], {g: [job.result() for job in jobs] for g, jobs in ready[1].items()}

    def _readable(
        self, chunk: Chunk, loaded: dict[Geometry, list[Loaded | InputError]]
    ) -> np.ndarray:
        """Return which rows of the chunk have an image; note the reason for the others."""
        good = np.ones(len(chunk.images), dtype=bool)
        for images in loaded.values():
            for i, image in enumerate(images):
                if isinstance(image, InputError):
                    if self.context.on_error == "raise":
                        raise image
                    good[i] = False
                    for row in chunk.rows[chunk.image_of_row == i]:
                        self.context.reasons.setdefault(int(row), str(image))
        return good[chunk.image_of_row]

    def _score_group(
        self,
        chunk: Chunk,
        readable: np.ndarray,
        members: list[int],
        loaded: dict[Geometry, list[Loaded | InputError]],
    ) -> None:
        """Score a chunk with the models that share image features."""
        first = self.models[members[0]]
        images = loaded[Geometry.of(first)]
        good = [i for i, image in enumerate(images) if not isinstance(image, InputError)]
        squares = [image for image in images if not isinstance(image, InputError)]
        place = {i: at for at, i in enumerate(good)}
        pixels = torch.stack([pixels for pixels, _, _ in squares]).to(first.device)
        features = first.encode_images(pixels)
        ignored = first.patch_mask(torch.stack([mask for _, mask, _ in squares])).to(first.device)
        boxes = self.boxes[first.preset.integer_boxes]
        rows, image_of_row = chunk.rows[readable], chunk.image_of_row[readable]
        for start in range(0, len(rows), self.context.batch_size):
            part = slice(start, start + self.context.batch_size)
            at = np.array([place[int(i)] for i in image_of_row[part]])
            target = np.stack(
                [squares[i][2].to_square(boxes[row]) for i, row in zip(at, rows[part], strict=True)]
            )
            used, index = np.unique(at, return_inverse=True)
            visual = _Visual(
                features[used], ignored[used], torch.from_numpy(index).to(first.device)
            )
            predicted = self._predict(rows[part], members, visual)
            goal = torch.from_numpy(target).to(predicted)
            iou, _ = box_reliability(predicted, goal, bins=1)
            self.scores[np.ix_(members, rows[part])] = iou.float().cpu().numpy()

    def _predict(self, rows: np.ndarray, members: list[int], visual: _Visual) -> Tensor:
        """Return the members' boxes for some rows, (n, B, 4) cxcywh."""
        expressions = self.expressions.take(rows).to_pylist()
        texts: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}
        boxes = []
        for i in members:
            key = self.text_of[i]
            if key not in texts:
                texts[key] = self.texts[key].batch(expressions)
            box = self.models[i].fuse(
                visual.features, visual.ignored, *texts[key], image_index=visual.index
            )
            bad = self.row_names[rows[(~torch.isfinite(box).all(dim=1)).cpu().numpy()]]
            if bad.size:
                raise InputError(
                    f"measurer {self.names[i]!r} predicts boxes that are not finite for label "
                    f"row(s) {', '.join(map(str, bad[:5]))}{', …' if bad.size > 5 else ''}; its "
                    "weights are damaged or its training diverged. Train it again with a lower "
                    "learning rate or clip_norm."
                )
            boxes.append(box.float())
        return torch.stack(boxes)


@contextmanager
def _evaluating(models: list[GroundingModel]) -> Iterator[None]:
    """Put models into evaluation mode and back."""
    before = [model.training for model in models]
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for model, training in zip(models, before, strict=True):
            model.train(training)
