"""One self-contained HTML page: pictures inside, no script, nothing fetched.

The page is assembled from `Report`, which holds only text, numbers and encoded pictures. Every
string is escaped where it enters the page, so expressions and paths may hold any characters.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import clipvg
from clipvg.report.style import ROLES
from clipvg.runtime.files import atomic_path


@dataclass(frozen=True)
class Picture:
    """An encoded image with the words that stand for it.

    Args:
        data: the file's bytes, PNG or JPEG.
        media_type: "image/png" or "image/jpeg".
        alt: what the picture shows, for readers who cannot see it.
        caption: text below; none when empty.
        detail: a second, smaller line below the caption.
    """

    data: bytes
    media_type: str
    alt: str
    caption: str = ""
    detail: str = ""


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
        gallery: pictures with boxes, in a grid.
        gallery_note: a sentence above them.
        gallery_roles: kinds of boxes that its legend names.
        config: resolved configuration, any nesting of plain values.
        command: what was typed, to be typed again.
        timings: seconds by step.
    """

    title: str
    lead: str = ""
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Picture] = ()
    gallery: Sequence[Picture] = ()
    gallery_note: str = ""
    gallery_roles: Sequence[str] = tuple(ROLES)
    config: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)


def render_html(report: Report) -> str:
    """The page as one string of HTML5."""
    sections = [
        _facts(report.facts),
        *(_table(table) for table in report.tables),
        *(_figure(picture) for picture in report.figures),
        _gallery(report),
        _timings(report.timings),
        _run(report),
    ]
    template = Template(files("clipvg.report").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(report.title),
        lead=f'<p class="lead">{escape(report.lead)}</p>' if report.lead else "",
        body="\n".join(section for section in sections if section),
        version=escape(clipvg.__version__),
        **{f"{role}_color": color for role, color in ROLES.items()},
    )


def write_html(report: Report, path: str | Path) -> Path:
    """Writes the page atomically and returns its path; missing folders are made."""
    path = Path(path)
    with atomic_path(path) as temporary:
        Path(temporary).write_text(render_html(report), encoding="utf-8")
    return path


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    if not facts:
        return ""
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts
    )
    return f'<dl class="facts">{items}</dl>'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.header)
    rows = "".join(_row(cells) for cells in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f"<section><h2>{escape(table.title)}</h2>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f"</div>{note}</section>"
    )


def _row(cells: Sequence[str]) -> str:
    first, *others = cells
    return (
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in others)
        + "</tr>"
    )


def _image(picture: Picture) -> str:
    data = b64encode(picture.data).decode("ascii")
    return (
        f'<img src="data:{escape(picture.media_type)};base64,{data}" alt="{escape(picture.alt)}">'
    )


def _figure(picture: Picture) -> str:
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    return f'<section><figure class="plot">{_image(picture)}{caption}</figure></section>'


def _gallery(report: Report) -> str:
    if not report.gallery:
        return ""
    items = "".join(
        f"<figure>{_image(picture)}<figcaption>{escape(picture.caption)}"
        f"<small>{escape(picture.detail)}</small></figcaption></figure>"
        for picture in report.gallery
    )
    legend = "".join(
        f'<span class="key {role}"></span>{name} '
        for role, name in (
            ("predicted", "predicted box"),
            ("true", "true box"),
            ("pseudo", "pseudo-label"),
        )
        if role in report.gallery_roles
    )
    note = f"<p>{escape(report.gallery_note)}</p>" if report.gallery_note else ""
    return (
        f'<section><h2>Pictures</h2>{note}<p class="legend">{legend}</p>'
        f'<div class="gallery">{items}</div></section>'
    )


def _timings(timings: Mapping[str, float]) -> str:
    if not timings:
        return ""
    rows = [(name.replace("_", " "), f"{seconds:.1f} s") for name, seconds in timings.items()]
    return _table(Table("Time", ("step", "seconds"), rows))


def _run(report: Report) -> str:
    parts = []
    if report.command:
        parts.append(f"<h2>Command</h2><pre><code>{escape(report.command)}</code></pre>")
    if report.config:
        text = json.dumps(report.config, indent=2, ensure_ascii=False, default=str)
        parts.append(
            "<details><summary>Configuration</summary>"
            f"<pre><code>{escape(text)}</code></pre></details>"
        )
    return f"<section>{''.join(parts)}</section>" if parts else ""
