"""Synthetic scenes with known truth: images, expressions, noisy labels of three sources.

A claim made on scenes names `SCENES_VERSION`.
"""

from clipvg.data.scenes.labels import CLEAN, STANDARD_MIX, NoiseConfig, is_correct, make_labels
from clipvg.data.scenes.observe import PERFECT, ObserverErrors, observe, observe_scenes
from clipvg.data.scenes.reader import read, with_truth
from clipvg.data.scenes.render import render_scene
from clipvg.data.scenes.world import SCENES_VERSION, Scene, SceneConfig, SceneObject, sample_scene

__all__ = [
    "CLEAN",
    "PERFECT",
    "SCENES_VERSION",
    "STANDARD_MIX",
    "NoiseConfig",
    "ObserverErrors",
    "Scene",
    "SceneConfig",
    "SceneObject",
    "is_correct",
    "make_labels",
    "observe",
    "observe_scenes",
    "read",
    "render_scene",
    "sample_scene",
    "with_truth",
]
