"""Run directories: they keep what a training or a curriculum has computed, to continue it."""

from clipvg.runs.run import Run
from clipvg.runs.stage import Stage, Workers

__all__ = ["Run", "Stage", "Workers"]
