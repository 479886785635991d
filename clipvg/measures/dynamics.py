"""Learning dynamics: reliability from each label's losses over the epochs of a training run.

All measures read (epochs, N) losses, NaN where an epoch did not visit a label: those of
``context.history``, kept by a training run as `Fit.history`, or a history given to the measure. A
label that no epoch visited is not scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.measures.common.measure import Measure
from clipvg.measures.common.scales import halving
from clipvg.reliability.measurer import Context, Scores
from clipvg.runtime.fields import ABOVE_ZERO

History = np.ndarray | Sequence[np.ndarray | Sequence[float]] | str | Path | None


class _Dynamics(Measure):
    """Base class that reads the history and leaves labels that were never visited unscored.

    Args:
        history: (epochs, N) losses: an array, a list with an array or list per epoch, their .npy
            file, or a run directory with ``history.npy``; None for ``context.history``.
    """

    history: History = field(default=None, repr=False)
    reads = "given"

    @cached_property
    def given(self) -> np.ndarray | None:
        """The given history, read if it is a file; None for the context's."""
        if self.history is None:
            return None
        if isinstance(self.history, str | Path):
            return _load(self.history)
        try:
            return np.asarray(self.history, dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(
                f"{self.name}: the history's epochs differ in length, or hold other things than "
                "numbers; give (epochs, N) losses."
            ) from None

    @property
    def requires(self) -> frozenset[str]:
        """What the measure needs besides the labels."""
        return frozenset({"history"} if self.history is None else ())

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        """Score every label that was visited in some epoch."""
        losses = self._losses(labels, context)
        visited = ~np.isnan(losses)
        seen = visited.any(axis=0)
        scores = np.full(len(labels), np.nan, dtype=np.float32)
        if seen.any():
            scores[seen] = self.judge(losses[:, seen], visited[:, seen])
        why = f"{self.name}: no epoch visited this label"
        return Scores(scores, dict.fromkeys(np.flatnonzero(~seen).tolist(), why))

    def judge(self, losses: np.ndarray, visited: np.ndarray) -> np.ndarray:
        """Return the reliability of M labels from losses (E, M) float64, NaN where not visited."""
        raise NotImplementedError

    def _losses(self, labels: LabelTable, context: Context) -> np.ndarray:
        given = context.history if self.given is None else self.given
        losses = np.asarray(given, dtype=np.float64)
        if losses.ndim != 2 or losses.shape[1] != len(labels) or not len(losses):
            raise InputError(
                f"measure {self.name!r}: the history has shape {losses.shape} for {len(labels)} "
                "labels; expected (epochs, N) losses of a training on these labels, in their order."
            )
        return losses


class LossMean(_Dynamics):
    """How small the mean loss over the epochs is.

    r = 2^(−m / scale), m the mean loss over the epochs that visited the label. Networks fit clean
    labels first (Arpit et al., ICML 2017); small loss as a sign of a clean label: Han et al.,
    Co-teaching, NeurIPS 2018.

    Args:
        scale: mean loss at which r = 0.5; None uses the median over the labels.
        last: number of final epochs to use; None for all.
    """

    scale: Annotated[float | None, (ABOVE_ZERO, None)] = None
    last: Annotated[int | None, (1, None)] = None
    name: str = "loss_mean"

    def judge(self, losses: np.ndarray, visited: np.ndarray) -> np.ndarray:
        """Return 2^(−mean / scale), over all epochs for a label not visited in the last ones."""
        part = slice(None) if self.last is None else slice(-self.last, None)
        mean = _mean(losses[part], visited[part])
        return halving(np.where(np.isnan(mean), _mean(losses, visited), mean), self.scale)


class LossVariance(_Dynamics):
    """How little the loss varies over the epochs.

    r = 2^(−s / scale), s the standard deviation, over the epochs that visited the label, of its
    loss minus the epoch's mean loss, so that the common fall of the loss does not count. This is
    the variability of Dataset Cartography (Swayamdipta et al., EMNLP 2020): high for ambiguous
    labels, low for easy ones and for those never learned, so combine it with `LossMean`.

    Args:
        scale: deviation at which r = 0.5; None uses the median over the labels.
    """

    scale: Annotated[float | None, (ABOVE_ZERO, None)] = None
    name: str = "loss_variance"

    def judge(self, losses: np.ndarray, visited: np.ndarray) -> np.ndarray:
        """Return 2^(−deviation / scale)."""
        level = _mean(losses.T, visited.T)[:, None]
        deviation = losses - level
        mean = _mean(deviation, visited)
        return halving(np.sqrt(_mean((deviation - mean) ** 2, visited)), self.scale)


class _Learned(_Dynamics):
    """Base class of measures of when a label counts as learned: loss <= threshold.

    Args:
        threshold: largest loss of a learned label; None uses the median of all losses.
    """

    threshold: float | None = None

    def judge(self, losses: np.ndarray, visited: np.ndarray) -> np.ndarray:
        """Return the reliability from the epochs in which a label was learned."""
        limit = float(np.nanmedian(losses)) if self.threshold is None else self.threshold
        return self.from_learned(visited & (np.nan_to_num(losses, nan=np.inf) <= limit), visited)

    def from_learned(self, learned: np.ndarray, visited: np.ndarray) -> np.ndarray:
        """Return the reliability of M labels from (E, M) bool: learned, visited in each epoch."""
        raise NotImplementedError


class Forgetting(_Learned):
    """How rarely the label is forgotten.

    A forgetting event is a visit at which a label is not learned (loss <= threshold) although it
    was at the previous visit. r = 1 − events / ⌊visits / 2⌋, the most there can be; 0 for a label
    never learned, as in Toneva et al., ICLR 2019.
    """

    name: str = "forgetting"

    def from_learned(self, learned: np.ndarray, visited: np.ndarray) -> np.ndarray:
        """Return one minus the ratio of events to possible events."""
        events = np.zeros(learned.shape[1])
        before = np.zeros(learned.shape[1], dtype=bool)
        for now, here in zip(learned, visited, strict=True):
            events += here & before & ~now
            before = np.where(here, now, before)
        possible = np.maximum(visited.sum(axis=0) // 2, 1)
        return np.where(learned.any(axis=0), 1 - events / possible, 0).astype(np.float32)


class ErrorRate(_Learned):
    """Share of the visits at which the label was learned.

    r = visits with loss <= threshold / visits: one minus the error rate over the training.
    """

    name: str = "error_rate"

    def from_learned(self, learned: np.ndarray, visited: np.ndarray) -> np.ndarray:
        """Return the share of visits at which the label was learned."""
        return (learned.sum(axis=0) / visited.sum(axis=0)).astype(np.float32)


class LearningTime(_Learned):
    """How early the label is learned for good.

    r = 1 − t / visits, t the number of visits before the one from which the label stays learned
    (loss <= threshold) to the end; 0 for a label that is not learned at its last visit. This is the
    "iteration learned" of Baldock, Maennel and Neyshabur, NeurIPS 2021.
    """

    name: str = "learning_time"

    def from_learned(self, learned: np.ndarray, visited: np.ndarray) -> np.ndarray:
        """Return one minus the share of visits before the label stays learned."""
        missed = (visited & ~learned)[::-1]
        # visits after the last one at which the label was not learned
        after = np.cumsum(visited[::-1], axis=0) * (np.cumsum(missed, axis=0) == 0)
        return (after.max(axis=0) / visited.sum(axis=0)).astype(np.float32)


def _mean(values: np.ndarray, visited: np.ndarray) -> np.ndarray:
    """Return each label's mean over the epochs that visited it, (M,); NaN where none did."""
    count = visited.sum(axis=0)
    total = np.where(visited, values, 0).sum(axis=0)
    return np.divide(total, count, out=np.full(values.shape[1], np.nan), where=count > 0)


def _load(path: str | Path) -> np.ndarray:
    path = Path(path)
    if path.is_dir():  # folder of a training run
        path = path / "history.npy"
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected the history.npy of a training.")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not a .npy file of losses ({error})") from None
