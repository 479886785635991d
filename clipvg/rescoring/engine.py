"""The engine: n grounding models over many labels in one pass over the images."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from clipvg.data.letterbox import Square
from clipvg.features.images import load_squares
from clipvg.features.keys import PixelsKey, pixels_key
from clipvg.features.texts import TextCache
from clipvg.model import GroundingModel
from clipvg.model.fast.tokens import TextTokens, Tokens
from clipvg.model.grounder import evaluating
from clipvg.model.predict import answer_squares
from clipvg.ops.linear import fast_cpu
from clipvg.rescoring.config import EngineConfig, Stats
from clipvg.rescoring.encode import Decoded, decode_chunks, text_tokens, visual_tokens
from clipvg.rescoring.plan import Plan, Shard, one_image_a_label
from clipvg.rescoring.targets import ReadableLabels, Targets, check_finite, score_boxes
from clipvg.rescoring.views import View, make_views

HISTOGRAM_BINS = 1000  # as in the paper's figure of reliability distributions
# Packed tokens of a batch over all its measurers, and images that a tower takes at a time. On a
# CPU larger batches do not fit in the last-level cache.
_TOKENS = {"cpu": 1600, "cuda": 131_072}
_IMAGES = {"cpu": 4, "cuda": 64}

Squares = dict[PixelsKey, Square]  # of one image, by how models see it


@dataclass(frozen=True)
class ShardScores:
    """Scores of all labels on the images of a shard."""

    shard: Shard  # its images
    rows: np.ndarray  # (R,) int64 rows of the labels
    # (n, R) float32 reliability, NaN where the image cannot be read; with `EngineConfig.answers`
    # the parts of the answers, (n * `ANSWERS`, R)
    scores: np.ndarray
    reasons: dict[int, str]  # row -> why it is not scored


class Engine:
    """Scores labels with n grounding models; keeps their weights ready for many calls.

    The models must not change while the engine is used: it copies only the weights that it needs in
    another dtype or stacked.

    Args:
        models: n models by name, all on one device.
        config: batch, precision, what is left out or shared.
        profile: wait for the device after every stage, so that ``stats.seconds`` are true on a GPU.
    """

    def __init__(
        self,
        models: Mapping[str, GroundingModel],
        config: EngineConfig | None = None,
        *,
        profile: bool = False,
    ) -> None:
        self.names = list(models)
        self.config = config or EngineConfig()
        self.does = self.config.optimisations
        self._models = list(models.values())
        self.device = self._models[0].device
        self._kind = "cuda" if self.device.type == "cuda" else "cpu"
        self.stats = Stats(waits_for=self.device if profile else None)  # of all passes so far
        # (n, sources, bins) int64 histogram of the last pass's scores so far, on the device of the
        # boxes; sources in order of first appearance
        self.histogram = torch.zeros(len(self.names), 1, HISTOGRAM_BINS, dtype=torch.int64)
        self._views = make_views(self._models, self.config)

    def stream(
        self,
        plan: Plan,
        shards: Iterable[Shard] | None = None,
        *,
        on_error: Literal["null", "raise"] = "null",
        row_names: np.ndarray | None = None,
        advance: Callable[[int], object] = lambda count: None,
    ) -> Iterator[ShardScores]:
        """Score labels shard by shard.

        The scores of a shard depend on nothing outside it: batches do not cross shards and the text
        cache is emptied between them, so a shard scored again gives equal bytes.

        Args:
            plan: of N labels; their ``truth`` is never read.
            shards: which images; None is all of them, as one shard.
            on_error: "null" leaves labels with an unreadable image unscored; "raise" stops.
            row_names: (N,) names of the rows in errors, if the labels are part of a table.
            advance: called with the number of labels just passed.

        Raises:
            InputError: an unreadable image with "raise"; a prediction that is not finite.
        """
        everything = [(0, plan.num_images)] if plan.num_images else []
        shards = everything if shards is None else list(shards)
        targets = Targets(plan, row_names)
        self.histogram = self.histogram.new_zeros(
            len(self.names), targets.num_groups, HISTOGRAM_BINS, device=self.device
        )
        answer = self._answers if self.config.answers else self._reliability
        fields, size = len(self.names) * len(self.config.fields), self.config.images_per_chunk
        with closing(self._decoded(plan, shards)) as decoded:
            for shard in shards:
                for view in self._views:
                    for stack in view.stacks:
                        stack.text.clear()
                rows, scores, reasons = [], [], {}
                for _ in range(*shard, size):
                    with self.stats.timed("decode"):
                        ready = next(decoded)
                    reasons.update(ready.unreadable(on_error))
                    own = ready.chunk.rows
                    found = np.full((fields, len(own)), np.nan, np.float32)
                    usable, image = ready.usable()
                    if len(usable):
                        found[:, usable] = answer(targets, own[usable], image, ready.readable())
                    rows.append(own)
                    scores.append(found)
                    self.stats.labels += len(own)
                    advance(len(own))
                yield ShardScores(shard, np.concatenate(rows), np.concatenate(scores, 1), reasons)

    def _decoded(self, plan: Plan, shards: list[Shard]) -> Generator[Decoded[Squares], None, None]:
        size = self.config.images_per_chunk
        chunks = (chunk for first, last in shards for chunk in plan.chunks(size, first, last))
        return decode_chunks(
            plan,
            chunks if self.does.encode_once else map(one_image_a_label, chunks),
            partial(load_squares, models=[view.model for view in self._views]),
            workers=self.config.workers,
        )

    @torch.inference_mode()
    def _reliability(
        self, targets: Targets, rows: np.ndarray, image: np.ndarray, images: list[Squares]
    ) -> np.ndarray:
        """Return the reliability (n, R) of rows, whose images could all be read."""
        scores = np.empty((len(self.names), len(rows)), dtype=np.float32)
        with full_precision(self.config.dtype(self.device)), self._products():
            for view in self._views:
                squares = [seen[pixels_key(view.model)] for seen in images]
                part = ReadableLabels(rows, image, squares)
                for members, found in self._score_view(targets, view, part):
                    scores[members] = found.cpu().numpy()
        return scores

    @torch.inference_mode()
    def _answers(
        self, targets: Targets, rows: np.ndarray, image: np.ndarray, images: list[Squares]
    ) -> np.ndarray:
        """Return the answers (n * `ANSWERS`, R) to the expressions of rows, as `predict` gives."""
        asked: list[list[str]] = [[] for _ in images]
        for text, place in zip(targets.texts(rows), image.tolist(), strict=True):
            asked[place].append(text)
        parts = []
        for name, model in zip(self.names, self._models, strict=True):
            squares = [seen[pixels_key(model)] for seen in images]
            with evaluating(model), fast_cpu(), self.stats.timed("fuse"):
                boxes, sure, there = answer_squares(
                    model, squares, asked, scores=True, batch_size=self.config.batch_size
                )
            called = [f"model {name!r}"]
            check_finite(torch.from_numpy(boxes)[None], called, targets.row_names[rows])
            sizes = np.array([(box.width, box.height) for _, _, box in squares])[image]
            parts += [boxes.T, [sure, there], sizes.T]
        return np.concatenate(parts)

    def _products(self) -> AbstractContextManager[None]:
        # bf16 products are fast as they are, and open_clip's own blocks are a little faster in it
        is_fp32 = self.config.dtype(self.device) == torch.float32
        return fast_cpu() if self.does.fast_cpu and is_fp32 else nullcontext()

    def _score_view(
        self, targets: Targets, view: View, part: ReadableLabels
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Yield the scores (members, R) of each stack of a view."""
        with self.stats.timed("image"):
            visual = visual_tokens(
                view.towers,
                view.model,
                part.squares,
                dtype=self.config.dtype(self.device),
                pack=self.does.pack,
                batch=_IMAGES[self._kind],
            )
        self.stats.images += len(part.squares) * len(view.towers)
        target = targets.boxes(view.model, part)
        group = torch.from_numpy(targets.group[part.rows]).to(self.device)
        texts, expression = targets.expressions(part.rows)
        of_texts: dict[TextCache, TextTokens] = {}
        for stack in view.stacks:
            with self.stats.timed("text"):
                if stack.text not in of_texts:
                    of_texts[stack.text] = text_tokens(
                        stack.text, texts, self.stats, pack=self.does.pack
                    )
                text = of_texts[stack.text]
            with self.stats.timed("project"):
                levels = [visual.levels[i] for i in stack.tower_of]
                tokens = Tokens(stack.models, text, visual, levels)
            predicted = target.new_empty(len(stack.members), *target.shape)
            with self.stats.timed("fuse"):
                for some in self._batches(tokens.lengths(expression, part.image), len(predicted)):
                    at = torch.from_numpy(some).to(self.device)
                    predicted[:, at] = tokens.boxes(expression[some], part.image[some])
            with self.stats.timed("score"):
                called = [f"measurer {self.names[i]!r}" for i in stack.members]
                check_finite(predicted, called, targets.row_names[part.rows])
                found, counts = score_boxes(
                    predicted,
                    target,
                    group=group,
                    num_groups=targets.num_groups,
                    bins=HISTOGRAM_BINS,
                    similarity=self.config.similarity,
                )
                self.histogram[stack.members] += counts
            yield stack.members, found

    def _batches(self, lengths: np.ndarray, measurers: int) -> Iterator[np.ndarray]:
        """Yield rows in batches, equal lengths side by side."""
        order = np.argsort(lengths, kind="stable")
        if self.config.batch_size is not None:
            cuts = np.arange(self.config.batch_size, len(order), self.config.batch_size)
        else:
            tokens = np.cumsum(lengths[order]) * measurers // _TOKENS[self._kind]
            cuts = np.flatnonzero(np.diff(tokens)) + 1
        yield from np.split(order, cuts)


@contextmanager
def full_precision(dtype: torch.dtype) -> Iterator[None]:
    """Keep a GPU from rounding float32 products to TF32, which is not exact."""
    if dtype != torch.float32 or not torch.cuda.is_available():
        yield
        return
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
