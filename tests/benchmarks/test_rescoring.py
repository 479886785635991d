"""The rescoring benchmark runs, agrees with the reference and writes its measurements."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rescoring
import torch
from _rescoring import memory, sweep
from _rescoring.flops import Counted, engine_flops
from _rescoring.measure import score
from _rescoring.measurers import diversify, make_measurers, predicted_boxes
from _rescoring.workload import SAMPLE, Workload, make_table, place_boxes, sample
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import flop_counter

from clipvg.labels import LabelTable
from clipvg.model import GroundingModel
from clipvg.rescoring import STAGES, Engine, EngineConfig, Optimisations

CPU = ["--quick", "--device", "cpu"]


@pytest.fixture(scope="module")
def models() -> dict[str, GroundingModel]:
    return make_measurers(2, "clipvg-tiny", "published", own_positions=False)


@pytest.fixture(scope="module")
def labels(
    models: dict[str, GroundingModel], tmp_path_factory: pytest.TempPathFactory
) -> LabelTable:
    table = make_table(tmp_path_factory.mktemp("pictures"), Workload(2, "real", (120, 90)))
    diversify(models, table)
    for model in models.values():
        model.requires_grad_(False)
    return table


@pytest.mark.slow
def test_quick_run_writes_all_it_measured(tmp_path: Path) -> None:
    file, chart = tmp_path / "a" / "run.json", tmp_path / "run.png"
    options = ["--precision", "fp32", "bf16", "--preset", "published"]
    rescoring.main([*CPU, *options, "--json", str(file), "--plot", str(chart)])
    found = json.loads(file.read_text())
    assert found["complete"]
    assert found["labels_per_s"] > 0
    assert found["ratio"] > 0
    assert 0 < found["max_abs_delta_r"] < 1e-4
    assert set(found["by_precision"]) == {"fp32", "bf16"}
    assert {"cpu_threads", "torch", "cpu_flags", "command", "commit"} <= set(found["conditions"])
    assert found["settings"]["n"] == 3
    records = {record["name"]: record for record in found["records"]}
    off = {record["without"] for record in found["records"] if "without" in record}
    assert off == {*Optimisations.names(), "all"}
    for record in records.values():
        assert set(record["stages"]) == set(STAGES)
        assert sum(record["stages"].values()) == pytest.approx(1)
        if record["precision"] == "fp32":
            assert record["max_abs_delta_r"] < 1e-4, record["name"]
    assert records["engine bf16"]["p99_9_abs_delta_r_to_fp32"] > 0
    stages = records["engine fp32"]["efficiency"]["stages"]
    assert set(stages) == {"image", "text", "fuse"}
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_own_positions_and_real_numbers_and_decoded_images(tmp_path: Path) -> None:
    options = ["--own-positions", "--k", "real", "--image-size", "real", "--decoded", "--n", "2"]
    options += ["--no-ablate"]
    found = rescoring.main([*CPU, *options, "--labels", "12", "--baseline-labels", "12"])
    assert found["max_abs_delta_r"] < 1e-4
    assert found["decoded_images_per_s"] > 0
    engine = next(record for record in found["records"] if record["kind"] == "engine")
    assert engine["images"] == 2 * found["num_images"]


def test_a_run_that_is_stopped_keeps_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    file = tmp_path / "run.json"
    monkeypatch.setattr(rescoring.Comparison, "_ablate", stop)
    monkeypatch.setenv("OMP_PROC_BIND", "false")
    with pytest.raises(KeyboardInterrupt):
        rescoring.main([*CPU, "--n", "1", "--labels", "8", "--json", str(file)])
    found = json.loads(file.read_text())
    assert [record["name"] for record in found["records"]] == ["reference", "engine fp32"]
    assert "OMP_PROC_BIND=false " in found["conditions"]["command"]
    assert not found["complete"]


def test_given_models_score_scenes(models: dict[str, GroundingModel], tmp_path: Path) -> None:
    next(iter(models.values())).save_pretrained(tmp_path / "model")
    options = ["--model", str(tmp_path / "model"), "--scenes", "--images", "1", "--no-ablate"]
    found = rescoring.main([*CPU, *options, "--precision", "bf16"])
    assert found["settings"]["n"] == 1
    assert found["precision"] == "bf16"
    assert found["by_precision"]["fp32"]["max_abs_delta_r"] < 1e-4
    assert rescoring.main([*CPU, *options, "--n", "2"])["max_abs_delta_r"] < 1e-4


def test_scores_of_the_workload_cover_both_sides_of_the_threshold(
    models: dict[str, GroundingModel], labels: LabelTable
) -> None:
    engine = Engine(models)
    scores = score(engine, place_boxes(labels, predicted_boxes(models, labels), 0))
    assert np.quantile(scores, 0.9) > 0.5 > np.quantile(scores, 0.1)


@pytest.mark.parametrize("off", ["nothing", *Optimisations.names(), "all"])
def test_operations_of_the_engine_are_those_counted(
    models: dict[str, GroundingModel], labels: LabelTable, off: str
) -> None:
    does = Optimisations.none() if off == "all" else Optimisations()
    if off in Optimisations.names():
        does = does.without(off)
    config = EngineConfig(optimisations=does)
    engine = Engine(models, config)
    with counted_products() as counter:
        score(engine, labels)
    encoded = Counted(engine.stats.images, engine.stats.texts)
    first = next(iter(models.values()))
    flops = engine_flops(first, 2, labels, does, encoded, config.images_per_chunk)
    # texts of similar length are encoded together, the shorter ones with some padding
    assert counter.get_total_flops() == pytest.approx(sum(flops.values()), rel=0.03)


def test_sweep_covers_all_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sweep, "EXPRESSIONS", (1, 4))
    monkeypatch.setattr(sweep, "MEASURERS", (1, 2))
    found = rescoring.main(
        [*CPU, "--sweep", "--n", "2", "--labels", "8", "--plot", str(tmp_path / "sweep.png")]
    )
    points = [(r["axis"], r["n"], r["k"]) for r in found["records"]]
    assert points == [("k", 2, 1), ("k", 2, 4), ("n", 1, 8), ("n", 2, 8)]
    assert all(r["ratio"] > 0 for r in found["records"])
    assert (tmp_path / "sweep.png").stat().st_size


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_is_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    file, chart = tmp_path / "memory.json", tmp_path / "memory.svg"
    options = ["--memory", "--memory-counts", "16", "--json", str(file), "--plot", str(chart)]
    rescoring.main(options)
    records = json.loads(file.read_text())["records"]
    assert [record["labels"] for record in records] == [16]
    assert all(record["peak_rss_mib"] > record["growth_mib"] >= 0 for record in records)
    assert memory.COUNTS[-1] == 100_000


def test_the_sample_is_like_all_of_the_data() -> None:
    facts = json.loads(SAMPLE.read_text())
    counts = {int(k): v for k, v in facts["images_by_expressions"].items()}
    everywhere = sum(k * v for k, v in counts.items()) / sum(counts.values())
    sampled = np.mean([len(image["expressions"]) for image in sample()])
    assert sampled == pytest.approx(everywhere, rel=0.05)
    assert "CC BY 4.0" in facts["about"]


def test_a_workload_is_made_again_alike(tmp_path: Path) -> None:
    tables = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        tables.append(make_table(tmp_path / name, Workload(3, 2, (64, 48), seed=4)))
    assert tables[0].expressions == tables[1].expressions
    first, second = ((tmp_path / n / "000002.jpg").read_bytes() for n in ("first", "second"))
    assert first == second


@contextmanager
def counted_products() -> Iterator[Any]:
    """Count matrix products, including in-place ones, which the counter does not know by itself.

    Attention runs as plain products meanwhile: which of its fused kernels the counter knows, and
    what it takes them for, depends on the version of PyTorch.
    """
    aten = torch.ops.aten
    own: dict[Any, Any] = {aten.addmm_: _product_flops, aten.baddbmm_: _product_flops}
    own[torch.ops.mkldnn._linear_pointwise] = _linear_flops
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        counting = flop_counter.FlopCounterMode(display=False, custom_mapping=own)
        with sdpa_kernel(SDPBackend.MATH), counting as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def _linear_flops(x: Any, weight: Any, *_: Any, **__: Any) -> int:
    return 2 * int(np.prod(x)) * weight[0]


def _product_flops(out: Any, left: Any, right: Any, **_: Any) -> int:
    return 2 * int(np.prod(left)) * right[-1]
