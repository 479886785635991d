"""Formats of other tools: round trips, and layouts as those tools write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipvg.errors import InputError
from clipvg.labels import LabelTable, ReadOptions, read_labels
from clipvg.labels.formats import FORMATS
from clipvg.labels.formats.pth import LAYOUTS

Json = dict[str, Any]
WRITTEN = [
    ("a.parquet", None),
    ("a.jsonl", None),
    ("a.csv", None),
    ("a.tsv", None),
    ("a.json", None),
    ("a.json", "coco"),
    ("a.jsonl.gz", "odvg"),
    ("a.json", "odvg"),
    ("a.json.gz", "label-studio"),
]
TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\r\ufeff"), min_size=1, max_size=9
)
NUMBER = st.one_of(st.integers(0, 2000), st.floats(0, 2000, width=64))


def _is_name(text: str) -> bool:
    r"""Return whether readers keep a name as it is; those with \, ./ or // are normalised."""
    return bool(text.strip()) and "\\" not in text and "/" not in text


@st.composite
def label_tables(draw: st.DrawFn) -> LabelTable:
    count = draw(st.integers(1, 4))
    column = lambda values: draw(st.lists(values, min_size=count, max_size=count))  # noqa: E731
    corners = column(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER))
    formats = column(st.sampled_from(["xyxy", "xywh"]))
    boxes = [
        [min(a, c), min(b, d), max(a, c), max(b, d)] if way == "xyxy" else [a, b, c, d]
        for (a, b, c, d), way in zip(corners, formats, strict=True)
    ]
    return LabelTable.from_columns(
        image=[f"{name}.jpg" for name in column(TEXT.filter(_is_name))],
        expression=column(TEXT.filter(lambda text: text.strip() == text)),
        box=boxes,
        box_format=formats,
        source=column(st.sampled_from(["template", "human"])),
        width=column(st.integers(1, 4000)),
        height=column(st.integers(1, 4000)),
        weight=column(st.floats(0, 9, width=32)),
        **{"reliability.m": column(st.one_of(st.just(float("nan")), st.floats(0, 1, width=32)))},
    )


FEW = settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize(("name", "form"), WRITTEN)
@FEW
@given(labels=label_tables())
def test_every_format_gives_back_what_it_got(
    tmp_path_factory: pytest.TempPathFactory, name: str, form: str | None, labels: LabelTable
) -> None:
    path = tmp_path_factory.mktemp("there") / name
    labels.write(path, format=form)
    again = read_labels(path)
    for column in labels.table.column_names:
        if labels.table[column].null_count == len(labels) and name != "a.parquet":
            continue  # only Parquet keeps a column without values
        assert again.table[column].to_pylist() == labels.table[column].to_pylist(), column


@pytest.mark.parametrize("layout", LAYOUTS)
@FEW
@given(labels=label_tables())
def test_every_layout_gives_back_what_it_has_a_place_for(
    tmp_path_factory: pytest.TempPathFactory, layout: str, labels: LabelTable
) -> None:
    folder = tmp_path_factory.mktemp("there")
    own = LAYOUTS[layout].box_format
    boxes = [[value + 0.0 for value in box] for box in labels["box"].to_pylist()]
    table = LabelTable.from_columns(
        image=[f"COCO_{name}" for name in labels.image_names],
        expression=labels.expressions, box=boxes, box_format=own,
    )  # fmt: skip
    table.write(folder / "first.pth", layout=layout)
    options = ReadOptions(layout=layout)
    once = read_labels(folder / "first.pth", options=options, on_error="keep")
    assert [name.rpartition("/")[2] for name in once.image_names] == table.image_names
    for column in ("expression", "box", "box_format"):
        assert once[column].to_pylist() == table[column].to_pylist()
    once.write(folder / "second.pth", layout=layout)
    again = read_labels(folder / "second.pth", options=options, on_error="keep")
    assert again.table.equals(once.table)


def test_no_format_that_is_written_is_left_out_here() -> None:
    tried = {form or name.split(".")[1] for name, form in WRITTEN}
    assert tried | {"pth"} == {each.name for each in FORMATS if each.write is not None}


@pytest.mark.parametrize(("name", "form"), WRITTEN)
@pytest.mark.parametrize("layout", ["unc", "referit", "flickr"])
def test_published_files_through_every_format(
    tmp_path: Path, layout: str, name: str, form: str | None
) -> None:
    parse = [("r1", ["man"]), ("r2", ["none"])]
    records: list[tuple] = [
        ("COCO_train2014_000000000009.jpg", "1.pth", [0.1, 0.2, 30.3, 400.77], "left man", parse),
        ("COCO_train2014_000000000025.jpg", "2.pth", [1, 2, 3, 4], "a “naïve” dog", parse, 0.25),
        ("COCO_train2014_000000000009.jpg", "useless placeholder", [5.5, 2, 7, 40], "x", "y"),
    ]
    if layout == "flickr":
        records = [(record[0], record[2], record[3]) for record in records]
    path = tmp_path / f"{layout}_train_pseudo.pth"
    torch.save(records, path)
    labels = read_labels(path)
    if form == "label-studio":
        labels = labels.with_column("width", [640] * 3).with_column("height", [480] * 3)
    labels.write(tmp_path / name, format=form)
    again = tmp_path / "again.pth"
    read_labels(tmp_path / name).write(again, layout=layout)
    assert torch.load(again, weights_only=True) == records


@pytest.mark.filterwarnings("error")
def test_a_format_says_what_it_has_no_place_for(tmp_path: Path) -> None:
    labels = LabelTable.from_columns(
        image=["a.jpg"], expression=["dog"], box=[[1, 2, 3, 4]], source="human", split="val",
        **{"reliability.m": [float("nan")]},
    )  # fmt: skip
    for name, form in WRITTEN:
        path = tmp_path / name
        sized = labels.with_column("width", [9]).with_column("height", [9])
        sized.write(path, format=form)
    with pytest.warns(UserWarning, match=r"unc_a\.pth: no place for source, split in pth files"):
        labels.write(tmp_path / "unc_a.pth")
    with pytest.raises(InputError, match=r"cannot write format 'cocoa'.*did you mean 'coco'"):
        labels.write(tmp_path / "a.json", format="cocoa")


def lines(path: Path, *objects: Json) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in objects))
    return path


def image_line(name: str, caption: str, *regions: Json) -> Json:
    grounding = {"caption": caption, "regions": list(regions)}
    return {"filename": name, "height": 375, "width": 500, "grounding": grounding}


def test_odvg_phrases(tmp_path: Path) -> None:
    """As goldg2odvg.py of MMDetection writes Flickr30k, also with several boxes or mentions."""
    caption = "Man with a black shirt and a shirt on a desk"
    first = image_line(
        "1.jpg", caption,
        {"bbox": [10, 20, 30, 40], "phrase": "Man", "tokens_positive": [[0, 3]]},
        {"bbox": [[1, 2, 3, 4], [5, 6, 7, 8]], "phrase": ["a black shirt", "a shirt"],
         "tokens_positive": [[9, 22], [27, 34]]},
    )  # fmt: skip
    second = image_line("2.jpg", "a dog", {"bbox": [1, 1, 2, 2], "tokens_positive": [[2, 5]]})
    for name in ("flickr_vg.json", "flickr_vg.jsonl"):
        labels = read_labels(lines(tmp_path / name, first, second))
        assert labels.expressions == ["Man", *["a black shirt"] * 2, *["a shirt"] * 2, "dog"]
        assert labels.boxes()[:3].tolist() == [[10, 20, 30, 40], [1, 2, 3, 4], [5, 6, 7, 8]]
        assert labels.table["caption"].to_pylist() == [caption] * 5 + ["a dog"]
        assert labels.sizes()[0].tolist() == [500, 375]


def test_odvg_of_refcoco_is_the_whole_caption(tmp_path: Path) -> None:
    """As refcoco2odvg.py writes the files of MDETR: the phrase is the head of the caption."""
    region = {"bbox": [1, 2, 3, 4], "phrase": "man", "tokens_positive": [[5, 8]]}
    path = lines(tmp_path / "finetune_refcoco_train_vg.json",
                 image_line("1.jpg", "left man in red", region),
                 image_line("1.jpg", "the man", {**region, "phrase": ["the", "man"]}))  # fmt: skip
    assert read_labels(path).expressions == ["left man in red", "the man"]


def test_odvg_of_referring_sentences_and_detections(tmp_path: Path) -> None:
    referring = {"bbox": [1, 2, 3, 4], "phrase": ["left man", "man in red"]}
    line = {"filename": "1.jpg", "height": 480, "width": 640, "referring": [referring]}
    assert read_labels(lines(tmp_path / "a.json", line)).expressions == ["left man", "man in red"]
    instances = [
        {"bbox": [0, 0, 10, 10], "label": 0, "category": "dog"},
        {"bbox": [100, 0, 110, 10], "label": 0, "category": "dog"},
        {"bbox": [0, 0, 10, 10], "label": 1, "category": "cat"},
    ]
    line = {"filename": "1.jpg", "detection": {"instances": instances}}
    labels = read_labels(lines(tmp_path / "a.jsonl", line))
    assert labels.expressions == ["left dog", "right dog", "cat"]
    line = {"filename": "1.jpg", "detection": {"instances": [{"bbox": [1, 2, 3, 4], "label": 3}]}}
    with pytest.raises(InputError, match="image 0: an instance without the name of its 'category'"):
        read_labels(lines(tmp_path / "a.jsonl", line))
    line = image_line("1.jpg", "a", {"bbox": [], "phrase": "a"})
    with pytest.raises(InputError, match=r"row 0: box '\[\]' is not four numbers"):
        read_labels(lines(tmp_path / "a.jsonl", line))


def region(kind: str, **value: Any) -> Json:
    return {
        "id": "Dx_aB91ISN", "from_name": "box", "to_name": "image", "type": kind,
        "original_width": 600, "original_height": 400, "image_rotation": 0, "value": value,
    }  # fmt: skip


def task(image: str, **parts: Any) -> Json:
    return {"id": 7, "data": {"image": image}, "project": 3, **parts}


BOX = {"x": 10.0, "y": 20.0, "width": 30.0, "height": 40.0, "rotation": 0}


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/local-files/?d=train2014/a%20b.jpg", "train2014/a b.jpg"),
        ("/data/upload/12/0a1b2c3d-a%20b.jpg", "a b.jpg"),
        ("https://example.com/images/a.jpg", "images/a.jpg"),
        ("s3://bucket/images/a.jpg", "images/a.jpg"),
        ("images/a.jpg", "images/a.jpg"),
    ],
)
def test_label_studio_export(tmp_path: Path, address: str, name: str) -> None:
    """As shown on Label Studio's page on the task format."""
    result = [
        region("rectanglelabels", **BOX, rectanglelabels=["object"]),
        region("textarea", **BOX, text=["man in red", "left man"]),
        {**region("rectanglelabels", **BOX, rectanglelabels=["dog"]), "id": "other"},
        {**region("polygonlabels", points=[[1, 2], [3, 4], [5, 6]]), "id": "third"},
    ]
    cancelled = {"id": 1, "result": result, "was_cancelled": True}
    guess = {"model_version": "m", "score": 0.1, "result": result[2:3]}
    done = {"id": 2, "result": result, "was_cancelled": False, "ground_truth": False}
    tasks = [
        task(address, annotations=[cancelled, done], predictions=[guess]),
        task(address, annotations=[], predictions=[guess]),
    ]
    path = tmp_path / "project-3.json"
    path.write_text(json.dumps(tasks))
    with pytest.warns(UserWarning, match="1 results that are not rectangles are left out"):
        labels = read_labels(path)
    assert labels.expressions == ["man in red", "left man", "dog", "dog"]
    assert labels.image_names == [name] * 4
    assert labels.boxes().tolist() == [[60, 80, 240, 240]] * 4
    assert labels.sources() == ["human"] * 3 + ["m"]
    assert labels.table["label_studio.score"].to_pylist() == [None, None, None, 0.1]


def test_label_studio_turned_and_corrected(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    turned = region("rectangle", **{**BOX, "rotation": 90})
    path.write_text(json.dumps([task("a.jpg", annotations=[{"result": [turned]}])]))
    with pytest.raises(InputError, match="row 0: the expression is empty"):
        read_labels(path)
    turned["value"]["rectanglelabels"] = ["dog"]
    path.write_text(json.dumps([task("a.jpg", annotations=[{"result": [turned]}])]))
    x1, y1, x2, y2 = read_labels(path).boxes()[0].tolist()
    assert [x1, y1, x2, y2] == pytest.approx([60 - 160, 80, 60, 80 + 180])
    del turned["original_width"]
    path.write_text(json.dumps([task("a.jpg", annotations=[{"result": [turned]}])]))
    with pytest.raises(InputError, match="task 0: no original_width and original_height"):
        read_labels(path)


def test_label_studio_tasks_to_review(tmp_path: Path) -> None:
    labels = LabelTable.from_columns(
        image=["a b.jpg", "c.jpg", "a b.jpg"],
        expression=["one", "two", "three"],
        box=[[1, 2, 3, 4]] * 3,
        **{"reliability.a": [0.5, 0.25, 1.0], "reliability.b": [1.0, float("nan"), 0.5]},
    )
    path = tmp_path / "tasks.json"
    with pytest.raises(InputError, match=r"the size of 'a b.jpg' is not known; name the folder"):
        labels.write(path, format="label-studio")
    assert not path.exists()
    labels.with_column("width", [10] * 3).with_column("height", [20] * 3).write(
        path, format="label-studio"
    )
    tasks = json.loads(path.read_text())
    assert [each["data"]["image"] for each in tasks] == [
        "/data/local-files/?d=a%20b.jpg", "/data/local-files/?d=c.jpg",
    ]  # fmt: skip
    assert [each["predictions"][0]["score"] for each in tasks] == [0.75, 0.25]
    box, text = tasks[0]["predictions"][0]["result"][:2]
    assert (box["id"], box["score"], box["original_width"]) == (text["id"], 0.75, 10)
    assert [box["value"][side] for side in ("x", "y", "width", "height")] == [10, 10, 20, 10]
    assert text["value"]["text"] == ["one"]
    assert read_labels(path).expressions == ["one", "two", "three"]
    box["value"]["x"] = 50.0  # moved by a reviewer
    path.write_text(json.dumps(tasks))
    assert read_labels(path).boxes()[0].tolist() == [5, 2, 7, 4]


def test_patterns_and_folders_of_shards(tmp_path: Path) -> None:
    labels = LabelTable.from_columns(image=["a"], expression=["e"], box=[[1, 2, 3, 4]])
    (tmp_path / "shards" / "more").mkdir(parents=True)
    for number in (9, 10, 1):
        part = labels.with_column("n", [number])
        part.write(tmp_path / "shards" / f"part-{number}.parquet")
        part.write(tmp_path / f"[x] {number}.jsonl")
    labels.with_column("late", ["yes"]).write(tmp_path / "shards" / "more" / "part.parquet")
    (tmp_path / "shards" / "_metadata.parquet").write_text("")
    shards = read_labels(tmp_path / "shards")
    assert shards.table["n"].to_pylist() == [None, 1, 9, 10]
    assert shards.table["late"].to_pylist() == ["yes", None, None, None]
    for pattern in ("*.jsonl", "**/*.jsonl", "[[]x] *.jsonl"):
        assert read_labels(tmp_path / pattern).table["n"].to_pylist() == [1, 9, 10]
    assert len(read_labels(tmp_path / "[x] 9.jsonl")) == 1  # a name, not a pattern
    with pytest.raises(InputError, match=r"\*\.csv: no file matches"):
        read_labels(tmp_path / "*.csv")
