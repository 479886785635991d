"""Boxes drawn on images, with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clipvg.errors import InputError
from clipvg.report.style import CYCLE, DASHES, ROLES
from clipvg.runtime.files import atomic_path

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
Line = tuple[float, float, float, float]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Mark:
    """One box to draw.

    Args:
        box: xyxy in pixels of the image; a box with a NaN is not drawn.
        label: text beside the box, cut to the image's width; none when empty.
        role: "predicted", "true" or "pseudo", which fixes colour and line; any other role is solid.
        color: overrides the role's colour, "#RRGGBB".
    """

    box: Sequence[float] | np.ndarray
    label: str = ""
    role: str = "predicted"
    color: str | None = None


def label_marks(boxes: Sequence[Sequence[float]] | np.ndarray, labels: Sequence[str]) -> list[Mark]:
    """Return marks for several expressions of one image, each in a colour of its own.

    Args:
        boxes (E, 4): xyxy pixels.
        labels: E expressions.
    """
    return [
        Mark(box, label, color=CYCLE[number % len(CYCLE)])
        for number, (box, label) in enumerate(zip(boxes, labels, strict=True))
    ]


def draw_boxes(image: Image.Image, marks: Sequence[Mark], *, min_size: int = 320) -> Image.Image:
    """Return a copy of an image with boxes and their labels on it.

    Args:
        image: any Pillow image.
        marks: what to draw, in pixels of `image`.
        min_size: an image whose long side is shorter is enlarged by a whole factor to at least
            this, so that lines and labels are readable; larger ones keep their pixels.

    Returns:
        An RGB image; an image lower than its labels is extended downwards by a plain strip.
    """
    factor = max(1, math.ceil(min_size / max(image.size)))
    large = image.convert("RGB")
    if factor > 1:
        large = large.resize(
            (large.width * factor, large.height * factor), Image.Resampling.BICUBIC
        )
    font = ImageFont.load_default(max(13, round(max(large.size) / 45)))
    canvas = _canvas(large, font)
    draw = ImageDraw.Draw(canvas)
    stroke = max(4, round(max(large.size) / 200))
    visible = [mark for mark in marks if np.isfinite(np.asarray(mark.box, dtype=float)).all()]
    for mark in visible:
        _outline(draw, mark, factor, stroke)
    taken: list[Line] = []
    for mark in visible:
        if mark.label:
            _tag(draw, mark, factor, font, canvas.size, taken)
    return canvas


def check_image_path(path: str | Path) -> Path:
    """Return the path of an image to write, refused early when its ending names no format.

    Raises:
        InputError: the ending is not .png, .jpg, .jpeg or .webp.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise InputError(f"{path}: an image is written as {', '.join(_FORMATS)}; change the ending")
    return path


def save_image(image: Image.Image, path: str | Path) -> Path:
    """Write an image in the format of its ending, whole or not at all, and return the path."""
    path = check_image_path(path)
    with atomic_path(path) as temporary:
        image.convert("RGB").save(temporary, _FORMATS[path.suffix.lower()], quality=92)
    return path


def encode_image(image: Image.Image, *, max_size: int = 512) -> tuple[bytes, str]:
    """Return bytes and media type of an image for the page: JPEG, at most `max_size` pixels."""
    small = image.convert("RGB")
    small.thumbnail((max_size, max_size), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=88, subsampling=0)
    return buffer.getvalue(), "image/jpeg"


def _canvas(image: Image.Image, font: Font) -> Image.Image:
    line = round(font.getbbox("Ág")[3]) + 8
    if image.height >= 2 * line:
        return image.copy()
    canvas = Image.new("RGB", (image.width, image.height + line), "white")
    canvas.paste(image, (0, 0))
    return canvas


def _color(mark: Mark) -> str:
    return mark.color or ROLES.get(mark.role, CYCLE[0])


def _outline(draw: ImageDraw.ImageDraw, mark: Mark, factor: int, stroke: int) -> None:
    x1, y1, x2, y2 = _scaled(mark, factor)
    # A white frame below the coloured one keeps the box visible on any background.
    _frame(draw, (x1, y1, x2, y2), "white", stroke + 2)
    dashes = DASHES.get(mark.role, ())
    if not dashes:
        _frame(draw, (x1, y1, x2, y2), _color(mark), stroke)
    for line in _stretches((x1, y1, x2, y2), [part * stroke for part in dashes]):
        draw.line(line, fill=_color(mark), width=stroke)


def _scaled(mark: Mark, factor: int) -> Line:
    x1, y1, x2, y2 = (float(value) * factor for value in mark.box)
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _frame(draw: ImageDraw.ImageDraw, box: Line, color: str, width: int) -> None:
    x1, y1, x2, y2 = box
    half = width / 2
    draw.rectangle((x1 - half, y1 - half, x2 + half, y2 + half), outline=color, width=width)


def _stretches(box: Line, dashes: Sequence[float]) -> Iterator[Line]:
    """Yield the drawn parts of a dashed frame: lengths drawn and empty, in pixels, in turn."""
    x1, y1, x2, y2 = box
    if not dashes:
        return
    drawn, empty = dashes
    for ax, ay, bx, by in ((x1, y1, x2, y1), (x2, y1, x2, y2), (x2, y2, x1, y2), (x1, y2, x1, y1)):
        length = math.hypot(bx - ax, by - ay)
        for start in np.arange(0, length, drawn + empty):
            first, last = start / length, min(start + drawn, length) / length
            yield (
                ax + (bx - ax) * first,
                ay + (by - ay) * first,
                ax + (bx - ax) * last,
                ay + (by - ay) * last,
            )


def _tag(
    draw: ImageDraw.ImageDraw,
    mark: Mark,
    factor: int,
    font: Font,
    canvas: tuple[int, int],
    taken: list[Line],
) -> None:
    """Write a label at its box, where no label of `taken` is, and add its place to them."""
    canvas_width, canvas_height = canvas
    text = _shorten(draw, " ".join(mark.label.split()), font, canvas_width - 8)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 8, bottom - top + 6
    x1, y1, _, y2 = _scaled(mark, factor)
    x = min(max(x1, 0), canvas_width - width)
    lowest = canvas_height - height
    # Above the box, below it, then anywhere from its upper edge down.
    wanted = [y1 - height, y2, *np.arange(max(y1, 0), lowest, height)]
    places = [(x, y, x + width, y + height) for y in wanted if 0 <= y <= lowest]
    free = [place for place in places if not any(_overlap(place, other) for other in taken)]
    place = (free or places or [(x, max(0, lowest), x + width, max(0, lowest) + height)])[0]
    taken.append(place)
    draw.rectangle(place, fill=_color(mark))
    draw.text((place[0] + 4 - left, place[1] + 3 - top), text, font=font, fill=_ink(_color(mark)))


def _overlap(a: Line, b: Line) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _shorten(draw: ImageDraw.ImageDraw, text: str, font: Font, width: float) -> str:
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text + "…"


def _ink(color: str) -> str:
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    # Rec. 601 luma: dark text on light tags, white text on dark ones.
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"
