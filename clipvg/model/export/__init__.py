"""Checkpoints in other formats, and as programs for other runtimes."""

from typing import TYPE_CHECKING

from clipvg.runtime.lazy import lazy_imports

if TYPE_CHECKING:
    from clipvg.model.export.checkpoint import export_checkpoint as export_checkpoint

__getattr__, __all__ = lazy_imports(__name__)
