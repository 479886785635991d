"""Draw boxes and their labels on images with Pillow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from clipvg.boxes import iou
from clipvg.errors import InputError
from clipvg.report.lettering import Lettering
from clipvg.report.numbers import percent
from clipvg.report.style import CYCLE, DASHES, ROLES
from clipvg.runtime.files import atomic_path

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_LONGEST = 1000  # characters of a label
_SAME = 0.8  # IoU from which frames would cover each other
Line = tuple[float, float, float, float]


@dataclass(frozen=True)
class Mark:
    """One box to draw."""

    box: Sequence[float] | np.ndarray  # xyxy in pixels of the image; a box with a NaN is not drawn
    label: str = ""  # text beside the box, or below the image where it is long; none when empty
    # "predicted", "true" or "pseudo", which fixes colour and line; any other role is solid
    role: str = "predicted"
    color: str | None = None  # overrides the role's colour, "#RRGGBB"
    score: float | None = None  # in [0, 1], written after the label as a percentage

    @property
    def text(self) -> str:
        """The label, cut if too long to be an expression, and the score."""
        label = self.label if len(self.label) <= _LONGEST else f"{self.label[:_LONGEST]}…"
        if self.score is None or not math.isfinite(self.score):
            return label
        return f"{label} {percent(self.score, digits=0)}".strip()


def label_marks(
    boxes: Sequence[Sequence[float]] | np.ndarray,
    labels: Sequence[str],
    scores: Sequence[float] | np.ndarray | None = None,
) -> list[Mark]:
    """Return marks for several expressions of one image, each in a colour of its own.

    Args:
        boxes (E, 4): xyxy pixels.
        labels: E expressions.
        scores: E probabilities; no scores are written when None.
    """
    known = [None] * len(labels) if scores is None else [float(score) for score in scores]
    return [
        Mark(box, label, color=CYCLE[number % len(CYCLE)], score=score)
        for number, (box, label, score) in enumerate(zip(boxes, labels, known, strict=True))
    ]


def draw_boxes(image: Image.Image, marks: Sequence[Mark], *, min_size: int = 320) -> Image.Image:
    """Return a copy of an image with boxes and their labels on it.

    If all labels are short they stand at their boxes; otherwise numbers do, and a strip below the
    image has the full labels. Boxes that coincide are nested; tiny boxes get a ring around them.

    Args:
        image: any Pillow image.
        marks: boxes to draw, in pixels of `image`; they are numbered from 1 in this order.
        min_size: an image whose long side is shorter is enlarged by a whole factor to at least
            this, so that lines and labels are readable; larger ones keep their pixels.

    Returns:
        An RGB image; it is larger than `image` if that is enlarged or labels need room.
    """
    factor = max(1, math.ceil(min_size / max(image.size)))
    large = image.convert("RGB")
    if factor > 1:
        large = large.resize(
            (large.width * factor, large.height * factor), Image.Resampling.BICUBIC
        )
    visible = {
        number: mark
        for number, mark in enumerate(marks, 1)
        if np.isfinite(np.asarray(mark.box, dtype=float)).all()
    }
    pen = _Pen(large, [_scaled(mark, factor) for mark in visible.values()])
    labelled = {number: mark for number, mark in visible.items() if mark.text}
    in_strip = pen.needs_strip([mark.text for mark in labelled.values()])
    pen.make_room(labelled, in_strip)
    for mark, frame in zip(visible.values(), pen.frames, strict=True):
        pen.outline(frame, mark)
    for (number, mark), frame in zip(visible.items(), pen.frames, strict=True):
        if mark.text:
            pen.tag(frame, str(number) if in_strip else mark.text, _color(mark))
    return pen.canvas


def check_image_path(path: str | Path) -> Path:
    """Return the path of an image to write, after checking that its ending names a format.

    Raises:
        InputError: the ending is not .png, .jpg, .jpeg or .webp.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise InputError(f"{path}: an image is written as {', '.join(_FORMATS)}; change the ending")
    return path


def save_image(image: Image.Image, path: str | Path) -> Path:
    """Write an image atomically, in the format of its ending, and return the path."""
    path = check_image_path(path)
    with atomic_path(path) as temporary:
        image.convert("RGB").save(temporary, _FORMATS[path.suffix.lower()], quality=92)
    return path


def encode_image(image: Image.Image, *, max_size: int = 512) -> tuple[bytes, str]:
    """Return the bytes and media type of an image for the page: JPEG, long side <= `max_size`."""
    small = image.convert("RGB")
    small.thumbnail((max_size, max_size), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=88, subsampling=0)
    return buffer.getvalue(), "image/jpeg"


class _Pen:
    """Draws frames and labels in sizes that suit an image."""

    def __init__(self, image: Image.Image, frames: list[Line]) -> None:
        side = max(image.size)
        self.letters = Lettering(max(13, round(side / 45)))
        self.stroke = max(4, round(side / 200))
        self.frames = _apart(frames, self.stroke + 2)
        self.image_size = image.size
        self.canvas = image.copy()
        self.draw = ImageDraw.Draw(self.canvas)
        self.taken: list[Line] = []

    def needs_strip(self, texts: Sequence[str]) -> bool:
        """Whether labels are too long, or too many, to stand on the image."""
        width, height = self.image_size
        room = max(1, height // (3 * self.letters.line))
        longest = max((self.letters.width(text) for text in texts), default=0)
        return height < 2 * self.letters.line or len(texts) > room or longest > 0.6 * width

    def make_room(self, labelled: Mapping[int, Mark], in_strip: bool) -> None:
        """Extend the canvas by the strip of labels, if needed, and write them."""
        if not labelled or not in_strip:
            return
        (width, height), line = self.image_size, self.letters.line
        wide = max(width, 12 * line)  # the strip of a narrow image is wider than the image
        margin = round(2.2 * self.letters.width("00"))
        rows = [
            (number, mark, self.letters.wrap(mark.text, wide - margin - line // 2))
            for number, mark in labelled.items()
        ]
        count = sum(len(lines) for _, _, lines in rows)
        gap = line // 2
        canvas = Image.new("RGB", (wide, height + count * line + 2 * gap), "white")
        canvas.paste(self.canvas, (0, 0))
        self.canvas, self.draw = canvas, ImageDraw.Draw(canvas)
        y = height + gap
        for number, mark, lines in rows:
            color, text = _color(mark), str(number)
            self.draw.rectangle((gap, y, margin - gap, y + line - 3), fill=color)
            left = (margin - self.letters.width(text)) / 2
            self.letters.draw(self.draw, (left, y), text, _ink(color))
            for words in lines:
                self.letters.draw(self.draw, (margin, y), words, "black")
                y += line

    def outline(self, frame: Line, mark: Mark) -> None:
        """Draw a frame, and a ring around a tiny one so that it can be found."""
        x1, y1, x2, y2 = frame
        longest = max(x2 - x1, y2 - y1)
        is_tiny = longest < self.letters.size
        stroke = max(1, round(longest / 6)) if is_tiny else self.stroke
        # A white frame below the coloured one keeps the box visible on any background.
        _frame(self.draw, frame, "white", stroke + 2)
        dashes = () if is_tiny else DASHES.get(mark.role, ())
        if not dashes:
            _frame(self.draw, frame, _color(mark), stroke)
        for line in _stretches(frame, [part * stroke for part in dashes]):
            self.draw.line(line, fill=_color(mark), width=stroke)
        if is_tiny:
            ring = self._ring(frame)
            self.draw.ellipse(ring, outline="white", width=self.stroke)
            self.draw.ellipse(ring, outline=_color(mark), width=max(2, self.stroke - 2))

    def _ring(self, frame: Line) -> Line:
        x, y, radius = (frame[0] + frame[2]) / 2, (frame[1] + frame[3]) / 2, 1.2 * self.letters.size
        return x - radius, y - radius, x + radius, y + radius

    def tag(self, frame: Line, text: str, color: str) -> None:
        """Write a label at its box, clear of other labels if possible."""
        if max(frame[2] - frame[0], frame[3] - frame[1]) < self.letters.size:
            frame = self._ring(frame)
        canvas_width, canvas_height = self.canvas.size
        width, height = self.letters.width(text) + 8, self.letters.line
        x1, y1, _, y2 = frame
        x = min(max(x1, 0), max(0, canvas_width - width))
        lowest = self.image_size[1] - height
        # Above the box, below it, then anywhere from its upper edge down.
        wanted = [y1 - height, y2, *np.arange(max(y1, 0), lowest, height)]
        places = [(x, y, x + width, y + height) for y in wanted if 0 <= y <= lowest]
        free = [
            place for place in places if not any(_overlap(place, other) for other in self.taken)
        ]
        top = max(0, min(y1, canvas_height - height))
        place = (free or places or [(x, top, x + width, top + height)])[0]
        self.taken.append(place)
        self.draw.rectangle(place, fill=color)
        self.letters.draw(self.draw, (place[0] + 4, place[1]), text, _ink(color))


def _apart(frames: list[Line], step: float) -> list[Line]:
    """Return frames, nesting those that coincide `step` pixels apart."""
    spread: list[Line] = []
    for number, frame in enumerate(frames):
        same = sum(float(iou(frame, other)) >= _SAME for other in frames[:number])
        x1, y1, x2, y2 = frame
        out = same * step
        spread.append((x1 - out, y1 - out, x2 + out, y2 + out))
    return spread


def _color(mark: Mark) -> str:
    return mark.color or ROLES.get(mark.role, CYCLE[0])


def _scaled(mark: Mark, factor: int) -> Line:
    x1, y1, x2, y2 = (float(value) * factor for value in mark.box)
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _frame(draw: ImageDraw.ImageDraw, box: Line, color: str, width: int) -> None:
    x1, y1, x2, y2 = box
    half = width / 2
    draw.rectangle((x1 - half, y1 - half, x2 + half, y2 + half), outline=color, width=width)


def _stretches(box: Line, dashes: Sequence[float]) -> Iterator[Line]:
    """Yield the drawn parts of a frame; `dashes` are the drawn and the empty length in pixels."""
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


def _overlap(a: Line, b: Line) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ink(color: str) -> str:
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    # Rec. 601 luma: dark text on light tags, white text on dark ones.
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"
