"""Which of the observed objects an expression means: the way back from words to detections."""

from clipvg.pseudo.meaning.fitting import Views, alone, look_about, look_at
from clipvg.pseudo.meaning.reading import Meaning, Vocabulary

__all__ = ["Meaning", "Views", "Vocabulary", "alone", "look_about", "look_at"]
