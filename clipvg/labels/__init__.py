"""Labels: a table of (image, expression, box), with its readers, writers and checks."""

from clipvg.labels.check.finding import Finding as Finding
from clipvg.labels.check.table import LabelCheck as LabelCheck
from clipvg.labels.check.table import check_labels as check_labels
from clipvg.labels.merge import merge_labels as merge_labels
from clipvg.labels.read import ReadOptions as ReadOptions
from clipvg.labels.read import read_labels as read_labels
from clipvg.labels.table import LabelTable as LabelTable
