"""Features of the frozen image and text towers, encoded once for training and evaluation.

`keys` identifies what a feature depends on, `texts` encodes expressions, `images` stores image
features, `cache` serves both to training and evaluation and encodes augmented batches, `regions`
embeds parts of images with CLIP itself.
"""

from clipvg.features.cache import CachedLabels as CachedLabels
from clipvg.features.cache import FeatureBatch as FeatureBatch
from clipvg.features.cache import FeatureCache as FeatureCache
from clipvg.features.images import CacheOptions as CacheOptions
from clipvg.features.keys import image_key as image_key
from clipvg.features.keys import text_key as text_key
