"""Print the comparison as a table."""

from __future__ import annotations

from typing import Any

from clipvg.rescoring import STAGES


def print_table(records: list[dict[str, Any]]) -> None:
    """Print rates, shares of time, GFLOP/s, memory and differences, one line per run."""
    shares = "".join(f"{stage:>8s}" for stage in STAGES)
    print(
        f"\n{'':36s}{'labels':>7s}{'labels/s':>10s}{'ratio':>8s}{shares}{'GFLOP/s':>9s}"
        f"{'of peak':>8s}{'MiB':>8s}{'max|Δr|':>10s}"
    )
    for record in records:
        stages = "".join(f"{record['stages'][stage]:8.1%}" for stage in STAGES)
        ratio = f"{record['ratio']:8.2f}" if "ratio" in record else f"{'':8s}"
        delta = f"{record['max_abs_delta_r']:10.1e}" if "max_abs_delta_r" in record else ""
        print(
            f"{record['name']:36s}{record['labels']:7d}{record['labels_per_s']:10.2f}{ratio}"
            f"{stages}{record['gflops']:9.1f}{record['share_of_peak']:8.0%}"
            f"{record['peak_memory_mib']:8.0f}{delta}"
        )
    for record in records:
        if record["kind"] == "engine" and record["precision"] != "fp32":
            print(
                f"\n{record['name']} against fp32: median |Δr| "
                f"{record['median_abs_delta_r_to_fp32']:.1e}, 99.9th percentile "
                f"{record['p99_9_abs_delta_r_to_fp32']:.1e}, largest "
                f"{record['max_abs_delta_r_to_fp32']:.1e}, changing side at 0.5: "
                f"{record['changed_side_at_0.5']:.3%}"
            )
    for record in records:
        if "efficiency" in record:
            _print_efficiency(record)


def _print_efficiency(record: dict[str, Any]) -> None:
    found = record["efficiency"]
    print(
        f"\n{record['name']}: FLOP ratio {found['flop_ratio']:.2f}; with matmul efficiency "
        f"x{found['expected_ratio_at_peak']:.2f} at the peak (achieved "
        f"{found['achieved_share_at_peak']:.0%}), x{found['expected_ratio_at_its_shapes']:.2f} "
        f"with products of its own shapes (achieved {found['achieved_share_at_its_shapes']:.0%})"
    )
    for stage, values in found["stages"].items():
        print(
            f"  {stage:6s} FLOP ratio {values['flop_ratio']:6.2f}  ratio {values['ratio']:6.2f}  "
            f"reference {values['reference_gflops']:8.1f}, engine {values['engine_gflops']:8.1f}, "
            f"products {values['matmul_gflops_at_its_shapes']:8.1f} GFLOP/s  "
            f"({values['share_of_matmul_at_its_shapes']:.0%})"
        )
