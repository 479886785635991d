"""Twenty label files with one common mistake each, and the kind of finding it gives."""

from pathlib import Path

import pytest
from PIL import Image

from clipvg.labels import check_labels, read_labels

HEAD = "image,expression,x1,y1,x2,y2"
GOOD = ["a.png,the dog,10,10,60,60", "b.png,a cat,20,30,80,90", "a.png,two men,5,5,90,80"]
UNIT = ["a.png,the dog,0.1,0.1,0.6,0.6", "b.png,a cat,0.2,0.3,0.8,0.9"]
SIDES = ["a.png,dog,50,40,20,30", "b.png,cat,70,60,25,35", "a.png,men,80,10,15,85",
         "b.png,cow,60,50,30,5"]  # fmt: skip
CENTRES = ["a.png,dog,50,50,90,80", "b.png,cat,70,60,55,75", "a.png,men,80,50,35,95",
           "b.png,cow,30,50,55,25"]  # fmt: skip
THOUSANDTHS = ["a.png,dog,100,50,900,800", "b.png,cat,500,600,950,990", "a.png,men,0,0,600,995",
               "b.png,cow,700,300,999,500"]  # fmt: skip
FILES = {
    "yolo": ("unit", UNIT),
    "qwen": ("unit", THOUSANDTHS),
    "coco sides": ("format", SIDES),
    "centres": ("format", CENTRES),
    "swapped corners": ("reversed", [*GOOD, "a.png,cow,60,60,10,10"]),
    "upside down": ("reversed", [*GOOD, "b.png,cow,10,60,60,10"]),
    "no image": ("missing-image", [*GOOD, "c.png,cow,10,10,60,60"]),
    "wrong ending": ("missing-image", [*GOOD, "a.jpg,cow,10,10,60,60"]),
    "wrong folder": ("missing-image", [*GOOD, "train/a.png,cow,10,10,60,60"]),
    "windows": ("path", [*GOOD, "sub\\c.png,cow,10,10,60,60"]),
    "address": ("path", [*GOOD, "https://host/a.png,cow,10,10,60,60"]),
    "absolute": ("path", [*GOOD, "/data/a.png,cow,10,10,60,60"]),
    "blank": ("empty-expression", [*GOOD, "a.png,  ,10,10,60,60"]),
    "absent": ("empty-expression", [*GOOD, "a.png,,10,10,60,60"]),
    "repeated": ("duplicate", [*GOOD, GOOD[0]]),
    "repeated otherwise": ("duplicate", [*GOOD, "./a.png,The dog ,10,10,60,60"]),
    "essay": ("too-long", [*GOOD, f"a.png,{'very ' * 90}big dog,10,10,60,60"]),
    "capitals": ("case", [*GOOD, "A.PNG,cow,10,10,60,60"]),
    "other images": ("outside", [*GOOD, "a.png,cow,200,200,260,260"]),
    "not a number": ("value", [*GOOD, "a.png,cow,nan,10,60,60"]),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    (folder / "sub").mkdir()
    for name in ("a.png", "b.png", "sub/c.png"):
        Image.new("RGB", (100, 100)).save(folder / name)
    return folder


def test_the_good_rows_are_clean(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("\n".join([HEAD, *GOOD]))
    assert check_labels(read_labels(path, images=images, on_error="keep")).findings == ()


@pytest.mark.parametrize("name", FILES)
def test_it_is_told_by_kind(name: str, images: Path, tmp_path: Path) -> None:
    kind, rows = FILES[name]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join([HEAD, *rows]))
    checked = check_labels(read_labels(path, images=images, on_error="keep"))
    assert not checked.is_clean
    serious = {found.kind for found in checked.findings if found.severity != "note"}
    assert kind in serious
    assert serious <= {kind, "missing-image"}  # with a wrong name the image is missing too
