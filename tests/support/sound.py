"""A valid file of every kind that is read, for tests that tamper with it."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from clipvg.data.image import read_image
from clipvg.labels import ReadOptions, check_labels, read_labels
from clipvg.labels.merge import merge_labels
from clipvg.labels.questions import read_questions
from clipvg.pseudo import read_observations

RECORD = {"image": "a.jpg", "expression": "red dog", "box": [1.0, 2.0, 30.5, 40.0], "weight": 0.5}
COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
    "annotations": [{"id": 7, "image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 20]}],
    "categories": [{"id": 3, "name": "dog"}],
}
XML = """<annotation><filename>a.jpg</filename><size><width>64</width><height>48</height></size>
<object><name>1</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>
</object></annotation>"""


def image_bytes(kind: str, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)).convert(mode).save(
        file, kind
    )
    return file.getvalue()


def torch_bytes(value: object, zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


ROWS = [("a.jpg", "s", np.array([1, 2, 3, 4.0]), "dog", [("r1", ["dog"])])] * 3
BOX = [1.0, 2.0, 30.0, 20.0]
ODVG = {
    "filename": "a.jpg",
    "height": 48,
    "width": 64,
    "grounding": {
        "caption": "a red dog",
        "regions": [
            {"bbox": BOX, "phrase": "dog", "tokens_positive": [[6, 9]], "clipvg": {"box": BOX}}
        ],
    },
}
TALK = {
    "image": "a.jpg",
    "width": 64,
    "height": 48,
    "conversations": [
        {"from": "human", "value": "Find <ref>the dog</ref>"},
        {"from": "gpt", "value": 'Here: <box>(1,2),(30,20)</box> {"bbox_2d": 3}'},
    ],
}
TASK = {
    "id": 1,
    "data": {"image": "/data/local-files/?d=a.jpg"},
    "predictions": [
        {
            "result": [
                {
                    "id": "r",
                    "type": "rectanglelabels",
                    "original_width": 64,
                    "original_height": 48,
                    "value": dict(
                        x=1.0, y=2, width=3, height=4, rotation=5, rectanglelabels=["dog"]
                    ),
                    "meta": {"clipvg": {"box": BOX, "number": 0}},
                },
                {"id": "r", "type": "textarea", "value": {"text": ["red dog"]}},
            ]
        }
    ],
}
SEQTR = {"val": [{"bbox": BOX, "height": 48, "width": 64, "image_id": 9, "expressions": ["dog"]}]}
REGIONS = [
    {
        "image_id": 1,
        "regions": [{"region_id": 2, "x": 1, "y": 2, "width": 3, "height": 4, "phrase": "dog"}],
    }
]
REVIEWED = {
    **COCO,
    "annotations": [{"image_id": 1, "bbox": BOX, "caption": "cup", "caption_quality": 1}],
}
REFS = [{"ann_id": 7, "ref_id": 3, "split": "val", "sentences": [{"sent": "dog", "sent_id": 1}]}]
DETECTION = {"x_min": 1, "y_min": 2, "x_max": 3, "y_max": 4, "class_name": "dog", "image": "a.jpg"}
SCENE = [
    {
        "image_id": "a",
        "objects": [{"x": 1, "y": 2, "w": 3, "h": 4, "names": ["dog"]}],
        "relationships": [
            {
                "predicate": "on",
                "subject": {"x": 1, "y": 2, "w": 3, "h": 4, "name": "dog"},
                "object": {"x": 1, "y": 2, "w": 3, "h": 4, "names": ["mat"]},
            }
        ],
    }
]
LMMS = {
    "question_id": "1",
    "image": {"bytes": b"JPEG"},
    "answer": ["dog"],
    "bbox": BOX,
    "file_name": "COCO_train2014_000000000009_3.jpg",
}
JXU = {
    "sentences": [{"raw": "dog", "sent_id": 1}],
    "bbox": BOX,
    "image_path": "coco/a.jpg",
    "split": "val",
    "raw_image_info": '{"width": 64, "height": 48}',
    "ref_id": 3,
}
REF_L4 = {"caption": "dog", "bbox": BOX, "file_name": "a.jpg", "is_rewrite": False}
SEEN = {"image": "a.jpg", "width": 64, "height": 48, "captions": ["a dog"],
        "detections": [{"class": "dog", "box": [1, 2, 3, 4], "score": 0.5}],
        "candidates": [{"source": "s", "expression": "dog", "box": [1, 2, 3, 4]}]}  # fmt: skip


SCORED = {
    **RECORD,
    "width": 64,
    "height": 48,
    "coco.id": 7,
    "reliability.m": 0.5,
    "note": [1],
    "pth.segment": '"1.pth"',
    "pth.attributes": '[["r1", ["dog"]]]',
    "pth.extra": "[]",
}
WRITTEN: list[tuple[str, dict[str, str]]] = [
    ("csv", {}), ("json", {}), ("jsonl.gz", {}), ("parquet", {}), ("jsonl", {"format": "odvg"}),
    ("json", {"format": "coco"}), ("json", {"format": "label-studio"}), ("pth", {"layout": "unc"}),
]  # fmt: skip


def parquet_bytes(*rows: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([*rows]), file)
    return file.getvalue()


UNIT = ReadOptions(box_unit="thousand")


def look(path: Path) -> None:
    labels = read_labels(
        path, on_error="keep", images=path.parent, options=ReadOptions(allow_outside_root=True)
    )
    check_labels(labels)
    merge_labels([labels, labels], ["a", "b"])


def rewrite(path: Path) -> None:
    labels = read_labels(path, on_error="keep")
    ending, options = WRITTEN[path.stat().st_size % len(WRITTEN)]
    labels.write(path.with_name(f"again.{ending}"), **options)


def ask(path: Path) -> None:
    read_questions(path, images=path.parent)


def observe(path: Path) -> None:
    read_observations(path, images=path.parent)


def read_flickr(path: Path) -> None:
    read_labels(path.parents[1])


def read_referents(path: Path) -> None:
    read_labels(path.with_name("refs(unc).p"))


FILES: dict[str, tuple[bytes, Callable[[Path], object]]] = {  # content and reader by name
    "labels.jsonl": (json.dumps(RECORD).encode() + b"\n", read_labels),
    "labels.csv": (b"image,expression,x1,y1,x2,y2,weight\na.jpg,dog,1,2,3,4,1\n", read_labels),
    "labels.json": (json.dumps(COCO).encode(), read_labels),
    "records.json": (json.dumps([RECORD]).encode(), read_labels),
    "unc_zip.pth": (torch_bytes(ROWS, True), read_labels),
    "unc_legacy.pth": (torch_bytes(ROWS, False), read_labels),
    "unc_pickle.pth": (pickle.dumps(ROWS, 4), read_labels),
    "flickr/Annotations/1.xml": (XML.encode(), read_flickr),
    "flickr/Sentences/1.txt": (b"[/EN#1/people A man] and [/EN#2/x a dog] .", read_flickr),
    "odvg.jsonl": (json.dumps(ODVG).encode(), read_labels),
    "vlm.jsonl": (json.dumps(TALK).encode(), partial(read_labels, options=UNIT)),
    "label_studio.json": (json.dumps([TASK]).encode(), read_labels),
    "refcoco.json": (json.dumps(SEQTR).encode(), read_labels),
    "regions.json": (json.dumps(REGIONS).encode(), read_labels),
    "reviewed.json": (json.dumps(REVIEWED).encode(), read_labels),
    "refer/refs(unc).p": (pickle.dumps(REFS, 2), read_labels),
    "refer/grefs(unc).json": (json.dumps(REFS).encode(), read_labels),
    "refer/instances.json": (json.dumps(COCO).encode(), read_referents),
    "labels.csv.gz": (b"image,expression,x1,y1,x2,y2\na.jpg,dog,1,2,3,4\n", read_labels),
    "labels.jsonl.gz": (json.dumps(RECORD).encode(), look),
    "labels.parquet": (parquet_bytes(RECORD, RECORD), read_labels),
    "lmms.parquet": (parquet_bytes(LMMS), read_labels),
    "jxu.parquet": (parquet_bytes(JXU), read_labels),
    "ref_l4.parquet": (parquet_bytes(REF_L4), read_labels),
    "checked.jsonl": (json.dumps(RECORD).encode(), look),
    "written.jsonl": (json.dumps(SCORED).encode(), rewrite),
    "questions.jsonl": (json.dumps(RECORD).encode(), ask),
    "detections.jsonl": (json.dumps(SEEN).encode(), read_observations),
    "instances.json": (json.dumps(COCO).encode(), read_observations),
    "scene.json": (json.dumps(SCENE).encode(), observe),
    "sink.json": (json.dumps([DETECTION]).encode(), observe),
    "detections.pth": (torch_bytes({"a.jpg": [["dog", [1, 2, 3, 4, 0.5]]]}, True), observe),
    "yolo/a.jpg": (image_bytes("JPEG"), lambda path: observe(path.with_name("a.txt"))),
    "yolo/a.txt": (b"0 0.5 0.5 0.2 0.2 0.9\n1 0.1 0.4 0.1 0.4\n", observe),
    "yolo/a.json": (json.dumps(
        [{"name": "dog", "confidence": 0.5, "box": {"x1": 1, "y1": 2, "x2": 3, "y2": 4}}]
    ).encode(), observe),
    "yolo/data.yaml": (b"names: {0: dog, 1: cat}\n",
                       lambda path: observe(path.with_name("a.txt"))),
    "voc.xml": (XML.encode(), read_observations),
    "image.png": (image_bytes("PNG", "I;16"), read_image),
    "image.jpg": (image_bytes("JPEG"), read_image),
    "image.gif": (image_bytes("GIF", "P"), read_image),
}  # fmt: skip
