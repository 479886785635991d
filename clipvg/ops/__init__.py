"""Operators: public functions, checks, dispatch, and a pure-PyTorch reference of each.

Importing this package does not import torch: the public functions do, when given tensors.

Shapes, here and in every operator: N labels, B batch, T text tokens, P patches, D width, n
measurers, H heads, L levels.
"""

from clipvg.ops._dispatch import backend as backend
from clipvg.ops._dispatch import backends as backends
from clipvg.ops._dispatch import load_operators as load_operators
from clipvg.ops.box_reliability import box_reliability as box_reliability
from clipvg.ops.box_reliability import box_reliability_numpy as box_reliability_numpy
from clipvg.ops.multilevel_projection import multilevel_projection as multilevel_projection
from clipvg.ops.packed_attention import packed_attention as packed_attention
