"""Pseudo-label generation: observations of images, and sources that make labels from them."""

from clipvg.pseudo.entities import count_entities as count_entities
from clipvg.pseudo.entities import entity_heads as entity_heads
from clipvg.pseudo.entities import mean_entities as mean_entities
from clipvg.pseudo.observation import Candidate as Candidate
from clipvg.pseudo.observation import Detection as Detection
from clipvg.pseudo.observation import Observation as Observation
from clipvg.pseudo.observation import Relation as Relation
from clipvg.pseudo.observations import ObservationTable as ObservationTable
from clipvg.pseudo.reading import read_observations as read_observations
from clipvg.pseudo.sources import Options as Options
