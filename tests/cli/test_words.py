"""Messages of the commands: in the shell's terms, said once, and naming the file at fault."""

from __future__ import annotations

import json

import pytest
import yaml

from clipvg.cli.failure import as_typed, explain

pytestmark = pytest.mark.usefixtures("undrawn")

MODEL = {"pretrained": None, "width": 16, "layers": 1, "heads": 2, "feedforward": 16}
QUICK = {
    "backbone": "clipvg-tiny",
    "model": MODEL,
    "training": {"epochs": 1, "batch_size": 8, "augment": False},
}


@pytest.fixture
def words(labels, pictures, tmp_path):
    """The arguments of `clipvg train` and `clipvg adapt`."""
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(QUICK))
    return [
        labels, "--images", pictures, "--validation", labels, "--config", tmp_path / "quick.yaml",
        "--out", tmp_path / "run",
    ]  # fmt: skip


def test_help_and_version_by_their_usual_names(clipvg):
    assert clipvg("help").out == clipvg("--help").out
    assert clipvg("help", "info").out == clipvg("info", "--help").out
    assert clipvg("-v").out == clipvg("--version").out


def test_arguments_are_called_as_they_are_typed():
    assert as_typed("pass outside=True", ["--outside"], ["--outside"]) == "pass --outside"
    options = ["--on_error", "--model.pretrained", "--training.cache_features"]
    said = "read with on_error='drop'; pretrained=None is random; cache_features=False; width=16"
    assert as_typed(said, options) == (
        "read with --on_error drop; --model.pretrained null is random; "
        "--training.cache_features false; width=16"
    )


def test_a_value_of_a_yaml_file_is_blamed_on_it(clipvg, words, tmp_path):
    path = tmp_path / "quick.yaml"
    path.write_text(yaml.safe_dump(QUICK | {"backbone": "clipvg-tyni"}))
    line = clipvg("train", *words).error
    assert f"{path}: backbone 'clipvg-tyni' is unknown" in line
    assert "clipvg info --backbones lists all" in line
    assert not (tmp_path / "run").exists()  # a refused run leaves nothing behind


def test_a_number_too_large_is_one_line_about_the_file(clipvg, words, tmp_path):
    path = tmp_path / "large.yaml"
    path.write_text("training:\n  lr: 1" + 400 * "0")
    outcome = clipvg("train", *words, "--config", path)
    assert outcome.code == 2
    assert f"{path}: a number is too large for its option" in outcome.error


def test_an_empty_yaml_file_sets_nothing(clipvg, words, tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    for option in (["--config", tmp_path / "empty.yaml"], [f"--config={tmp_path / 'empty.yaml'}"]):
        outcome = clipvg("train", *words, *option, "--print_config")
        assert outcome.code == 0, outcome.err
        assert yaml.safe_load(outcome.out)["model"]["width"] == 16


def test_backbones_are_listed(clipvg):
    names = clipvg("info", "--backbones").out.split()
    assert {"clipvg-tiny", "ViT-B-16"} <= set(names)


def test_a_device_is_no_output(clipvg, labels, pictures, checkpoint):
    words = (labels, "--images", pictures, "--measurer", checkpoint)
    line = clipvg("labels", "show", labels, "--images", pictures, "--out", "/dev/null").error
    assert "/dev/null is a device or pipe" in line
    assert clipvg("score", *words, "--out", "/dev/full").code == 2


def test_a_demo_does_not_go_where_a_run_is_nor_the_other_way(clipvg, words, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("config: {}\n...\n")
    assert "holds a run" in clipvg("demo", "--out", tmp_path / "run").error
    (tmp_path / "run" / "config.yaml").unlink()
    (tmp_path / "run" / "summary.json").write_text(json.dumps({"method": "demo"}))
    assert "holds a demo" in clipvg("train", *words, "--quiet").error


def test_a_model_of_nan_has_no_boxes(clipvg, checkpoint, pictures, tmp_path):
    from clipvg.model import load

    model = load(checkpoint)
    for parameter in model.head.parameters():
        parameter.data.fill_(float("nan"))
    model.save_pretrained(tmp_path / "nan")
    line = clipvg("predict", pictures / "0.png", "x", "--checkpoint", tmp_path / "nan").error
    assert "not finite" in line


def test_where_a_run_stands_is_said(clipvg, words, tmp_path):
    first = clipvg("train", *words)
    assert first.code == 0, first.err
    assert "resumes" not in first.err
    assert "finished on" in clipvg("train", *words).err
    (tmp_path / "run" / "summary.json").unlink()
    assert f"{tmp_path / 'run'}: resumes and a checkpoint" in clipvg("train", *words).err


def test_a_full_disk_says_what_is_kept(clipvg, words, tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        line = clipvg("train", *words, "--quiet", "--training.cache_features", "false").error
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"{tmp_path / 'run' / 'checkpoint.pt'}: File too large; the last checkpoint" in line
    outcome = clipvg("train", *words, "--quiet", "--training.cache_features", "false")
    assert outcome.code == 0, outcome.err


def test_a_killed_worker_is_no_riddle():
    message, is_input = explain(RuntimeError("DataLoader worker (pid(s) 12) exited unexpectedly"))
    assert "killed" in message
    assert not is_input


@pytest.mark.parametrize(
    "typed",
    [
        "train L --images I",
        "adapt L --images I",
        "score L --images I --measurer C",
        "score L --images I --measurer C --out scored.csv --store",
        "score L --images I --measurer C --out scored.csv --plot",
        "generate --observations L",
        "labels show L --images I",
        "predict I dog --checkpoint C",
        "export C",
        "demo",
    ],
)
def test_an_address_is_no_place_to_write(
    clipvg, labels, pictures, checkpoint, tmp_path, monkeypatch, typed
):
    monkeypatch.chdir(tmp_path)
    meant = {"L": labels, "I": pictures, "C": checkpoint}
    words = [meant.get(word, word) for word in typed.split()]
    option = [] if str(words[-1]).startswith("--") else ["--out"]
    ending = ".csv" if words[0] in {"score", "generate"} and option else ".png"
    line = clipvg(*words, *option, f"s3://bucket/out{ending}").error
    assert f"s3://bucket/out{ending}: only files on this machine are read and written" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", [["--out", ""], ["--out="], [""], ["--validation", ""]])
def test_an_empty_word_is_not_the_working_folder(clipvg, words, tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    all_words = [*given, *words] if given == [""] else [*words, *given]
    line = clipvg("train", *all_words).error
    assert f"{given[0].strip('=') or 'LABELS'} is empty" in line
    assert sorted(tmp_path.iterdir()) == before


def test_an_empty_value_of_a_yaml_file_is_refused_too(clipvg, words, tmp_path):
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(QUICK | {"validation": ""}))
    assert "--validation is empty" in clipvg("train", *words[:3], *words[5:]).error


def test_a_run_does_not_write_over_files_of_none(clipvg, words, tmp_path):
    (tmp_path / "run").mkdir()
    mine = tmp_path / "run" / "labels.parquet"
    mine.write_bytes(b"mine")
    assert f"{mine} already exists and belongs to no run" in clipvg("train", *words).error
    assert mine.read_bytes() == b"mine"


def test_a_file_is_no_run(clipvg, labels):
    assert "is not the directory of a run" in clipvg("report", labels).error
