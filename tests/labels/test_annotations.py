import json
import pickle

import pytest

from clipvg.errors import InputError
from clipvg.labels import read_labels
from clipvg.labels.formats.flickr import boxes_of_phrases

INSTANCES = {
    "images": [
        {"id": 1, "file_name": "one.jpg", "width": 640, "height": 480},
        {"id": 2, "file_name": "two.jpg", "width": 100, "height": 100},
    ],
    "annotations": [
        {"id": 10, "image_id": 1, "category_id": 3, "bbox": [0, 0, 50, 50.5]},
        {"id": 11, "image_id": 1, "category_id": 3, "bbox": [300, 0, 50, 50], "score": 0.75},
        {"id": 12, "image_id": 1, "category_id": 3, "bbox": [200, 0, 50, 50]},
        {"id": 13, "image_id": 1, "category_id": 4, "bbox": [9, 9, 9, 9], "iscrowd": 1},
        {"id": 14, "image_id": 2, "category_id": 4, "bbox": [9, 9, 9, 9]},
        {"id": 15, "image_id": 2, "category_id": 3, "bbox": [0, 0, 9, 9]},
        {"id": 16, "image_id": 2, "category_id": 3, "bbox": [20, 0, 9, 9]},
    ],
    "categories": [{"id": 3, "name": "dog"}, {"id": 4, "name": "wine glass"}],
}
REFS = [
    {
        "ref_id": 7,
        "ann_id": 11,
        "image_id": 1,
        "category_id": 3,
        "file_name": "one_11.jpg",
        "split": "testA",
        "sentences": [
            {"sent_id": 1, "raw": "Right dog!", "sent": "right dog", "tokens": ["right", "dog"]},
            {"sent_id": 2, "raw": "The dog", "tokens": ["the", "dog"]},
        ],
    }
]


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_coco_categories_with_left_and_right(tmp_path):
    labels = read_labels(write(tmp_path / "instances.json", INSTANCES), images="root")
    # The crowd is left out; the second picture's dogs are too close to be left and right.
    assert labels.expressions == ["left dog", "right dog", "dog", "wine glass", "dog", "dog"]
    assert labels.boxes()[0].tolist() == [0, 0, 50, 50.5]
    assert labels.image_names[3] == "two.jpg"
    assert labels.sizes()[0].tolist() == [640, 480]
    assert labels.table.column("coco.score").to_pylist()[1] == 0.75
    assert labels.table.column("coco.id").to_pylist() == [10, 11, 12, 14, 15, 16]


def test_refer(tmp_path):
    write(tmp_path / "instances.json", INSTANCES)
    for protocol in (0, 2, 4):
        (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(REFS, protocol))
        labels = read_labels(tmp_path / "refs(unc).p")
        assert labels.expressions == ["right dog", "The dog"]
        assert labels.image_names == ["one.jpg"] * 2
        assert labels.boxes().tolist() == [[300, 0, 350, 50]] * 2
        assert labels.sources() == ["human"] * 2
        assert labels.table.column("split").to_pylist() == ["testA"] * 2


def test_refer_without_its_instances(tmp_path):
    path = tmp_path / "refs(unc).p"
    path.write_bytes(pickle.dumps(REFS))
    with pytest.raises(InputError, match=r"instances\.json, which is not beside it"):
        read_labels(path)
    write(tmp_path / "instances.json", {**INSTANCES, "annotations": []})
    with pytest.raises(InputError, match="has no annotation 11; is it that of another"):
        read_labels(path)


def test_lists_of_records(tmp_path):
    records = [{"img_id": "COCO_train2014_0001_4", "sents": "dish", "bbox": [1, 2, 3, 4.5]}]
    labels = read_labels(write(tmp_path / "a.json", records))
    assert labels.image_names == ["COCO_train2014_0001.jpg"]
    assert labels.boxes().tolist() == [[1, 2, 4, 6.5]]
    plain = [{"image": "a", "expression": "dog", "box": [1, 2, 3, 4], "source": "human"}]
    assert read_labels(write(tmp_path / "b.json", plain)).boxes().tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4]}], "under 'annotations'"),
        ({"annotations": [{"image_id": 1}]}, "not COCO instances"),
        ({**INSTANCES, "images": []}, "without its image or category"),
        ({**INSTANCES, "categories": []}, "without its image or category"),
        ({**INSTANCES, "annotations": []}, "no labels in it"),
        ([1, 2], "neither COCO instances"),
    ],
)
def test_other_json_is_refused(tmp_path, content, expected):
    with pytest.raises(InputError) as caught:
        read_labels(write(tmp_path / "a.json", content))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


SENTENCES = (
    "[/EN#1/people A girl] with [/EN#2/bodyparts/other brown hair] by [/EN#3/scene a lake] .\n"
    "[/EN#1/people The child] smiles at [/EN#0/notvisual it] .\n"
)
ANNOTATION = """<annotation><filename>12.jpg</filename>
<size><width>500</width><height>375</height><depth>3</depth></size>
<object><name>1</name><bndbox><xmin>10</xmin><ymin>20</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>
<object><name>1</name><name>2</name>
<bndbox><xmin>25</xmin><ymin>5</ymin><xmax>60</xmax><ymax>30</ymax></bndbox></object>
<object><name>3</name><scene>1</scene><nobndbox>1</nobndbox></object>
</annotation>"""


@pytest.fixture
def flickr(tmp_path):
    for folder, name, text in (
        ("Sentences", "12.txt", SENTENCES),
        ("Annotations", "12.xml", ANNOTATION),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    (tmp_path / "test.txt").write_text("12\n")
    return tmp_path


def test_flickr30k_entities(flickr):
    for path in (flickr, flickr / "test.txt"):
        labels = read_labels(path)
        assert labels.expressions == ["A girl", "brown hair", "The child"]
        assert labels.image_names == ["12.jpg"] * 3
        # the girl's two boxes become the box around them
        assert labels.boxes().tolist() == [[10, 5, 60, 40], [25, 5, 60, 30], [10, 5, 60, 40]]
        assert labels.sizes()[0].tolist() == [500, 375]
        assert labels.table.column("flickr.type").to_pylist()[1] == "bodyparts/other"
        rows, boxes = boxes_of_phrases(labels)
        assert rows.tolist() == [0, 0, 1, 2, 2]
        assert boxes[:2].tolist() == [[10, 20, 30, 40], [25, 5, 60, 30]]


@pytest.mark.parametrize("text", ["\ufeff12\n", "12.jpg\r\n", " 12 ,\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_flickr30k_ids_as_other_programs_leave_them(flickr, text, encoding):
    (flickr / "test.txt").write_bytes(text.encode(encoding))
    assert len(read_labels(flickr / "test.txt")) == 3


def test_flickr30k_faults(flickr):
    (flickr / "test.txt").write_text("12\n13\n")
    with pytest.raises(InputError, match=r"13\.txt: no such file"):
        read_labels(flickr / "test.txt")
    (flickr / "Annotations" / "12.xml").write_text("<annotation>")
    with pytest.raises(InputError, match=r"12\.xml: damaged, or not an annotation of Flickr30k"):
        read_labels(flickr)
    (flickr / "other").mkdir()
    (flickr / "other" / "a.txt").write_text("12")
    with pytest.raises(InputError, match=r"a\.txt: not a file of labels: a \.txt lists"):
        read_labels(flickr / "other" / "a.txt")
    (flickr / "a").write_text("12")
    with pytest.raises(InputError, match="no ending in its name; choose from"):
        read_labels(flickr / "a")
