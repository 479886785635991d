"""Labels: the one table of (image, expression, box), its readers and writers."""

from clipvg.labels.merge import merge_labels
from clipvg.labels.read import read_labels
from clipvg.labels.table import LabelTable
from clipvg.labels.validate import Problem, Validation

__all__ = ["LabelTable", "Problem", "Validation", "merge_labels", "read_labels"]
