"""Compare the reference with the engine, in each precision and without each optimisation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from _rescoring.flops import Sizes
from _rescoring.measure import Memory, Models, Save, Timed, first_images, run_baseline, run_engine
from _rescoring.peak import SECONDS, Shape, matmul_gflops
from clipvg.labels import LabelTable
from clipvg.rescoring import Optimisations

THRESHOLD = 0.5
BASELINE = "reference"
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_AS_SLOW_AS_THE_REFERENCE = ("encode_once", "all")
# images, texts and fusion tokens that the engine holds at a time
_AT_A_TIME = {"cpu": (8, 64, 7200), "cuda": (64, 64, 131_072)}


@dataclass(frozen=True)
class Amounts:
    """Number of labels for each kind of run.

    Attributes:
        baseline: for the reference's pass, which takes the first labels.
        ablation: for runs without an optimisation; approximate, since images stay whole.
        slow: the same for runs that encode an image for every label, like the reference.
        batch: labels per batch of the reference.
        workers: processes that decode for the reference.
    """

    baseline: int
    ablation: int
    slow: int
    batch: int = 128
    workers: int = 0


@dataclass
class Comparison:
    """Runs of one workload; every run's record is printed and saved as soon as it is done.

    Args:
        models: the measurers.
        labels: all labels.
        amounts: how many of them each kind of run gets.
        save: called with all records after each run.
        memory: decoded images, if decoding is not to be measured.
        peak_seconds: how long to repeat matrix products.
    """

    models: Models
    labels: LabelTable
    amounts: Amounts
    save: Save
    memory: Memory | None = None
    peak_seconds: float = SECONDS
    records: list[dict[str, Any]] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)
    _reference: Timed | None = None
    _exact: np.ndarray | None = None

    def run(self, precisions: list[str], *, baseline: bool = True, ablate: bool = False) -> None:
        """Run everything: the engine in fp32 first, always; ablations in `precisions[0]`."""
        if baseline:
            self._run_baseline()
        exact = precisions if "fp32" in precisions else ["fp32", *precisions]
        for precision in sorted(exact, key=lambda name: name != "fp32"):
            timed = run_engine(self.models, self.labels, precision=precision, memory=self.memory)
            if precision == "fp32":
                self._exact = timed.scores
            self._add(f"engine {precision}", precision, timed, kind="engine")
        if ablate:
            self._ablate(precisions[0])

    def _run_baseline(self) -> None:
        labels = self.labels.select(np.arange(min(self.amounts.baseline, len(self.labels))))
        options = {"batch": self.amounts.batch, "workers": self.amounts.workers}
        self._reference = run_baseline(self.models, labels, memory=self.memory, **options)
        self._add(BASELINE, "fp32", self._reference, kind="baseline")

    def _ablate(self, precision: str) -> None:
        whole = run_engine(
            self.models, self._some(self.amounts.ablation), precision=precision, memory=self.memory
        )
        self._add("engine, labels of the ablations", precision, whole, kind="ablation")
        named = {name: Optimisations().without(name) for name in Optimisations.names()}
        for name, does in {**named, "all": Optimisations.none()}.items():
            slow = name in _AS_SLOW_AS_THE_REFERENCE
            labels = self._some(self.amounts.slow if slow else self.amounts.ablation)
            timed = run_engine(
                self.models, labels, precision=precision, does=does, memory=self.memory
            )
            slower = whole.labels_per_s / timed.labels_per_s
            extra = {"without": name, "times_slower": round(slower, 3)}
            self._add(f"without {name}", precision, timed, kind="ablation", **extra)

    def _some(self, count: int) -> LabelTable:
        images, _ = self.labels.distinct_images()
        return first_images(self.labels, max(1, round(count * len(images) / len(self.labels))))

    def _add(self, name: str, precision: str, timed: Timed, *, kind: str, **extra: Any) -> None:
        peak = self._peak(precision)
        wall = sum(timed.stages.values())
        record = {
            "name": name,
            "kind": kind,
            "precision": precision,
            "labels": timed.scores.shape[1],
            "labels_per_s": timed.labels_per_s,
            "seconds": timed.seconds,
            "setup_seconds": timed.setup_seconds,
            "stages": {stage: s / wall for stage, s in timed.stages.items()},
            "stage_seconds_per_label": {
                stage: s / timed.scores.shape[1] for stage, s in timed.stages.items()
            },
            "gflop_per_label": {
                stage: f / 1e9 / timed.scores.shape[1] for stage, f in timed.flops.items()
            },
            "gflops": timed.gflops,
            "matmul_peak_gflops": peak,
            "share_of_peak": timed.gflops / peak,
            "peak_memory_mib": timed.peak_mib,
            **timed.counts,
            **extra,
        }
        if self._reference is not None:
            ratio = timed.labels_per_s / self._reference.labels_per_s
            record |= {"baseline": BASELINE, "ratio": ratio}
            common = min(len(self._reference.scores[0]), timed.scores.shape[1])
            # every run scores the first rows of the table
            record["max_abs_delta_r"] = _largest(timed.scores, self._reference.scores, common)
        if kind == "engine" and self._exact is not None:
            record |= _effect(timed.scores, self._exact)
        if kind == "engine" and self._reference is not None:
            record["efficiency"] = self._efficiency(precision, timed)
        self.records.append(record)
        print_progress(record)
        self.save(self.records)

    def _efficiency(self, precision: str, timed: Timed) -> dict[str, Any]:
        """Compare the speed-up with that expected from saved operations and matmul rates, by stage.

        Expected ratio = (operations of the reference / of the engine) x (GFLOP/s that matrix
        products reach / GFLOP/s of the reference): the engine at the speed of products alone.
        It is given twice: for large square products, and for products of the engine's own shapes.
        """
        assert self._reference is not None
        other, count = self._reference, self._reference.scores.shape[1]
        peak = self._peak(precision)
        shapes = _stage_shapes(self.models, timed)
        stages, at_peak, at_shapes = {}, 0.0, 0.0
        for stage, flops in timed.flops.items():
            seconds = timed.stages[stage] + (timed.stages["project"] if stage == "fuse" else 0)
            own = self._matmul(precision, shapes[stage])
            at_peak += flops / peak / 1e9
            at_shapes += flops / own / 1e9
            before = other.stages[stage] / count
            stages[stage] = {
                "flop_ratio": other.flops[stage] / count * timed.scores.shape[1] / flops,
                "reference_gflops": other.flops[stage] / other.stages[stage] / 1e9,
                "engine_gflops": flops / seconds / 1e9,
                "matmul_gflops_at_its_shapes": own,
                "ratio": before / (seconds / timed.scores.shape[1]),
                "share_of_peak": flops / seconds / 1e9 / peak,
                "share_of_matmul_at_its_shapes": flops / seconds / 1e9 / own,
            }
        total = sum(timed.flops.values()) / timed.scores.shape[1]
        flop_ratio = sum(other.flops.values()) / count / total
        return {
            "flop_ratio": flop_ratio,
            "expected_ratio_at_peak": flop_ratio * peak / other.gflops,
            "achieved_share_at_peak": at_peak / timed.seconds,
            "expected_ratio_at_its_shapes": other.seconds
            / count
            / (at_shapes / timed.scores.shape[1]),
            "achieved_share_at_its_shapes": at_shapes / timed.seconds,
            "stages": stages,
        }

    @property
    def _device(self) -> torch.device:
        return next(iter(self.models.values())).device

    def _peak(self, precision: str) -> float:
        if precision not in self.peaks:
            self.peaks[precision] = self._matmul(precision)
        return self.peaks[precision]

    def _matmul(self, precision: str, shapes: list[Shape] | None = None) -> float:
        dtype = _DTYPES[precision]
        return matmul_gflops(dtype, str(self._device), shapes, self.peak_seconds)


def _stage_shapes(models: Models, timed: Timed) -> dict[str, list[Shape]]:
    """Return the shapes of a block's matrix products in each stage, as the engine calls them."""
    model = next(iter(models.values()))
    sizes = Sizes.of(model)
    pictures, texts, tokens = _AT_A_TIME[model.device.type]
    tokens //= len(models)
    image, text, width, inner = sizes.image, sizes.text, sizes.width, sizes.feedforward

    def block(rows: int, width: int, inner: int) -> list[Shape]:
        columns = [(width, 3 * width), (width, width), (width, inner), (inner, width)]
        return [(rows, k, n) for k, n in columns]

    return {
        "image": block(pictures * (1 + sizes.patches), image.width, image.inner),
        "text": block(texts * 8, text.width, text.inner),
        "fuse": block(tokens, width, inner),
    }


def _largest(scores: np.ndarray, others: np.ndarray, count: int) -> float:
    return float(np.abs(scores[:, :count] - others[:, :count]).max())


def _effect(scores: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """Return how reliability differs from that of the engine in float32."""
    delta = np.abs(scores - exact)
    changed = (scores >= THRESHOLD) != (exact >= THRESHOLD)
    return {
        "median_abs_delta_r_to_fp32": float(np.median(delta)),
        "p99_9_abs_delta_r_to_fp32": float(np.quantile(delta, 0.999)),
        "max_abs_delta_r_to_fp32": float(delta.max()),
        "changed_side_at_0.5": float(changed.mean()),
    }


def print_progress(record: dict[str, Any]) -> None:
    """Print one line for a finished run."""
    ratio = f"  x{record['ratio']:.2f}" if "ratio" in record else ""
    print(f"{record['name']:36s} {record['labels_per_s']:9.2f} labels/s{ratio}", flush=True)
