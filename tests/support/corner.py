"""A grounder that answers with corners of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Annotated

import numpy as np
from PIL import Image

from clipvg.grounders.grounder import Grounder
from clipvg.grounders.located import Located


class Corner(Grounder):
    """Answers with an image's upper left; with nothing if the text ends with a question mark."""

    share: Annotated[float, (0, 1)] = 0.5
    name: str = "corner"
    asked: list[str] = field(default_factory=list, repr=False)

    @property
    def weights(self) -> str:
        """A placeholder, as it has none."""
        return "corner"

    def key(self) -> str:
        """The share alone; what was asked before does not matter."""
        return f"corner-{self.share}"

    def locate(
        self, images: Sequence[Image.Image], expressions: Sequence[Sequence[str]]
    ) -> list[Located]:
        """Place the expressions of each image."""
        found = []
        for image, texts in zip(images, expressions, strict=True):
            located = Located.nothing(len(texts))
            for place, text in enumerate(texts):
                self.asked.append(text)
                if text == "stop":
                    raise KeyboardInterrupt
                if text.endswith("?"):
                    located.reasons[place] = "a question"
                    continue
                box = np.array([[0, 0, image.width, image.height]]) * self.share
                located.put([place], box, np.array([self.share]), image.size)
            found.append(located)
        return found
