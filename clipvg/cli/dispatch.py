"""Dispatch of a command line: find the command, run it, report its errors and end the process.

`clipvg --help` needs only this file and the table of commands; the module of a command, and with
it torch, is imported when that command is requested.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any, NoReturn, TextIO

import clipvg
from clipvg.cli.commands import COMMANDS, load_command
from clipvg.cli.failure import as_typed, explain, is_full
from clipvg.cli.processes import Alone, open_processes
from clipvg.errors import near_matches, one_line
from clipvg.runtime.waiting import shorten_waits

USAGE_ERROR = 2
INTERNAL_ERROR = 1
INTERRUPTED = 130


def dispatch(words: list[str]) -> int:
    """Run one command and return the exit code of the process; see `clipvg.cli.main`."""
    shorten_waits()
    try:
        if words[:1] == ["help"]:
            words = [*words[1:], "--help"]
        if not words or words[0] in {"-h", "--help"}:
            print(_overview())
            return 0
        if words[0] in {"-v", "-V", "--version"}:
            print(f"clipvg {clipvg.__version__}")
            return 0
        name = next((n for n in (" ".join(words[:2]), words[0]) if n in COMMANDS), None)
        if name is None and words[1:2] in (["-h"], ["--help"]) and _group(words[0]):
            print(_overview(_group(words[0])))
            return 0
        if name is None:
            return _fail("clipvg", _unknown(words[0]), USAGE_ERROR)
        # Signals that are ignored, such as SIGHUP under nohup, stay ignored.
        taken = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
        with _handled(taken, _end):
            return _run(name, words[len(name.split()) :])
    except BrokenPipeError:
        # The reader of our output has left, as in `clipvg info | head -1`; nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(name: str, words: Sequence[str]) -> int:
    prog = f"clipvg {name}"
    command, args, processes = None, None, Alone()
    message, code = "", 0
    try:
        with _stdout_for_results() as stdout:
            command = load_command(name)
            if command.is_shared:
                processes = open_processes(lambda rank: _fail(prog, _lost(rank), INTERNAL_ERROR))
            with contextlib.redirect_stdout(stdout):  # --help and --print_config are results
                args = command.parse(name, words)
            warnings.showwarning = partial(_warn, options=args.options, flags=args.flags)
            result = command.run(args)
        if os.environ.get("RANK", "0") == "0":  # under torchrun one process speaks for all
            command.show(result, as_json=args.json)
        code = USAGE_ERROR if command.failed(result) else 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else INTERNAL_ERROR
    except KeyboardInterrupt as stop:
        code = stop.code if isinstance(stop, _Ended) else INTERRUPTED
        message = f"interrupted; {command.kept if command else 'nothing ran.'}"
    except BrokenPipeError:
        raise
    except Exception as error:
        if os.environ.get("CLIPVG_DEBUG", "0") not in {"", "0"}:
            raise
        message, is_input = explain(error)
        code = USAGE_ERROR if is_input else INTERNAL_ERROR
        if args is not None:
            message = as_typed(_blamed(message, args), args.options, args.flags)
        if command is not None and is_full(error):
            message = f"{message}; {command.kept}"
    with _handled(_ENDING, _ignore):  # so that the last line is printed
        # Other codes may be due to another process: SIGTERM, or an error of communication.
        ending = processes.end(code, is_cause=code in {0, USAGE_ERROR, INTERRUPTED})
        if message and ending.speaks:
            lost = None if ending.lost is None else _lost(ending.lost)
            _fail(prog, f"{lost}; {command.kept}" if lost and command else message, code)
        return ending.code


def _lost(rank: int) -> str:
    return f"process {rank} of {os.environ['WORLD_SIZE']} was killed, or is silent"


def _blamed(message: str, args: Namespace) -> str:
    """Return the message, prefixed with the YAML file that set a value which it quotes, if any."""
    for name, file in args.files.items():
        section, _, field = name.rpartition(".")
        value = getattr(getattr(args, section) if section else args, field, None)
        if isinstance(value, str) and repr(value) in message and file not in message:
            return f"{file}: {message}"
    return message


class _Ended(KeyboardInterrupt):
    """Raised by a signal to end a command as Ctrl-C does, with the exit code 128 + number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number


# sent by Ctrl-C, by cluster schedulers, by a terminal that closes
_ENDING = [n for name in ("SIGINT", "SIGTERM", "SIGHUP") if (n := getattr(signal, name, None))]


def _end(number: int, _: object) -> NoReturn:
    """End the command; later signals are ignored so that it can still say what is kept."""
    for each in _ENDING:
        signal.signal(each, _ignore)
    raise _Ended(number)


def _ignore(number: int, _: object) -> None:
    """Do nothing; with SIG_IGN Python would complain about a signal that came just before."""


@contextlib.contextmanager
def _handled(numbers: Iterable[int], handler: Callable[[int, Any], Any] | int) -> Iterator[None]:
    """Install a handler for signals; does nothing outside the main thread, which alone can."""
    taken = numbers if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, handler) for number in taken}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextlib.contextmanager
def _stdout_for_results() -> Iterator[TextIO]:
    """Yield standard output for results; send all other prints and one-line warnings to stderr."""
    with (
        _native_output_on_stderr() as stdout,
        contextlib.redirect_stdout(sys.stderr),
        warnings.catch_warnings(),
    ):
        warnings.showwarning = _warn
        yield stdout


@contextlib.contextmanager
def _native_output_on_stderr() -> Iterator[TextIO]:
    """Yield standard output while file descriptor 1 leads to standard error.

    Native code writes to the descriptor and bypasses `sys.stdout`, as Gloo does in PyTorch 2.10.
    """
    try:
        is_own = sys.stdout.fileno() == 1 and sys.stderr.fileno() == 2
    except (AttributeError, OSError, ValueError):  # captured, closed or missing
        is_own = False
    if not is_own:
        yield sys.stdout
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        encoding, errors = sys.stdout.encoding, sys.stdout.errors
        with open(os.dup(kept), "w", encoding=encoding, errors=errors) as stdout:
            yield stdout
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _warn(
    message: Warning | str,
    *_: object,
    options: Iterable[str] = (),
    flags: Iterable[str] = (),
    **__: object,
) -> None:
    said = as_typed(one_line(str(message)), options, flags)
    print(f"clipvg: warning: {said}", file=sys.stderr)


def _fail(prog: str, message: str, code: int) -> int:
    print(f"{prog}: {'' if code > 128 else 'error: '}{message}", file=sys.stderr)
    return code


def _unknown(word: str) -> str:
    if word.startswith("-"):
        own = get_close_matches(word, ("--help", "--version"), n=1)
        hint = f"did you mean {own[0]}?" if own else f"write clipvg COMMAND {word} …"
        return f"unknown option {word} before the command; {hint}"
    if group := _group(word):
        return f"{word!r} is a group of commands; write clipvg {' or clipvg '.join(group)}"
    return f"unknown command {word!r}: {near_matches(word, COMMANDS)}"


def _group(word: str) -> list[str]:
    """Return the commands whose first word this is."""
    return [name for name in COMMANDS if name.startswith(f"{word} ")]


def _overview(names: Sequence[str] = tuple(COMMANDS)) -> str:
    width = max(map(len, names))
    return _OVERVIEW.format("\n".join(f"  {name:{width}}  {COMMANDS[name]}" for name in names))


_OVERVIEW = """\
usage: clipvg COMMAND [options]

Unsupervised visual grounding with CLIP: train on pseudo-labels, measure how reliable
each one is, and adapt on the reliable ones.

commands:
{}

options:
  -h, --help     this text; clipvg COMMAND --help shows an example
  -v, --version  the version

environment:
  CLIPVG_DEBUG=1    show the traceback of an error
  CLIPVG_BACKEND=B  force the operators' backend (clipvg info lists them)

example:
  clipvg demo --out runs/demo"""
