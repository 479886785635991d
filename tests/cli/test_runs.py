"""Training and adapting from the shell, their YAML files, and the report of a run."""

import json

import numpy as np
import pytest
import yaml

from clipvg.configs import list_recipes
from clipvg.labels import LabelTable, read_labels

MODEL = {"pretrained": None, "width": 16, "layers": 1, "heads": 2, "feedforward": 16}
TRAINING = {"epochs": 2, "batch_size": 4, "augment": False}
QUICK = {"backbone": "clipvg-tiny", "model": MODEL, "training": TRAINING}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "quick.yaml"
    path.write_text(yaml.safe_dump(QUICK))
    return path


@pytest.fixture
def words(labels, pictures, recipe, tmp_path):
    """The arguments of `clipvg train` and `clipvg adapt`."""
    return [
        labels, "--images", pictures, "--validation", labels, "--config", recipe,
        "--out", tmp_path / "run", "--quiet",
    ]  # fmt: skip


@pytest.mark.usefixtures("undrawn")
def test_train_writes_a_model_that_every_checkpoint_option_takes(
    clipvg, words, labels, pictures, tmp_path
):
    outcome = clipvg("train", *words, "--json")
    assert outcome.code == 0, outcome.err
    result = outcome.json
    assert result["model"] == str(tmp_path / "run" / "model")
    assert result["command"].startswith("clipvg train ")
    assert result["parameters"]["trainable"] > 0
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2]
    again = ("evaluate", labels, "--images", pictures, "--checkpoint", result["model"], "--json")
    assert clipvg(*again).json["count"] == 16


@pytest.mark.usefixtures("undrawn")
def test_the_command_line_wins_over_yaml_and_both_over_defaults(clipvg, words, tmp_path):
    assert clipvg("train", *words, "--training.epochs", 1, "--training.weight_decay=0.5").code == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["config"]
    assert config["training"]["epochs"] == 1
    assert config["training"]["weight_decay"] == 0.5
    assert config["training"]["batch_size"] == TRAINING["batch_size"]
    assert config["training"]["schedule"] == "cosine"


@pytest.mark.usefixtures("undrawn")
def test_a_run_is_not_continued_with_other_options(clipvg, words):
    assert clipvg("train", *words).code == 0
    assert "epochs is 2 there, 3 now" in clipvg("train", *words, "--training.epochs", 3).error


@pytest.mark.usefixtures("undrawn")
def test_what_was_refused_at_once_may_be_corrected(clipvg, words, tmp_path):
    assert "is unknown" in clipvg("train", *words, "--backbone", "clipvg-tyni").error
    assert clipvg("train", *words).code == 0


@pytest.mark.usefixtures("undrawn")
def test_labels_of_weight_zero_teach_nothing(clipvg, words, labels, pictures, tmp_path):
    table = read_labels(labels)
    weights = np.arange(len(table)) % 2
    table.with_column("weight", weights.astype(float)).write(tmp_path / "weighted.parquet")
    boxes = np.where(weights[:, None] == 1, table.boxes(), [[0, 0, 5, 5]])
    other = LabelTable.from_columns(
        image=table.image_names, expression=table.expressions, box=boxes.astype(float),
        weight=weights.astype(float),
    )  # fmt: skip
    other.write(tmp_path / "other.parquet")
    losses = [
        clipvg("train", path, *words[1:-2], tmp_path / path.stem, "--quiet", "--json").json["last"]
        for path in (tmp_path / "weighted.parquet", tmp_path / "other.parquet", labels)
    ]
    assert losses[0] == losses[1]
    assert losses[0]["loss"] != losses[2]["loss"]


def test_adapt_selects_and_draws_its_report(clipvg, words, tmp_path):
    outcome = clipvg("adapt", *words, "--search.start", 0.1, "--json")
    assert outcome.code == 0, outcome.err
    result = outcome.json
    assert result["method"] == "ssa"
    assert result["options"]["start"] == 0.1
    assert len(result["stages"]) >= 3
    page = tmp_path / "run" / "report.html"
    first = page.read_text()
    assert "Models that were trained" in first
    assert "red thing" in first
    assert "&lt;b&gt;" in first
    assert "<b>" not in first
    assert first.count("<img") > 2 + 4  # two figures, and pictures with boxes
    page.unlink()
    assert clipvg("report", tmp_path / "run").code == 0
    assert page.read_text() == first


@pytest.mark.usefixtures("undrawn")
def test_adapt_prints_a_table_and_a_finished_run_is_read_again(clipvg, words):
    first = clipvg("adapt", *words, "--search.start", 0.1)
    assert "all labels" in first.out
    assert "(chosen)" in first.out
    assert clipvg("adapt", *words, "--search.start", 0.1).out == first.out


def test_print_config_shows_the_resolved_values(clipvg, words):
    outcome = clipvg("train", *words, "--print_config")
    assert outcome.code == 0
    assert yaml.safe_load(outcome.out)["model"]["width"] == 16


@pytest.mark.parametrize("command", ["train", "adapt"])
def test_a_printed_config_is_accepted(clipvg, words, tmp_path, command):
    first = clipvg(command, *words, "--print_config")
    (tmp_path / "printed.yaml").write_text(first.out)
    again = clipvg(command, *words, "--config", tmp_path / "printed.yaml", "--print_config")
    assert again.code == 0, again.err
    assert again.out == first.out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "training: {epochz: 3}\nbatch-size: 4",
            "unknown keys 'training.epochz' (did you mean training.epochs?), 'batch-size' (did",
        ),
        ("epochs: [3", "not YAML"),
        ("- epochs", "expected lines of the form"),
        ("training: 3", "training is a section"),
        ("training: {epochs: many}", "training.epochs: expected int, got many"),
        ("training: {epochs: 0}", "epochs is 0, expected at least 1"),
        ("training: {amp: int8}", "training.amp: expected one of 'none', 'bf16', 'fp16', got int8"),
        (
            "model: {heads: 3, width: 16}",
            "--model.width 16 is not divisible by --model.heads 3",
        ),
    ],
)
def test_bad_yaml(clipvg, words, recipe, content, message):
    recipe.write_text(content)
    line = clipvg("train", *words).error
    assert message in line
    assert str(recipe) in line


def test_what_was_typed_is_not_blamed_on_yaml(clipvg, words, recipe):
    line = clipvg("train", *words, "--training.epochs", "few").error
    assert "--training.epochs: expected int, got few" in line
    assert str(recipe) not in line


def test_a_missing_recipe_lists_those_of_the_package(clipvg, labels, pictures, tmp_path):
    words = (labels, "--images", pictures, "--out", tmp_path / "run")
    line = clipvg("train", *words, "--config", "unsuperwised").error
    assert "supervised, unsupervised" in line


@pytest.mark.parametrize("name", list_recipes())
def test_recipes_open_with_their_command_and_fit_a_screen(clipvg, name, repository):
    from clipvg.cli.commands import load_command

    text = (repository / "clipvg" / "configs" / f"{name}.yaml").read_text()
    assert f"--config {name}" in text
    assert "Acc@0.5" in text
    assert len(text.splitlines()) <= 40
    command = "train" if "clipvg train" in text else "adapt"
    args = load_command(command).parse(
        command, ["l", "--images", "d", "--out", "o", "--config", name]
    )
    for key, value in yaml.safe_load(text).items():
        found = getattr(args, key)
        for option, part in value.items() if isinstance(value, dict) else ():
            assert getattr(found, option) == part
        assert isinstance(value, dict) or found == value


def test_published_recipes_match_the_published_flags(clipvg):
    from clipvg.cli.commands import load_command

    for command, name, batch in (("adapt", "unsupervised", 384), ("train", "supervised", 320)):
        args = load_command(command).parse(
            command, ["l", "--images", "d", "--out", "o", "--config", name]
        )
        training, model = args.training, args.model
        assert training.batch_size * training.accumulate == batch
        assert (training.epochs, training.lr, training.schedule, training.weight_decay) == (
            110, 2.5e-4, "cosine", 1e-4,
        )  # fmt: skip
        assert (
            training.crop, training.scale, training.translate, training.jitter, training.blur,
        ) == (True, True, True, True, False)  # fmt: skip
        assert (model.preset, args.backbone, model.pretrained) == (
            "published", "ViT-B-16", "openai",
        )  # fmt: skip
