"""Visual Genome: the phrases of regions, from region descriptions and region graphs."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.formats.file import File, Format, rows_table
from clipvg.runtime.files import Json
from clipvg.runtime.gate import read_json

_OTHERS = {"objects": "objects", "relationships": "relationships", "attributes": "objects"}


def matches(file: File) -> bool:
    """Whether a file holds regions, or what else Visual Genome says, of images."""
    keys = file.first.keys()
    return "regions" in keys or bool("image_id" in keys and keys & {*_OTHERS})


def read(file: File) -> pa.Table:
    """One row a region; boxes are xywh, regions in ``vg.region``.

    With ``image_data.json`` beside the file images have their sizes and the folder they are in
    (``VG_100K/2.jpg``); without, the number of the image names it (``2.jpg``).
    """
    if "regions" not in file.first:
        raise InputError(
            f"{file}: objects and relations of Visual Genome name no region by a phrase; labels "
            "come from region_descriptions.json or region_graphs.json. clipvg generate makes "
            "labels of scene graphs"
        )
    facts = _images(file)
    return rows_table([row for i in range(len(file.json)) for row in _labels(file, i, facts)], file)


def _labels(file: File, i: int, facts: dict[object, Json]) -> Iterator[Json]:
    content = file.json[i]
    try:
        number = content["image_id"] if "image_id" in content else content["id"]
        image = facts.get(number) or {"image": f"{number}.jpg"}
        for region in content["regions"]:
            yield {
                **image,
                "expression": region["phrase"],
                "box": [region[side] for side in ("x", "y", "width", "height")],
                "box_format": "xywh",
                "source": "human",
                "vg.region": region["region_id"],
            }
    except (KeyError, TypeError) as error:
        raise InputError(f"{file} row {i}: not regions of Visual Genome ({error})") from None


def _images(file: File) -> dict[object, Json]:
    """Name and size by number."""
    beside = file.path.with_name("image_data.json")
    if not beside.is_file():
        return {}
    try:
        return {
            image["image_id"]: {
                "image": "/".join(image["url"].split("/")[-2:]),
                "width": image["width"],
                "height": image["height"],
            }
            for image in read_json(beside, "the images of Visual Genome")
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{beside}: not the images of Visual Genome ({error})") from None


VISUAL_GENOME = Format("visual-genome", (".json",), read, matches)
