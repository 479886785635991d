"""Grounding models: CLIP towers, fusion encoder, checkpoints."""

from typing import TYPE_CHECKING

from clipvg.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from clipvg.model.backbone import Backbone
    from clipvg.model.config import GroundingConfig, ModelOptions
    from clipvg.model.grounder import GroundingModel
    from clipvg.model.published import export_published, load_published
    from clipvg.model.tokenizer import Tokenizer
    from clipvg.model.towers import list_backbones
    from clipvg.model.zoo import create_model, load

__all__ = [
    "Backbone",
    "GroundingConfig",
    "GroundingModel",
    "ModelOptions",
    "Tokenizer",
    "create_model",
    "export_published",
    "list_backbones",
    "load",
    "load_published",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Backbone": "backbone",
        "GroundingConfig": "config",
        "GroundingModel": "grounder",
        "ModelOptions": "config",
        "Tokenizer": "tokenizer",
        "create_model": "zoo",
        "export_published": "published",
        "list_backbones": "towers",
        "load": "zoo",
        "load_published": "published",
    },
)
