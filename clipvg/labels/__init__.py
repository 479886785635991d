"""Labels: the one table of (image, expression, box), its readers, writers and checks."""

from clipvg.labels.check import Finding, LabelCheck, check_labels
from clipvg.labels.merge import merge_labels
from clipvg.labels.read import ReadOptions, read_labels
from clipvg.labels.table import LabelTable

__all__ = [
    "Finding",
    "LabelCheck",
    "LabelTable",
    "ReadOptions",
    "check_labels",
    "merge_labels",
    "read_labels",
]
