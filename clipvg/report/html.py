"""One self-contained HTML page: images inside, no script, nothing fetched.

`templates/page.html` shows a `Report`, which holds only text, numbers and encoded images. Every
string is escaped as it enters the page, so expressions and paths may hold any characters.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import clipvg
from clipvg.report.style import ROLES
from clipvg.runtime.files import Json, atomic_path

_LEGEND = {
    "predicted": "predicted box",
    "before": "predicted before adapting",
    "true": "true box",
    "pseudo": "label",
}


@dataclass(frozen=True)
class PageImage:
    """An encoded image with the words that stand for it.

    Args:
        data: the file's bytes, PNG or JPEG.
        media_type: "image/png" or "image/jpeg".
        alt: what the image shows, for readers who cannot see it.
        caption: text below; none when empty.
        detail: smaller lines below the caption.
        group: heading above images of one kind in a gallery; none when empty.
        width: in pixels of the page; that of the gallery's columns when None.
    """

    data: bytes
    media_type: str
    alt: str
    caption: str = ""
    detail: str = ""
    group: str = ""
    width: int | None = None

    @property
    def source(self) -> str:
        """The image as an address that holds all of it."""
        return f"data:{self.media_type};base64,{b64encode(self.data).decode('ascii')}"


@dataclass(frozen=True)
class Table:
    """A table of ready-made strings.

    Args:
        title: heading above the table.
        header: names of the columns; the first column names the rows.
        rows: cells, as many in a row as in the header.
        note: a sentence below.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass
class Report:
    """Everything a report page shows; parts that are empty are left out.

    Args:
        title: of the page.
        lead: one or two sentences that state the outcome.
        facts: few pairs (name, value) shown large.
        tables: in order.
        figures: in order, at full width.
        gallery: images with boxes, in a grid.
        gallery_note: a sentence above them.
        gallery_roles: kinds of boxes that its legend names.
        config: resolved configuration, any nesting of plain values.
        command: what was typed, to be typed again.
        timings: seconds by step.
        terms: words of the page, each with what it means.
    """

    title: str
    lead: str = ""
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[PageImage] = ()
    gallery: Sequence[PageImage] = ()
    gallery_note: str = ""
    gallery_roles: Sequence[str] = tuple(ROLES)
    config: Json = field(default_factory=dict)
    command: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)
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
    return pages.get_template("page.html").render(
        report=report,
        times=list(times.items()),
        config=json.dumps(report.config, indent=2, ensure_ascii=False, default=str),
        colors=ROLES,
        roles=_LEGEND,
        version=clipvg.__version__,
    )


def write_html(report: Report, path: str | Path) -> Path:
    """Write the page atomically and return its path; missing folders are made."""
    path = Path(path)
    with atomic_path(path) as temporary:
        Path(temporary).write_text(render_html(report), encoding="utf-8")
    return path
