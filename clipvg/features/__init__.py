"""Features of the frozen towers: one way from image files and expressions to what a head reads.

`keys` says what decides a feature, `decode` reads image files ahead in threads, `texts` encodes
expressions, `images` keeps what was encoded of images, `cache` serves both to training and
evaluation, and `encode` encodes augmented batches.
"""

from clipvg.features.cache import CachedLabels as CachedLabels
from clipvg.features.cache import FeatureBatch as FeatureBatch
from clipvg.features.cache import FeatureCache as FeatureCache
from clipvg.features.images import CacheOptions as CacheOptions
from clipvg.features.keys import image_key as image_key
from clipvg.features.keys import text_key as text_key
