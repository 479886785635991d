"""Features of the frozen towers: one way from image files and expressions to what a head reads.

`keys` says what decides a feature, `decode` reads image files ahead in threads, `texts` encodes
expressions, `images` keeps what was encoded of images, `cache` serves both to training and
evaluation, and `encode` encodes augmented batches.
"""

from clipvg.features.cache import CachedLabels, FeatureBatch, FeatureCache
from clipvg.features.images import CacheOptions
from clipvg.features.keys import image_key, text_key

__all__ = [
    "CacheOptions",
    "CachedLabels",
    "FeatureBatch",
    "FeatureCache",
    "image_key",
    "text_key",
]
