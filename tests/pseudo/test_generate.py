"""From observations to labels: the draw, the sources, resuming, and the command."""

from __future__ import annotations

import json
import os
import sys
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from clipvg import check_labels, generate, read_labels
from clipvg.cli import main
from clipvg.errors import InputError
from clipvg.pseudo import (
    Candidate,
    Detection,
    Observation,
    ObservationTable,
    Options,
    caption,
    sources,
)
from clipvg.pseudo import candidates as kept

GENERATE = sys.modules["clipvg.pseudo.generate"]


def row_of_dogs(image: str, count: int = 5) -> Observation:
    found = tuple(
        Detection("dog", (20 + 110 * i, 200, 110 + 110 * i, 300), 0.9 - 0.1 * i)
        for i in range(count)
    )
    return Observation(image, 600, 400, found)


def table(*images: str) -> ObservationTable:
    return ObservationTable.from_observations(map(row_of_dogs, images))


def test_labels_say_where_they_come_from() -> None:
    labels = generate(table("a.jpg"))
    assert len(labels) == 6
    row = labels.table.to_pylist()[0]
    assert row["source"] == "template"
    assert row["pseudo.rule"] in {"superlative", "place", "count", "ordinal"}
    assert row["box"] == list(row_of_dogs("a.jpg").detections[row["pseudo.detection"]].box)
    assert (row["width"], row["height"]) == (600, 400)
    assert check_labels(labels, open_images=False).ok


def test_the_default_draw_of_an_image_depends_on_no_other() -> None:
    few = Options(per_image=2)
    alone = generate(table("a.jpg"), options=few)
    among = generate(table("b.jpg", "a.jpg", "c.jpg"), options=few)
    mine = [r["expression"] for r in among.table.to_pylist() if r["image"] == "a.jpg"]
    assert mine == alone.expressions
    other = generate(table("a.jpg"), options=Options(per_image=2, seed=1))
    assert other.expressions != alone.expressions


def test_candidates_are_all_expressions() -> None:
    everything = generate(table("a.jpg"), candidates=True)
    few = generate(table("a.jpg"), options=Options(per_image=2))
    assert len(few) == 2
    assert set(few.expressions) < set(everything.expressions)


def test_detections_keep_their_number_below_a_least_score() -> None:
    seen = Observation(
        "a.jpg",
        600,
        400,
        (Detection("dog", (0, 0, 9, 9), 0.1), Detection("cat", (100, 100, 300, 300), 0.9)),
    )
    labels = generate(ObservationTable.from_observations([seen]), options=Options(min_score=0.5))
    assert labels.table["pseudo.detection"].to_pylist() == [1]


def test_boxes_end_where_the_image_ends() -> None:
    seen = Observation("a.jpg", 600, 400, (Detection("cat", (-20, 100, 300, 450), 0.9),))
    made = ObservationTable.from_observations([seen])
    assert generate(made).boxes().tolist() == [[0, 100, 300, 400]]
    published = generate(made, options=Options("published"))
    assert published.boxes().tolist() == [[-20, 100, 300, 450]]


def test_boxes_that_are_none_are_refused_by_image() -> None:
    seen = Observation("a.jpg", 600, 400, (Detection("cat", (300, 100, 200, 450), 0.9),))
    with pytest.raises(InputError, match=r"a\.jpg: detections\[0\]: box .* is reversed"):
        generate(ObservationTable.from_observations([seen]))


def test_sources_without_their_observations_and_misspelt_ones() -> None:
    with pytest.raises(InputError, match=r"source 'caption' needs captions, .* hold detections"):
        generate(table("a.jpg"), ["caption"])
    with pytest.raises(InputError, match="did you mean 'template'"):
        generate(table("a.jpg"), ["tempalte"])
    with pytest.raises(InputError, match="no sources"):
        generate(table("a.jpg"), [])
    odd = Observation("a.jpg", 6, 4, extra={"detection": []})
    with pytest.raises(InputError, match="key 'detections': did you mean 'detection'"):
        generate(ObservationTable.from_observations([odd]))


def test_no_label_is_an_error_that_says_why() -> None:
    with pytest.raises(InputError, match=r"the best of 5 detections has a score of 0.9, below"):
        generate(table("a.jpg"), options=Options(min_score=0.95))
    small = Observation("a.jpg", 600, 400, (Detection("cat", (0, 0, 9, 9), 0.9),))
    with pytest.raises(InputError, match="template found nothing to say of 1 images"):
        generate(ObservationTable.from_observations([small]))


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"preset": "best"}, "preset is 'best'"),
        ({"objects": 0}, "objects is 0"),
        ({"per_image": 0}, "per_image is 0"),
        ({"min_score": 2}, "min_score is 2"),
        ({"ambiguous": "maybe"}, "ambiguous is 'maybe'"),
    ],
)
def test_wrong_options(options: dict[str, object], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        Options(**options)


def test_candidates_in_the_observations_are_a_source() -> None:
    answer = Candidate("the animal that sleeps", (1, 2, 30, 40), "answer", 3)
    seen = Observation("a.jpg", 60, 40, candidates={"vqa": (answer,)})
    labels = generate(ObservationTable.from_observations([seen]), ["vqa"])
    (row,) = labels.table.to_pylist()
    assert (row["source"], row["expression"], row["pseudo.rule"], row["pseudo.detection"]) == (
        "vqa", "the animal that sleeps", "answer", 3,
    )  # fmt: skip


def test_installed_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    def default(observation: Observation, options: Options) -> list[Candidate]:
        question = observation.extra["question"]
        return [Candidate(question, (0, 0, 30, 40), "question")]

    plugin = types.ModuleType("my_source")
    plugin.default = default
    monkeypatch.setitem(sys.modules, "my_source", plugin)
    point = EntryPoint("question", "my_source", sources.GROUP)
    monkeypatch.setattr(sources, "entry_points", lambda group: [point])
    seen = Observation("a.jpg", 60, 40, extra={"question": "what barks"})
    made = ObservationTable.from_observations([seen])
    assert generate(made, ["question"]).expressions == ["what barks"]
    with pytest.raises(InputError, match="has no preset 'published'"):
        generate(made, ["question"], options=Options("published"))


def test_a_stopped_call_goes_on_with_the_same_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GENERATE, "_SHARD", 2)
    seen = table(*(f"{i}.jpg" for i in range(7)))
    options = Options("published")
    whole = generate(seen, options=options)
    asked: list[str] = []
    real = GENERATE._visible

    def stop_at(name: str | None) -> None:
        def visible(observation: Observation, *rest: object) -> object:
            if observation.image == name:
                raise KeyboardInterrupt
            asked.append(observation.image)
            return real(observation, *rest)

        monkeypatch.setattr(GENERATE, "_visible", visible)

    stop_at("5.jpg")
    with pytest.raises(KeyboardInterrupt):
        generate(seen, options=options, store=tmp_path)
    asked.clear()
    stop_at(None)
    again = generate(seen, options=options, store=tmp_path)
    assert asked == ["4.jpg", "5.jpg", "6.jpg"]
    assert again.table.equals(whole.table)
    generate(seen, options=Options("published", seed=1), store=tmp_path)
    assert len(asked) == 3  # another draw needs no new candidates
    generate(seen, options=Options("published", objects=1), store=tmp_path)
    assert len(asked) == 10
    assert len(list(tmp_path.iterdir())) == 1


def test_captions_parsed_otherwise_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dog = Detection("dog", (0, 0, 30, 40), 0.9)
    seen = ObservationTable.from_observations(
        [Observation("a.jpg", 60, 40, (dog,), captions=("A dog on a bed.",))]
    )
    tools = []
    for parser in ("rules", "en_core_web_sm 1", "en_core_web_sm 2", "en_core_web_sm 2"):
        monkeypatch.setattr(caption, "describe_parser", lambda pipeline, parser=parser: parser)
        generate(seen, ["caption"], store=tmp_path)
        tools.append(len(list(tmp_path.rglob("caption-*"))))
    assert tools == [1, 2, 3, 3]


@pytest.fixture
def observed(tmp_path: Path) -> Path:
    table("a.jpg", "b.jpg").write(tmp_path / "seen.jsonl")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    code = main(["generate", *map(str, words)])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_the_command_writes_labels(observed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = observed / "labels.parquet"
    code, text, _ = run(capsys, "--observations", observed / "seen.jsonl", "--out", out, "--json")
    result = json.loads(text)
    assert code == 0
    assert (result["images"], result["labels"], result["dropped"]) == (2, {"template": 12}, [])
    assert result["seconds"] > 0
    assert len(read_labels(out)) == 12
    assert sorted(path.name for path in observed.iterdir()) == ["labels.parquet", "seen.jsonl"]
    code, text, _ = run(capsys, "--observations", observed / "seen.jsonl", "--out", out)
    assert code == 0
    assert "12 labels of 2 images (2 observed)" in text


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--out", "labels.txt"], "cannot write .txt; choose from .parquet"),
        (["--out", "labels.pth"], "choose --layout from unc"),
        (["--out", "labels.csv", "--sources", "tempate"], "did you mean 'template'?"),
        (["--out", "labels.csv", "--sources", "caption"], "needs captions"),
        (["--out", "labels.csv", "--objects", "0"], "objects is 0, expected at least 1"),
        (["--out", "labels.csv", "--min_score", "0.95"], "lower it"),
        (["--out", "labels.csv", "--images", "none"], "--images none: no such folder"),
    ],
)
def test_wrong_words_end_with_one_line(
    observed: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    fault: str,
) -> None:
    monkeypatch.chdir(observed)
    code, text, error = run(capsys, "--observations", "seen.jsonl", *words)
    assert (code, text) == (2, "")
    assert fault in error
    assert len(error.strip().splitlines()) == 1
    assert [path.name for path in observed.iterdir()] == ["seen.jsonl"]


def test_ctrl_c_says_what_is_kept(
    observed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(kept.CandidateStore, "find", stop)
        words = ["--observations", observed / "seen.jsonl", "--out", observed / "labels.csv"]
        code, _, error = run(capsys, *words)
    assert code == 130
    assert "are kept beside --out" in error
    assert (observed / "labels.csv.parts").is_dir()
    assert run(capsys, *words)[0] == 0
    assert not (observed / "labels.csv.parts").exists()


def test_two_processes_refuse(observed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from clipvg.runtime.lock import Lock

    words = ["--observations", observed / "seen.jsonl", "--out", observed / "labels.csv"]
    with Lock(observed / "labels.csv"):
        code, _, error = run(capsys, *words)
    assert code == 2
    assert f"in use by process {os.getpid()}" in error
