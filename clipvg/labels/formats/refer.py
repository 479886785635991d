"""REFER's ``refs(*).p``: the sentences of RefCOCO, RefCOCO+ and RefCOCOg."""

from __future__ import annotations

import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.formats.coco import by_id, coco_parts, id_of, image_columns
from clipvg.labels.formats.file import File, Format, rows_table
from clipvg.runtime.files import Json
from clipvg.runtime.gate import read_json
from clipvg.runtime.unpickle import read_pickle


def read(file: File) -> pa.Table:
    """The file with ``instances.json`` beside it: one row a sentence.

    The split of each referent is in column ``split``, its ids in ``refer.ref_id`` and
    ``refer.sent_id``. The pickle is read without executing it.
    """
    refs = read_pickle(file.path, "a list of referents")
    instances = file.path.with_name("instances.json")
    if not instances.is_file():
        raise InputError(f"{file}: its boxes are in instances.json, which is not beside it")
    content = read_json(instances, "JSON of annotations")
    images, annotations, _ = coco_parts(content, instances)
    objects = by_id(annotations, "annotations", ("image_id", "bbox"), instances)
    rows: list[Json] = []
    try:
        for ref in refs:
            annotation = objects[id_of(ref["ann_id"], file)]
            image = image_columns(images[id_of(annotation["image_id"], file)], instances)
            for sentence in ref["sentences"]:
                rows.append(
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
                )
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{file}: not a REFER file, or of another instances.json ({error})"
        ) from None
    return rows_table(rows, file)


REFER = Format("refer", (".p",), read, is_text=False)
