"""Base class of grounders that clipvg does not train: they measure labels and predict boxes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from clipvg.data.image import read_image
from clipvg.data.inputs import ImageInput, as_image
from clipvg.data.letterbox import image_boxes, square_boxes
from clipvg.errors import InputError
from clipvg.features.cache import Against
from clipvg.grounders.located import Located
from clipvg.labels import LabelTable
from clipvg.measures.common.measure import Measure
from clipvg.model.predict import refuse_blank
from clipvg.model.predictions import Predictions
from clipvg.reliability.measurer import Context, Scores
from clipvg.rescoring.answers import Answered
from clipvg.rescoring.encode import decode_chunks
from clipvg.rescoring.plan import Plan, Shard, ShardKeys
from clipvg.rescoring.store import ScoreStore, StoredShard
from clipvg.runtime import distributed
from clipvg.runtime.progress import progress_bar
from clipvg.similarity import IOU, compare_in_square
from clipvg.training import Evaluation
from clipvg.training.evaluate import check_against, compare

if TYPE_CHECKING:
    import torch
    from PIL import Image

SIDE = 640  # of the square in which boxes are compared; any value would do
_IMAGES = 32  # images decoded and held at a time
_FIELDS = (".x1", ".y1", ".x2", ".y2", ".score", ".width", ".height")  # stored for each row


class Grounder(Measure):
    """A measurer and predictor of boxes; subclasses implement `locate`.

    r = IoU of its box with the label's, both in the letterboxed square, or the similarity set in
    the context's engine. A label for which it finds no box is not scored, with the reason.
    """

    @property
    def requires(self) -> frozenset[str]:
        """The images."""
        return frozenset({"images"})

    @property
    def place(self) -> torch.device | None:
        """The device it runs on, if it has one."""
        return None

    @property
    def weights(self) -> str:
        """Identity of its weights."""
        return ""

    def locate(
        self, images: Sequence[Image.Image], expressions: Sequence[Sequence[str]]
    ) -> list[Located]:
        """Locate the expressions of each upright RGB image."""
        raise NotImplementedError

    def look(
        self,
        names: Sequence[str | None],
        images: Sequence[Image.Image],
        expressions: Sequence[Sequence[str]],
    ) -> list[Located]:
        """Locate the expressions of images, by whose names observations may be looked up."""
        return self.locate(images, expressions)

    def name_of(self, image: ImageInput) -> str | None:
        """Return the name under which observations have an image; None without observations."""
        return None

    def answer(self, image: ImageInput, expressions: Sequence[str]) -> Predictions:
        """Predict a box for each expression about one image; a box is NaN where none is found."""
        refuse_blank(expressions)
        shown = as_image(image)
        (found,) = self.look([self.name_of(image)], [shown], [expressions])
        unsaid = np.full(len(expressions), np.nan, np.float32)
        by = {"scores": self.name}
        return Predictions(
            found.boxes,
            found.scores,
            unsaid,
            tuple(expressions),
            shown.size,
            by,
            reasons=tuple(found.reasons) if any(found.reasons) else (),
        )

    def ground(
        self,
        labels: LabelTable,
        context: Context | None = None,
        *,
        against: Against = "box",
        store: ScoreStore | None = None,
    ) -> Answered:
        """Predict a box for every row of a table, decoding each image once.

        Under `torchrun` the images are divided among the processes and every process gets all
        answers; all must call.

        Args:
            labels: N labels or questions, with an image root.
            context: how it runs.
            against: which boxes become `target`.
            store: from `open_store`; answers found there are not computed again.
        """
        context = context or Context()
        world = distributed.join(self.place)
        own = _Pass(self, labels, context, store)
        parts = distributed.together(lambda: own.run(world.rank, world.size), world)
        values = np.full((len(labels), len(_FIELDS)), np.nan, np.float32)
        reasons: dict[int, str] = {}
        for rows, found, why in (shard for part in parts for shard in part):
            values[rows] = found
            reasons |= {int(rows[at]): reason for at, reason in why.items()}
        sizes = np.nan_to_num(values[:, 5:], nan=1).astype(np.int64)
        given = labels.boxes() if against == "box" else labels.truth()
        return Answered(
            boxes=square_boxes(values[:, :4], sizes, SIDE),
            target=square_boxes(given, sizes, SIDE),
            sizes=sizes,
            reasons=[reasons.get(row) for row in range(len(labels))],
            scores=values[:, 4],
            present=np.full(len(labels), np.nan, np.float32),
            side=SIDE,
        )

    def judge(self, found: Answered, labels: LabelTable, against: Against = "box") -> Evaluation:
        """Return the accuracy of its answers to labels; a missing box counts as wrong."""
        empty = np.nan_to_num(found.boxes, nan=0)
        return compare(dataclasses.replace(found, boxes=empty), labels, against)

    def evaluate(
        self, labels: LabelTable, *, against: Against = "box", progress: bool = False
    ) -> Evaluation:
        """Return its accuracy on labels whose images are all readable."""
        check_against(labels, against)
        context = Context(on_error="raise", progress=progress)
        return self.judge(self.ground(labels, context, against=against), labels, against)

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        """Return the similarity of its boxes to those of the labels."""
        found = self.ground(labels, context)
        similarity = context.engine.similarity if context.engine else IOU
        values = np.full(len(labels), np.nan, np.float32)
        known = np.isfinite(found.boxes).all(1)
        values[known] = compare_in_square(similarity, found.boxes[known], found.target[known])
        return Scores(values, {row: why for row, why in enumerate(found.reasons) if why})

    def predict(self, labels: LabelTable, context: Context) -> np.ndarray:
        """Return its box for each label, see `clipvg.reliability.BoxPredictor`."""
        found = self.ground(labels, context)
        return image_boxes(found.boxes, found.sizes, SIDE)

    def key(self) -> str:
        """Return a hash of everything its answers depend on besides the labels and images."""
        options = {
            each.name: repr(getattr(self, each.name))
            for each in dataclasses.fields(self)
            # the model is identified by `weights`, as is the content of fields without a repr
            if each.repr and each.name not in ("name", "model", "device")
        }
        place = self.place.type if self.place else None  # GPUs count as equal
        facts = [type(self).__qualname__, self.weights, place, sorted(options.items())]
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


@dataclasses.dataclass(frozen=True)
class _Pass:
    """One process's pass over a table."""

    grounder: Grounder
    labels: LabelTable
    context: Context
    store: ScoreStore | None

    def run(self, rank: int, size: int) -> list[tuple[np.ndarray, np.ndarray, dict[int, str]]]:
        """Return this process's shards: rows (R,), values (R, 7) and reasons by index of each."""
        plan = Plan(self.labels)
        keys = ShardKeys(plan)
        shards = plan.shards()[rank::size]
        show = self.context.progress and rank == 0
        count = sum(len(plan.chunk(*shard).rows) for shard in shards)
        found = []
        with progress_bar(count, desc="ground", unit="label", show=show) as bar:
            for shard in shards:
                rows = plan.chunk(*shard).rows
                answered = self._shard(plan, shard, keys)
                values = np.stack([answered.scores[key] for key in self.keys], 1)
                found.append((rows, values, answered.reasons))
                bar.update(len(rows))
        return found

    @cached_property
    def keys(self) -> list[str]:
        """Names of the values in the store; cached, since the key hashes all observations."""
        own = self.grounder.key()
        return [own + field for field in _FIELDS]

    def _shard(self, plan: Plan, shard: Shard, keys: ShardKeys) -> StoredShard:
        """Read a shard from the store, or else compute it."""
        chunk = plan.chunk(*shard)
        if self.store is None:
            return self._answered(plan, shard)
        name, count = keys.key(chunk), len(chunk.rows) * len(_FIELDS)
        kept = self.store.read(name, self.store.sets(self.keys), len(chunk.rows))
        self.store.asked += count
        if kept.scores.keys() >= {*self.keys}:
            self.store.found += count
            if self.context.on_error == "raise" and (why := _unreadable(kept)):
                raise InputError(why)
            return kept
        found = self._answered(plan, shard)
        self.store.write(name, found, [self.grounder.name + field for field in _FIELDS])
        return found

    def _answered(self, plan: Plan, shard: Shard) -> StoredShard:
        chunk = plan.chunk(*shard)
        values = np.full((len(chunk.rows), len(_FIELDS)), np.nan, np.float32)
        reasons: dict[int, str] = {}
        place = {int(row): at for at, row in enumerate(chunk.rows)}
        texts = self.labels.table.column("expression")
        with closing(decode_chunks(plan, plan.chunks(_IMAGES, *shard), read_image)) as decoded:
            for ready in decoded:
                unread = ready.unreadable(self.context.on_error)
                reasons |= {place[row]: why for row, why in unread.items()}
                usable, image = ready.usable()
                rows, images = ready.chunk.rows[usable], ready.readable()
                on = [rows[image == number].tolist() for number in range(len(images))]
                asked = [[texts[row].as_py() for row in own] for own in on]
                names = [
                    name
                    for name, image in zip(ready.chunk.images, ready.images, strict=True)
                    if not isinstance(image, InputError)
                ]
                located = self.grounder.look(names, images, asked)
                for own, shown, found in zip(on, images, located, strict=True):
                    at = [place[row] for row in own]
                    values[at, :4], values[at, 4] = found.boxes, found.scores
                    values[at, 5:] = shown.size
                    reasons |= {p: why for p, why in zip(at, found.reasons, strict=True) if why}
        return StoredShard(dict(zip(self.keys, values.T, strict=True)), reasons)


def _unreadable(kept: StoredShard) -> str | None:
    """Return the reason for the first unreadable image, or None. Its width is NaN."""
    width = next(values for key, values in kept.scores.items() if key.endswith(".width"))
    return next((why for at, why in kept.reasons.items() if np.isnan(width[at])), None)
