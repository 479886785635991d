"""The relation source: "man riding horse", from scene graphs or from the boxes themselves."""

from __future__ import annotations

from clipvg.pseudo.observation import Candidate, Observation
from clipvg.pseudo.relation.geometry import compare_boxes
from clipvg.pseudo.relation.graph import best_relations, read_graph, relations_from_logits
from clipvg.pseudo.sources import Options

__all__ = ["DRAWN", "NEEDS", "SEES_FAINT", "default", "published", "relations_from_logits"]

NEEDS = {"default": ("relations|detections",), "published": ("relations",)}
SEES_FAINT = True  # objects too faint to describe may still be meant
DRAWN = False  # the published program keeps its ten best


def default(observation: Observation, options: Options) -> list[Candidate]:
    """Return expressions from the scene graph, or from the boxes' positions if it gives none."""
    return read_graph(observation, options) or compare_boxes(observation, options)


def published(observation: Observation, options: Options) -> list[Candidate]:
    """Return "subject predicate object" of the ten best relations, as published."""
    return [
        Candidate(f"{each.subject} {each.predicate} {each.object}", each.subject_box, "triplet")
        for each in best_relations(observation.relations)
    ]
