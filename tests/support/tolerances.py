"""Tolerances wider than the defaults of torch.testing.assert_close, each with its reason.

Usage: `from support.tolerances import TOLERANCES`, then `assert_close(a, b, **TOLERANCES["name"])`.
"""

TOLERANCES: dict[str, dict[str, float]] = {
    # Float32 IoU of boxes with sides >= 0.05 against float64: a coordinate near 1 is rounded by
    # 2**-24, so an area by up to 2 * 2**-24 / 0.05 relative, and the ratio by a few times that.
    "box_reliability_float64": {"rtol": 0.0, "atol": 2e-5},
    # Sides down to 1e-3, centres in the picture, as every implementation computes them; float64 is
    # first rounded to float32, a coordinate by up to 2**-25: 1.2e-4 of the IoU for each axis.
    "box_reliability_small": {"rtol": 0.0, "atol": 1e-5},
    "box_reliability_small_rounded": {"rtol": 0.0, "atol": 2.5e-4},
    # Parity with the reference's stored float32: its own float32 differs from its float64 by up to
    # 5.5e-6 in features of up to 7.5, and another processor rounds otherwise; every known mistake
    # moves a box by 0.01 or more.
    "golden_features": {"rtol": 0.0, "atol": 1e-4},
    "golden_boxes": {"rtol": 0.0, "atol": 1e-5},
    # The IoU of a small box amplifies the rounding of its sides 35-fold.
    "golden_reliability": {"rtol": 0.0, "atol": 1e-4},
}
