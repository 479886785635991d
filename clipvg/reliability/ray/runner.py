"""Score on a Ray cluster: the engine in a pool of actors, fed by Ray Data.

Importing this needs no Ray; using it needs the extra ``clipvg[ray]``.
"""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch

from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels
from clipvg.model import GroundingModel
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.reliability.measurer import OnError
from clipvg.reliability.names import NamedCheckpoint
from clipvg.reliability.ray.cluster import RayOptions, connected, import_ray, plain_errors
from clipvg.reliability.score import name_measurers, resolve_measurers, score_labels
from clipvg.rescoring import Engine, EngineConfig, Plan, Shard, ShardScores
from clipvg.rescoring.store import ScoreStore
from clipvg.runtime.waiting import waiting_variables

if TYPE_CHECKING:
    from clipvg.reliability.score import AnyMeasurer

_SCORED_BY = ("image", "expression", "box", "box_format")  # what scores depend on
_TASK, _RESULT = "task", "result"


def score_with_ray(
    labels: LabelTable | str | Path,
    measurers: Mapping[str, AnyMeasurer] | Iterable[str],
    *,
    images: str | Path | None = None,
    ray: RayOptions | None = None,
    engine: EngineConfig | None = None,
    on_error: OnError = "null",
    store: str | Path | ScoreStore | None = None,
) -> ScoreMatrix:
    """Score labels as `score_labels` does, with grounding models on a Ray cluster.

    The shards of images, and hence the scores, are those of a single process. Other measurers run
    in this process. An initialised Ray is used as it is; else the cluster of the environment
    variable ``RAY_ADDRESS``; else one on this machine that ends with the call. Every machine must
    see the images, and checkpoints given as paths, under the same paths. Checkpoints are loaded
    once per actor; models are sent once through Ray's object store.

    Arguments, result and errors are those of `score_labels`. The labels may also be a label file,
    whose images are below the folder `images`. Precision "auto" depends on the actors' devices, and
    this process writes the results to the store as they arrive.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    import_ray()
    named = name_measurers(measurers)
    table = labels if isinstance(labels, LabelTable) else read_labels(labels, images=images)
    ready = resolve_measurers(named)
    ray = ray or RayOptions()
    engine = engine or EngineConfig()
    with connected():
        pool = RayPool(ray, paths=checkpoints(named))
        return score_labels(
            table,
            ready,
            engine=replace(engine, precision=engine.resolved_precision(pool.device)),
            on_error=on_error,
            store=store,
            progress=ray.progress,
            runner=pool,
        )


class RayPool:
    """Actors that score on the connected Ray cluster; a `Runner` of `score_models`."""

    def __init__(
        self, options: RayOptions | None = None, *, paths: Mapping[str, str] | None = None
    ) -> None:
        options = options or RayOptions()
        actors, num_cpus, num_gpus = options.actors, options.num_cpus, options.num_gpus
        there = import_ray().cluster_resources()
        if num_gpus is None:
            num_gpus = 1.0 if there.get("GPU", 0) >= actors else 0.0
        if num_cpus is None:
            num_cpus = min(1.0, max(0.01, round(there.get("CPU", 1.0) / (2 * actors), 2)))
        self.num_actors, self.num_cpus, self.num_gpus = actors, num_cpus, num_gpus
        self.device = torch.device("cuda" if num_gpus else "cpu")
        self._paths = dict(paths or {})

    @property
    def options(self) -> dict[str, object]:
        """Arguments of Ray's ``map_batches``."""
        return {
            "compute": import_ray().data.ActorPoolStrategy(size=self.num_actors),
            "num_cpus": self.num_cpus,
            "num_gpus": self.num_gpus or None,
            "batch_format": "pyarrow",
            "runtime_env": {"env_vars": waiting_variables()},
        }

    def setup(self, models: Mapping[str, GroundingModel], config: EngineConfig) -> EngineSetup:
        """Return what actors need to make their engines; models without a path go through Ray."""
        sent = {name: model for name, model in models.items() if name not in self._paths}
        return EngineSetup(
            names=tuple(models),
            paths={name: self._paths[name] for name in models if name in self._paths},
            sent=import_ray().put(pickle.dumps(_on_cpu(sent))) if sent else None,
            config=config,
            device=self.device.type,
            threads=max(1, int(self.num_cpus)),
            folder=os.getcwd(),
        )

    def stream(
        self,
        plan: Plan,
        shards: Iterable[Shard],
        models: Mapping[str, GroundingModel],
        config: EngineConfig,
        *,
        on_error: OnError = "null",
        advance: Callable[[int], object] = lambda count: None,
    ) -> Iterator[ShardScores]:
        """Score shards, each one block of a Ray data set, and yield them as they arrive.

        A shard's labels are sent on their own but in the order of the plan, so that an actor's
        batches are those of a single process.
        """
        scoring = import_ray().data.from_arrow_refs(_blocks(plan, shards))
        scoring = scoring.map_batches(
            ShardScorer,
            fn_constructor_args=(self.setup(models, config), plan.labels.images, on_error),
            batch_size=1,  # a row is a shard
            **self.options,
        )
        scoring.context.enable_progress_bars = False
        batches = iter(scoring.iter_batches(batch_size=None, batch_format="pyarrow"))
        with plain_errors(), closing(batches):
            for batch in batches:
                for result in batch.column(_RESULT).to_pylist():
                    part = pickle.loads(result)
                    advance(len(part.rows))
                    yield part


@dataclass(frozen=True)
class EngineSetup:
    """What every actor needs to make its engine."""

    names: tuple[str, ...]  # of the models, in the order in which they are scored
    paths: Mapping[str, str]  # checkpoints by name
    sent: object  # Ray's reference to the other models by name, pickled
    config: EngineConfig  # of the engine
    device: str  # "cpu" or "cuda"
    threads: int  # of PyTorch on the CPU, and as many for decoding
    folder: str  # that relative paths are relative to

    def engine(self) -> Engine:
        """Make the engine of an actor."""
        from clipvg.model import load

        with suppress(OSError):  # absolute paths need no such folder
            os.chdir(self.folder)
        torch.set_num_threads(self.threads)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError(
                "PyTorch finds no CUDA device in an actor that Ray gave one; install a PyTorch "
                "for CUDA on every machine or pass num_gpus=0."
            )
        models = {} if self.sent is None else pickle.loads(import_ray().get(self.sent))
        models |= {name: load(path) for name, path in self.paths.items()}
        ready = {name: models[name].to(torch.device(self.device)) for name in self.names}
        return Engine(ready, replace(self.config, workers=self.threads))


class ShardScorer:
    """Actor of `RayPool.stream`: pickled labels of shards -> pickled `ShardScores`."""

    def __init__(self, setup: EngineSetup, images: Path | None, on_error: OnError) -> None:
        self._engine, self._images, self._on_error = setup.engine(), images, on_error

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Score the shards of a batch."""
        tasks = batch.column(_TASK).to_pylist()
        results = [pickle.dumps(self._score(*pickle.loads(task))) for task in tasks]
        return pa.table({_RESULT: pa.array(results, pa.large_binary())})

    def _score(self, shard: Shard, rows: np.ndarray, table: pa.Table) -> ShardScores:
        labels = LabelTable(table, self._images)
        (part,) = self._engine.stream(Plan(labels), on_error=self._on_error, row_names=rows)
        reasons = {int(rows[at]): reason for at, reason in part.reasons.items()}
        return ShardScores(shard, rows[part.rows], part.scores, reasons)


def checkpoints(named: Mapping[str, AnyMeasurer]) -> dict[str, str]:
    """Return the paths of those measurers that are given as paths."""
    paths = {n: m.path if isinstance(m, NamedCheckpoint) else m for n, m in named.items()}
    return {name: str(path) for name, path in paths.items() if isinstance(path, str | Path)}


def _blocks(plan: Plan, shards: Iterable[Shard]) -> list[object]:
    """Put the labels of each shard into Ray's object store, as a block of one row: the task."""
    ray, labels = import_ray(), plan.labels
    columns = [name for name in _SCORED_BY if name in labels.table.column_names]
    table = labels.table.select(columns).combine_chunks()
    blocks = []
    for shard in shards:
        rows = plan.chunk(*shard).rows
        task = pickle.dumps((shard, rows, table.take(pa.array(rows)).combine_chunks()))
        blocks.append(ray.put(pa.table({_TASK: pa.array([task], pa.large_binary())})))
    return blocks


def _on_cpu(models: Mapping[str, GroundingModel]) -> dict[str, GroundingModel]:
    return {n: m if m.device.type == "cpu" else copy.deepcopy(m).cpu() for n, m in models.items()}
