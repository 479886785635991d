"""Find which observed object an expression means, going from words back to detections."""

from clipvg.pseudo.meaning.fitting import Views, alone, look_about, look_at
from clipvg.pseudo.meaning.reading import Meaning, Vocabulary

__all__ = ["Meaning", "Views", "Vocabulary", "alone", "look_about", "look_at"]
