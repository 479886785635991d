"""Score labels that need not fit into memory on a Ray cluster, from Parquet to Parquet.

Importing this needs no Ray; using it needs the extra ``clipvg[ray]``.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.labels.check.rows import find_bad_rows
from clipvg.labels.schema import RELIABILITY
from clipvg.labels.scores import REASON
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.reliability.measurer import GroundingMeasurer, OnError
from clipvg.reliability.ray.cluster import RayOptions, connected, import_ray, plain_errors
from clipvg.reliability.ray.parts import Part, find_files, open_output, plan_parts
from clipvg.reliability.ray.runner import EngineSetup, RayPool, checkpoints
from clipvg.reliability.score import name_measurers, resolve_measurers
from clipvg.rescoring import EngineConfig, Plan
from clipvg.rescoring.store import distinct_models
from clipvg.runtime.files import atomic_folder, remove_leftovers
from clipvg.runtime.lock import Lock

if TYPE_CHECKING:
    from clipvg.reliability.score import AnyMeasurer

_NEVER_READ = "truth"
_TASK = "task"


@dataclass(frozen=True)
class ParquetScores:
    """What `score_parquet_with_ray` wrote."""

    out: str  # the folder
    num_labels: int  # rows in it
    num_unscored: int  # rows that lack a score, with the reason in the column ``unscored``


def score_parquet_with_ray(
    source: str | Path | Iterable[str | Path],
    out: str | Path,
    measurers: Mapping[str, AnyMeasurer] | Iterable[str],
    *,
    images: str | Path | None = None,
    ray: RayOptions | None = None,
    engine: EngineConfig | None = None,
    on_error: OnError = "null",
) -> ParquetScores:
    """Score labels in one streaming pass, Parquet in and Parquet out.

    Every row keeps its columns and gets ``reliability.NAME`` and ``unscored``; rows that are not
    valid labels (such as a reversed box) are unscored too. Rows keep their order if the files of
    the folder are read in the order of their names, whichever actor ends first. An image is encoded
    once per task, so rows should be sorted by image. Ray is found as in `score_with_ray`.

    Args:
        source: Parquet file, folder of such files, or several; anything Ray can read, also
            ``s3://…``.
        out: folder to make, or ``s3://…``. A folder appears when it is complete.
        measurers: grounding models and checkpoints, as in `score_with_ray`.
        images: folder that image names are relative to.
        ray: how scoring runs on the cluster.
        engine: as in `score_with_ray`.
        on_error: "null" leaves labels that cannot be scored unscored, with the reason; "raise"
            stops.

    Raises:
        InputError: a file does not exist, the output folder is not empty, columns are not those of
            labels, or a measurer is not a grounding model; with "raise", a label cannot be scored.
        MissingExtraError: Ray is not installed.
    """
    import_ray()
    if on_error not in get_args(OnError):
        raise InputError(f"on_error is {on_error!r}; choose 'null' or 'raise'.")
    sources = _existing([source] if isinstance(source, str | Path) else source)
    named = name_measurers(measurers)
    given = _grounding(named)
    ray = ray or RayOptions()
    engine = engine or EngineConfig()
    with _whole_folder(str(out)) as folder, connected() as cluster:
        pool = RayPool(ray, paths=checkpoints(named))
        config = replace(engine, precision=engine.resolved_precision(pool.device))
        models = {name: measurer.model for name, measurer in given.items()}
        distinct, places = distinct_models(models, config, pool.device)
        row_of = {place: row for row, key in enumerate(distinct) for place in places[key]}
        parts = plan_parts(sources, ray.actors, ray.labels_per_task)
        pickled = pa.array([pickle.dumps(part) for part in parts], pa.large_binary())
        blocks = [pa.table({_TASK: pickled[i : i + 1]}) for i in range(max(1, len(parts)))]
        scorer = partial(
            TableScorer,
            pool.setup(dict(distinct.values()), config),
            {name: measurer.trained_on for name, measurer in given.items()},
            [row_of[place] for place in range(len(given))],
            images,
            on_error,
        )
        scored = cluster.data.from_arrow(blocks).map_batches(
            PartScorer,
            fn_constructor_args=(scorer, folder, ray.labels_per_task),
            batch_size=1,  # a row is a part
            **pool.options,
        )
        scored.context.enable_progress_bars = ray.progress
        with plain_errors():
            scored.materialize()
        if "://" not in folder:
            remove_leftovers(Path(folder))  # of an actor that was killed
    return _count(str(out))


class TableScorer:
    """Adds scores and reasons to tables of labels."""

    def __init__(
        self,
        setup: EngineSetup,
        trained_on: Mapping[str, tuple[str, ...]],
        row_of: list[int],
        images: str | Path | None,
        on_error: OnError,
    ) -> None:
        self._engine, self._trained_on, self._row_of = setup.engine(), trained_on, row_of
        self._images, self._on_error = images, on_error

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the table with scores and reasons; its rows stay as they are."""
        kept = [name for name in table.column_names if name != _NEVER_READ]
        labels = LabelTable(table.select(kept), self._images)
        reasons = self._no_labels(labels)
        scores = np.full((len(self._engine.names), len(labels)), np.nan, np.float32)
        good = np.setdiff1d(np.arange(len(labels)), list(reasons))
        usable = labels.select(good)
        plan = Plan(usable)
        for part in self._engine.stream(plan, plan.shards(), on_error=self._on_error):
            scores[:, good[part.rows]] = part.scores
            reasons |= {int(good[at]): reason for at, reason in part.reasons.items()}
        names, trained_on = tuple(self._trained_on), tuple(self._trained_on.values())
        found = ScoreMatrix(names, scores[self._row_of], (), trained_on, reasons).attach(labels)
        return _with_columns(table, found.table, [RELIABILITY + name for name in names])

    def _no_labels(self, labels: LabelTable) -> dict[int, str]:
        """Return by row why it is not a valid label; raise the first reason if on_error says so."""
        reasons: dict[int, str] = {}
        for found in find_bad_rows(labels):
            for row in found.rows.tolist():
                reasons.setdefault(row, found.reason(row))
        if reasons and self._on_error == "raise":
            row = min(reasons)
            raise InputError(
                f"a label on {labels.image_names[row]!r}: {reasons[row]}. Fix the row or pass "
                "on_error='null'."
            )
        return reasons


class PartScorer:
    """Actor that scores pickled `Part`s and writes each to a file of the result."""

    def __init__(self, scorer: Callable[[], TableScorer], out: str, labels_per_task: int) -> None:
        self._score, self._out, self._rows = scorer(), out, labels_per_task

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Score and write the parts; doing so again writes the same files."""
        for task in batch.column(_TASK).to_pylist():
            part: Part = pickle.loads(task)
            with open_output(self._out, part.name) as file, ExitStack() as closing:
                writer = None
                for table in map(self._score, part.read(self._rows)):
                    if writer is None:
                        writer = closing.enter_context(pq.ParquetWriter(file, table.schema))
                    writer.write_table(table)
        return batch


def _with_columns(table: pa.Table, scored: pa.Table, names: list[str]) -> pa.Table:
    """Return the table with columns of the scored one; every block gets a column of reasons."""
    if REASON not in scored.column_names:
        scored = scored.append_column(REASON, pa.nulls(len(scored), pa.string()))
    for name in [*names, REASON]:
        column = scored.column(name)
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, column)
        else:
            table = table.append_column(name, column)
    return table.replace_schema_metadata(scored.schema.metadata)


def _grounding(named: Mapping[str, AnyMeasurer]) -> dict[str, GroundingMeasurer]:
    found = resolve_measurers(named)
    given = {name: m for name, m in found.items() if isinstance(m, GroundingMeasurer)}
    for name, measurer in found.items():
        if name not in given:
            raise InputError(
                f"measurer {name!r} is a {type(measurer).__name__}; Parquet is scored by "
                "grounding models alone. Use score_with_ray for others."
            )
    return given


def _existing(paths: Iterable[str | Path]) -> list[str]:
    """Return paths that mean the same on every machine; raise if one does not exist."""
    found = []
    for path in map(str, paths):
        if "://" not in path and not Path(path).exists():
            raise InputError(f"{path}: no such file")
        found.append(path if "://" in path else str(Path(path).absolute()))
    return found


@contextmanager
def _whole_folder(out: str) -> Iterator[str]:
    """Yield a folder or URI to write to; a folder becomes ``out`` when the block succeeds."""
    if "://" in out:
        yield out
        return
    folder = Path(out).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{out} already exists; remove it or choose another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Lock(folder), atomic_folder(folder) as unfinished:
        yield str(unfinished)


def _count(out: str) -> ParquetScores:
    from pyarrow import dataset

    files, path = find_files(out)
    scored = dataset.dataset(path, filesystem=files, format="parquet")
    if REASON not in scored.schema.names:  # no rows, no files
        return ParquetScores(out, 0, 0)
    unscored = scored.count_rows(filter=dataset.field(REASON).is_valid())
    return ParquetScores(out, scored.count_rows(), unscored)
