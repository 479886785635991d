"""Group the measurers of a pass that share pixels, towers, texts and one stack of weights."""

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


@torch.no_grad()  # else stacked weights would keep a graph for autograd
def make_views(models: Sequence[GroundingModel], config: EngineConfig) -> list[View]:
    """Group the measurers of a pass; stacks with equal text features share their cache."""
    does, device = config.optimisations, models[0].device
    towers = _in_dtype([model.backbone for model in models], config.dtype(device))
    # On a CPU one by one is faster: a batched product gives each core whole matrices, so that three
    # of them leave one of two cores idle half of the time; and one by one, more stays in the cache.
    stacking = does.stack_heads and device.type in _STACKING
    texts: dict[Hashable, TextCache] = {}
    groups: dict[Hashable, list[int]] = {}
    for i, (model, tower) in enumerate(zip(models, towers, strict=True)):
        rules = model.preset.patch_mask, model.preset.integer_boxes, model.backbone.patch_size
        groups.setdefault((pixels_key(model), *rules), []).append(i)
        if text_key(model) not in texts:
            size = config.text_cache_mib << 20
            cache = TextCache(model, tower, max_bytes=size, packed=does.pack, trims=does.trim_text)
            texts[text_key(model)] = cache

    def view(members: list[int]) -> View:
        image_of = {i: image_key(models[i]) if does.encode_once else i for i in members}
        own: dict[Hashable, Backbone] = {}
        kinds: dict[Hashable, list[int]] = {}
        for i in members:
            own.setdefault(image_of[i], towers[i])
            kind = text_key(models[i]), architecture(models[i]), None if stacking else i
            kinds.setdefault(kind, []).append(i)
        stacks = []
        for some in kinds.values():
            fast = FastModels([models[i] for i in some], config.dtype(device))
            tower_of = [list(own).index(image_of[i]) for i in some]
            stacks.append(Stack(some, fast, tower_of, texts[text_key(models[some[0]])]))
        return View(models[members[0]], list(own.values()), stacks)

    return [view(members) for members in groups.values()]


def _in_dtype(towers: Sequence[Backbone], dtype: torch.dtype) -> list[Backbone]:
    """Return towers in the dtype of a pass; those of equal weights are copied once."""
    copies: dict[Hashable, Backbone] = {}
    found = []
    for tower in towers:
        if any(parameter.dtype != dtype for parameter in tower.parameters()):
            key = tower.image_key, tower.text_key
            if key not in copies:
                copies[key] = copy.deepcopy(tower).to(dtype)
            tower = copies[key]
        found.append(tower)
    return found


def architecture(model: GroundingModel) -> tuple[int | None, ...]:
    """Return the sizes that models must share to be stacked."""
    config, backbone = model.config, model.backbone
    sizes = (config.width, config.layers, config.heads, config.feedforward)
    return (*sizes, backbone.feature_width, backbone.width, backbone.embed_dim)
