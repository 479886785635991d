import subprocess
import sys
import time

import pytest

import clipvg as package
from clipvg.cli.commands import COMMANDS, load_command


def test_help_lists_every_command(clipvg):
    outcome = clipvg("--help")
    assert outcome.code == 0
    assert all(f"  {name} " in outcome.out for name in COMMANDS)
    assert clipvg().out == outcome.out


def test_version(clipvg):
    assert clipvg("--version").out.strip() == f"clipvg {package.__version__}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_to_copy(clipvg, name):
    outcome = clipvg(name, "--help")
    assert outcome.code == 0
    assert outcome.err == ""
    example = outcome.out.rsplit("example:\n", 1)[1].strip()
    assert example.startswith(f"clipvg {name}")
    assert "--json" in outcome.out


def test_examples_are_accepted_by_their_own_parsers():
    import shlex

    for name in COMMANDS:
        command = load_command(name)
        args = command.parse(shlex.split(command.example)[2:])
        assert args.command_line == shlex.split(command.example)


def test_help_is_fast_and_imports_no_torch():
    code = (
        "import sys\nfrom clipvg.cli import main\nmain(['--help'])\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules, file=sys.stderr)"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    assert done.stderr.split() == ["False", "False"]
    assert seconds < 1


def test_module_is_the_command_line():
    done = subprocess.run(
        [sys.executable, "-m", "clipvg", "trian"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "clipvg: error: unknown command 'trian'; did you mean train?\n"
