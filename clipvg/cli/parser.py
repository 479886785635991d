"""Argument parser: jsonargparse with one-line errors, near matches and an example in the help."""

from __future__ import annotations

import argparse
import os
import sys
from argparse import Action, Namespace
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from clipvg.cli.failure import UsageError
from clipvg.configs import find_recipe, list_recipes
from clipvg.errors import InputError, one_line, printable
from clipvg.runtime.fields import in_words
from clipvg.runtime.files import Json
from clipvg.runtime.gate import read_yaml


class _HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of the example, and shows defaults instead of types."""

    def _get_help_string(self, action: Action) -> str:
        text = (action.help or "").replace("`", "")
        if action.required:
            return f"{text} (required)"
        default = action.default
        if action.nargs == 0 or default is None or default in ([], argparse.SUPPRESS):
            return text
        words = default if isinstance(default, list) else [default]
        shown = [str(word).lower() if isinstance(word, bool) else str(word) for word in words]
        return f"{text} (default: {' '.join(shown)})"


class CommandParser(ArgumentParser):
    """Parser of one command; raises `UsageError` instead of exiting.

    Options may be written with dashes or underscores: ``--batch-size`` is ``--batch_size``, the
    name that Python and YAML use. Options of a group are ``--group.name``, and a section in YAML.
    """

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        """See `jsonargparse.ArgumentParser`; `example` ends the help."""
        kwargs.setdefault("formatter_class", _HelpFormatter)
        if example:
            kwargs["epilog"] = f"example:\n  {example}"
        super().__init__(*args, exit_on_error=False, allow_abbrev=False, **kwargs)
        self._typed: set[str] = set()  # names of the options on the command line
        self._files: dict[str, tuple[str, object]] = {}  # option -> YAML file that sets it, value

    def add_argument(self, *args: Any, **kwargs: Any) -> Action:
        """Add an argument as argparse does; its type is str by default."""
        if kwargs.get("action", "append") == "append":
            kwargs.setdefault("type", str)
        return super().add_argument(*args, **kwargs)

    def show_first(self, names: Sequence[str]) -> None:
        """Show these arguments first in the help, whichever group they are in."""
        first = self.add_argument_group("main arguments")
        action_of = {action.dest: action for action in self._actions}
        for name in names:
            action = action_of[name]
            for group in self._action_groups:
                if action in group._group_actions:
                    group._group_actions.remove(action)
            first._group_actions.append(action)
        self._action_groups = [first, *self._action_groups[:-1]]

    def shorten_usage(self) -> None:
        """Limit the usage line to positional arguments and required options."""
        words = []
        for action in self._actions:
            if action.dest == "print_config":
                action.help = "print the options as YAML, after the other arguments, and exit"
            name = str(action.metavar)
            if action.option_strings:
                words += [f"{action.option_strings[0]} {name}"] if action.required else []
            else:
                words.append(
                    {"+": f"{name} …", "?": f"[{name}]", "*": f"[{name} …]"}.get(
                        str(action.nargs), name
                    )
                )
        self.usage = " ".join(["%(prog)s", *words, "[options]"])

    def parse_words(self, words: Sequence[str]) -> Namespace:
        """Parse the words of a command line.

        Returns:
            The values, and beside them `command_line`, the words as typed; `options` and `flags`,
            all long options and those without a value; and `files`, the YAML file of every option
            that one of them set, unless it was typed as well.
        """
        for word in words:
            if word.encode(errors="replace").decode() != word:  # a lone surrogate
                raise UsageError(f"{printable(word)} is not text in UTF-8")
        plain = [_with_underscores(word) for word in words]
        typed = [_option(word) for word in plain[: (*plain, "--").index("--")]]
        self._refuse_unknown([name for name in typed if name])
        self._typed = {name for name in typed if name}
        for index, path in reversed(_config_files(plain)):
            found = find_recipe(path)
            plain[index] = plain[index].replace(path, found)
            values = self._read(found)
            self._files = {name: (found, value) for name, value in values.items()} | self._files
            if not values:  # an empty file sets nothing
                del plain[index - (plain[index] == found) : index + 1]
        try:
            args = Namespace(**vars(self.parse_args(plain)))
        except OverflowError as error:  # an integer too large to be a float
            large = {file for file, value in self._files.values() if _is_too_large(value)}
            where = "".join(f"{file}: " for file in sorted(large))
            self.error(f"{where}a number is too large for its option", error)
        self._refuse_empty(args)
        args.command_line = [*(self.prog or "").split(), *words]
        long = {n: a for n, a in self._option_string_actions.items() if n.startswith("--")}
        args.options, args.flags = [*long], [n for n, action in long.items() if action.nargs == 0]
        args.files = {name: file for name, (file, _) in self._files.items() if name not in typed}
        return args

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise `UsageError` with one line."""
        what, _, rest = message.partition(": ")
        see = f"{self.prog} --help shows an example"
        if what == "the following arguments are required":
            missing = [self._shown(name) for name in rest.split(", ")]
            raise UsageError(f"missing {', '.join(missing)}; {see}") from ex
        if what == "unrecognized arguments":
            raise UsageError(f"unexpected {rest}; {see}") from ex
        _, quote, key = message.partition('Parser key "')
        if quote and (name := key.partition('"')[0]) in self._by_name():
            raise UsageError(self._wrong_value(name, one_line(message))) from ex
        raise UsageError(one_line(message)) from ex

    def _by_name(self) -> dict[str, Action]:
        """Return the arguments by the names that YAML files use."""
        return {
            action.dest: action
            for action in self._actions
            if action.dest not in {"help", "config", "print_config"}
        }

    def _shown(self, name: str) -> str:
        """Return an argument as it is typed."""
        action = self._by_name().get(name)
        return action.option_strings[0] if action and action.option_strings else name.upper()

    def _refuse_unknown(self, names: Sequence[str]) -> None:
        known = [option[2:] for option in self._option_string_actions if option.startswith("--")]
        unknown = [name for name in names if name not in known]
        if unknown:
            hints = [f"--{name} {_hint(name, known, '--')}".strip() for name in unknown]
            raise UsageError(
                f"unknown option {', '.join(hints)}; {self.prog} --help lists the options"
            )

    def _refuse_empty(self, args: Namespace) -> None:
        """Refuse "", which unset shell variables give and `Path` takes for the working folder."""
        for name, action in self._by_name().items():
            at: Any = args
            for part in name.split("."):
                at = getattr(at, part, None)
            if "" in (at if isinstance(at, list) else [at]):
                typed = action.option_strings[0] if action.option_strings else action.metavar
                raise UsageError(f"{typed} is empty; is a variable of the shell not set?")

    def _read(self, path: str) -> Json:
        """Return the options that a YAML file sets; those in sections are ``section.name``."""
        try:
            content = read_yaml(path, "YAML")
        except InputError as error:
            hint = f"; or name a recipe of the package: {', '.join(list_recipes())}"
            raise UsageError(f"{error}{'' if os.path.exists(path) else hint}") from error
        if content is not None and not isinstance(content, dict):
            raise UsageError(f"{path}: expected lines of the form 'option: value'")
        known = self._by_name()
        sections = {name.partition(".")[0] for name in known if "." in name}
        found: Json = {}
        for key, value in (content or {}).items():
            if key not in sections:
                found[str(key)] = value
            elif isinstance(value, Mapping):
                found |= {f"{key}.{name}": inner for name, inner in value.items()}
            else:
                raise UsageError(f"{path}: {key} is a section; expected its options below it")
        unknown = [f"{key!r} {_hint(key, known)}".strip() for key in found if key not in known]
        if unknown:
            raise UsageError(
                f"{path}: unknown {'key' if len(unknown) == 1 else 'keys'} {', '.join(unknown)}; "
                f"{self.prog} --help lists them"
            )
        for key, value in found.items():
            if known[key].nargs in ("+", "*") and not isinstance(value, list):
                raise UsageError(f"{path}: {key}: expected a list, got {value}")
        return found

    def _wrong_value(self, name: str, message: str) -> str:
        value = message.rpartition("value: ")[2]  # of "Got value: x" and "Given value: x"
        file, given = self._files.get(name, ("", None))
        of_file = file and (name not in self._typed or str(given) == value)
        where = f"{file}: {name}" if of_file else self._shown(name)
        kind = in_words(getattr(self._by_name()[name], "_typehint", None))
        return f"{where}: expected {kind}, got {value}"


def _hint(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return the nearest names in brackets, from the name's own group or else from all."""
    group, _, word = name.replace("-", "_").rpartition(".")
    of_group = [option for option in known if option.startswith(f"{group}.")]
    places: dict[str, list[str]] = {}
    for option in of_group or known:
        places.setdefault(option.rpartition(".")[2], []).append(prefix + option)
    close = get_close_matches(word, places, n=3, cutoff=0.6)
    near = [option for each in close for option in places[each]]
    return f"(did you mean {' or '.join(near)}?)" if near else ""


def _option(word: str) -> str | None:
    """Return the name of the option that a word of a command line gives; None for other words."""
    name = word.partition("=")[0]
    is_option = name.startswith("--") and len(name) > 2 and not any(map(str.isspace, name))
    return name[2:] if is_option else None


def _with_underscores(word: str) -> str:
    name = _option(word)
    return f"--{name.replace('-', '_')}{word[len(name) + 2 :]}" if name else word


def _config_files(words: Sequence[str]) -> list[tuple[int, str]]:
    """Return the YAML files of --config: for each, the index of its word and its path."""
    found = []
    for index, word in enumerate(words):
        if word == "--config" and index + 1 < len(words):
            found.append((index + 1, words[index + 1]))
        elif word.startswith("--config="):
            found.append((index, word.partition("=")[2]))
    return found


def _is_too_large(value: object) -> bool:
    """Return whether a value is, or lists, an integer too large for a float."""
    values = value if isinstance(value, list) else [value]
    return any(isinstance(each, int) and abs(each) > sys.float_info.max for each in values)
