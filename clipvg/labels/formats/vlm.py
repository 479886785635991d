"""Instruction data for vision-language models, with boxes in the text of answers or beside it.

Supported are conversations (``from``/``value``) and messages (``role``/``content``), both with
images beside them, ms-swift's ``objects``, and records of Qwen-VL's evaluation (``sent``,
``bbox``). Expressions are marked by a tag (``<ref>``, ``<p>``, ``<|object_ref_start|>``), a label
in JSON, or a question that ends with "... this sentence describes: EXPRESSION".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.formats.file import LINES, File, Format, rows_table, warn_left_out
from clipvg.labels.formats.objects import is_box, list_of, value_of
from clipvg.runtime.files import Json

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"  # one way to match each: linear time
_FOUR = (
    rf"[\[(]\s*{_NUMBER}\s*,\s*{_NUMBER}\s*(?:\)\s*,\s*\(|,)\s*{_NUMBER}\s*,\s*{_NUMBER}\s*[\])]"
)
_PARTS = re.compile(
    r"<ref>(?P<ref>[^<]*)</ref>|<p>(?P<p>[^<]*)</p>"
    r"|<\|object_ref_start\|>(?P<object>[^<]*)<\|object_ref_end\|>"
    r"|<box>(?P<box>[^<]*)</box>|<\|box_start\|>(?P<start>[^<]*)<\|box_end\|>"
    rf"|(?P<bare>{_FOUR})"
)
_IN_JSON = re.compile(r"\{[^{}]*\}")
_ASKED = "sentence describes:"
_TALKS = {"conversations": ("from", "value"), "messages": ("role", "content")}
_ANSWERS = ("gpt", "assistant", "model")
_UNITS = {"real": "pixel", "norm1": "unit", "norm1000": "thousand"}  # of ms-swift

Found = tuple[str | None, list[float]]  # an expression, None if not given; four numbers
Counts = Counter[str]


def matches(file: File) -> bool:
    """Return whether a file holds conversations, messages or records with ``sent`` and ``bbox``."""
    keys = file.first.keys()
    return bool(keys & {*_TALKS}) or keys >= {"image", "sent", "bbox"}


def read(file: File) -> pa.Table:
    """Return one row per box, xyxy in the unit given by ``box_unit`` or ms-swift's ``bbox_type``.

    Answers without a box are no labels. Expressions with several boxes, and rows with no or several
    images, are left out, and a warning counts them.

    Raises:
        InputError: no unit is given, or a box has no expression.
    """
    left_out: Counts = Counter()
    rows: list[Json] = []
    for i, item in enumerate(file.objects()):
        rows += _labels(item, file, f"{file} row {i}", left_out)
    warn_left_out(left_out, file)
    return rows_table(rows, file)


def _labels(item: Json, file: File, where: str, left_out: Counts) -> Iterator[Json]:
    images = [image for key in ("image", "images") for image in _listed(item.get(key))]
    found = list(_found(item, where, left_out))
    if found and len(images) != 1:
        left_out["several images" if images else "no image"] += len(found)
        return
    marked = item.get("objects")
    said = marked.get("bbox_type") if isinstance(marked, dict) else None
    unit = file.box_unit or _UNITS.get(str(said))
    for expression, box in found:
        if unit is None:
            raise InputError(
                f"{where}: does not say in which unit its boxes are; box {box} may be pixels, 0 "
                "to 1 or 0 to 1000. Say box_unit='pixel', box_unit='unit' or box_unit='thousand'"
            )
        if not expression:
            raise InputError(
                f"{where}: nothing says what box {box} is the answer to; mark the expression as "
                "<ref>EXPRESSION</ref> in the question or before the box"
            )
        yield {
            "image": value_of(images[0], "path", where)
            if isinstance(images[0], dict)
            else images[0],
            "expression": expression,
            "box": box,
            "box_format": "xyxy",
            "box_unit": unit,
            "width": _side(item.get("width")),
            "height": _side(item.get("height")),
            "vlm.id": None if item.get("id") is None else str(item["id"]),
        }


def _found(item: Json, where: str, left_out: Counts) -> Iterator[Found]:
    if "sent" in item:
        yield item["sent"], value_of(item, "bbox", where)
        return
    if "objects" in item:
        yield from _objects(item["objects"], where, left_out)
        return
    key = next((key for key in _TALKS if key in item), "conversations")
    who, what = _TALKS[key]
    question = ""
    for turn in list_of(item, key, where):
        text = value_of(turn, what, where)
        if not isinstance(text, str):  # a list of parts: text and images
            parts = [part for part in _listed(text) if isinstance(part, dict)]
            text = " ".join(str(part.get("text", "")) for part in parts)
        if value_of(turn, who, where) in _ANSWERS:
            yield from _answers(question, text, left_out)
        else:
            question = text


def _objects(objects: object, where: str, left_out: Counts) -> Iterator[Found]:
    """Yield ms-swift's expressions and boxes; leave them out unless there are as many of both."""
    boxes = list_of(objects, "bbox", where)
    names = list_of({"ref": [], **objects}, "ref", where) if isinstance(objects, dict) else []
    if len(names) == len(boxes):
        yield from zip(names, boxes, strict=True)
    else:
        left_out["several targets"] += max(1, len(names))


def _answers(question: str, answer: str, left_out: Counts) -> Iterator[Found]:
    """Yield an answer's boxes, each with the expression before it, else that of the question."""
    told = question.rpartition(_ASKED)[2].strip() if _ASKED in question else None
    marked = [_expression(part) for part in _PARTS.finditer(question)]
    expression = next((text for text in marked if text), told)
    boxes: dict[str | None, list[list[float]]] = {}
    labelled, rest = _in_json(answer)
    for label, box in labelled:
        asked = expression if len(labelled) == 1 else None
        boxes.setdefault(asked or label, []).append(box)
    for part in _PARTS.finditer(rest):
        if (text := _expression(part)) is None:
            boxes.setdefault(expression, []).extend(_fours(part))
        else:
            expression = text
    for text, own in boxes.items():
        if len(own) == 1:
            yield text, own[0]
        else:
            left_out["several targets" if own else "no target"] += 1


def boxes_in(answer: str) -> list[list[float]]:
    """Return all boxes of an answer, those in JSON first, each four numbers as written."""
    labelled, rest = _in_json(answer)
    found = [box for _, box in labelled]
    for part in _PARTS.finditer(rest):
        if _expression(part) is None:
            found += [box for box in _fours(part) if len(box) == 4]
    return found


def _fours(part: re.Match[str]) -> list[list[float]]:
    numbers = [float(number) for number in re.findall(_NUMBER, part[part.lastgroup or 0])]
    return [numbers[k : k + 4] for k in range(0, len(numbers), 4)]


def _in_json(answer: str) -> tuple[list[tuple[str, list[float]]], str]:
    """Return label and box of each JSON object in an answer, and the answer without them."""
    found: list[tuple[str, list[float]]] = []

    def take(part: re.Match[str]) -> str:
        try:
            item = json.loads(part[0])
        except (ValueError, RecursionError):
            return part[0]
        box = next((item[key] for key in item if key.startswith("bbox")), None)
        if not (is_box(box) and isinstance(item.get("label"), str)):
            return part[0]
        found.append((item["label"].strip(), box))
        return ""

    return found, _IN_JSON.sub(take, answer)


def _expression(part: re.Match[str]) -> str | None:
    texts = (part[name] for name in ("ref", "p", "object"))
    return next((text.strip() for text in texts if text is not None), None)


def _listed(value: object) -> list:
    return [] if value is None else value if isinstance(value, list) else [value]


def _side(value: object) -> object:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


VLM = Format("vlm", (*LINES, ".json"), read, matches)
