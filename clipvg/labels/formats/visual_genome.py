"""Visual Genome: phrases of regions, from region descriptions and region graphs."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.formats.file import File, Format, rows_table
from clipvg.labels.formats.objects import list_of, value_of
from clipvg.runtime.files import Json

IMAGES = "image_data.json"
_OTHERS = {"objects": "objects", "relationships": "relationships", "attributes": "objects"}


def matches(file: File) -> bool:
    """Return whether a file holds regions of images, or other annotations of Visual Genome."""
    keys = file.first.keys()
    return "regions" in keys or bool("image_id" in keys and keys & {*_OTHERS})


def read(file: File) -> pa.Table:
    """Return one row per region; boxes are xywh, ids of regions are in ``vg.region``.

    With ``image_data.json`` beside the file, images have sizes, and names with their folder
    (``VG_100K/2.jpg``); without it, an image is named by its number (``2.jpg``).
    """
    if "regions" not in file.first:
        raise InputError(
            f"{file}: objects and relations of Visual Genome name no region by a phrase; labels "
            "come from region_descriptions.json or region_graphs.json. clipvg generate makes "
            "labels of scene graphs"
        )
    facts = _images(file)
    rows = (
        row
        for i, image in enumerate(file.objects())
        for row in _labels(image, f"{file} image {i}", facts)
    )
    return rows_table(rows, file)


def _labels(content: Json, where: str, facts: dict[str, Json]) -> Iterator[Json]:
    number = value_of(content, "image_id" if "image_id" in content else "id", where)
    image = facts.get(str(number)) or {"image": f"{number}.jpg"}
    for region in list_of(content, "regions", where):
        yield {
            **image,
            "expression": value_of(region, "phrase", where),
            "box": [value_of(region, side, where) for side in ("x", "y", "width", "height")],
            "box_format": "xywh",
            "source": "human",
            "vg.region": region.get("region_id"),
        }


def _images(file: File) -> dict[str, Json]:
    """Return name and size of images by number; empty without ``image_data.json``."""
    beside = File(file.path.with_name(IMAGES))
    if not beside.path.is_file():
        return {}
    return {
        str(value_of(image, "image_id", f"{beside} image {i}")): {
            "image": "/".join(str(value_of(image, "url", f"{beside} image {i}")).split("/")[-2:]),
            "width": image.get("width"),
            "height": image.get("height"),
        }
        for i, image in enumerate(beside.objects())
    }


VISUAL_GENOME = Format("visual-genome", (".json",), read, matches, beside=IMAGES)
