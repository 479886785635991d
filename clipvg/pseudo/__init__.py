"""Label sources: what is known of the expressions of pseudo-labels."""

from clipvg.pseudo.entities import count_entities, entity_heads, mean_entities

__all__ = ["count_entities", "entity_heads", "mean_entities"]
