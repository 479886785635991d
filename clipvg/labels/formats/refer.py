"""REFER's ``refs(*).p`` of RefCOCO, RefCOCO+ and RefCOCOg, and gRefCOCO's ``grefs(unc).json``."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.formats.coco import by_id, coco_parts, id_of, image_columns
from clipvg.labels.formats.file import File, Format, rows_table, warn_left_out
from clipvg.runtime.files import Json
from clipvg.runtime.gate import read_json
from clipvg.runtime.unpickle import read_pickle


def matches(file: File) -> bool:
    """Whether JSON lists referents, as gRefCOCO's does."""
    return file.first.keys() >= {"ann_id", "sentences"}


def read(file: File) -> pa.Table:
    """The file with ``instances.json`` beside it: one row a sentence.

    The split of each referent is in column ``split``, its ids in ``refer.ref_id`` and
    ``refer.sent_id``. The pickle is read without executing it. Sentences that mean nothing in the
    image, or several things, have no one box: they are left out, which a warning counts.
    """
    refs = file.json if file.ending == ".json" else read_pickle(file.path, "a list of referents")
    instances = file.path.with_name("instances.json")
    if not instances.is_file():
        raise InputError(f"{file}: its boxes are in instances.json, which is not beside it")
    content = read_json(instances, "JSON of annotations")
    images, annotations, _ = coco_parts(content, instances)
    objects = by_id(annotations, "annotations", ("image_id", "bbox"), instances)
    rows: list[Json] = []
    left_out: Counter[str] = Counter()
    try:
        for ref in refs:
            targets = _targets(ref)
            if len(targets) != 1:
                left_out["several targets" if targets else "no target"] += len(ref["sentences"])
                continue
            annotation = objects[id_of(targets[0], file)]
            image = image_columns(images[id_of(annotation["image_id"], file)], instances)
            rows += [
                {
                    **image,
                    "expression": sentence.get("sent") or sentence["raw"],
                    "box": annotation.get("bbox"),
                    "box_format": "xywh",
                    "source": "human",
                    "split": ref["split"],
                    "refer.ref_id": ref["ref_id"],
                    "refer.sent_id": sentence["sent_id"],
                }
                for sentence in ref["sentences"]
            ]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{file}: not a REFER file, or of another instances.json ({error})"
        ) from None
    warn_left_out(left_out, file)
    return rows_table(rows, file)


def _targets(ref: Json) -> list[object]:
    """Ids of the objects that are meant; gRefCOCO lists them, and -1 is none."""
    ids = ref["ann_id"]
    known = ids if isinstance(ids, list | tuple) else [ids]
    return [] if ref.get("no_target") else [number for number in known if number not in (-1, None)]


REFER = Format("refer", (".p",), read, is_text=False)
GREFCOCO = Format("grefcoco", (".json",), read, matches)
