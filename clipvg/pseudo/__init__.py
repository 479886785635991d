"""How complex the expressions of pseudo-labels are: the entities that they name."""

from clipvg.pseudo.entities import count_entities, entity_heads, mean_entities

__all__ = ["count_entities", "entity_heads", "mean_entities"]
