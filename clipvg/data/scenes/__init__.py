"""Synthetic scenes with known truth: images, expressions and noisy labels from three sources.

Results on scenes must state `SCENES_VERSION`.
"""

from clipvg.data.scenes.labels import CLEAN as CLEAN
from clipvg.data.scenes.labels import STANDARD_MIX as STANDARD_MIX
from clipvg.data.scenes.labels import NoiseConfig as NoiseConfig
from clipvg.data.scenes.labels import is_correct as is_correct
from clipvg.data.scenes.labels import make_labels as make_labels
from clipvg.data.scenes.observe import PERFECT as PERFECT
from clipvg.data.scenes.observe import ObserverErrors as ObserverErrors
from clipvg.data.scenes.observe import observe as observe
from clipvg.data.scenes.observe import observe_scenes as observe_scenes
from clipvg.data.scenes.reader import read as read
from clipvg.data.scenes.reader import with_truth as with_truth
from clipvg.data.scenes.render import render_scene as render_scene
from clipvg.data.scenes.world import SCENES_VERSION as SCENES_VERSION
from clipvg.data.scenes.world import Scene as Scene
from clipvg.data.scenes.world import SceneConfig as SceneConfig
from clipvg.data.scenes.world import SceneObject as SceneObject
from clipvg.data.scenes.world import sample_scene as sample_scene
