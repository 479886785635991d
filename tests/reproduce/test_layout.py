"""Files found below one folder, in the reference's layout and in others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clipvg.errors import InputError
from clipvg.reproduce.datasets import BENCHMARKS, columns_of
from clipvg.reproduce.layout import DataRoot, Missing
from clipvg.reproduce.rows import ROWS, plan
from clipvg.reproduce.table import read_published

UNC = BENCHMARKS["refcoco"][0]
DATA = {data.name: data for parts in BENCHMARKS.values() for data in parts}


def touched(root: Path, *names: str) -> DataRoot:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return DataRoot(root)


def test_published_numbers_fill_their_columns() -> None:
    for each in read_published():
        for benchmark, values in each.values.items():
            assert len(values) == len(columns_of(benchmark)), each.method
            assert all(value is None or 0 < value < 100 for value in values)
    of_rows = {each.row: each.values for each in read_published() if each.row}
    assert of_rows.keys() == ROWS.keys()
    assert all(values.keys() == BENCHMARKS.keys() for values in of_rows.values())
    assert of_rows["msa"]["refcocog"] == (58.06, 56.54, 57.51)


def test_archives_may_be_unpacked_one_folder_deeper(root: Path, tmp_path: Path) -> None:
    deeper = tmp_path / "deeper"
    shutil.copytree(root, deeper / "downloads", symlinks=True)
    for place in (root, deeper):
        for row in ROWS.values():
            job, missing = plan(DataRoot(place), row, UNC)
            has_checkpoint = row.name == "ssa-checkpoint"
            assert (job is not None) == (row.method != "evaluate" or has_checkpoint), row.name
            assert bool(missing) == (job is None)


def test_several_sources_are_told_by_their_names(root: Path) -> None:
    found = DataRoot(root).pseudo_labels(UNC, "unsup_multi_source")
    assert not isinstance(found, Missing)
    assert [each.source for each in found] == ["template", "relation"]
    shutil.copytree(root / "unsup_multi_source", root / "backup" / "unsup_multi_source")
    (found[0].path.parent / "._1_unc_train_pseudo_template.pth").touch()  # as macOS leaves them
    assert DataRoot(root).pseudo_labels(UNC, "unsup_multi_source") == found
    shutil.rmtree(root / "backup")
    found[1].path.unlink()
    assert isinstance(DataRoot(root).pseudo_labels(UNC, "unsup_multi_source"), Missing)


def test_other_layouts_have_the_splits_too(tmp_path: Path) -> None:
    root = touched(
        tmp_path,
        "refer/refcocog/refs(umd).p",
        "refcoco_val.json",
        "mdetr/finetune_refcoco_testA.json",
        "train2014/a.jpg",
        "entities/test.txt",
        "entities/Sentences/1.txt",
        "entities/Annotations/1.xml",
    )
    file = root.labels(DATA["gref_umd"], "test")
    assert not isinstance(file, Missing)
    assert (file.path.name, file.split) == ("refs(umd).p", "test")
    assert isinstance(root.labels(DATA["gref"], "val"), Missing)
    for split, name in (("val", "refcoco_val"), ("testA", "finetune_refcoco_testA")):
        file = root.labels(UNC, split)
        assert not isinstance(file, Missing)
        assert (file.path.stem, file.split) == (name, None)
    assert root.images(DATA["gref_umd"]) == tmp_path / "train2014"
    file = root.labels(DATA["flickr"], "test")
    assert not isinstance(file, Missing)
    assert file.path == tmp_path / "entities" / "test.txt"


@pytest.mark.parametrize("name", ["gref.pth", "gref/best_checkpoint.pth", "gref-best.pth"])
def test_checkpoints_are_those_of_their_data_set(tmp_path: Path, name: str) -> None:
    place = "checkpoints/full_sup_data"
    root = touched(tmp_path, f"{place}/{name}", f"{place}/gref_umd.pth", f"{place}/unc+.pth")
    assert root.checkpoint(DATA["gref"], "full_sup_data") == tmp_path / place / name
    found = root.checkpoint(DATA["gref_umd"], "full_sup_data")
    assert found == tmp_path / place / "gref_umd.pth"
    assert isinstance(root.checkpoint(DATA["unc"], "full_sup_data"), Missing)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder; docs/reproduce"):
        DataRoot(tmp_path / "none")
