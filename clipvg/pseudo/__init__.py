"""Where pseudo-labels come from: observations of images, and the sources that speak of them."""

from clipvg.pseudo.entities import count_entities, entity_heads, mean_entities
from clipvg.pseudo.observation import Candidate, Detection, Observation, Relation
from clipvg.pseudo.observations import ObservationTable
from clipvg.pseudo.options import Options
from clipvg.pseudo.reading import read_observations

__all__ = [
    "Candidate",
    "Detection",
    "Observation",
    "ObservationTable",
    "Options",
    "Relation",
    "count_entities",
    "entity_heads",
    "mean_entities",
    "read_observations",
]
