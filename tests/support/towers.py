"""Make towers of `clipvg-tiny` cheap on import, here and in the processes of tests.

The embeddings of its vocabulary alone are five million numbers: tests that train would spend half
of their time drawing, hashing and writing them. Random towers are therefore small; trained ones are
the real ones, read from their file once.
"""

from __future__ import annotations

import copy
import dataclasses
import functools

import torch

from clipvg.model import towers
from clipvg.model.towers import Towers, build_towers

SMALL = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 96,
        "layers": 4,
        "width": 64,
        "head_width": 32,
        "patch_size": 16,
        "pos_embed_type": "sin_cos_2d",
    },
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 64,
        "heads": 2,
        "layers": 3,
    },
}
_open_tiny, FILES = towers._open_tiny, towers.tiny_files()


@functools.cache
def _trained() -> Towers:
    with torch.random.fork_rng(devices=[]):
        return _open_tiny(towers.TINY_TAG)


def _open(pretrained: str | None) -> Towers:
    if pretrained is None:
        return build_towers(SMALL)
    if pretrained != towers.TINY_TAG or towers.tiny_files() != FILES:
        return _open_tiny(pretrained)
    return dataclasses.replace(_trained(), clip=copy.deepcopy(_trained().clip))


towers._open_tiny = _open
