"""Scores of grounding models: shards of images, found in a store or shared out among processes."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.rescoring import Engine, EngineConfig, Plan, Shard, ShardScores
from clipvg.rescoring.plan import ShardKeys, plan_shards
from clipvg.rescoring.store import ScoreStore, StoredShard, distinct_models
from clipvg.runtime import distributed
from clipvg.runtime.progress import progress_bar

if TYPE_CHECKING:
    from clipvg.model import GroundingModel

# Seconds to wait for files of other machines: network file systems show new ones late.
_WAITS = (0, 2, 10, 30)

Lacking = dict[int, tuple[str, ...]]  # number of a shard -> keys of the measurers that it lacks


class Runner(Protocol):
    """Where shards are scored when not in this process.

    Attributes:
        device: kind of the devices there; the precision of the pass must not be "auto".
    """

    device: torch.device

    def stream(
        self,
        labels: LabelTable,
        shards: Iterable[Shard],
        models: Mapping[str, GroundingModel],
        config: EngineConfig,
        *,
        on_error: Literal["null", "raise"],
        advance: Callable[[int], object],
    ) -> Iterator[ShardScores]:
        """Score shards as `Engine.stream` does, and yield them in any order."""
        ...


def score_models(
    labels: LabelTable,
    models: Mapping[str, GroundingModel],
    config: EngineConfig | None = None,
    *,
    on_error: Literal["null", "raise"] = "null",
    progress: bool = False,
    store: ScoreStore | None = None,
    runner: Runner | None = None,
) -> tuple[np.ndarray, dict[int, str]]:
    """Score all labels with all models.

    Under `torchrun` the shards are shared out and every process gets all scores; all must call.
    Models of equal weights and rules are scored once.

    Args:
        labels: N labels; their ``truth`` is never read.
        models: n models by name, on one device.
        config: how the engine runs.
        on_error: "null" leaves labels with an unreadable image unscored; "raise" stops.
        progress: show a progress bar.
        store: from `open_store`; what is there is not scored, what is scored is kept there.
        runner: where the shards are scored; None is here.

    Returns:
        (n, N) float32 IoU in label order, NaN where the image cannot be read; row of a label that
        is not scored -> why.

    Raises:
        InputError: an image cannot be read and ``on_error`` is "raise"; a prediction is not finite
            (names the measurer and the rows).
    """
    config = config or EngineConfig()
    work = _Rescoring(labels, models, config, on_error, progress, store, runner)
    lacking = work.find()
    own = work.score(lacking)
    work.gather(lacking, own)
    return work.scores, work.reasons


class _Rescoring:
    """A pass over labels: what is found, what is scored here, what other processes score."""

    def __init__(
        self,
        labels: LabelTable,
        models: Mapping[str, GroundingModel],
        config: EngineConfig,
        on_error: Literal["null", "raise"],
        progress: bool,
        store: ScoreStore | None,
        runner: Runner | None,
    ) -> None:
        self._labels = labels
        self._on_error: Literal["null", "raise"] = on_error
        self._show = progress
        self._config = config
        self._store = store
        self._runner = runner
        device = runner.device if runner else next(iter(models.values())).device
        self._world = distributed.join(device)
        self._models, self._rows_of = distinct_models(models, config, device)
        self._keys = tuple(self._models)
        self._plan = Plan(labels)
        self._shards = plan_shards(self._plan)
        self._names: list[str] = []  # of the shards in the store
        self.scores = np.full((len(models), len(labels)), np.nan, dtype=np.float32)
        self.reasons: dict[int, str] = {}

    def find(self) -> Lacking:
        """Read what the store has. The main process decides for all what is missing."""
        if self._store is None:
            return dict.fromkeys(range(len(self._shards)), self._keys)

        def decide() -> tuple[list[str], Lacking]:
            if self._world.is_main:
                return self._find(), self._read(range(len(self._shards)))
            return [], {}

        self._names, lacking = distributed.together(decide, self._world)[0]
        if damaged := self._store.damaged:
            warnings.warn(
                f"{len(damaged)} file(s) of the score store cannot be read and are scored again, "
                f"such as {damaged[0]}.",
                stacklevel=2,
            )
        missing = sum(len(keys) * self._num_labels([i]) for i, keys in lacking.items())
        asked = len(self._labels) * len(self._keys)
        self._store.asked += asked
        self._store.found += asked - missing
        return lacking

    def score(self, lacking: Lacking) -> set[int]:
        """Score this process's share of what is missing; return its shards."""
        groups: dict[tuple[str, ...], list[int]] = {}
        for i, keys in lacking.items():
            groups.setdefault(keys, []).append(i)
        world = self._world
        shares = {keys: shards[world.rank :: world.size] for keys, shards in groups.items()}
        todo = self._num_labels(lacking)

        def work() -> None:
            with self._progress(todo) as advance:
                for keys, shards in shares.items():
                    self._score_shards(keys, shards, advance)

        distributed.together(work, world, failing=self._store.stop if self._store else None)
        return {i for shards in shares.values() for i in shards}

    def gather(self, lacking: Lacking, own: set[int]) -> None:
        """Take over what the other processes have scored."""
        world, store = self._world, self._store
        if world.size == 1:
            return
        if store is None:
            for reasons in distributed.gather_objects(self.reasons, world):
                self.reasons.update(reasons)
            _exchange(self.scores, world)
            return
        if world.is_main:  # which has read what was there
            unread = [i for i in lacking if i not in own]
        else:
            unread = [
                i for i in range(len(self._shards)) if i not in own or lacking[i] != self._keys
            ]

        def read() -> None:
            missing: Collection[int] = unread
            for seconds in _WAITS:
                time.sleep(seconds)
                missing = self._read(missing)
                if not missing:
                    return
            raise InputError(
                f"{store.folder} lacks {len(missing)} shards that another process has scored; "
                "put --store on a file system that all of them share."
            )

        distributed.together(read, world)

    def _find(self) -> list[str]:
        assert self._store is not None
        self._store.clean()
        keys = ShardKeys(self._labels)
        self._names = [keys.key(self._plan.chunk(*shard)) for shard in self._shards]
        return self._names

    def _read(self, shards: Iterable[int]) -> Lacking:
        """Read shards from the store; return what it lacks."""
        assert self._store is not None
        sets = self._store.sets(self._keys)
        lacking: Lacking = {}
        for i in shards:
            rows = self._plan.chunk(*self._shards[i]).rows
            found = self._store.read(self._names[i], sets, len(rows))
            if found.reasons and self._on_error == "raise":
                raise InputError(found.reasons[min(found.reasons)])
            self._place(rows, found)
            missing = tuple(key for key in self._keys if key not in found.scores)
            if missing:
                lacking[i] = missing
        return lacking

    def _score_shards(
        self, keys: tuple[str, ...], shards: list[int], advance: Callable[[int], None]
    ) -> None:
        if not shards:
            return
        store, called = self._store, [self._models[key][0] for key in keys]
        number = {self._shards[i]: i for i in shards}
        for part in self._stream(dict(self._models[key] for key in keys), number, advance):
            i, rows = number[part.shard], part.rows.tolist()
            why = {at: part.reasons[row] for at, row in enumerate(rows) if row in part.reasons}
            found = StoredShard(dict(zip(keys, part.scores, strict=True)), why)
            if store is not None:
                store.write(self._names[i], found, called)
            self._place(part.rows, found)
            if store is not None and self._world.size > 1 and store.is_stopped:
                return

    def _stream(
        self,
        models: Mapping[str, GroundingModel],
        shards: Iterable[Shard],
        advance: Callable[[int], None],
    ) -> Iterator[ShardScores]:
        on_error, labels = self._on_error, self._labels
        if self._runner is not None:
            return self._runner.stream(
                labels, shards, models, self._config, on_error=on_error, advance=advance
            )
        engine = Engine(models, self._config)
        return engine.stream(labels, shards, on_error=on_error, advance=advance)

    def _place(self, rows: np.ndarray, found: StoredShard) -> None:
        for key, values in found.scores.items():
            for row in self._rows_of[key]:
                self.scores[row, rows] = values
        self.reasons.update({int(rows[at]): why for at, why in found.reasons.items()})

    def _num_labels(self, shards: Iterable[int]) -> int:
        return sum(len(self._plan.chunk(*self._shards[i]).rows) for i in shards)

    @contextmanager
    def _progress(self, todo: int) -> Iterator[Callable[[int], None]]:
        """Show the main process's pace as that of all; what was found is done at once."""
        total, world = len(self._labels), self._world
        show = self._show and world.is_main
        bar = progress_bar(total, desc="score", unit="label", show=show, initial=total - todo)
        with bar:
            yield lambda count: bar.update(min(count * world.size, total - bar.n))


def _exchange(scores: np.ndarray, world: distributed.World) -> None:
    """Fill in, in place, the scores of the other processes' shards: NaN is what nobody scored."""
    np.nan_to_num(scores, copy=False, nan=-1.0)
    distributed.all_reduce(torch.from_numpy(scores), world, "max")
    scores[scores < 0] = np.nan
