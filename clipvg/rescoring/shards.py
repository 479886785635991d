"""Score labels with grounding models by shards of images, stored or shared out among processes."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.model import GroundingModel
from clipvg.rescoring import Engine, EngineConfig, Plan, Shard, ShardScores
from clipvg.rescoring.plan import ShardKeys
from clipvg.rescoring.store import ScoreStore, StoredShard, distinct_models
from clipvg.runtime import distributed
from clipvg.runtime.progress import progress_bar

# Seconds to wait for files of other machines: network file systems show new ones late.
_WAITS = (0, 2, 10, 30)

Lacking = dict[int, tuple[str, ...]]  # number of a shard -> keys of the measurers that it lacks


class Runner(Protocol):
    """Scores shards elsewhere than in this process."""

    device: torch.device  # kind of device there; the precision of the pass must not be "auto"

    def stream(
        self,
        plan: Plan,
        shards: Iterable[Shard],
        models: Mapping[str, GroundingModel],
        config: EngineConfig,
        *,
        on_error: Literal["null", "raise"],
        advance: Callable[[int], object],
    ) -> Iterator[ShardScores]:
        """Score shards as `Engine.stream` does, and yield them in any order."""


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
    """Score all N labels, whose ``truth`` is never read, with all n models on one device.

    Under `torchrun` the processes share out the shards, and each gets all scores; all must call it.
    Models of equal weights and rules are scored once. Scores in the store are not computed again,
    and new ones are added to it. The shards are scored by the runner if given, else here.

    Returns:
        (n, N) float32 reliability in label order, NaN where the image cannot be read (with
        `EngineConfig.answers`, (n * `ANSWERS`, N) parts of answers); row of a label that is not
        scored -> why.

    Raises:
        InputError: as in `Engine.stream`.
    """
    config = config or EngineConfig()
    work = _Rescoring(Plan(labels), models, config, on_error, progress, store, runner)
    lacking = work.find()
    own = work.score(lacking)
    work.gather(lacking, own)
    return work.scores, work.reasons


@dataclass
class _Rescoring:
    """A pass over labels, whose scores are found in the store, computed here, or by others."""

    plan: Plan
    models: Mapping[str, GroundingModel]
    config: EngineConfig
    on_error: Literal["null", "raise"]
    progress: bool
    store: ScoreStore | None
    runner: Runner | None
    names: list[str] = field(default_factory=list)  # of the shards in the store
    reasons: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        device = self.runner.device if self.runner else next(iter(self.models.values())).device
        self.world = distributed.join(device)
        self.distinct, places = distinct_models(self.models, self.config, device)
        fields = self.config.fields
        self.keys = tuple(key + field for key in self.distinct for field in fields)
        self.rows_of = {
            key + field: [len(fields) * i + number for i in places[key]]
            for key in self.distinct
            for number, field in enumerate(fields)
        }
        self.shards = self.plan.shards()
        shape = len(self.models) * len(fields), len(self.plan.labels)
        self.scores = np.full(shape, np.nan, dtype=np.float32)

    def find(self) -> Lacking:
        """Read what the store has, and return what it lacks; the main process decides for all."""
        store = self.store
        if store is None:
            return dict.fromkeys(range(len(self.shards)), self.keys)

        def decide() -> tuple[list[str], Lacking]:
            if not self.world.is_main:
                return [], {}
            store.clean()
            keys = ShardKeys(self.plan)
            self.names = [keys.key(self.plan.chunk(*shard)) for shard in self.shards]
            return self.names, self._read(store, range(len(self.shards)))

        self.names, lacking = distributed.together(decide, self.world)[0]
        if damaged := store.damaged:
            warnings.warn(
                f"{len(damaged)} file(s) of the score store cannot be read and are scored again, "
                f"such as {damaged[0]}.",
                stacklevel=2,
            )
        missing = sum(len(keys) * self._num_labels([i]) for i, keys in lacking.items())
        asked = len(self.plan.labels) * len(self.keys)
        store.asked += asked
        store.found += asked - missing
        return lacking

    def score(self, lacking: Lacking) -> set[int]:
        """Score this process's share of what is missing; return its shards."""
        groups: dict[tuple[str, ...], list[int]] = {}
        for i, keys in lacking.items():
            groups.setdefault(keys, []).append(i)
        world = self.world
        shares = {keys: shards[world.rank :: world.size] for keys, shards in groups.items()}
        todo = self._num_labels(lacking)

        def work() -> None:
            with self._progress(todo) as advance:
                for keys, shards in shares.items():
                    self._score_shards(keys, shards, advance)

        distributed.together(work, world, failing=self.store.stop if self.store else None)
        return {i for shards in shares.values() for i in shards}

    def gather(self, lacking: Lacking, own: set[int]) -> None:
        """Collect what the other processes have scored."""
        world, store = self.world, self.store
        if world.size == 1:
            return
        if store is None:
            for reasons in distributed.gather_objects(self.reasons, world):
                self.reasons.update(reasons)
            np.nan_to_num(self.scores, copy=False, nan=-1.0)  # NaN: not scored in this process
            distributed.all_reduce(torch.from_numpy(self.scores), world, "max")
            self.scores[self.scores < 0] = np.nan
            return
        if world.is_main:  # which has read what was there
            unread = [i for i in lacking if i not in own]
        else:
            unread = [i for i in range(len(self.shards)) if i not in own or lacking[i] != self.keys]

        def read() -> None:
            missing: Collection[int] = unread
            for seconds in _WAITS:
                time.sleep(seconds)
                missing = self._read(store, missing)
                if not missing:
                    return
            raise InputError(
                f"{store.folder} lacks {len(missing)} shards that another process has scored; "
                "put --store on a file system that all of them share."
            )

        distributed.together(read, world)

    def _read(self, store: ScoreStore, shards: Iterable[int]) -> Lacking:
        """Read shards from the store; return what it lacks."""
        sets = store.sets(self.keys)
        lacking: Lacking = {}
        for i in shards:
            rows = self.plan.chunk(*self.shards[i]).rows
            found = store.read(self.names[i], sets, len(rows))
            if found.reasons and self.on_error == "raise":
                raise InputError(found.reasons[min(found.reasons)])
            self._place(rows, found)
            missing = tuple(key for key in self.keys if key not in found.scores)
            if missing:
                lacking[i] = missing
        return lacking

    def _score_shards(
        self, keys: tuple[str, ...], shards: list[int], advance: Callable[[int], None]
    ) -> None:
        if not shards:
            return
        lacked = dict.fromkeys(key.partition(".")[0] for key in keys)
        store, models = self.store, dict(self.distinct[key] for key in lacked)
        keys = tuple(key + field for key in lacked for field in self.config.fields)
        called = [name + field for name in models for field in self.config.fields]
        number = {self.shards[i]: i for i in shards}
        if self.runner is None:
            engine = Engine(models, self.config)
            parts = engine.stream(self.plan, number, on_error=self.on_error, advance=advance)
        else:
            parts = self.runner.stream(
                self.plan, number, models, self.config, on_error=self.on_error, advance=advance
            )
        for part in parts:
            i, rows = number[part.shard], part.rows.tolist()
            why = {at: part.reasons[row] for at, row in enumerate(rows) if row in part.reasons}
            found = StoredShard(dict(zip(keys, part.scores, strict=True)), why)
            if store is not None:
                store.write(self.names[i], found, called)
            self._place(part.rows, found)
            if store is not None and self.world.size > 1 and store.is_stopped:
                return

    def _place(self, rows: np.ndarray, found: StoredShard) -> None:
        for key, values in found.scores.items():
            for row in self.rows_of[key]:
                self.scores[row, rows] = values
        self.reasons.update({int(rows[at]): why for at, why in found.reasons.items()})

    def _num_labels(self, shards: Iterable[int]) -> int:
        return sum(len(self.plan.chunk(*self.shards[i]).rows) for i in shards)

    @contextmanager
    def _progress(self, todo: int) -> Iterator[Callable[[int], None]]:
        """Show progress at the main process's pace for all; stored scores count as done."""
        total, world = len(self.plan.labels), self.world
        show = self.progress and world.is_main
        desc = "predict" if self.config.answers else "score"
        bar = progress_bar(total, desc=desc, unit="label", show=show, initial=total - todo)
        with bar:
            yield lambda count: bar.update(min(count * world.size, total - bar.n))
