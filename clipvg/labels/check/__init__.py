"""Checks of labels, one module for each family of findings."""

from clipvg.labels.check.finding import Finding
from clipvg.labels.check.table import LabelCheck, check_labels

__all__ = ["Finding", "LabelCheck", "check_labels"]
