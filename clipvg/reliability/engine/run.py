"""The engine: n grounding models over many labels in one pass over the images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from clipvg.labels import LabelTable
from clipvg.ops.linear import fast_cpu
from clipvg.reliability.engine.bank import Bank
from clipvg.reliability.engine.config import EngineConfig
from clipvg.reliability.engine.images import Decoded, Geometry, decode, visual_tokens
from clipvg.reliability.engine.iou import score_boxes
from clipvg.reliability.engine.job import Job, Part
from clipvg.reliability.engine.plan import Plan, one_image_a_label
from clipvg.reliability.engine.stack import HeadStack, architecture
from clipvg.reliability.engine.stats import Stats
from clipvg.reliability.engine.text import TextFeatures, TextTokens, text_group

if TYPE_CHECKING:
    from clipvg.model import GroundingModel
    from clipvg.model.backbone import Backbone

HISTOGRAM_BINS = 1000  # as in the paper's figure of reliability distributions
# Packed tokens of a batch over all its measurers, and images that a tower takes at a time. On a
# CPU what is larger falls out of the last-level cache.
_TOKENS = {"cpu": 1600, "cuda": 131_072}
_IMAGES = {"cpu": 4, "cuda": 64}
_STACKING = {"cuda"}  # devices where measurers of one architecture are one stack

Shard = tuple[int, int]  # images [first, last) of a `Plan`


@dataclass(frozen=True)
class ShardScores:
    """Scores of all labels on the images of a shard.

    Attributes:
        shard: its images.
        rows: (R,) int64 rows of the labels.
        scores: (n, R) float32 reliability, NaN where the image cannot be read.
        reasons: row -> why it is not scored.
    """

    shard: Shard
    rows: np.ndarray
    scores: np.ndarray
    reasons: dict[int, str]


@dataclass(frozen=True)
class _Stack:
    """Measurers that run as one stack: their numbers, weights, and the image tower of each."""

    members: list[int]
    heads: HeadStack
    tower_of: list[int]
    text: TextFeatures


@dataclass(frozen=True)
class _View:
    """Measurers that see the same pixels and mask the same patches, and their image towers."""

    model: GroundingModel
    towers: list[Backbone]
    stacks: list[_Stack]


class Engine:
    """Scores labels with n grounding models; keeps their weights ready for many calls.

    The models' weights are read when the engine is made.

    Args:
        models: n models by name, all on one device.
        config: batch, precision, what is left out or shared.
        profile: wait for the device after every stage, so that ``stats.seconds`` are true there.

    Attributes:
        names: names of the models.
        stats: what all passes so far have done.
        histogram: (n, sources, 1000) int64 of the scores of the last pass so far, counted where
            the boxes are; sources in order of first appearance.
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
        self.stats = Stats(waits_for=self.device if profile else None)
        self.histogram = torch.zeros(len(self.names), 1, HISTOGRAM_BINS, dtype=torch.int64)
        self._texts: dict[Any, TextFeatures] = {}
        self._views = self._make_views()
        self._geometries = list(dict.fromkeys(Geometry.of(model) for model in self._models))

    def stream(
        self,
        labels: LabelTable,
        shards: Iterable[Shard] | None = None,
        *,
        on_error: Literal["null", "raise"] = "null",
        row_names: np.ndarray | None = None,
        advance: Callable[[int], Any] = lambda count: None,
    ) -> Iterator[ShardScores]:
        """Score labels shard by shard.

        What the scores of a shard are depends on nothing outside it: batches do not cross shards
        and the text cache is emptied between them, so a shard scored again gives equal bytes.

        Args:
            labels: N labels; their ``truth`` is never read.
            shards: which images; None is all of them, as one shard.
            on_error: "null" leaves labels with an unreadable image unscored; "raise" stops.
            row_names: (N,) what errors call the rows, where the labels are part of a table.
            advance: called with the number of labels just passed.

        Raises:
            InputError: an unreadable image with "raise"; a prediction that is not finite.
        """
        plan = Plan(labels)
        everything = [(0, plan.num_images)] if plan.num_images else []
        shards = everything if shards is None else list(shards)
        job = Job(labels, on_error, row_names)
        self.histogram = self.histogram.new_zeros(
            len(self.names), job.num_groups, HISTOGRAM_BINS, device=self.device
        )
        size = self.config.images_per_chunk
        with closing(self._decoded(labels, plan, shards)) as decoded:
            for shard in shards:
                for text in self._texts.values():
                    text.clear()
                rows, scores, reasons = [], [], {}
                for _ in range(*shard, size):
                    with self.stats.timed("decode"):
                        ready = next(decoded)
                    reasons.update(job.unreadable(ready))
                    rows.append(ready.chunk.rows)
                    scores.append(self._score_chunk(job, ready))
                    self.stats.labels += len(ready.chunk.rows)
                    advance(len(ready.chunk.rows))
                yield ShardScores(shard, np.concatenate(rows), np.concatenate(scores, 1), reasons)

    def _decoded(
        self, labels: LabelTable, plan: Plan, shards: list[Shard]
    ) -> Generator[Decoded, None, None]:
        size = self.config.images_per_chunk
        chunks = (chunk for first, last in shards for chunk in plan.chunks(size, first, last))
        return decode(
            labels,
            chunks if self.does.encode_once else map(one_image_a_label, chunks),
            self._geometries,
            workers=self.config.workers,
            prefetch=self.does.prefetch,
        )

    @torch.inference_mode()
    def _score_chunk(self, job: Job, ready: Decoded) -> np.ndarray:
        """Return the scores (n, R) of a chunk's labels."""
        chunk, good = ready.chunk, ready.readable()
        scores = np.full((len(self.names), len(chunk.rows)), np.nan, dtype=np.float32)
        place = np.full(len(chunk.images), -1)
        place[good] = np.arange(len(good))
        image = place[chunk.image_of_row]
        usable = np.flatnonzero(image >= 0)
        if len(usable):
            with full_precision(self.config.dtype(self.device)), self._products():
                for view in self._views:
                    squares = ready.squares(Geometry.of(view.model))
                    part = Part(chunk.rows[usable], image[usable], squares)
                    for members, found in self._score_view(job, view, part):
                        scores[np.array(members)[:, None], usable] = found.cpu().numpy()
        return scores

    def _products(self) -> AbstractContextManager[None]:
        # bf16 has its products already, and open_clip's own blocks are a little faster in it
        is_fp32 = self.config.dtype(self.device) == torch.float32
        return fast_cpu() if self.does.fast_cpu and is_fp32 else nullcontext()

    def _score_view(self, job: Job, view: _View, part: Part) -> Iterator[tuple[list[int], Tensor]]:
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
        target = job.targets(view.model, part)
        group = torch.from_numpy(job.group[part.rows]).to(self.device)
        texts, expression = job.expressions(part.rows, once=self.does.cache_text)
        tokens: dict[TextFeatures, TextTokens] = {}
        for stack in view.stacks:
            with self.stats.timed("text"):
                if stack.text not in tokens:
                    tokens[stack.text] = stack.text.tokens(texts, self.stats)
                text = tokens[stack.text]
            with self.stats.timed("project"):
                bank = Bank(stack.heads, text, visual, [visual.levels[i] for i in stack.tower_of])
            predicted = target.new_empty(len(stack.members), *target.shape)
            with self.stats.timed("fuse"):
                for some in self._batches(bank.lengths(expression, part.image), len(predicted)):
                    at = torch.from_numpy(some).to(self.device)
                    predicted[:, at] = bank.boxes(expression[some], part.image[some])
            with self.stats.timed("score"):
                job.check_finite(predicted, [self.names[i] for i in stack.members], part.rows)
                found, counts = score_boxes(
                    predicted,
                    target,
                    group,
                    job.num_groups,
                    HISTOGRAM_BINS,
                    fused=self.does.fused_score,
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

    def _make_views(self) -> list[_View]:
        views: dict[Any, list[int]] = {}
        for i, model in enumerate(self._models):
            rules = model.preset.patch_mask, model.preset.integer_boxes, model.backbone.patch_size
            views.setdefault((Geometry.of(model), *rules), []).append(i)
        reduced: dict[Any, Backbone] = {}
        return [self._make_view(members, reduced) for members in views.values()]

    def _make_view(self, members: list[int], reduced: dict[Any, Backbone]) -> _View:
        dtype, once = self.config.dtype(self.device), self.does.encode_once
        towers: dict[Any, Backbone] = {}
        stacks: dict[Any, list[int]] = {}
        key_of = {}
        for i in members:
            model = self._models[i]
            tower = _in_dtype(model.backbone, dtype, reduced)
            key_of[i] = model.image_key if once else i
            towers.setdefault(key_of[i], tower)
            text = text_group(model)
            if text not in self._texts:
                self._texts[text] = TextFeatures(model, tower, self.config)
            stacks.setdefault((text, architecture(model), *self._apart(i)), []).append(i)
        place = {key: at for at, key in enumerate(towers)}
        return _View(
            self._models[members[0]],
            list(towers.values()),
            [
                _Stack(
                    some,
                    HeadStack([self._models[i] for i in some], dtype, self.does),
                    [place[key_of[i]] for i in some],
                    self._texts[text],
                )
                for (text, *_), some in stacks.items()
            ],
        )

    def _apart(self, member: int) -> tuple[int, ...]:
        """What keeps a measurer out of the others' stack."""
        # On a CPU one by one is faster: a batched product gives each core whole matrices, so that
        # three of them leave one of two cores idle half of the time, and more is in the cache.
        return () if self.does.stack_heads and self._kind in _STACKING else (member,)


def _in_dtype(backbone: Backbone, dtype: torch.dtype, reduced: dict[Any, Backbone]) -> Backbone:
    """Return the towers in a dtype; towers of equal weights are copied once."""
    if all(parameter.dtype == dtype for parameter in backbone.parameters()):
        return backbone
    key = backbone.image_key, backbone.text_key
    if key not in reduced:
        reduced[key] = copy.deepcopy(backbone).to(dtype)
    return reduced[key]


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
