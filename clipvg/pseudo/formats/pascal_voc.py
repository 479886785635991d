"""Pascal VOC: one XML file an image. Files with a DTD, which can blow up, are refused."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

from clipvg.errors import InputError
from clipvg.pseudo.formats.catalogue import Catalogue
from clipvg.pseudo.formats.file import File, Row
from clipvg.pseudo.native import read_box
from clipvg.pseudo.observation import Detection, Observation
from clipvg.runtime.gate import read_xml


def read(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Yield the rows of the file; corners stay as written."""
    root = read_xml(file.path, "Pascal VOC")
    image = root.findtext("filename") or ""
    if root.tag != "annotation" or not image.strip():
        raise InputError(f"{file.path}: no <annotation> with a <filename>; is it Pascal VOC?")
    width, height = (_side(root.findtext(f"size/{side}")) for side in ("width", "height"))
    yield Row("size", Observation(image.strip(), width, height))
    for index, entry in enumerate(root.iter("object")):
        where = f"object {index}"
        with file.at(where):
            yield Row(where, Observation(image.strip(), detections=(_read(entry),)))


def _read(entry: ElementTree.Element) -> Detection:
    name = (entry.findtext("name") or "").strip()
    if not name:
        raise InputError("no <name>; the object needs its class")
    sides = ("xmin", "ymin", "xmax", "ymax")
    return Detection(name, read_box([entry.findtext(f"bndbox/{side}") for side in sides]))


def _side(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdigit() and int(text) else None
