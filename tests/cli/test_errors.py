"""Bad input gives exit code 2 and one clear line; nothing reaches standard output."""

import json
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from clipvg.cli import dispatch
from clipvg.cli.failure import explain
from clipvg.errors import InputError, MissingExtraError
from clipvg.labels import read_labels


def test_unknown_words(clipvg):
    assert "did you mean 'predict'?" in clipvg("predct").error
    assert "choose from demo, observe, generate, train" in clipvg("xyz").error
    assert "before the command" in clipvg("--json", "info").error


def test_unknown_option_names_the_near_one(clipvg):
    line = clipvg("predict", "a.png", "dog", "--checkpont", "x").error
    assert "unknown option --checkpont (did you mean --checkpoint?)" in line
    line = clipvg("evaluate", "l", "--images", "d", "--checkpoint", "c", "--batch-sise=3").error
    assert "did you mean --batch_size?" in line
    assert "did you mean --json?" in clipvg("info", "--jsn").error
    assert "did you mean --training.epochs?" in clipvg("train", "l", "--epochs", 3).error
    assert "did you mean --beyond.soft?" in clipvg("adapt", "l", "--sofd", "true").error


def test_missing_required(clipvg):
    assert "missing IMAGE, EXPRESSION" in clipvg("predict").error
    assert "missing --checkpoint" in clipvg("predict", "a.png").error
    line = clipvg("predict", "a.png", "--checkpoint", "c").error
    assert "say what to look for, e.g. 'dog on the left'" in line
    assert "missing --images" in clipvg("evaluate", "labels.parquet").error
    line = clipvg("evaluate", "labels.parquet", "--images", "d").error
    assert "missing --checkpoint CKPT, or --grounder NAME" in line


def test_values_of_the_wrong_kind(clipvg):
    words = ("evaluate", "l", "--images", "d", "--checkpoint", "c")
    assert "--batch_size: expected int, got many" in clipvg(*words, "--batch-size", "many").error
    train = ("train", "l", "--images", "d", "--out", "o", "--training.steps", "many")
    assert "--training.steps: expected int or null, got many" in clipvg(*train).error
    line = clipvg(*words, "--against", "trth").error
    assert "--against: expected one of 'box', 'truth', got trth" in line


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--training.seed", -1),
        ("--model.position_std", -1),
        ("--training.epochs", 10**8),
        ("--training.num_workers", 10_000),
    ],
)
def test_numbers_out_of_range(clipvg, labels, pictures, tmp_path, option, value):
    words = ("train", labels, "--images", pictures, "--out", tmp_path / "run")
    line = clipvg(*words, option, value).error
    assert f"{option.rpartition('.')[2]} is {value}" in line
    assert "expected at" in line
    assert not (tmp_path / "run").exists()


def test_wrong_paths(clipvg, checkpoint, pictures, labels):
    assert "none.png" in clipvg("predict", "none.png", "x", "--checkpoint", checkpoint).error
    picture = pictures / "0.png"
    assert "nowhere" in clipvg("predict", picture, "x", "--checkpoint", "nowhere").error
    words = ("evaluate", "--images", pictures, "--checkpoint", checkpoint)
    assert "gone.parquet" in clipvg(*words, "gone.parquet").error
    assert "0.png" in clipvg("evaluate", labels, "--images", "gone", *words[3:]).error
    assert "empty" in clipvg("report", pictures / "empty").error


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n broken"])
def test_a_file_that_is_no_picture(clipvg, checkpoint, tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    assert str(path) in clipvg("predict", path, "x", "--checkpoint", checkpoint).error


def test_files_that_are_no_checkpoint(clipvg, tmp_path, pictures):
    (tmp_path / "a.pth").write_bytes(b"nothing of the kind")
    assert "a.pth" in clipvg("info", tmp_path / "a.pth").error
    assert str(pictures) in clipvg("info", pictures).error


def test_endings_are_refused_before_any_work(clipvg):
    line = clipvg("predict", "a.png", "x", "--checkpoint", "c", "--out", "boxes.doc").error
    assert "boxes.doc" in line
    words = ("score", "l", "--images", "d", "--measurer", "a=x")
    assert "scores.xls" in clipvg(*words, "--out", "scores.xls").error
    assert "h.doc" in clipvg(*words, "--out", "s.parquet", "--plot", "h.doc").error
    assert ".pth" in clipvg("export", "c", "--out", "model.bin").error


def test_two_measurers_of_one_name(clipvg, labels, pictures, tmp_path):
    line = clipvg(
        "score", labels, "--images", pictures, "--out", tmp_path / "s.parquet",
        "--measurer", "a=x", "--measurer", "a=y",
    ).error  # fmt: skip
    assert "two measurers are called 'a'" in line


def test_an_unknown_device_and_an_unknown_export_format(clipvg, checkpoint, pictures):
    line = clipvg("predict", pictures / "0.png", "x", "--checkpoint", checkpoint, "--device", "cqu")
    assert "choose from cpu" in line.error
    assert "got tflite" in clipvg("export", checkpoint, "--format", "tflite", "--out", "x").error


def test_an_export_does_not_go_over_its_checkpoint(clipvg, tmp_path):
    mine = tmp_path / "best.pth"
    mine.write_bytes(b"weights")
    line = clipvg("export", mine, "--out", mine).error
    assert f"{mine} would be written over {mine}, which is read" in line
    assert mine.read_bytes() == b"weights"


def test_a_second_image_is_no_expression(clipvg, pictures):
    image = pictures / "0.png"
    line = clipvg("predict", image, image, "dog", "--checkpoint", "c").error
    assert f"'{image}' is a file, not an expression; predict looks at one image a call" in line


def test_where_an_export_cannot_go_is_said_before_any_work(clipvg, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    onnx = ("export", "no-such-model", "--format", "onnx", "--out")
    assert "holds other files" in clipvg(*onnx, tmp_path).error
    assert "is a file" in clipvg(*onnx, tmp_path / "notes.txt").error
    assert "is a file" in clipvg(*onnx, tmp_path / "notes.txt" / "e").error
    assert "is the name of a file" in clipvg(*onnx, tmp_path / "model.onnx").error
    assert "int8" in clipvg(*onnx, "x", "--format", "torch", "--precision", "int8").error


def test_internal_failures_are_told_apart(clipvg, monkeypatch, capfd):
    def fail(*_):
        raise RuntimeError("first line\n  second line")

    monkeypatch.setattr(dispatch, "load_command", fail)
    outcome = clipvg("info")
    assert outcome.code == 1
    assert outcome.err == (
        "clipvg info: error: RuntimeError: first line second line "
        "(set CLIPVG_DEBUG=1 for the traceback)\n"
    )
    monkeypatch.setenv("CLIPVG_DEBUG", "1")
    with pytest.raises(RuntimeError):
        dispatch.dispatch(["info"])


INTERRUPTED = """
import atexit, signal, sys

when = sys.argv.pop(1)

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == when:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
if when == "end":
    atexit.register(signal.raise_signal, signal.SIGINT)
from clipvg.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("when", ["clipvg.cli.dispatch", "jsonargparse", "clipvg.cli.info", "end"])
def test_ctrl_c_at_any_moment_is_one_line(labels, when):
    words = ["labels", "check", labels] if when == "end" else ["info"]  # `info` imports torch
    command = [sys.executable, "-c", INTERRUPTED, when, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    if when != "end":
        assert done.returncode == 130
        assert [line.partition("; ")[0].split()[-1] for line in said] == ["interrupted"]


def test_ctrl_c_says_what_is_kept(clipvg, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "clipvg.demo", SimpleNamespace(run_demo=interrupt))
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    outcome = clipvg("demo", "--out", "somewhere")
    assert outcome.code == 130
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert outcome.out == ""
    assert len(outcome.err.splitlines()) == 1
    assert "run the same command again" in outcome.err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("a  b"), "a b"),
        (MissingExtraError("install it"), "install it"),
        (FileNotFoundError(2, "No such file or directory", "x.png"), "x.png: No such file"),
        (PermissionError(13, "Permission denied", "/root/x"), "/root/x: Permission denied"),
        (OSError("disk trouble"), "disk trouble"),
    ],
)
def test_errors_of_the_input_are_explained_in_one_line(error, message):
    text, is_input = explain(error)
    assert is_input
    assert text.startswith(message)
    assert "\n" not in text


def test_no_labels_and_no_folder_of_images(clipvg, checkpoint, pictures, labels, tmp_path):
    empty = tmp_path / "empty.parquet"
    read_labels(labels).select([]).write(empty)
    words = ("--images", pictures, "--checkpoint", checkpoint)
    assert "empty.parquet: no labels" in clipvg("evaluate", empty, *words).error
    score = ("--measurer", checkpoint, "--out", tmp_path / "s.parquet")
    assert "no labels" in clipvg("score", empty, "--images", pictures, *score).error
    line = clipvg("score", labels, "--images", "gone", *score).error
    assert "--images gone: no such folder" in line
    assert not (tmp_path / "s.parquet").exists()


def test_an_empty_expression(clipvg):
    line = clipvg("predict", "a.png", "dog", " ", "--checkpoint", "c").error
    assert "expression 1 is blank" in line


def test_sizes_that_make_no_sense(clipvg, checkpoint, pictures, labels):
    words = ("evaluate", labels, "--images", pictures, "--checkpoint", checkpoint)
    assert "batch_size is 0" in clipvg(*words, "--batch_size", 0).error
    assert "num_workers is -1" in clipvg(*words, "--num_workers=-1").error
    words = ("predict", pictures / "0.png", "dog", "--checkpoint", checkpoint)
    assert "batch_size is 0" in clipvg(*words, "--batch_size", 0).error


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("evaluate a.csv --images . --checkpoint c --out b.csv --num_workers 2", "--num_workers"),
        ("generate --observations a.json --out b.csv --device cpu", "--device looks at boxes"),
        ("labels show a.csv --images . --out b.html --device cpu", "--device is where"),
        ("reproduce ref-l4 --data . --out b --batch_size 8", "--batch_size is for the tables"),
    ],
)
def test_options_that_would_go_unnoticed_are_refused(
    clipvg, tmp_path, monkeypatch, words, expected
):
    monkeypatch.chdir(tmp_path)
    outcome = clipvg(*words.split())
    assert outcome.code == 2
    assert expected in outcome.error


@pytest.mark.parametrize("place", ["file/scores{}", "folder{}"])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(clipvg, tmp_path, place):
    (tmp_path / "file").write_text("")
    for suffix in (".parquet", ".png"):
        (tmp_path / f"folder{suffix}").mkdir()
    out, picture = (tmp_path / place.format(suffix) for suffix in (".parquet", ".png"))
    score = ("score", "l", "--images", "d", "--measurer", "a=x", "--out")
    assert str(out) in clipvg(*score, out).error
    assert str(picture) in clipvg(*score, "s.parquet", "--plot", picture).error
    predict = ("predict", "a.png", "x", "--checkpoint", "c", "--out", picture)
    assert str(picture) in clipvg(*predict).error


def test_a_checkpoint_that_is_not_there_is_one_short_line(clipvg, tmp_path):
    for number in range(30):
        (tmp_path / f"something-{number}").write_text("")
    line = clipvg("info", tmp_path / "elsewhere").error
    assert "does not exist" in line
    assert len(line) < 120 + len(str(tmp_path))
    (tmp_path / "model").mkdir()
    assert f"did you mean {tmp_path / 'model'}?" in clipvg("info", tmp_path / "modle").error


def test_options_of_the_search_are_refused_before_any_training(clipvg, labels, pictures, tmp_path):
    words = ("adapt", labels, "--images", pictures, "--out", tmp_path / "run")
    assert "start threshold 2.0 is outside" in clipvg(*words, "--search.start", 2).error
    assert "step is 0.0" in clipvg(*words, "--search.step", 0).error
    assert "holdout is 3.0" in clipvg(*words, "--search.holdout", 3).error
    assert not (tmp_path / "run").exists()


def test_what_native_code_prints_is_no_result():
    program = """
import os, sys
from types import SimpleNamespace

def run_demo(*_, **__):
    os.write(1, b"printed by a library\\n")
    return {"method": "demo"}

sys.modules["clipvg.demo"] = SimpleNamespace(run_demo=run_demo)
from clipvg.cli import main
sys.exit(main(["demo", "--out", "nowhere", "--json"]))
"""
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout)["method"] == "demo"
    assert ran.stderr == "printed by a library\n"
