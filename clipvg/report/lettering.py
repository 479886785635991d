"""Draw text of any script on images: font fallback, line wrapping, and emoji by name."""

from __future__ import annotations

import functools
import math
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from itertools import groupby

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_FIRST = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans")  # fonts to try first


class Lettering:
    """Measures, wraps and draws text of one size."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.line = round(1.3 * size)

    def width(self, text: str) -> float:
        """Return the width of a text in pixels."""
        return sum(font.getlength(run) for font, run in self._runs(text))

    def draw(
        self, draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, ink: str
    ) -> None:
        """Write a line; `place` is the left end of its upper edge."""
        x, y = place
        for font, run in self._runs(text):
            draw.text((x, y + 0.97 * self.size), run, font=font, fill=ink, anchor="ls")
            x += font.getlength(run)

    def wrap(self, text: str, width: float) -> list[str]:
        """Split a text into lines of at most `width` pixels, between words if possible."""
        lines, line = [], ""
        for word in text.split():
            if line and self.width(f"{line} {word}") > width:
                lines.append(line)
                line = ""
            line = f"{line} {word}" if line else word
            while len(line) > 1 and self.width(head := line[: math.ceil(width)]) > width:
                # A word longer than a line; letters are at least a pixel wide.
                ends = range(1, len(head))
                fits = max(1, bisect_right(ends, width, key=lambda end: self.width(head[:end])))
                lines.append(line[:fits])
                line = line[fits:]
        return [*lines, line] if line else lines

    def _runs(self, text: str) -> Iterator[tuple[Font, str]]:
        """Split a text where its font changes."""
        for name, letters in groupby(readable(text), key=_font_of):
            yield _font(name, self.size), "".join(letters)


@functools.lru_cache(maxsize=4096)
def readable(text: str) -> str:
    """Return a text on one line, with emoji by name, since their fonts differ by computer."""
    shown = []
    for letter in " ".join(text.split()):
        if unicodedata.category(letter) == "So" and ord(letter) >= 0x2600:
            shown.append(f"({unicodedata.name(letter, 'sign').lower()})")
        elif unicodedata.category(letter) in ("Sk", "Cf", "Mn") and ord(letter) >= 0x2000:
            continue  # it only changes the letter before: skin tone, direction, variant
        else:
            shown.append(letter)
    return "".join(shown)


@functools.lru_cache(maxsize=256)
def _font(path: str | None, size: int) -> Font:
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


@functools.lru_cache(maxsize=65536)
def _font_of(letter: str) -> str | None:
    """Return the file of a font that has a letter; None for Pillow's own, preferred for Latin."""
    if ord(letter) < 0x250:
        return None
    found = (path for path in _fonts() if ord(letter) in _letters(path))
    return next(found, _fonts()[0])


@functools.cache
def _fonts() -> list[str]:
    """Return the files of installed upright fonts; matplotlib ships the first one."""
    from matplotlib.font_manager import fontManager

    # "Last Resort" has one sign per script in place of its letters.
    plain = [
        font
        for font in fontManager.ttflist
        if font.style == "normal" and 300 <= _weight(font.weight) <= 500
        if not font.name.startswith("Last Resort")
    ]
    rank = {name: number for number, name in enumerate(_FIRST)}
    plain.sort(key=lambda font: (rank.get(font.name, len(rank)), font.name))
    return [font.fname for font in plain]


def _weight(weight: int | str) -> int:
    return weight if isinstance(weight, int) else 400 if weight in ("normal", "regular") else 700


@functools.cache
def _letters(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(path).get_charmap())
