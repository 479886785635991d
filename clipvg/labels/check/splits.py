"""Check labels against published counts of their data set, and for images shared by two files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from clipvg.labels.box_column import as_mask
from clipvg.labels.check.finding import SEVERITIES, Finding
from clipvg.labels.check.names import plain_names
from clipvg.labels.splits import SPLIT
from clipvg.labels.table import LabelTable

# Numbers of expressions and images by data set and split, as published by authors and users.
_COUNTS: dict[str, dict[str, tuple[int, int | None]]] = {
    "unc": {"train": (120_624, 16_994), "val": (10_834, 1_500), "testA": (5_657, 750),
            "testB": (5_095, 750)},
    "unc+": {"train": (120_191, 16_992), "val": (10_758, 1_500), "testA": (5_726, 750),
             "testB": (4_889, 750)},
    "gref": {"train": (85_474, 24_698), "val": (9_536, 4_650)},
    "gref_umd": {"train": (80_512, 21_899), "val": (4_896, 1_300), "test": (9_602, 2_600)},
    "referit": {"train": (54_127, 8_994), "val": (5_842, None), "test": (60_103, None)},
    "flickr": {"train": (427_193, 29_779)},
}  # fmt: skip
_TITLES = {
    "unc": "RefCOCO", "unc+": "RefCOCO+", "gref": "RefCOCOg (google)",
    "gref_umd": "RefCOCOg (umd)", "referit": "ReferItGame", "flickr": "Flickr30k Entities",
}  # fmt: skip
_SPLIT = r"[_\-](train|val|testA|testB|test)$"
_NAMES = (  # of files without ending, with their folder if it matters
    (r"^(?:\d+_)?(unc\+|unc|gref_umd|gref|referit|flickr)" + _SPLIT, None),
    (r"(?:^|/)refcoco\+/refs\(unc\)$", ("unc+",)),
    (r"(?:^|/)refcoco/refs\(unc\)$", ("unc",)),
    (r"(?:^|/)refcocog/refs\(google\)$", ("gref",)),
    (r"(?:^|/)refcocog/refs\(umd\)$", ("gref_umd",)),
    (r"refcoco(?:\+|_?plus)" + _SPLIT, ("unc+",)),
    (r"refcocog[_\-]?umd" + _SPLIT, ("gref_umd",)),
    (r"refcocog[_\-]?google" + _SPLIT, ("gref",)),
    (r"refcocog" + _SPLIT, ("gref_umd", "gref")),
    (r"refcoco" + _SPLIT, ("unc",)),
)
_COCO_NAME = r"^(?:.*/)?(?:COCO_(?:train|val|test)\d{4}_)?(\d{12})(?:\.[A-Za-z]+)?$"


def find_count_faults(labels: LabelTable, path: str) -> Iterator[Finding]:
    """Yield findings on splits of a known data set whose counts differ from the published ones.

    The data set is recognised by the file's name, and so is the split if no column gives it.
    """
    data_sets, named_split = _data_sets(path)
    for split, (count, images) in count_by_split(labels).items():
        known = [(each, _COUNTS[each].get(split or named_split)) for each in data_sets]
        published = [(name, counts) for name, counts in known if counts]
        if not published or any(_equal((count, images), counts) for _, counts in published):
            continue
        expected = " or ".join(_described(name, *counts) for name, counts in published)
        title = (
            f"other counts than published: {count:,} expressions on {images:,} images in "
            f"{Path(path).name}, where split {split or named_split} of {expected}"
        )
        remedy = "Take the whole file to compare with published numbers; a part is fine otherwise."
        yield Finding("count", SEVERITIES["count"], title, remedy, count)


def _equal(given: tuple[int, int], published: tuple[int, int | None]) -> bool:
    return given[0] == published[0] and published[1] in (None, given[1])


def _described(name: str, expressions: int, images: int | None) -> str:
    on = f" on {images:,} images" if images else ""
    return f"{_TITLES[name]} has {expressions:,}{on}"


def _data_sets(path: str) -> tuple[tuple[str, ...], str]:
    name = "/".join(Path(path).parts[-2:]).removesuffix(".gz")
    name = re.sub(r"\.(pth|p|json|jsonl|csv|tsv|parquet)$", "", name)
    for pattern, data_sets in _NAMES:
        subject = name if pattern.startswith("(?:^|/)") else name.rpartition("/")[2]
        if found := re.search(pattern, subject):
            groups = found.groups()
            return data_sets or (groups[0],), groups[-1] if groups else ""
    return (), ""


def count_by_split(labels: LabelTable) -> dict[str, tuple[int, int]]:
    """Return the numbers of labels and images by split; "" stands for no split."""
    if SPLIT not in labels.table.column_names:
        return {"": (len(labels), labels.num_images)}
    return count_by(labels, pc.fill_null(labels.table.column(SPLIT).cast(pa.string()), ""))


def count_by(labels: LabelTable, names: pa.Array | pa.ChunkedArray) -> dict[str, tuple[int, int]]:
    """Return the numbers of labels and images for each distinct name, given one per label."""
    image = pa.array(labels.distinct_images()[1])
    grouped = pa.table({"name": names, "image": image}).group_by("name")
    counted = grouped.aggregate([("image", "count"), ("image", "count_distinct")])
    columns = (counted["name"], counted["image_count"], counted["image_count_distinct"])
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return {name: (count, images) for name, count, images in sorted(rows)}


def find_leaks(labels: LabelTable, against: Mapping[str, LabelTable]) -> Iterator[Finding]:
    """Yield findings on labels whose images also occur in other tables, which are given by name.

    Images of COCO are the same under their names of 2014 and 2017 and in any folder; other images
    are the same if they have the same path below their folders.
    """
    names, of_row = labels.distinct_images()
    keys = _image_keys(names)
    for name, others in against.items():
        shared = as_mask(pc.is_in(keys, _image_keys(others.distinct_images()[0])))
        yield from Finding.of_rows(
            "leak",
            f"labels on images of {name}, {int(shared.sum()):,} images",
            shared[of_row],
            lambda row: names[of_row[row]],
            remedy="What is trained on these says nothing about those: leave the images out of "
            "one of the two.",
        )


def _image_keys(names: list[str]) -> pa.Array:
    plain = plain_names(names)
    is_coco = pc.match_substring_regex(plain, _COCO_NAME)
    numbers = pc.replace_substring_regex(plain, _COCO_NAME, r"COCO \1")
    return pc.if_else(is_coco, numbers, plain).combine_chunks()
