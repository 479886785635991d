"""The examples of third-party pseudo-label sources run, from their input to labels."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from clipvg.pseudo import Options, read_observations
from clipvg.pseudo.generate import generate

EXAMPLES = Path(__file__).parents[2] / "examples"
BOXES = [[10, 20, 60, 90], [70, 20, 130, 90], [140, 20, 190, 90]]


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package that names the example in its entry points, as pip would."""
    info = tmp_path / "my_sources-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-sources\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[clipvg.sources]\nvqa = vqa_source\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    yield
    sys.modules.pop("vqa_source", None)


@pytest.mark.usefixtures("installed")
def test_questions_and_answers_by_an_entry_point(tmp_path: Path) -> None:
    pairs = [
        ("What color is the cup?", "Red", BOXES[0]),
        ("What is the dog doing?", "sleeping", BOXES[1]),
        ("Where is the cat?", "on the sofa", BOXES[2]),
        ("Is the man wearing a hat?", "yes", BOXES[0]),
        ("Is the man wearing a tie?", "no", BOXES[0]),
        ("How many dogs are there?", "2", BOXES[1]),
        ("What color is the bowl?", "blue", BOXES[0]),
        ("What color is the bowl?", "blue", BOXES[1]),
    ]
    questions = [
        {"question": question, "answer": answer, "box": box} for question, answer, box in pairs
    ]
    file = tmp_path / "questions.jsonl"
    line = {"image": "a.jpg", "width": 200, "height": 100, "questions": questions}
    file.write_text(json.dumps(line) + "\n")
    labels = generate(read_observations(file), ["vqa"], options=Options(seed=0))
    assert labels.expressions == [
        "red cup",
        "dog sleeping",
        "cat on the sofa",
        "man wearing a hat",
    ]
    assert labels.table.column("pseudo.rule").to_pylist() == ["colour", "activity", "place", "yes"]
    assert set(labels.sources()) == {"vqa"}
    assert labels.boxes()[2].tolist() == BOXES[2]


def test_navigation_instructions_by_a_file(tmp_path: Path) -> None:
    instructions = [
        "Walk past the red chair and wait next to the wooden table with the lamp.",
        "Stop by the sink, then stop in front of the white door and turn around.",
        "Go up the stairs.",
    ]
    lines = [
        {"image": "a.jpg", "width": 200, "height": 100, "instruction": text, "goal": box}
        for text, box in zip(instructions, BOXES, strict=True)
    ]
    source, target = tmp_path / "instructions.jsonl", tmp_path / "observations.jsonl"
    source.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    assert load_example("navigation_labels").main(source, target) == 1
    labels = generate(read_observations(target), ["navigation"])
    assert labels.expressions == ["wooden table with the lamp", "white door"]
    assert labels.boxes().tolist() == BOXES[:2]
    assert labels.sources() == ["navigation"] * 2
