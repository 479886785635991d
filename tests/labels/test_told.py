"""Files as other people and programs write them: read correctly, or refused with the reason."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clipvg.errors import InputError
from clipvg.labels import check_labels, read_labels

Json = dict[str, Any]
HEAD = "image,expression,x1,y1,x2,y2\n"
CSV = HEAD + "a.png,dog 0,10,20,300,400\nb.png,dog 1,11,20,299,400\n"


def rows(count: int = 4, **changed: Any) -> list[Json]:
    made = []
    for i in range(count):
        row = {
            "image": "ab"[i % 2] + ".png",
            "expression": f"dog {i}",
            "box": [10 + i, 20, 300, 400],
        }
        made.append({**row, **{k: v(i) if callable(v) else v for k, v in changed.items()}})
    return made


def lines(labels: list[Json]) -> str:
    return "".join(json.dumps(label) + "\n" for label in labels)


BOXES = ["[10, 20, 300, 400]", "10,20,300,400", "(10, 20, 300, 400)", "10 20 300 400",
         "10;20;300;400", "(10,20),(300,400)"]  # fmt: skip
RIGHT = {
    "german.csv": "image;expression;x1;y1;x2;y2\na.png;der Hund;10,0;20;300;400\n",
    "bom and crlf.csv": ("\ufeff" + CSV).replace("\n", "\r\n"),
    "macintosh.csv": CSV.replace("\n", "\r"),
    "excel.tsv": CSV.replace(",", "\t").encode("utf-16"),
    "pandas.csv": "," + HEAD + "0,a.png,dog,10,20,300,400\n",
    "boxes as text.jsonl": lines(rows(6, box=lambda i: BOXES[i])),
    "numbers as text.jsonl": lines(rows(box=["10", "20", "300", "400"])),
    "one row.csv": CSV.splitlines()[0] + "\na.png,dog,10,20,300,400",
    "one row.json": json.dumps(rows()[0], indent=2),
    "pretty.jsonl": json.dumps(rows(), indent=2),
    "packed.json": gzip.compress(json.dumps(rows()).encode()),
    "not packed.csv.gz": CSV,
}
KINDS = {
    "units mixed.jsonl": ("unit", rows(8, box=lambda i: [0.1, 0.2, 0.5, 0.8 + i / 100] if i % 2
                          else [10, 20, 300, 400])),
    "COCO 2017.jsonl": ("missing-image", rows(image="000000000009.jpg")),
    "numbers.jsonl": ("missing-image", rows(image=9)),
    "text numbers.jsonl": ("missing-image", rows(image="9")),
    "a share.jsonl": ("path", rows(image="\\\\server\\share\\a.png")),
    "file address.jsonl": ("path", rows(image="file:///data/a.png")),
    "other spelling.jsonl": ("duplicate", [*rows(), {**rows()[0], "image": "./a.png"}]),
    "points.jsonl": ("value", rows(box=[[10, 20], [300, 400]])),
    "object.jsonl": ("value", rows(box={"x": 10, "y": 20, "w": 30, "h": 40})),
    "with a score.jsonl": ("value", rows(box=[10, 20, 300, 400, 0.9])),
    "truth of three.jsonl": ("value", rows(truth=[1, 2, 3])),
    "unit unknown.jsonl": ("unit", rows(box_unit="percent")),
    "format unknown.jsonl": ("format", rows(box_format="yolo")),
    "infinite.jsonl": ("value", rows(box=[10, 20, 300, float("inf")])),
    "percent.jsonl": ("value", rows(**{"reliability.m": 87.5})),
    "chinese.jsonl": ("characters", rows(expression="左边的狗")),
    "sizes swapped.jsonl": ("size", rows(width=480, height=640)),
}  # fmt: skip
ENTRY, CAPTION = {"id": 1, "file_name": "a.png"}, {"image_id": 1, "caption": "a dog"}
REFUSED = {
    "Bild.csv": (CSV.replace("image", "Bild"), "no column 'image'; there are: Bild, exp"),
    "corners.csv": ("image,expression,xmin,ymin,xmax,ymax\na.png,dog,1,2,3,4\n",
                    "--columns x1=xmin y1=ymin x2=xmax y2=ymax"),
    "sides.csv": ("image,expression,x,y,width,height\na.png,dog,1,2,3,4\n", "w=width h=height"),
    "synonyms.csv": ("file_name,caption,bbox\na.png,dog,1\n",
                     "--columns image=file_name expression=caption box=bbox"),
    "thousands.csv": (HEAD + 'a.png,dog,"1,010",20,30,40\n', "'x1' holds '1,010', no number"),
    "pixels.csv": ("image,expression,box,width\na.png,dog,1 2 3 4,640px\n",
                   "row 0: column 'width' holds text ('640px'), expected whole numbers"),
    "JSON.csv": (lines(rows()), "begins as JSON does; call it .json"),
    "latin.csv": (HEAD.encode() + b"a.png,\xe0,1,2,3,4\n", "convert it from the encoding it has"),
    "texts.jsonl": (lines(rows(expression=["a", "b"])), "'expression' holds lists (\"['a'"),
    "comma.json": ("[" + ",\n".join(map(json.dumps, rows())) + ",\n]",
                   "row 4 (line 5): not JSON (a comma behind the last object)"),
    "comma.jsonl": (lines(rows()).replace("}\n", "},\n"), "row 0 (line 1): not JSON (Extra data"),
    "remarks.jsonl": ("// mine\n" + lines(rows()), "row 0 (line 1): not JSON"),
    "lists.jsonl": ('["a.png", "dog", [1, 2, 3, 4]]\n', "(line 1): a list, expected an object"),
    "null.json": ("null", "row 0 (line 1): null, expected an object"),
    "columns.json": (json.dumps({"image": {"0": "a.png"}, "box": {}}), "with orient='records'"),
    "wrapped.json": (json.dumps({"data": rows()}), "an object with data: neither COCO instances"),
    "captions.json": (json.dumps({"images": [ENTRY], "annotations": [CAPTION]}),
                      "read by clipvg generate --observations"),
    "cut.jsonl.gz": (gzip.compress(lines(rows()).encode())[:-9], "ended before the end"),
    "a.parquet.gz": (b"PAR1", "only text is packed with gzip"),
    "labels": (CSV, "no ending in its name; choose from .parquet"),
}  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for name in ("a.png", "b.png", "COCO_train2014_000000000009.jpg"):
        Image.new("RGB", (640, 480)).save(folder / name)
    return folder


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("name", RIGHT)
def test_read_rightly(name: str, images: Path, tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path / name, RIGHT[name]), images=images)
    assert labels.boxes()[0].tolist() == [10, 20, 300, 400]
    assert check_labels(labels).is_clean


@pytest.mark.parametrize("name", KINDS)
def test_told_by_kind(name: str, images: Path, tmp_path: Path) -> None:
    kind, labels = KINDS[name]
    path = write(tmp_path / name, lines(labels))
    checked = check_labels(read_labels(path, images=images, on_error="keep"))
    found = {each.kind: each.message for each in checked.findings}
    assert kind in found
    assert "box is missing" not in found.get("value", "")  # the value that is there is shown
    if kind == "missing-image":
        assert "'COCO_train2014_000000000009.jpg' is there" in found[kind]


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    content, expected = REFUSED[name]
    path = write(tmp_path / name, content)
    with pytest.raises(InputError) as caught:
        read_labels(path)
    assert str(caught.value).startswith(str(path))
    assert expected in str(caught.value)
