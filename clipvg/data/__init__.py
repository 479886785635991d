"""Images, letterboxing, augmentation and batches of labels (names are loaded on first use)."""

from typing import TYPE_CHECKING

from clipvg.runtime.imports import lazy_imports

if TYPE_CHECKING:
    from clipvg.data.augment import TrainTransform as TrainTransform
    from clipvg.data.dataset import Batch as Batch
    from clipvg.data.dataset import LabelDataset as LabelDataset
    from clipvg.data.dataset import collate as collate
    from clipvg.data.dataset import group_by_image as group_by_image
    from clipvg.data.dataset import shuffle_rows as shuffle_rows
    from clipvg.data.image import read_image as read_image
    from clipvg.data.letterbox import Letterbox as Letterbox
    from clipvg.data.letterbox import Square as Square
    from clipvg.data.letterbox import load_square as load_square
    from clipvg.data.letterbox import make_square as make_square
    from clipvg.data.letterbox import patch_mask as patch_mask
    from clipvg.data.letterbox import square_boxes as square_boxes
    from clipvg.data.preset import PRESETS as PRESETS
    from clipvg.data.preset import Preset as Preset
    from clipvg.data.preset import get_preset as get_preset

__getattr__, __all__ = lazy_imports(__name__)
