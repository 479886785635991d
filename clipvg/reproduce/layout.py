"""Find the files of the data sets below one folder: the reference code's layout, and REFER's.

Every folder of the layout may be directly below the root or one folder deeper, as archives unpack.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clipvg.errors import InputError
from clipvg.labels import LabelTable, ReadOptions, read_labels
from clipvg.labels.formats.flickr import is_flickr
from clipvg.reproduce.datasets import CHECKPOINTS_FROM, LABELS_FROM, DataSet

SOURCES = ("template", "relation", "caption")  # of multi-source pseudo-labels
SPLIT_ROOTS = {  # folders of label files -> names of their archives
    "full_sup_data": "fully supervised setting",
    "unsup_single_source": "single-source scenario, original",
    "unsup_single_source_ssa": "single-source scenario, with curriculum selecting",
    "unsup_multi_source": "multi-source scenario, original",
    "unsup_multi_source_msa": "multi-source scenario, with curriculum selecting",
}
REVIEWED = "refcocos_annotation_reviewed"
_REFER_FROM = "github.com/lichengunc/refer"


@dataclass(frozen=True)
class Missing:
    """A file or folder that a row needs and that is missing.

    Attributes:
        what: what it is.
        place: where it is looked for, below the root.
        origin: where to get it.
    """

    what: str
    place: str
    origin: str

    def to_dict(self) -> dict[str, str]:
        """Return plain values."""
        return {"what": self.what, "place": self.place, "from": self.origin}


@dataclass(frozen=True)
class LabelFile:
    """A file of labels.

    Attributes:
        path: path of the file.
        split: the split to take from it; None takes all.
        source: source of the labels.
    """

    path: Path
    split: str | None = None
    source: str = "human"


class DataRoot:
    """The folder that holds images, label files and checkpoints.

    Raises:
        InputError: there is no such folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise InputError(f"--data {root}: no such folder; docs/reproduce.md says what is in it")

    def images(self, data: DataSet) -> Path | Missing:
        """Return the folder of images of a data set."""
        images = data.images
        for name in filter(None, (f"image_data/{images.folder}", images.folder, images.short)):
            if found := self._first(name, folders=True):
                return found
        return Missing(f"images of {images.name}", f"image_data/{images.folder}", images.origin)

    def labels(self, data: DataSet, split: str) -> LabelFile | Missing:
        """Return the file of a split of human labels; it is the same in every published archive."""
        name = f"{data.name}/{data.name}_{split}.pth"
        for folder in (*SPLIT_ROOTS, "."):
            if found := self._first(f"{folder}/{name}"):
                return LabelFile(found)
        for other in data.others:
            if found := self._first(other.format(split=split)):
                return LabelFile(found, None if "{split}" in other else split)
        if data.name == "flickr":
            for ids in self._each(f"{split}.txt"):
                if is_flickr(ids.parent):
                    return LabelFile(ids)
        archive = "full_sup_data"
        origin = f"{LABELS_FROM}: {SPLIT_ROOTS[archive]}"
        if data.others:
            origin += f"; or {data.others[0]} with instances.json of {_REFER_FROM}"
        return Missing(f"{split} labels of {data.name}", f"{archive}/{name}", origin)

    def pseudo_labels(self, data: DataSet, folder: str) -> list[LabelFile] | Missing:
        """Return the pseudo-labels of a data set in one of `SPLIT_ROOTS`, one file per source.

        Those of several sources are in ``train_separate``, in the order of the numbers that begin
        their names, which also hold the source.
        """
        name = f"{folder}/{data.name}"
        if "multi" not in folder:
            place = f"{name}/{data.name}_train_pseudo.pth"
            files = [LabelFile(each, source=SOURCES[0]) for each in self._each(place)][:1]
        else:
            place = f"{name}/train_separate/*_{data.name}_train_pseudo_*.pth"
            named = {path: _source_of(path) for path in self._all(f"{name}/train_separate/*.pth")}
            files = [LabelFile(path, source=source) for path, source in named.items() if source]
            files = files if len({each.source for each in files}) > 1 else []
        if files:
            return files
        return Missing(
            f"pseudo-labels of {data.name}, {SPLIT_ROOTS[folder]}",
            place,
            f"{LABELS_FROM}: {SPLIT_ROOTS[folder]}; or your own, by clipvg generate",
        )

    def checkpoint(self, data: DataSet, folder: str) -> Path | Missing:
        """Return the checkpoint of a data set below ``checkpoints``, a file or a model folder."""
        place = f"checkpoints/{folder}"
        for found in self._each(f"{place}/{data.name}/*.pth"):
            return found
        for found in self._each(f"{place}/*"):
            is_its = re.fullmatch(rf"{re.escape(data.name)}([-.](?!umd).*)?", found.name)
            if is_its and (found.suffix == ".pth" or (found / "config.json").is_file()):
                return found
        what = f"checkpoint of {data.name}, {SPLIT_ROOTS[folder].partition(',')[0]}"
        return Missing(what, f"{place}/{data.name}/best_checkpoint.pth", CHECKPOINTS_FROM)

    def reviewed(self) -> list[Path] | Missing:
        """Return the reviewed annotations of RefCOCO/+/g that come with Ref-L4."""
        files = self._all(f"{REVIEWED}/*.json")
        origin = "huggingface.co/datasets/JierunChen/Ref-L4"
        return files or Missing("reviewed annotations", f"{REVIEWED}/*_reviewed.json", origin)

    def _each(self, name: str) -> Iterable[Path]:
        """Yield paths with a name, or that match a pattern, at the root or one folder deeper."""
        head, _, pattern = name.rpartition("/")
        for folder in (self.root, *sorted(each for each in self.root.iterdir() if each.is_dir())):
            place = folder / head
            if "*" in pattern and place.is_dir():
                found = sorted(place.glob(pattern))
                yield from (each for each in found if not each.name.startswith("."))
            elif (place / pattern).exists():
                yield place / pattern

    def _all(self, pattern: str) -> list[Path]:
        """Return the matches of a pattern in the first folder that has any, ignoring copies."""
        found = list(self._each(pattern))
        return [each for each in found if each.parent == found[0].parent]

    def _first(self, name: str, *, folders: bool = False) -> Path | None:
        found = (path for path in self._each(name) if path.is_dir() == folders)
        return next(found, None)


def weights_of(checkpoint: Path) -> Path:
    """Return the file that holds a checkpoint's weights.

    Raises:
        InputError: there is no such file.
    """
    weights = checkpoint / "model.safetensors" if checkpoint.is_dir() else checkpoint
    if not weights.is_file():
        raise InputError(f"{weights}: no such file; name a folder that `clipvg train` wrote")
    return weights


def read_files(data: DataSet, files: Iterable[LabelFile], images: Path) -> LabelTable:
    """Return the concatenated labels of files, each with its source.

    Raises:
        InputError: a file cannot be read; see `read_labels`.
    """
    tables = []
    for file in files:
        options = ReadOptions(layout=data.name if file.path.suffix == ".pth" else None)
        tables.append(
            read_labels(
                file.path, images=images, source=file.source, split=file.split, options=options
            )
        )
    return tables[0] if len(tables) == 1 else LabelTable.concat(tables)


def _source_of(path: Path) -> str:
    """Return the source that a file's name contains; "" if there is none."""
    return next((source for source in SOURCES if source in path.name), "")
