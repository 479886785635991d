"""Run directories: what a training or a curriculum has computed, kept and continued."""

from clipvg.runs.run import Run
from clipvg.runs.stage import Stage, Workers

__all__ = ["Run", "Stage", "Workers"]
