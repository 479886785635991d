"""Grounding models: CLIP towers, fusion encoder, checkpoints."""

from typing import TYPE_CHECKING

from clipvg.runtime.imports import lazy_imports

if TYPE_CHECKING:
    from clipvg.model.backbone import Backbone as Backbone
    from clipvg.model.config import GroundingConfig as GroundingConfig
    from clipvg.model.config import ModelOptions as ModelOptions
    from clipvg.model.grounder import GroundingModel as GroundingModel
    from clipvg.model.published import export_published as export_published
    from clipvg.model.published import load_published as load_published
    from clipvg.model.tokenizer import Tokenizer as Tokenizer
    from clipvg.model.towers import list_backbones as list_backbones
    from clipvg.model.zoo import create_model as create_model
    from clipvg.model.zoo import load as load

__getattr__, __all__ = lazy_imports(__name__)
