"""Which measurers of a pass share pixels, towers, texts and one stack of weights."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch

from clipvg.features.keys import image_key, pixels_key, text_key
from clipvg.features.texts import TextCache
from clipvg.model import GroundingModel
from clipvg.model.backbone import Backbone
from clipvg.model.fast.tokens import FastModels
from clipvg.rescoring.config import EngineConfig

_STACKING = {"cuda"}  # devices where measurers of one architecture are one stack


@dataclass(frozen=True)
class Stack:
    """Measurers that run as one stack: their numbers, weights, and the image tower of each."""

    members: list[int]
    models: FastModels
    tower_of: list[int]
    text: TextCache


@dataclass(frozen=True)
class View:
    """Measurers that see the same pixels and mask the same patches, and their image towers."""

    model: GroundingModel
    towers: list[Backbone]
    stacks: list[Stack]


@torch.no_grad()  # else stacked weights would remember what they were stacked from
def make_views(models: Sequence[GroundingModel], config: EngineConfig) -> list[View]:
    """Group the measurers of a pass; stacks that read equal texts share the features of them."""
    groups: dict[Hashable, list[int]] = {}
    for i, model in enumerate(models):
        rules = model.preset.patch_mask, model.preset.integer_boxes, model.backbone.patch_size
        groups.setdefault((pixels_key(model), *rules), []).append(i)
    maker = _Maker(models, config)
    return [maker.view(members) for members in groups.values()]


class _Maker:
    """Makes the views of some models, with what they share."""

    def __init__(self, models: Sequence[GroundingModel], config: EngineConfig) -> None:
        self._models, self._config, self._does = models, config, config.optimisations
        self._dtype = config.dtype(models[0].device)
        self._texts: dict[Hashable, TextCache] = {}
        self._reduced: dict[Hashable, Backbone] = {}

    def view(self, members: list[int]) -> View:
        """Return the view of measurers that see the same pixels."""
        towers: dict[Hashable, Backbone] = {}
        stacks: dict[tuple[Hashable, ...], list[int]] = {}
        key_of: dict[int, Hashable] = {}
        for i in members:
            model = self._models[i]
            tower = self._in_dtype(model.backbone)
            key_of[i] = image_key(model) if self._does.encode_once else i
            towers.setdefault(key_of[i], tower)
            text = text_key(model)
            if text not in self._texts:
                self._texts[text] = TextCache(
                    model,
                    tower,
                    max_bytes=self._config.text_cache_mib << 20,
                    packed=self._does.pack,
                    trims=self._does.trim_text,
                )
            stacks.setdefault((text, architecture(model), *self._apart(i)), []).append(i)
        place = {key: at for at, key in enumerate(towers)}
        return View(
            self._models[members[0]],
            list(towers.values()),
            [
                Stack(
                    some,
                    FastModels([self._models[i] for i in some], self._dtype),
                    [place[key_of[i]] for i in some],
                    self._texts[text],
                )
                for (text, *_), some in stacks.items()
            ],
        )

    def _apart(self, member: int) -> tuple[int, ...]:
        """Return what keeps a measurer out of the others' stack."""
        # On a CPU one by one is faster: a batched product gives each core whole matrices, so that
        # three of them leave one of two cores idle half of the time, and more is in the cache.
        stacks = self._does.stack_heads and self._models[member].device.type in _STACKING
        return () if stacks else (member,)

    def _in_dtype(self, backbone: Backbone) -> Backbone:
        """Return the towers in the dtype of the pass; towers of equal weights are copied once."""
        if all(parameter.dtype == self._dtype for parameter in backbone.parameters()):
            return backbone
        key = backbone.image_key, backbone.text_key
        if key not in self._reduced:
            self._reduced[key] = copy.deepcopy(backbone).to(self._dtype)
        return self._reduced[key]


def architecture(model: GroundingModel) -> tuple[int | None, ...]:
    """Return what models must share to be stacked."""
    config, backbone = model.config, model.backbone
    sizes = (config.width, config.layers, config.heads, config.feedforward)
    return (*sizes, backbone.feature_width, backbone.width, backbone.embed_dim)
