"""Tolerances wider than the defaults of torch.testing.assert_close, each with its reason.

Usage: `from tolerances import TOLERANCES`, then `assert_close(a, b, **TOLERANCES["name"])`.
"""

TOLERANCES: dict[str, dict[str, float]] = {
    # Float32 IoU of boxes with sides >= 0.05 against float64: a coordinate near 1 is rounded by
    # 2**-24, so an area by up to 2 * 2**-24 / 0.05 relative, and the ratio by a few times that.
    "box_reliability_float64": {"rtol": 0.0, "atol": 2e-5},
}
