"""Label Studio: read exported rectangles with expressions, write predictions to review.

Boxes are in percent of the image's width and height. An expression is the text of a region
(TextArea with ``perRegion``), else the label of its rectangle.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import numpy as np
import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.formats.file import File, Format, rows_of, rows_table
from clipvg.labels.formats.objects import KEY, convert_box, is_box
from clipvg.labels.schema import RELIABILITY, encode_names
from clipvg.runtime.files import Json
from clipvg.runtime.images import image_size

_SERVED = "/data/local-files/?d="
_UPLOADED = re.compile(r"/data/upload/(?:\d+/)?(?:[0-9a-f]{8}-)?(.+)")
_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_RECTANGLES = ("rectanglelabels", "rectangle", "labels")
_SIDES = ("x", "y", "width", "height")
_FACTS = ("annotator", "created_at", "updated_at")  # texts of JSON-MIN that are no annotations


def matches(file: File) -> bool:
    """Return whether a file holds tasks, or annotations in the flat form JSON-MIN."""
    parts = ("annotations", "predictions", "completions")
    is_task = isinstance(file.first.get("data"), dict) and any(p in file.first for p in parts)
    return is_task or "annotation_id" in file.first


def read(file: File) -> pa.Table:
    """Return a label for each expression of each rectangle, in pixels.

    Human annotations are used, except cancelled ones; in a task without any, the predictions. A
    rotated rectangle gives the box that encloses it. Scores are in column ``label_studio.score``,
    the task's id in ``label_studio.task``.
    """
    numbers: list[float] = []
    others = 0

    def labels() -> Iterator[Json]:
        nonlocal others
        for i, item in enumerate(file.objects()):
            where = f"{file} task {i}"
            task = item if "data" in item else _task_of_flat(item, where)
            image = _image(_object(task, "data"), where)
            for annotation, source in _results(task):
                regions = [
                    each for each in annotation.get("result") or [] if isinstance(each, dict)
                ]
                texts = _texts(regions)
                for region in regions:
                    if not _is_rectangle(region):
                        others += "text" not in _object(region, "value")
                        continue
                    label = {"image": image, "source": source, "label_studio.task": task.get("id")}
                    label["label_studio.score"] = region.get("score", annotation.get("score"))
                    for number, row in _labels(label, region, texts, where):
                        numbers.append(number)
                        yield row
        if others:
            warnings.warn(f"{file}: {others:,} results that are not rectangles are left out",
                          stacklevel=2)  # fmt: skip

    table = rows_table(labels(), file)
    return table.take(np.argsort(numbers, kind="stable"))  # in their order before `write`


def write(table: pa.Table, file: File) -> None:
    """Write one task per image, with its labels as a prediction.

    A region's score is its column ``score``, else the mean of its reliabilities; a task's score is
    the lowest of these, so that sorting by it puts doubtful tasks first. Other columns are kept in
    a region's ``meta``, rows without a box in that of their task.
    """
    order = np.argsort(encode_names(table.column("image")).indices.to_numpy(), kind="stable")
    numbered = zip(order.tolist(), rows_of(table.take(order)), strict=True)
    with file.create() as out:
        separator = "[\n"
        for image, rows in groupby(numbered, key=lambda each: each[1].get("image", "")):
            own = list(rows)
            boxed = [(number, row) for number, row in own if row.get("box")]
            result = [part for number, row in boxed for part in _regions(number, row, file)]
            scores = [part["score"] for part in result if "score" in part]
            prediction: Json = {"model_version": "clipvg", "result": result}
            if scores:
                prediction["score"] = min(scores)
            data = {"image": _SERVED + quote(image)}
            task: Json = {"data": data, "predictions": [prediction]}
            if others := [row for _, row in own if not row.get("box")]:
                task["meta"] = {KEY: others}
            out.write(separator + json.dumps(task, ensure_ascii=False, default=str))
            separator = ",\n"
        out.write("\n]\n" if len(table) else "[]\n")


def _regions(number: int, row: Json, file: File) -> Iterator[Json]:
    """Yield the rectangle of a label, and the text that belongs to it."""
    width, height = _size(row, file)
    known = ("image", "expression", "width", "height")
    others = {name: value for name, value in row.items() if name not in known}
    corners = row["box"]
    if row.get("box_format") == "xywh":
        corners = convert_box(corners, "xyxy")
    box = dict(zip(_SIDES, _percent(corners, width, height), strict=True), rotation=0)
    shared: Json = {
        "id": f"label-{number}",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
    }
    scores = [value for name, value in row.items() if name.startswith(RELIABILITY)]
    if isinstance(given := row.get("score"), float):
        scores = [given]
    if scores:
        shared["score"] = sum(scores) / len(scores)
    value = {**box, "rectanglelabels": ["object"]}
    meta = {KEY: {**others, "number": number}}
    yield {**shared, "from_name": "box", "type": "rectanglelabels", "value": value, "meta": meta}
    value = {**box, "text": [row.get("expression", "")]}
    yield {**shared, "from_name": "expression", "type": "textarea", "value": value}


def _size(row: Json, file: File) -> tuple[int, int]:
    if row.get("width") and row.get("height"):
        return row["width"], row["height"]
    if file.images is None:
        raise InputError(
            f"{file}: Label Studio wants boxes in percent of the image, but the size of "
            f"{row.get('image')!r} is not known; name the folder of images, or add columns width "
            "and height"
        )
    return image_size(Path(file.images) / row.get("image", ""))


def _task_of_flat(item: Json, where: str) -> Json:
    """Convert a JSON-MIN annotation, with rectangles by tag name and without ids, to a task."""
    lists = {name: each for name, each in item.items() if isinstance(each, list)}
    parts = [each for part in lists.values() for each in part if isinstance(each, dict)]
    texts = {name: each for name, each in item.items() if isinstance(each, str)}
    data = {name: text for name, text in texts.items() if name == "image" or _is_image(text)}
    written = [name for name in (*texts, *lists) if name not in (*data, *_FACTS)]
    if loose := [name for name in written if any(isinstance(t, str) for t in item[name])]:
        raise InputError(
            f"{where}: JSON-MIN does not say to which rectangle the text under {loose[0]!r} "
            "belongs; export the project as JSON"
        )
    result = [{**each, "type": "rectanglelabels", "value": each} for each in parts]
    return {"id": item.get("id"), "data": data, "annotations": [{"result": result}]}


def _results(task: Json) -> Iterator[tuple[Json, str | None]]:
    """Yield the annotations of a task, or its predictions if it has none, with their sources."""
    done = task.get("annotations") or task.get("completions") or []
    done = [each for each in done if isinstance(each, dict) and not each.get("was_cancelled")]
    for annotation in done:
        yield annotation, "human"
    for prediction in [] if done else task.get("predictions") or []:
        if isinstance(prediction, dict):
            version = prediction.get("model_version")
            yield prediction, version if isinstance(version, str) and version else None


def _labels(
    label: Json, region: Json, texts: dict[Any, list[str]], where: str
) -> Iterator[tuple[float, Json]]:
    value = _object(region, "value")
    names: list = next((value[name] for name in _RECTANGLES if value.get(name)), [])
    expressions = texts.get(region.get("id")) or [str(name) for name in names] or [""]
    width, height = _whole(region.get("original_width")), _whole(region.get("original_height"))
    if not (width and height):
        raise InputError(
            f"{where}: no original_width and original_height, of which boxes are percent"
        )
    label = {**label, "width": width, "height": height, "box_format": "xyxy"}
    label["box"] = _pixels(value, width, height)
    others = {**_object(_object(region, "meta"), KEY)}
    if others and label["source"] != "human":  # a prediction made by `write`
        label["source"] = others.pop("source", None)
    number = others.pop("number", math.inf)
    written, own = others.pop("box", None), others.pop("box_format", "xyxy")
    if is_box(written) and own in ("xyxy", "xywh"):
        corners = convert_box(written, "xyxy") if own == "xywh" else written
        if _percent(corners, width, height) == [value.get(side) for side in _SIDES]:
            label |= {"box": written, "box_format": own}  # the box was not moved
    for expression in expressions:
        yield number, {**others, **label, "expression": expression}


def _texts(regions: list[Json]) -> dict[Any, list[str]]:
    """Return the texts of each region, by the region's id."""
    found: dict[Any, list[str]] = defaultdict(list)
    for region in regions:
        text = _object(region, "value").get("text")
        for each in text if isinstance(text, list) else [text]:
            if isinstance(each, str) and isinstance(region.get("id"), str):
                found[region["id"]].append(each)
    return found


def _whole(size: object) -> int:
    return int(size) if isinstance(size, int | float) and size > 0 else 0


def _object(item: Json, name: str) -> Json:
    """Return the object of a name; empty if there is none."""
    found = item.get(name)
    return found if isinstance(found, dict) else {}


def _is_rectangle(region: Json) -> bool:
    kind = region.get("type")
    return kind in _RECTANGLES and _object(region, "value").keys() >= {*_SIDES}


def _percent(corners: list[float], width: int, height: int) -> list[float]:
    x1, y1, x2, y2 = corners
    sides = (x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height)
    return [100 * side for side in sides]


def _pixels(value: Json, width: int, height: int) -> Any:
    """Convert a rectangle in percent to corners in pixels; return anything else as it is."""
    sides = [value.get(side) for side in _SIDES]
    if not is_box(sides):
        return sides
    x, y, w, h = (side * size / 100 for side, size in zip(sides, (width, height) * 2, strict=True))
    turn = value.get("rotation") or 0
    angle = math.radians(turn) if isinstance(turn, int | float) else 0.0
    across = (w * math.cos(angle), w * math.sin(angle))  # rotated about the upper left corner
    down = (-h * math.sin(angle), h * math.cos(angle))
    xs = [x, x + across[0], x + down[0], x + across[0] + down[0]]
    ys = [y, y + across[1], y + down[1], y + across[1] + down[1]]
    return [min(xs), min(ys), max(xs), max(ys)]


def _is_image(text: str) -> bool:
    return urlsplit(text).path.lower().endswith(_IMAGES)


def _image(data: Json, where: str) -> str:
    """Return the name of a task's image below the image root, from the URL that served it."""
    texts = [data["image"]] if "image" in data else [*data.values()]
    named = [text for text in texts if isinstance(text, str)]
    found = [text for text in named if _is_image(text)]
    for text in found or [text for text in named if "?d=" in text] or named[:1]:
        parts = urlsplit(text)
        if "d" in (query := parse_qs(parts.query)):
            return query["d"][0]
        if uploaded := _UPLOADED.fullmatch(parts.path):
            return unquote(uploaded[1])
        return unquote(parts.path).lstrip("/") if parts.scheme else text
    raise InputError(f"{where}: no image among its data")


LABEL_STUDIO = Format("label-studio", (".json",), read, matches, write)
