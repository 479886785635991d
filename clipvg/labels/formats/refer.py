"""RefCOCO, RefCOCO+ and RefCOCOg as REFER's ``refs(*).p``, or as a list of records with img_id.

gRefCOCO's ``grefs(unc).json`` has the structure of REFER's files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.formats.file import File, Format, rows_table, warn_left_out
from clipvg.labels.formats.instances import by_id, coco_parts, id_of, image_columns
from clipvg.labels.formats.objects import list_of, value_of
from clipvg.runtime.files import Json
from clipvg.runtime.gate import read_json
from clipvg.runtime.unpickle import read_pickle

INSTANCES = "instances.json"


def read(file: File) -> pa.Table:
    """Read the file together with the ``instances.json`` beside it: one row per sentence.

    The split of each referent is in column ``split``, its ids in ``refer.ref_id`` and
    ``refer.sent_id``. The pickle is read without executing it. Sentences with no target in the
    image, or with several, do not have one box: they are left out, and a warning counts them.
    """
    instances = file.path.with_name(INSTANCES)
    if not instances.is_file():
        raise InputError(f"{file}: its boxes are in {INSTANCES}, which is not beside it")
    content = read_json(instances, "JSON of annotations")
    images, annotations, _ = coco_parts(content, instances)
    things = by_id(annotations, "annotations", ("image_id", "bbox"), instances)
    left_out: Counter[str] = Counter()

    def labels() -> Iterator[Json]:
        for i, ref in enumerate(_referents(file)):
            where = f"{file} referent {i}"
            targets = _targets(ref, where)
            sentences = list_of(ref, "sentences", where)
            if len(targets) != 1:
                left_out["several targets" if targets else "no target"] += len(sentences)
                continue
            thing = _found(things, targets[0], "annotation", where)
            image = image_columns(_found(images, thing.get("image_id"), "image", where), instances)
            for sentence in sentences:
                yield {
                    **image,
                    "expression": text_of(sentence, where),
                    "box": thing.get("bbox"),
                    "box_format": "xywh",
                    "source": "human",
                    "split": value_of(ref, "split", where),
                    "refer.ref_id": ref.get("ref_id"),
                    "refer.sent_id": sentence.get("sent_id"),
                }
        warn_left_out(left_out, file)

    return rows_table(labels(), file)


def _referents(file: File) -> Iterable[Any]:
    if file.ending == ".json":
        return file.objects()
    found = read_pickle(file.path, "a list of referents")
    if not isinstance(found, list | tuple):
        raise InputError(f"{file}: holds a {type(found).__name__}, not REFER's list of referents")
    return found


def _targets(ref: Json, where: str) -> list[object]:
    """Return the ids of the targets; gRefCOCO lists them, with -1 for no target."""
    ids = value_of(ref, "ann_id", where)
    known = ids if isinstance(ids, list | tuple) else [ids]
    return [] if ref.get("no_target") else [number for number in known if number not in (-1, None)]


def _found(entries: dict[str, Json], number: object, noun: str, where: str) -> Json:
    entry = entries.get(id_of(number, where))
    if entry is None:
        raise InputError(f"{where}: {INSTANCES} beside it has no {noun} {number!r}; is it that of "
                         "another data set?")  # fmt: skip
    return entry


def text_of(sentence: object, where: str) -> Any:
    """Return the text of a REFER sentence, as cleaned by the authors if available, else raw."""
    text = sentence.get("sent") if isinstance(sentence, dict) else None
    return text or value_of(sentence, "raw", where)


def read_records(file: File) -> pa.Table:
    """Return one row per record; boxes are xywh, ``img_id`` is a COCO file's stem and a number."""
    rows = (_record(record, f"{file} row {i}") for i, record in enumerate(file.objects()))
    return rows_table(rows, file)


def _record(record: Json, where: str) -> Json:
    return {
        "image": f"{str(value_of(record, 'img_id', where)).rpartition('_')[0]}.jpg",
        "expression": value_of(record, "sents", where),
        "box": value_of(record, "bbox", where),
        "box_format": "xywh",
        "width": record.get("width"),
        "height": record.get("height"),
    }


def _has_keys(*keys: str) -> Callable[[File], bool]:
    return lambda file: file.first.keys() >= {*keys}


REFER = Format("refer", (".p",), read, is_text=False, beside=INSTANCES)
GREFCOCO = Format("grefcoco", (".json",), read, _has_keys("ann_id", "sentences"), beside=INSTANCES)
REFCOCO = Format("refcoco", (".json",), read_records, _has_keys("img_id", "sents", "bbox"))
