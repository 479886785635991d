import json
import subprocess
import sys

import pytest

import clipvg as package
from clipvg.cli.commands import COMMANDS, load_command


def test_help_lists_every_command(clipvg):
    outcome = clipvg("--help")
    assert outcome.code == 0
    assert all(f"  {name} " in outcome.out for name in COMMANDS)
    assert clipvg().out == outcome.out


def test_help_of_a_group_lists_its_commands(clipvg):
    outcome = clipvg("labels", "--help")
    assert outcome.code == 0
    assert "  labels check " in outcome.out
    assert "  train " not in outcome.out
    assert clipvg("help", "labels").out == outcome.out


def test_version(clipvg):
    assert clipvg("--version").out.strip() == f"clipvg {package.__version__}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_to_copy(clipvg, name):
    outcome = clipvg(*name.split(), "--help")
    assert outcome.code == 0
    assert outcome.err == ""
    example = outcome.out.rsplit("example:\n", 1)[1].strip()
    assert example.startswith(f"clipvg {name}")
    assert "--json" in outcome.out


def test_examples_are_accepted_by_their_own_parsers():
    import shlex

    for name in COMMANDS:
        command = load_command(name)
        args = command.parse(name, shlex.split(command.example)[1 + len(name.split()) :])
        assert args.command_line == shlex.split(command.example)


def test_help_and_what_is_refused_import_no_torch(tmp_path):
    """All command lines run in one process, so an import by one would show in the next."""
    (tmp_path / "labels.csv").write_text("image,expression\na.jpg,dog\n")
    wrong = [f"{tmp_path}/labels.csv", "--images", f"{tmp_path}", "--out", f"{tmp_path}/out.csv"]
    lines = [["--help"], *([*name.split(), "--help"] for name in COMMANDS)]
    lines += [[name, "labels", "--stepz", "3"] for name in ("train", "adapt")]
    lines += [["train", *wrong], ["adapt", *wrong], ["score", *wrong, "--measurer", "c"]]
    code = (
        "import json, sys\nfrom clipvg.cli import main\n"
        "for line in json.loads(sys.argv[1]):\n    main(line)\n"
        "    print(*line, '|', *{'numpy', 'torch'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(lines)], capture_output=True, text=True, check=True
    )
    told = [line for line in done.stderr.splitlines() if " |" in line]
    assert len(told) == len(lines)
    assert told[0] == "--help |"  # not even numpy
    assert not [line for line in told if "torch" in line.partition(" |")[2]]


def test_a_group_names_its_commands(clipvg):
    names = [f"clipvg {name}" for name in COMMANDS if name.startswith("labels ")]
    assert clipvg("labels").error == (
        f"clipvg: error: 'labels' is a group of commands; write {' or '.join(names)}"
    )
    assert f"write {names[0]} or" in clipvg("labels", "shwo").error


@pytest.mark.parametrize("name", ["train", "adapt"])
def test_help_begins_with_the_ten_options_that_matter_first(clipvg, name):
    _, _, first, options, *groups = clipvg(name, "--help").out.split("\n\n")
    assert first.startswith("main arguments:")
    assert sum(line.startswith("  ") and line[2] != " " for line in first.splitlines()) == 10
    titles = [text.partition(":")[0] for text in (options, *groups)]
    beyond = ["search", "beyond"] if name == "adapt" else []
    assert titles[: 3 + len(beyond)] == ["options", "model", "training", *beyond]


def test_module_is_the_command_line():
    done = subprocess.run(
        [sys.executable, "-m", "clipvg", "trian"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "clipvg: error: unknown command 'trian': did you mean 'train'?\n"
