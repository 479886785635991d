"""Readers of observation files, one function per format.

A reader yields the rows of a file, each about one image; rows about the same image are joined
afterwards. A new format is a reader here and its line in `KINDS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from xml.etree import ElementTree

from clipvg.errors import InputError
from clipvg.pseudo.formats.file import (
    Catalogue,
    File,
    KnownImage,
    Row,
    box_from_coco,
    box_from_sides,
    first_object,
    image_number,
)
from clipvg.pseudo.observation import (
    Box,
    Detection,
    Observation,
    Relation,
    observation_from_dict,
    read_box,
    read_name,
    read_score,
)
from clipvg.pseudo.template.names import attribute_words
from clipvg.runtime.files import Json
from clipvg.runtime.gate import read_xml
from clipvg.runtime.unpickle import read_pickle

Reader = Callable[[File, Catalogue], Iterator[Row]]

_IMAGE_KEYS = ("image", "image_name", "image_path", "file_name", "filename")


def find_reader(file: File) -> Reader:
    """Return the reader of a file; raise InputError if there is none."""
    for matches, reader in KINDS:
        if matches(file):
            return reader
    raise InputError(
        f"{file.path}: no observations of a known kind; docs/pseudo-labels.md shows the kinds, and "
        "the native one is a JSON object an image: "
        '{"image": "a.jpg", "detections": [{"class": "dog", "box": [x1, y1, x2, y2]}]}'
    )


def _read_native(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Read clipvg's own JSONL, one image per line; Parquet of the same is read as a table."""
    for number, line in file.lines():
        where = f"line {number}"
        try:
            data = json.loads(line)
        except json.JSONDecodeError as error:
            file.fail(where, f"not JSON ({error.msg}); write one object a line")
        with file.at(where):
            yield Row(where, observation_from_dict(data))


def _is_coco(file: File) -> bool:
    data = file.json
    if isinstance(data, dict) and "images" in data:
        return "categories" in data or "caption" in first_object(data.get("annotations"))
    keys = file.first.keys()
    return {"bbox", "category_id"} <= keys or {"caption", "image_id"} <= keys


def _read_coco(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Read COCO annotations (boxes or captions with their images) and results (numbers only).

    Annotations are an object with ``images``, ``annotations`` and, for boxes, ``categories``;
    results are a list of ``image_id`` with ``category_id``, ``bbox`` (xywh) and ``score``, or with
    ``caption``. Crowds are skipped.
    """
    if isinstance(file.json, list):
        yield from file.rows("result", file.json, lambda item: _coco_item(item, catalogue))
        return
    own = Catalogue(catalogue.root)
    own.add_coco(file.json, file.path)
    if "categories" in file.json:
        for known in own.images.values():
            yield Row("images", Observation(*known))
    for where, item in file.objects("annotation", file.json.get("annotations") or []):
        if not item.get("iscrowd"):
            with file.at(where):
                yield Row(where, _coco_item(item, own))


def _coco_item(item: Json, catalogue: Catalogue) -> Observation:
    if isinstance(item.get("file_name"), str):  # as ultralytics writes them
        known = KnownImage(item["file_name"], None, None)
    else:
        known = catalogue.image_of(image_number(item))
    if "caption" in item:
        return Observation(*known, captions=(read_name(item, "caption"),))
    name = catalogue.class_of(item.get("category_id"))
    found = Detection(name, box_from_coco(item.get("bbox")), read_score(item.get("score", 1.0)))
    return Observation(*known, (found,))


def _read_genome(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Read Visual Genome: boxes of objects.json or attributes.json, or relationships.json."""
    for where, item in file.objects("entry", file.json):
        with file.at(where):  # the image of that number below the image root, else NUMBER.jpg
            number = image_number(item)
            image = catalogue.find(number) if catalogue.root is not None else f"{number}.jpg"
        yield Row(where, Observation(image))
        entries = item.get("objects") or item.get("attributes") or []
        for place, entry in file.objects(f"{where}, object", entries):
            with file.at(place):
                yield Row(place, Observation(image, detections=(_genome_detection(entry),)))
        edges = item.get("relationships") or []
        for place, edge in file.objects(f"{where}, relationship", edges):
            with file.at(place):
                yield Row(place, Observation(image, relations=(_genome_relation(edge),)))


def _genome_detection(entry: Json) -> Detection:
    given = entry.get("attributes") or []
    if not isinstance(given, list):
        raise InputError("'attributes' is not a list of words")
    name, box = _genome_object(entry)
    return Detection(name, box, 1.0, {str(word).strip().lower(): 1.0 for word in given})


def _genome_relation(edge: Json) -> Relation:
    subject, subject_box = _genome_object(edge.get("subject"))
    other, object_box = _genome_object(edge.get("object"))
    predicate = " ".join(read_name(edge, "predicate").lower().split())
    return Relation(subject, predicate, other, subject_box, object_box)


def _genome_object(entry: object) -> tuple[str, Box]:
    """Return the name and the box of an object."""
    if not isinstance(entry, dict):
        raise InputError("not an object; is the file of another kind?")
    names = entry.get("names") or [entry.get("name")]
    if not isinstance(names, list) or not isinstance(names[0], str) or not names[0].strip():
        raise InputError("no 'names' or 'name'; the object needs one")
    sides = entry.get("w", entry.get("width")), entry.get("h", entry.get("height"))
    return names[0].strip().lower(), box_from_sides(entry.get("x"), entry.get("y"), *sides)


def _read_voc(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Read Pascal VOC, one XML file per image; corners are taken as written."""
    root = read_xml(file.path, "Pascal VOC")
    image = root.findtext("filename") or ""
    if root.tag != "annotation" or not image.strip():
        raise InputError(f"{file.path}: no <annotation> with a <filename>; is it Pascal VOC?")
    width, height = (_voc_side(root.findtext(f"size/{side}")) for side in ("width", "height"))
    yield Row("size", Observation(image.strip(), width, height))
    for index, entry in enumerate(root.iter("object")):
        where = f"object {index}"
        with file.at(where):
            yield Row(where, Observation(image.strip(), detections=(_voc_object(entry),)))


def _voc_object(entry: ElementTree.Element) -> Detection:
    name = (entry.findtext("name") or "").strip()
    if not name:
        raise InputError("no <name>; the object needs its class")
    sides = ("xmin", "ymin", "xmax", "ymax")
    return Detection(name, read_box([entry.findtext(f"bndbox/{side}") for side in sides]))


def _voc_side(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdigit() and int(text) else None


def _read_yolo(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Read YOLO text, one file per image, named after it: class, centre, sides (shares), score."""
    with file.at("image"):
        image = catalogue.find(file.path.stem)
        size = catalogue.size(image)
    yield Row("image", Observation(image, *size))
    for number, line in file.lines():
        where = f"line {number}"
        with file.at(where):
            found = _yolo_line(line.split(), catalogue, size)
        yield Row(where, Observation(image, detections=(found,)))


def _yolo_line(words: list[str], catalogue: Catalogue, size: tuple[int, int]) -> Detection:
    if len(words) not in (5, 6):
        raise InputError(
            f"{len(words)} words; expected class, x, y, width, height and perhaps a score"
        )
    x, y, across, down = read_box(words[1:5])
    width, height = size
    box = (
        (x - across / 2) * width,
        (y - down / 2) * height,
        (x + across / 2) * width,
        (y + down / 2) * height,
    )
    score = read_score(words[5]) if len(words) == 6 else 1.0
    return Detection(catalogue.class_of(words[0]), box, score)


def _read_pseudo_q(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Read Pseudo-Q's detections: image -> [class, [x1, y1, x2, y2, score], attributes].

    Entries with the 400 attribute probabilities come from its second detector. Only plain data is
    unpickled; no code in the file is run.
    """
    data = read_pickle(file.path, "detections by image")
    if not isinstance(data, dict):
        raise InputError(
            f"{file.path}: holds a {type(data).__name__}, not detections by image; is it a file "
            "of labels?"
        )
    for image, entries in data.items():
        yield Row(f"image {image!r}", Observation(str(image)))
        if not isinstance(entries, list | tuple):
            file.fail(f"image {image!r}", "not a list of detections; is it another kind of file?")
        for index, entry in enumerate(entries):
            where = f"image {image!r}, entry {index}"
            with file.at(where):
                yield Row(where, _pseudo_q_entry(str(image), entry))


def _pseudo_q_entry(image: str, entry: object) -> Observation:
    if not isinstance(entry, list | tuple) or len(entry) not in (2, 3):
        raise InputError("not [class, [x1, y1, x2, y2, score], attributes]")
    name, numbers = entry[0], entry[1]
    if not isinstance(name, str) or not isinstance(numbers, list | tuple) or len(numbers) != 5:
        raise InputError("not [class, [x1, y1, x2, y2, score], attributes]")
    box, score = read_box(numbers[:4]), read_score(numbers[4])
    if len(entry) == 2:
        return Observation(image, detections=(Detection(name, box, score),))
    words = attribute_words()
    if not isinstance(entry[2], list) or len(entry[2]) != len(words):
        raise InputError(f"not {len(words)} probabilities of attributes")
    likely = {word: p for word, p in zip(words, entry[2], strict=True) if p > 0}
    return Observation(image, attribute_detections=(Detection(name, box, score, likely),))


def _read_supervision(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Read the JSON of supervision's JSONSink: a list of boxes with x_min, y_min, x_max, y_max."""
    return file.rows("entry", file.json, lambda item: _supervision_item(item, catalogue))


def _supervision_item(item: Json, catalogue: Catalogue) -> Observation:
    image = next((item[key] for key in _IMAGE_KEYS if isinstance(item.get(key), str)), None)
    if image is None:
        raise InputError(
            "no image; write it with sink.append(detections, custom_data={'image': name})"
        )
    box = read_box([item.get(side) for side in ("x_min", "y_min", "x_max", "y_max")])
    name = item.get("class_name") or catalogue.class_of(item.get("class_id"))
    score = item.get("confidence")
    found = Detection(str(name), box, 1.0 if score in (None, "") else read_score(score))
    return Observation(image, detections=(found,))


def _read_ultralytics(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Read the JSON of ultralytics' ``result.to_json()``, one file per image, named after it."""
    with file.at("image"):
        image = catalogue.find(file.path.stem)
    yield Row("image", Observation(image))
    yield from file.rows(
        "entry", file.json, lambda item: Observation(image, detections=(_ultralytics_item(item),))
    )


def _ultralytics_item(item: Json) -> Detection:
    sides = item.get("box")
    if not isinstance(sides, dict):
        raise InputError("no 'box' with x1, y1, x2, y2; are the boxes turned ones?")
    box = read_box([sides.get(side) for side in ("x1", "y1", "x2", "y2")])
    return Detection(read_name(item, "name"), box, read_score(item.get("confidence")))


_GENOME = {"objects", "attributes", "relationships"}
# Tests of files and the reader for each; the first test that holds decides.
KINDS: tuple[tuple[Callable[[File], bool], Reader], ...] = (
    (lambda file: file.suffix == ".jsonl", _read_native),
    (_is_coco, _read_coco),
    (lambda file: "image_id" in file.first and bool(_GENOME & file.first.keys()), _read_genome),
    (lambda file: file.suffix == ".xml", _read_voc),
    (lambda file: file.suffix == ".txt", _read_yolo),
    (lambda file: file.suffix in (".pth", ".npy", ".pkl"), _read_pseudo_q),
    (lambda file: "x_min" in file.first, _read_supervision),
    # an empty list is an image without detections
    (
        lambda file: file.json == [] or {"name", "confidence", "box"} <= {*file.first},
        _read_ultralytics,
    ),
)
