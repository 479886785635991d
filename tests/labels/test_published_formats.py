"""Files of other projects, in their layouts on disk."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from clipvg.errors import InputError
from clipvg.labels import ReadOptions, read_labels


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def column(labels, name):
    return labels.table.column(name).to_pylist()


def seqtr_target(**changed):
    target = {
        "bbox": [103.93, 299.99, 134.22, 177.42], "category_id": 0, "height": 480, "width": 640,
        "image_id": 581857, "expressions": ["the lady with the blue shirt", "lady in back"],
        "mask": [[1.5, 2.5, 3.5, 4.5, 5.5, 6.5]],
    }  # fmt: skip
    return {**target, **changed}


def test_seqtr(tmp_path):
    val = seqtr_target(expressions=["man"], image_id=9, bbox=[1, 2, 3, 4])
    content = {"train": [seqtr_target()], "val": [val]}
    path = write(tmp_path / "refcoco-unc" / "instances.json", content)
    labels = read_labels(path)
    assert labels.expressions == ["the lady with the blue shirt", "lady in back", "man"]
    assert labels.image_names[::2] == [
        "COCO_train2014_000000581857.jpg", "COCO_train2014_000000000009.jpg",
    ]  # fmt: skip
    assert labels.boxes()[0].tolist() == pytest.approx([103.93, 299.99, 238.15, 477.41])
    assert labels.sizes()[2].tolist() == [640, 480]
    assert labels.splits == {"train": 2, "val": 1}
    assert read_labels(path, split="val").boxes().tolist() == [[1, 2, 4, 6]]


def test_seqtr_names_images_as_their_data_set_does(tmp_path):
    content = {"test": [seqtr_target(image_id=1000092795)]}
    path = write(tmp_path / "flickr30k" / "instances.json", content)
    assert read_labels(path).image_names[0] == "1000092795.jpg"
    mixed = [seqtr_target(data_source=source) for source in ("coco", "visual-genome", "flickr")]
    path = write(tmp_path / "mixed" / "instances.json", {"train": mixed})
    assert read_labels(path).image_names[::2] == [
        "COCO_train2014_000000581857.jpg", "581857.jpg", "581857.jpg",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"train\[0\]: image 581857 is a number.*refcocog-umd"):
        read_labels(write(tmp_path / "instances.json", {"train": [seqtr_target()]}))
    for place in ("clipvg", "visual-grounding", "preferred"):  # folders not named after a data set
        with pytest.raises(InputError, match=r"train\[0\]: image 581857 is a number"):
            read_labels(write(tmp_path / place / "all.json", {"train": [seqtr_target()]}))
    path = write(tmp_path / "refcoco.json", {"train": [seqtr_target(image_id=None)]})
    with pytest.raises(InputError, match=r"image 'None' is not the number of an image"):
        read_labels(path)


def test_simrec(tmp_path):
    target = {"iid": 581857, "bbox": [1, 2, 30, 40], "cat_id": 0, "refs": ["a", "b"], "mask_id": 7}
    labels = read_labels(write(tmp_path / "anns" / "refcocog.json", {"val": [target]}))
    assert labels.expressions == ["a", "b"]
    assert labels.image_names[0] == "COCO_train2014_000000581857.jpg"
    assert labels.boxes()[1].tolist() == [1, 2, 31, 42]
    target["url"] = "https://cs.stanford.edu/people/rak248/VG_100K_2/1.jpg"
    path = write(tmp_path / "anns" / "vg.json", {"train": [target]})
    assert read_labels(path).image_names[0] == "VG_100K_2/1.jpg"


REGION = {"region_id": 1382, "width": 82, "height": 139, "x": 421, "y": 57, "phrase": "green clock"}


@pytest.mark.parametrize(
    "image",
    [
        {"id": 1, "regions": [{**REGION, "image_id": 1}]},  # region_descriptions.json
        {"image_id": 1, "regions": [{**REGION, "objects": [], "relationships": []}]},  # graphs
    ],
)
def test_visual_genome(image, tmp_path):
    path = write(tmp_path / "regions.json", [image])
    labels = read_labels(path)
    assert (labels.image_names, labels.expressions) == (["1.jpg"], ["green clock"])
    assert labels.boxes().tolist() == [[421, 57, 503, 196]]
    assert column(labels, "vg.region") == [1382]
    url = "https://cs.stanford.edu/people/rak248/VG_100K_2/1.jpg"
    facts = {"image_id": 1, "url": url, "width": 800, "height": 600, "coco_id": None}
    write(tmp_path / "image_data.json", [facts])
    labels = read_labels(path)
    assert labels.image_names == ["VG_100K_2/1.jpg"]
    assert labels.sizes().tolist() == [[800, 600]]


def test_the_rest_of_visual_genome_says_what_reads_it(tmp_path):
    for rest in ("objects", "relationships"):
        path = write(tmp_path / f"{rest}.json", [{"image_id": 1, rest: []}])
        with pytest.raises(InputError, match=r"region_descriptions.json.*clipvg generate"):
            read_labels(path)


def test_reviewed_refcoco_keeps_what_reviewers_say(tmp_path):
    content = {
        "info": {},
        "images": [{"id": 9, "file_name": "COCO_train2014_000000000009_3.jpg", "width": 640,
                    "height": 480}],
        "annotation": [
            {"id": 1, "image_id": 9, "bbox": [1, 2, 3, 4], "caption": "cup", "caption_quality": 1},
            {"id": 2, "image_id": 9, "bbox": [1, 2, 3, 4], "caption": "?", "caption_quality": 0},
        ],
    }  # fmt: skip
    path = write(tmp_path / "refcoco_val_reviewed.json", content)
    with pytest.warns(UserWarning, match=r"reviewers call 1 of 2 labels wrong"):
        labels = read_labels(path)
    assert labels.image_names[0] == "COCO_train2014_000000000009.jpg"
    assert labels.boxes()[0].tolist() == [1, 2, 4, 6]
    assert labels.sizes()[0].tolist() == [640, 480]
    assert column(labels, "caption_quality") == [1, 0]
    del content["annotation"][0]["caption"]
    with pytest.raises(InputError, match="row 0: no caption in an annotation that has id, image"):
        read_labels(write(path, content))


def test_ref_l4(tmp_path):
    row = {
        "id": 1, "caption": "Within the central frame, an antique camera.", "bbox": [1.0, 2, 3, 4],
        "bbox_area": 12.0, "bbox_id": "o365_1", "ori_category_id": "o365_43", "image_id": "o365_9",
        "height": 480, "width": 640, "file_name": "objects365_v1_00000009.jpg",
        "is_rewrite": False, "split": "val",
    }  # fmt: skip
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "ref-l4-val.parquet")
    labels = read_labels(tmp_path / "ref-l4-val.parquet")
    assert (labels.image_names, labels.expressions) == ([row["file_name"]], [row["caption"]])
    assert labels.boxes().tolist() == [[1, 2, 4, 6]]
    assert labels.sizes().tolist() == [[640, 480]]
    assert labels.splits == {"val": 1}
    assert column(labels, "ori_category_id") == ["o365_43"]


def lmms_row(image):
    return {
        "question_id": "469306", "image": {"bytes": image, "path": "x.jpg"},
        "question": "Please describe the circled area.", "answer": ["guy in blue", "left man"],
        "segmentation": [1.0, 2, 3, 4], "bbox": [10.0, 20, 30, 40], "iscrowd": 0,
        "file_name": "COCO_train2014_000000000009_3.jpg",
    }  # fmt: skip


def test_lmms_lab_by_name_and_with_its_images(tmp_path):
    path = tmp_path / "testA-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist([lmms_row(b"JPEG"), lmms_row(b"JPEG")]), path)
    with pytest.warns(UserWarning, match="1 images inside it were unpacked to"):
        labels = read_labels(path)
    assert labels.expressions == ["guy in blue", "left man"] * 2
    assert labels.boxes()[0].tolist() == [10, 20, 40, 60]
    assert labels.splits == {"testA": 4}
    (name,) = labels.distinct_images()[0]
    assert labels.image_path(name).read_bytes() == b"JPEG"
    assert labels.image_path(name).name == "COCO_train2014_000000000009.jpg"
    assert read_labels(path).image_names == labels.image_names  # without a warning
    with pytest.warns(UserWarning, match="1 images inside it were unpacked to"):
        labels = read_labels(path, images=tmp_path / "train2014")
    assert labels.distinct_images()[0] == ["COCO_train2014_000000000009.jpg"]
    assert (tmp_path / "train2014" / labels.image_names[0]).read_bytes() == b"JPEG"


def test_lmms_lab_with_names_alone(tmp_path):
    row = {**lmms_row(None), "file_name": "../COCO_train2014_000000000009_3.jpg"}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "val.parquet")
    labels = read_labels(tmp_path / "val.parquet")
    assert labels.image_names == ["../COCO_train2014_000000000009.jpg"] * 2
    row["image"]["bytes"] = b"JPEG"
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "val.parquet")
    with pytest.raises(InputError, match="leads out of the folder of images"):
        read_labels(tmp_path / "val.parquet", images=tmp_path / "images")
    assert not list(tmp_path.glob("*.jpg"))


@pytest.mark.filterwarnings("ignore:.*unpacked")
@pytest.mark.parametrize(
    "name", ["../x.jpg", "link/x.jpg", "/elsewhere/x.jpg", "..", "", "old.jpg"]
)
def test_lmms_lab_unpacks_into_its_folder_alone(name, tmp_path):
    images, outside = tmp_path / "images", tmp_path / "outside"
    images.mkdir()
    outside.mkdir()
    (images / "link").symlink_to(outside)
    (images / "old.jpg").symlink_to(outside / "lost.jpg")
    before = sorted(images.iterdir())
    pq.write_table(
        pa.Table.from_pylist([{**lmms_row(b"JPEG"), "file_name": name}]), tmp_path / "val.parquet"
    )
    read_labels(
        tmp_path / "val.parquet",
        images=images,
        on_error="keep",
        options=ReadOptions(allow_outside_root=True),
    )
    assert not list(outside.iterdir())
    assert (sorted(images.iterdir()), (images / "old.jpg").is_symlink()) == (before, True)
    assert not list(tmp_path.glob("*.jpg"))


def test_lmms_lab_in_folders_and_with_a_single_answer(tmp_path):
    rows = [
        {**lmms_row(place.encode()), "file_name": f"{place}/1.jpg", "answer": "the dog"}
        for place in "ab"
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "val.parquet")
    with pytest.warns(UserWarning, match="2 images inside it were unpacked to"):
        labels = read_labels(tmp_path / "val.parquet", images=tmp_path / "images")
    assert labels.expressions == ["the dog"] * 2
    assert [labels.image_path(name).read_bytes() for name in labels.image_names] == [b"a", b"b"]


def test_grefcoco_leaves_out_what_has_no_one_target(tmp_path):
    def ref(number, targets, *texts):
        sentences = [{"sent": t, "raw": t, "sent_id": i, "tokens": []} for i, t in enumerate(texts)]
        return {"ref_id": number, "ann_id": targets, "image_id": 1, "category_id": [3],
                "file_name": "COCO_train2014_000000000001_0.jpg", "split": "train",
                "sentences": sentences}  # fmt: skip

    refs = [ref(1, [11], "dog"), ref(2, [11, 12], "two dogs", "both"), ref(3, [-1], "a cat"),
            {**ref(4, [11], "a bird"), "no_target": True}]  # fmt: skip
    write(tmp_path / "instances.json", {
        "images": [{"id": 1, "file_name": "COCO_train2014_000000000001.jpg", "width": 640,
                    "height": 480}],
        "annotations": [{"id": n, "image_id": 1, "category_id": 3, "bbox": [n, 0, 5, 5]}
                        for n in (11, 12)],
        "categories": [],
    })  # fmt: skip
    path = write(tmp_path / "grefs(unc).json", refs)
    with pytest.warns(UserWarning, match="left out 2 with several targets and 2 with no target"):
        labels = read_labels(path)
    assert labels.expressions == ["dog"]
    assert labels.boxes().tolist() == [[11, 0, 16, 5]]
    assert labels.image_names == ["COCO_train2014_000000000001.jpg"]
    assert labels.splits == {"train": 1}


def test_jxu124(tmp_path):
    sentences = [{"raw": "Right Dog", "sent": "right dog", "sent_id": 3, "tokens": ["right"]},
                 {"raw": "Dog!", "sent": "", "sent_id": 4, "tokens": []}]  # fmt: skip
    row = {
        "sent_ids": [3, 4], "file_name": "COCO_train2014_000000000009_3.jpg", "ann_id": 3,
        "ref_id": 7, "image_id": 9, "split": "testA", "sentences": sentences, "category_id": 1,
        "raw_anns": json.dumps({"bbox": [10, 20, 30, 40]}),
        "raw_image_info": json.dumps({"height": 480, "width": 640}), "raw_sentences": "[]",
        "image_path": "coco/train2014/COCO_train2014_000000000009.jpg",
        "bbox": [10.0, 20, 40, 60], "captions": ["right dog", "Dog!"], "global_image_id": "coco.9",
        "anns_id": "coco.3",
    }  # fmt: skip
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "train-00000-of-00001.parquet")
    labels = read_labels(tmp_path / "train-00000-of-00001.parquet")
    assert labels.expressions == ["right dog", "Dog!"]
    assert labels.image_names[0] == "COCO_train2014_000000000009.jpg"
    assert labels.boxes()[1].tolist() == [10, 20, 40, 60]
    assert labels.sizes()[0].tolist() == [640, 480]
    assert labels.splits == {"testA": 2}


MIXUP = [
    ("COCO_train2014_000000000009.jpg", {"height": 480, "width": 640}, [1, 2, 3, 4], "a",
     [[1.5, 2.5, 3.5]]),
    ("1000.jpg", "flickr", [5, 6, 7, 8], "b", "none"),
    ("19059.jpg", "referit", [0.5, 6, 7, 8], "c", "none"),
]  # fmt: skip


def test_mixup_says_where_images_of_all_data_sets_are(tmp_path):
    torch.save(MIXUP, tmp_path / "mixup_train.pth")
    labels = read_labels(tmp_path / "mixup_train.pth")
    assert labels.image_names == [
        "other/images/mscoco/images/train2014/COCO_train2014_000000000009.jpg",
        "Flickr30k/flickr30k-images/1000.jpg",
        "referit/images/19059.jpg",
    ]
    assert labels.boxes()[2].tolist() == [0.5, 6, 7.5, 14]
    assert labels.sizes().tolist() == [[640, 480], [-1, -1], [-1, -1]]
    labels.write(tmp_path / "mixup_again.pth")
    assert torch.load(tmp_path / "mixup_again.pth", weights_only=True) == MIXUP
    torch.save([("1000.jpg", "genome", [5, 6, 7, 8], "b", "none")], tmp_path / "mixup_x.pth")
    with pytest.raises(InputError, match=r"row 0: image '1000.jpg' is not of COCO.*'genome'"):
        read_labels(tmp_path / "mixup_x.pth")


@pytest.mark.parametrize(("layout", "corners"), [("unc", [1, 2, 4, 6]), ("flickr", [1, 2, 3, 4])])
def test_iou_of_the_reference_becomes_a_reliability(layout, corners, tmp_path):
    gone = "useless placeholder"
    boxes = torch.rand(4), torch.rand(4)
    results = [["a.jpg", gone, [1, 2, 3, 4], "dog", *boxes, 0.125], ["b.jpg", gone, [0, 0, 5, 5.5],
               "cat", *boxes, 1.0]]  # fmt: skip
    bad = [["a.jpg", gone, [1, 2, 3, 4], "dog", gone, 0.125]]
    for name, records in (("iou_result", results), ("bad_label_0_4", bad)):
        path = tmp_path / f"{layout}_train_pseudo_{name}.pth"
        torch.save(records, path)
        labels = read_labels(path)
        assert labels.boxes()[0].tolist() == corners
        assert labels.reliability("published").tolist() == [r[-1] for r in records]
        labels.write(tmp_path / f"{layout}_{name}.pth")
        again = read_labels(tmp_path / f"{layout}_{name}.pth")
        assert again.table.equals(labels.table)
    torch.save([["a.jpg", gone, [1, 2, 3, 4], "dog", gone]], path)
    with pytest.raises(InputError, match=r"row 0: its last field 'useless placeholder' is not a"):
        read_labels(path)
