"""The RefCOCO family on the Hugging Face hub: Parquet of lmms-lab, jxu124 and Ref-L4, and JSON.

The JSON files are the manually reviewed RefCOCO, RefCOCO+ and RefCOCOg that Ref-L4 comes with.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clipvg.errors import InputError
from clipvg.labels.formats.file import File, Format, rows_table
from clipvg.labels.formats.instances import coco_name, id_of, without_target
from clipvg.labels.formats.objects import list_of, value_of
from clipvg.labels.formats.refer import text_of
from clipvg.runtime.files import Json, atomic_path
from clipvg.runtime.gate import reading
from clipvg.runtime.parquet import open_parquet, read_parquet

_LMMS = {"question_id", "answer", "bbox", "file_name"}
_JXU = {"sentences", "bbox", "image_path"}
_REF_L4 = {"caption", "bbox", "file_name", "is_rewrite"}
_SHARD = re.compile(r"(\w+)-\d{5}-of-\d{5}$")
_SIZE = 1000  # rows that are in memory at a time, with their images
QUALITY = "caption_quality"
_LISTS = ("annotation", "annotations")  # keys in reviewed files
_EXPRESSIONS = ("caption", "sent", "expression", "phrase", "raw")


def _matcher(needed: set[str]) -> Callable[[File], bool]:
    return lambda file: needed <= set(_names(file))


def _names(file: File) -> Sequence[str]:
    try:
        names: Sequence[str] = pq.read_schema(file.path).names
        return names
    except (pa.ArrowException, OSError):
        return []  # the reader of Parquet reports what is wrong with it


def read_lmms(file: File) -> pa.Table:
    """Return lmms-lab's RefCOCO, RefCOCO+ and RefCOCOg: one row per answer, boxes xywh.

    The split is taken from the shard's name (``testA-00000-of-00001.parquet``). Images inside the
    file are unpacked to the folder of images, or else to one beside the file, unless they exist.
    """
    shard = _SHARD.match(file.path.stem)
    columns = ["answer", "bbox", "file_name", "question_id"]
    labels: list[Json] = []
    for i, row in enumerate(_rows(file, columns)):
        where = f"{file} row {i}"
        shared = {
            "image": without_target(_text(row["file_name"], where)),
            "box": row["bbox"],
            "box_format": "xywh",
            "source": "human",
            "split": shard.group(1) if shard else None,
            "huggingface.id": row["question_id"],
        }
        answers = row["answer"]
        texts = [answers] if isinstance(answers, str) else list_of(row, "answer", where)
        labels += [{**shared, "expression": text} for text in texts]
    if _unpack(file) and file.images is None:
        for label in labels:
            label["image"] = str(_folder(file) / label["image"])
    return rows_table(labels, file)


def read_jxu(file: File) -> pa.Table:
    """Return jxu124's RefCOCO, RefCOCO+ and RefCOCOg: one row per sentence, boxes xyxy.

    Images are named as in COCO's train2014; their sizes come from ``raw_image_info``.
    """
    wanted = ["sentences", "bbox", "image_path", "split", "raw_image_info", "ref_id"]
    labels: list[Json] = []
    for i, row in enumerate(_rows(file, wanted)):
        where = f"{file} row {i}"
        size = _size(row.get("raw_image_info"))
        labels += [
            {
                "image": _text(row["image_path"], where).rpartition("/")[2],
                "expression": text_of(sentence, where),
                "box": row["bbox"],
                "box_format": "xyxy",
                "width": size.get("width"),
                "height": size.get("height"),
                "source": "human",
                "split": row.get("split"),
                "refer.ref_id": row.get("ref_id"),
                "refer.sent_id": sentence.get("sent_id"),
            }
            for sentence in list_of(row, "sentences", where)
        ]
    return rows_table(labels, file)


def read_ref_l4(file: File) -> pa.Table:
    """Return Ref-L4: one row per caption, boxes xywh; its other columns are kept."""
    names = {"caption": "expression", "file_name": "image", "bbox": "box"}
    with reading(file.path, "Parquet of Ref-L4"):
        table = read_parquet(file.path)
    given = table.column_names
    table = table.rename_columns([names.get(name, name) for name in given])
    return table.append_column("box_format", pa.repeat("xywh", len(table)))


def _rows(file: File, columns: list[str]) -> Iterator[Json]:
    """Yield the rows of some columns, as far as the file has them."""
    with reading(file.path, "Parquet of the Hugging Face hub"):
        there = [name for name in columns if name in _names(file)]
        with open_parquet(file.path) as parquet:
            for batch in parquet.iter_batches(_SIZE, columns=there):
                yield from batch.to_pylist()


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where}: no name of its image")
    return value


def _size(facts: object) -> Json:
    """Return the facts of an image, such as its width and height; empty if not a JSON object."""
    try:
        found = json.loads(facts) if isinstance(facts, str) else facts
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _folder(file: File) -> Path:
    return file.path.with_suffix(".images") if file.images is None else Path(file.images)


def _is_below(place: Path, folder: Path) -> bool:
    """Return whether a file would lie inside a folder, links followed; paths with .. never do."""
    return ".." not in place.parts and place.parent.resolve().is_relative_to(folder.resolve())


def _unpack(file: File) -> bool:
    """Unpack the images in the file to the folder of images; return whether it has any."""
    if "image" not in _names(file):
        return False
    folder, found, written = _folder(file), 0, 0
    for i, row in enumerate(_rows(file, ["image", "file_name"])):
        content = row["image"].get("bytes") if isinstance(row["image"], dict) else None
        place = folder / without_target(_text(row["file_name"], f"{file} row {i}"))
        found += bool(content)
        # Never overwrite anything, and never write outside the folder.
        if content and not os.path.lexists(place) and _is_below(place, folder):
            with atomic_path(place) as temporary:
                temporary.write_bytes(content)
            written += 1
    if written:
        warnings.warn(
            f"{file}: {written:,} images inside it were unpacked to {folder}", stacklevel=2
        )
    return found > 0


def _is_reviewed(file: File) -> bool:
    """Return whether a file's annotations give the quality of their captions."""
    first = (_annotations(file) or [None])[0]
    return isinstance(first, dict) and QUALITY in first


def read_reviewed(file: File) -> pa.Table:
    """Return one row per annotation; boxes are xywh, the verdict is in ``caption_quality``.

    Labels of quality 0 are wrong. A warning counts them, but they are kept, so that they can be
    inspected and left out. The image is the annotation's, else that of its ``image_id``.
    """
    images = {
        id_of(value_of(image, "id", f"{file} image {i}"), file): image
        for i, image in enumerate(file.content.get("images") or [])
    }
    rows = [_reviewed(a, images, f"{file} row {i}") for i, a in enumerate(_annotations(file))]
    if wrong := sum(row[QUALITY] == 0 for row in rows):
        warnings.warn(
            f"{file}: reviewers call {wrong:,} of {len(rows):,} labels wrong ({QUALITY} 0); "
            f"they are kept: leave them out by column {QUALITY!r}",
            stacklevel=2,
        )
    return rows_table(rows, file)


def _annotations(file: File) -> list:
    content = file.content if isinstance(file.content, dict) else {}
    found = next((content[name] for name in _LISTS if name in content), None)
    return found if isinstance(found, list) else []


def _reviewed(annotation: object, images: dict[str, Json], where: str) -> Json:
    box = value_of(annotation, "bbox", where)
    assert isinstance(annotation, dict)
    image = images.get(id_of(annotation.get("image_id"), where), {})
    places = (annotation, image)
    expression = next((p[key] for p in places for key in _EXPRESSIONS if key in p), None)
    name = next((str(p["file_name"]) for p in places if p.get("file_name")), None)
    if name is None and annotation.get("image_id") is not None:
        name = coco_name(annotation["image_id"], where)
    needed = {"caption": expression, "file_name or image_id": name}
    if lacking := [what for what, value in needed.items() if value is None]:
        raise InputError(
            f"{where}: no {' and no '.join(lacking)} in an annotation that has "
            f"{', '.join(map(str, annotation))}"
        )
    return {
        "image": without_target(str(name)),
        "expression": expression,
        "box": box,
        "box_format": "xywh",
        "width": annotation.get("width", image.get("width")),
        "height": annotation.get("height", image.get("height")),
        "source": "human",
        QUALITY: annotation.get(QUALITY),
    }


LMMS = Format("lmms-lab", (".parquet",), read_lmms, _matcher(_LMMS), is_text=False)
JXU = Format("jxu124", (".parquet",), read_jxu, _matcher(_JXU), is_text=False)
REF_L4 = Format("ref-l4", (".parquet",), read_ref_l4, _matcher(_REF_L4), is_text=False)
REVIEWED = Format("refcoco-reviewed", (".json",), read_reviewed, _is_reviewed)
