"""Answers of an external verifier from files of every kind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.one_label import written
from support.pretrained import save
from support.writers import stand_in

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.measures import Verifier, write_questions
from clipvg.measures.specs import build_measures
from clipvg.measures.verifier import QUESTION, AskedVerifier
from clipvg.reliability import Context, measure

NAN = np.nan


@pytest.fixture
def labels() -> LabelTable:
    return written(
        ["red dog", "red dog", "sky", "a, \"b\""],
        [[0, 0, 10, 10], [5, 5, 20.25, 30], [0, 0, 99, 20], [1, 2, 3, 4]],
        ["a.jpg", "a.jpg", "b.jpg", "a.jpg"],
    )  # fmt: skip


def test_rows_and_words(labels: LabelTable, tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text('row,answer\n0,Yes.\n1,"No, it shows a cat."\n3,maybe\n')
    found = measure(Verifier(path), labels, Context())
    np.testing.assert_array_equal(found.values, np.float32([1, 0, NAN, NAN]))
    assert set(found.reasons) == {2, 3}
    assert "answers.csv has no answer" in found.reasons[2]


def test_several_answers_are_averaged(labels: LabelTable, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    rows = [(0, 0.9), (0, 0.6), (2, 0.25), (2, None)]
    path.write_text("\n".join(json.dumps({"row": r, "score": s}) for r, s in rows))
    found = measure(Verifier(path, name="vlm"), labels, Context()).values
    np.testing.assert_allclose(found, [0.75, NAN, 0.25, NAN])


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_triples_in_any_order(labels: LabelTable, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"answers.{kind}"
    mixed = labels.select([3, 1, 0]).with_column("score", pa.array([0.1, 0.5, 1.0]))
    mixed.write(path)
    found = measure(Verifier(path), labels, Context()).values
    np.testing.assert_allclose(found, [1, 0.5, NAN, 0.1], rtol=1e-6)


def test_boxes_in_other_words_are_the_same(labels: LabelTable, tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text(
        "image,expression,x,y,w,h,answer\na.jpg,red dog,5,5,15,25,yes\na.jpg,red dog,0,0,12,10,no\n"
    )
    for precision, expected in ((1, [NAN, 1, NAN, NAN]), (2, [0, 1, NAN, NAN])):
        found = measure(Verifier(path, precision=precision), labels, Context()).values
        np.testing.assert_array_equal(found, np.float32(expected))
    with pytest.raises(InputError, match="none of its 2 answers"):
        measure(Verifier(path, precision=0.1), labels, Context())


def test_equal_labels_share_an_answer(labels: LabelTable, tmp_path: Path) -> None:
    twins = LabelTable.concat([labels, labels])
    labels.with_column("answer", pa.array([True, False, True, False])).write(
        tmp_path / "answers.parquet"
    )
    found = measure(Verifier(tmp_path / "answers.parquet"), twins, Context()).values
    assert found.tolist() == [1, 0, 1, 0] * 2


def test_questions_come_back_as_answers(labels: LabelTable, tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    write_questions(labels.with_images(tmp_path), path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["question"] == ("Does the box [0, 0, 10, 10] show 'red dog'? Answer yes or no.")
    assert lines[2]["image"] == str(tmp_path / "b.jpg")
    path.write_text(
        "\n".join(
            json.dumps({**line, "answer": "yes" if i else "no"}) for i, line in enumerate(lines)
        )
    )
    assert measure(Verifier(path), labels, Context()).values.tolist() == [0, 1, 1, 1]


def test_no_labels(tmp_path: Path, labels: LabelTable) -> None:
    path = tmp_path / "a.csv"
    path.write_text("image,expression,x1,y1,x2,y2,score\na,b,1,2,3,4,1\n")
    assert measure(Verifier(path), labels.select([]), Context()).values.shape == (0,)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "x", r"answers are read from \.parquet"),
        ("a.csv", "row,verdict\n0,1\n", "hold no answers; expected score, or answer"),
        ("a.csv", "image,score\nx,1\n", "do not name labels; expected row"),
        ("a.csv", "row,score\n0,7\n", r"1 score\(s\) are outside \[0, 1\], first 7 in row 0"),
        ("a.csv", "row,score\n0,high\n", "column 'score' holds no numbers"),
        ("a.csv", "row,answer\n0,perhaps\n", "no answer starts with yes"),
        ("a.parquet", "x", "damaged, or not a Parquet file"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        Verifier(tmp_path / name)


def test_files_that_are_about_something_else(labels: LabelTable, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Verifier(tmp_path / "none.csv")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"row": [0, 4], "score": [1.0, 1.0]}), path)
    with pytest.raises(InputError, match="first 4; expected whole numbers from 0 to 3"):
        measure(Verifier(path), labels, Context())
    labels.with_column("image", ["z.jpg"] * 4).with_column("score", pa.array([1.0] * 4)).write(path)
    with pytest.raises(InputError, match="none of its 4 answers is about one of these 4 labels"):
        measure(Verifier(path), labels, Context())
    with pytest.raises(InputError, match="precision is -1"):
        Verifier(path, precision=-1)


def images_of(labels: LabelTable, folder: Path) -> LabelTable:
    for name in set(labels.image_names):
        Image.new("RGB", (100, 50)).save(folder / name)
    return LabelTable(labels.table, folder)


def test_a_model_is_asked(labels: LabelTable, tmp_path: Path) -> None:
    asked: list[str] = []

    def says(question: str, image: Image.Image) -> str | float:
        asked.append(question)
        return "hm" if "sky" in question else 0.75 if "[0, 0," in question else 0.25

    verifier = AskedVerifier(
        "vlm", stand_in(says), question="{box} shows {expression}?", unit="thousand"
    )
    found = measure(verifier, images_of(labels, tmp_path), Context())
    np.testing.assert_allclose(found.values, [0.75, 0.25, NAN, 0.25], atol=1e-6)
    assert "[0, 0, 100, 200] shows red dog?" in asked
    assert found.reasons == {2: "vlm: the model begins its answer with neither yes nor no"}


def test_an_image_that_cannot_be_read_is_not_asked_about(
    labels: LabelTable, tmp_path: Path
) -> None:
    labels = images_of(labels, tmp_path)
    (tmp_path / "b.jpg").unlink()
    verifier = AskedVerifier("vlm", stand_in(lambda *_: 0.5), question=QUESTION, unit="pixel")
    found = measure(verifier, labels, Context())
    np.testing.assert_allclose(found.values, [0.5, 0.5, NAN, 0.5], atol=1e-6)
    assert "b.jpg" in found.reasons[2]


@pytest.mark.parametrize("given", [{}, {"path": "a.csv", "model": "org/model"}])
def test_either_a_file_or_a_model(given: dict[str, str]) -> None:
    with pytest.raises(InputError, match="'verifier' needs path or model, and not both"):
        Verifier(**given)


def test_a_question_that_is_no_template() -> None:
    with pytest.raises(InputError, match=r"may have \{expression\} and \{box\}"):
        Verifier(model="org/model", question="is it {name}?")


@pytest.mark.transformers
@pytest.mark.parametrize("name", ["llava", "qwen2.5-vl"])
def test_true_classes_by_the_spelling_of_the_command(
    labels: LabelTable, tmp_path: Path, name: str
) -> None:
    folder = save(name, tmp_path / "model")
    verifier = build_measures([f"verifier,model={folder},device=cpu"])["verifier"]
    found = measure(verifier, images_of(labels, tmp_path), Context())
    assert set(np.flatnonzero(np.isnan(found.values))) == {*found.reasons}
