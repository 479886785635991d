"""Features of the frozen towers: one way from image files and expressions to what a head reads.

`keys` says what decides a feature, `texts` encodes expressions, `images` keeps what was encoded of
images, `cache` serves both to training and evaluation and encodes augmented batches, `regions` are
parts of images as CLIP itself embeds them.
"""

from clipvg.features.cache import CachedLabels as CachedLabels
from clipvg.features.cache import FeatureBatch as FeatureBatch
from clipvg.features.cache import FeatureCache as FeatureCache
from clipvg.features.images import CacheOptions as CacheOptions
from clipvg.features.keys import image_key as image_key
from clipvg.features.keys import text_key as text_key
