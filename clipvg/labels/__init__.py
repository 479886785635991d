"""Labels: the one table of (image, expression, box), its readers and writers."""

from clipvg.labels.read import read_labels
from clipvg.labels.table import LabelTable
from clipvg.labels.validate import Problem, Validation

__all__ = ["LabelTable", "Problem", "Validation", "read_labels"]
