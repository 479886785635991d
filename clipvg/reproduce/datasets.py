"""The benchmarks: their data sets, splits and sizes, and where to get their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LABELS_FROM = "the README of linhuixiao/CLIP-VG (Google Drive)"
CHECKPOINTS_FROM = f"{LABELS_FROM}: Pre-trained Checkpoints"


@dataclass(frozen=True)
class Images:
    """The images of a data set.

    Attributes:
        name: name of the collection.
        folder: folder below the reference code's root of images.
        short: the folder's usual name elsewhere; "" if it has none.
        origin: where to get them.
    """

    name: str
    folder: str
    short: str
    origin: str


COCO = Images(
    "COCO 2014",
    "other/images/mscoco/images/train2014",
    "train2014",
    "images.cocodataset.org/zips/train2014.zip (13 GB)",
)
REFERIT = Images(
    "ReferItGame",
    "referit/images",
    "",
    "the folder ReferItGame in the README of linhuixiao/CLIP-VG",
)
FLICKR = Images(
    "Flickr30k",
    "Flickr30k/flickr30k-images",
    "flickr30k-images",
    "shannon.cs.illinois.edu/DenotationGraph, form",
)


@dataclass(frozen=True)
class DataSet:
    """A data set as the published label files split it.

    Attributes:
        name: the prefix of its label files and their layout.
        images: the images of its labels.
        columns: column of the benchmark's table -> split that it is measured on.
        counts: split -> number of its expressions, as published.
        others: other files with its human labels, below the root; those without ``{split}`` in
            their names hold all splits.
    """

    name: str
    images: Images
    columns: Mapping[str, str]
    counts: Mapping[str, int] = field(default_factory=dict)
    others: tuple[str, ...] = ()


_UNC = {"val": "val", "testA": "testA", "testB": "testB"}
_UMD = {"val-u": "val", "test-u": "test"}
_UNC_COUNTS = {"train": 120_624, "val": 10_834, "testA": 5_657, "testB": 5_095}
_PLUS_COUNTS = {"train": 120_191, "val": 10_758, "testA": 5_726, "testB": 4_889}
_G_COUNTS = {"train": 85_474, "val": 9_536}
_UMD_COUNTS = {"train": 80_512, "val": 4_896, "test": 9_602}
_REFERIT_COUNTS = {"train": 54_127, "val": 5_842, "test": 60_103}
_FLICKR_COUNTS = {"train": 427_193, "val": 14_433, "test": 14_481}


def _family(name: str, by: str) -> tuple[str, ...]:
    """Return REFER's file, and those of MiniGPT-4 and MDETR, whose RefCOCOg has the umd split."""
    if by == "google":
        return (f"{name}/refs({by}).p",)
    return (f"{name}/refs({by}).p", f"{name}_{{split}}.json", f"finetune_{name}_{{split}}.json")


BENCHMARKS: Mapping[str, tuple[DataSet, ...]] = {
    "refcoco": (DataSet("unc", COCO, _UNC, _UNC_COUNTS, _family("refcoco", "unc")),),
    "refcoco+": (DataSet("unc+", COCO, _UNC, _PLUS_COUNTS, _family("refcoco+", "unc")),),
    "refcocog": (
        DataSet("gref", COCO, {"val-g": "val"}, _G_COUNTS, _family("refcocog", "google")),
        DataSet("gref_umd", COCO, _UMD, _UMD_COUNTS, _family("refcocog", "umd")),
    ),
    "referit": (DataSet("referit", REFERIT, {"test": "test"}, _REFERIT_COUNTS),),
    "flickr": (DataSet("flickr", FLICKR, {"test": "test"}, _FLICKR_COUNTS),),
}


def columns_of(benchmark: str) -> list[str]:
    """Return the columns of a benchmark's table."""
    return [column for data in BENCHMARKS[benchmark] for column in data.columns]
