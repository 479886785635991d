"""Self-contained HTML page of a report: images are embedded, no scripts, nothing is fetched.

`templates/page.html` renders a `Report`, which holds only text, numbers and encoded images. Every
string is escaped as it enters the page, so expressions and paths may contain any characters.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import clipvg
from clipvg.report.canvas import encode_figure
from clipvg.report.style import ROLES
from clipvg.runtime.files import Json, atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PIXELS_PER_INCH = 96  # CSS pixels
_LEGEND = {
    "predicted": "predicted box",
    "before": "predicted before adapting",
    "true": "true box",
    "pseudo": "label",
}


@dataclass(frozen=True)
class PageImage:
    """An encoded image with its texts."""

    data: bytes  # the file's bytes, PNG or JPEG
    media_type: str  # "image/png" or "image/jpeg"
    alt: str  # what the image shows, for readers who cannot see it
    caption: str = ""  # text below; none when empty
    detail: str = ""  # smaller lines below the caption
    group: str = ""  # heading above images of one kind in a gallery; none when empty
    width: int | None = None  # in CSS pixels; that of the gallery's columns when None

    @classmethod
    def of_figure(cls, figure: Figure, alt: str, caption: str) -> PageImage:
        """Return a figure for the page, in a width that gives all figures the same text size."""
        width = round(_PIXELS_PER_INCH * figure.get_figwidth())
        return cls(*encode_figure(figure), alt=alt, caption=caption, width=width)

    @property
    def source(self) -> str:
        """The image as a data URI."""
        return f"data:{self.media_type};base64,{b64encode(self.data).decode('ascii')}"


@dataclass(frozen=True)
class Table:
    """A table of formatted strings."""

    title: str  # heading above the table
    header: Sequence[str]  # names of the columns; the first column names the rows
    rows: Sequence[Sequence[str]]  # cells, as many in a row as in the header
    note: str = ""  # a sentence below


@dataclass
class Report:
    """Everything a report page shows; parts that are empty are left out."""

    title: str  # of the page
    lead: str = ""  # one or two sentences that state the outcome
    facts: Sequence[tuple[str, str]] = ()  # few pairs (name, value) shown large
    tables: Sequence[Table] = ()  # in order
    figures: Sequence[PageImage] = ()  # in order, at full width
    gallery: Sequence[PageImage] = ()  # images with boxes, in a grid
    gallery_note: str = ""  # a sentence above the gallery
    gallery_roles: Sequence[str] = tuple(ROLES)  # kinds of boxes that its legend names
    # resolved configuration, any nesting of plain values
    config: Json = field(default_factory=dict)
    command: str = ""  # command line that made the run
    timings: Mapping[str, float] = field(default_factory=dict)  # seconds by step
    # terms used on the page, with their meaning
    terms: Mapping[str, str] = field(default_factory=dict)


def render_html(report: Report) -> str:
    """Return the page as one string of HTML5."""
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    times = {name.replace("_", " "): f"{took:.1f} s" for name, took in report.timings.items()}
    page = pages.get_template("page.html").render(
        report=report,
        times=list(times.items()),
        config=json.dumps(report.config, indent=2, ensure_ascii=False, default=str),
        colors=ROLES,
        roles=_LEGEND,
        version=clipvg.__version__,
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")  # no line break before a sign


def write_html(report: Report, path: str | Path) -> Path:
    """Write the page atomically and return its path; missing folders are created."""
    path = Path(path)
    with atomic_path(path) as temporary:
        Path(temporary).write_text(render_html(report), encoding="utf-8")
    return path
