"""``--config``: options from a TOML file, and back. A table for each command; its keys are the command's long options,
and the optional arguments such as PAIRS. What is on the command line wins."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastrnn.cli._commands import COMMANDS
from fastrnn.cli._parse import CliError, Parser, closest, reason

__all__ = ["toml", "with_config"]

NEVER = ("help", "config", "print-config", "debug")
UNPRINTED = ("command", "run", "talks", "saves", "quiet", "no_progress", "json")  # not what a run does
# What an argument's type returns: what TOML may have for it.
KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "str": ((str,), "a string"),
    "list[int]": ((int, list), "a whole number, or a list of them"),
    "list[str]": ((str, list), "a string, or a list of them"),
}
OTHERS: tuple[tuple[type, ...], str] = ((str, list), "a string, or a list of them")


def with_config(parser: Parser, args: list[str]) -> list[str]:
    """Arguments of a command with those of its ``--config`` before them."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--config")
    try:
        path = finder.parse_known_args(args)[0].config
    except argparse.ArgumentError:  # no file behind it, which the command's own parser says
        return args
    if path is None:
        return args
    name = parser.prog.rpartition(" ")[2]
    try:
        return [*_arguments(parser, _table(Path(path), name), args), *args]
    except CliError as error:
        parser.error(f"--config: {path}: {error}")


def _reader() -> Any:
    for name in ("tomllib", "tomli"):  # Python's own from 3.11 on
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise CliError('Python 3.10 reads TOML with tomli: pip install "fastrnn[cli]"')


def _table(path: Path, name: str) -> dict[str, Any]:
    """A command's table."""
    reader = _reader()
    try:
        tables = reader.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CliError(reason(OSError(error.errno, error.strerror))) from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise CliError(str(error)) from None
    known = [name for name, entry in COMMANDS.items() if entry.config]
    for key, value in tables.items():
        if not isinstance(value, dict):
            raise CliError(f"{key}: expected options in the table of a command, such as [{name}]")
        if key not in known:
            raise CliError(f"[{key}]: expected one of {', '.join(f'[{each}]' for each in known)}{closest(key, known)}")
    if name not in tables:
        raise CliError(f"has no table [{name}]")
    found: dict[str, Any] = tables[name]
    return found


def _arguments(parser: Parser, table: dict[str, Any], args: list[str]) -> list[str]:
    """The options of a table as they would be on the command line; defaults of optional arguments are set."""
    known = {_key(action): action for action in parser._actions if _key(action) not in NEVER}
    found: list[str] = []
    for given, value in table.items():
        key = given.replace("_", "-")
        where = f"[{parser.prog.rpartition(' ')[2]}] {given}"
        if key not in known:
            raise CliError(f"{where}: no such option{closest(key, known)}")
        action = known[key]
        if not action.option_strings and action.required:
            raise CliError(f"{where}: {action.metavar} is named on the command line")
        texts = _texts(action, value, where)
        if not action.option_strings:
            action.default = texts[0]
        elif action.nargs == 0:
            # the command line may unset what the file sets
            parser.add_argument(
                f"--no-{key}", dest=action.dest, action="store_false", default=argparse.SUPPRESS, help=argparse.SUPPRESS
            )
            found += [f"--{key}"] if value else []
        elif not _instead(parser, action, args):
            _alone(parser, action, table, where)
            found += [f"--{key}={text}" for text in texts]
    return found


def _key(action: argparse.Action) -> str:
    """The name of an option in the file."""
    return max(action.option_strings, key=len, default=action.dest).lstrip("-").replace("_", "-")


def _texts(action: argparse.Action, value: Any, where: str) -> list[str]:
    """A value as arguments, checked as they would be."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise CliError(f"{where}: expected true or false, got {_described(value)}")
        return []
    returned = getattr(action.type, "__annotations__", {}).get("return", "str")
    types, expected = KINDS.get(returned, OTHERS)
    items = value if isinstance(value, list) and list in types else [value]
    if not items or any(isinstance(item, bool) or not isinstance(item, (*types, int)) for item in items):
        raise CliError(f"{where}: expected {expected}, got {_described(value)}")
    if list not in types and not isinstance(value, types):
        raise CliError(f"{where}: expected {expected}, got {_described(value)}")
    texts = [str(item) for item in items]
    if len(texts) > 1 and not isinstance(action, argparse._AppendAction):
        texts = [(" " if action.nargs == "+" else ",").join(texts)]
    for text in texts:
        try:
            if callable(action.type):
                action.type(text)
        except (argparse.ArgumentTypeError, ValueError) as error:
            raise CliError(f"{where}: {error}") from None
        if action.choices is not None and text not in action.choices:
            choices = list(map(str, action.choices))
            raise CliError(f"{where}: expected one of {', '.join(choices)}, got {text!r}{closest(text, choices)}")
    return texts


def _instead(parser: Parser, action: argparse.Action, args: Iterable[str]) -> bool:
    """Whether the command line has an option that excludes this one."""
    given = {word.partition("=")[0] for word in args}
    return any(
        given & set(other.option_strings)
        for group in parser._mutually_exclusive_groups
        if action in group._group_actions
        for other in group._group_actions
    )


def _alone(parser: Parser, action: argparse.Action, table: dict[str, Any], where: str) -> None:
    """Refuse two options of the file that exclude each other."""
    for group in parser._mutually_exclusive_groups:
        others = {_key(each) for each in group._group_actions if each is not action}
        both = sorted(others & {key.replace("_", "-") for key in table})
        if action in group._group_actions and both:
            raise CliError(f"{where}: not allowed with {both[0]}")


def _described(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "a table" if isinstance(value, dict) else f"the string {value!r}" if isinstance(value, str) else repr(value)


def toml(name: str, args: argparse.Namespace, settings: Any) -> str:
    """The table of a command: each option's value, or the one that `settings` have for it.

    Examples
    --------
    >>> print(toml("train", argparse.Namespace(lr=None, text="a b", swap=True), argparse.Namespace(lr=1e-5)), end="")
    [train]
    lr = 1e-05
    text = "a b"
    swap = true
    """
    lines = [f"[{name}]"]
    for dest, given in vars(args).items():
        value = getattr(settings, dest, None) if given is None or given is False else given
        key = dest.replace("_", "-")
        if value is not None and value is not False and dest not in UNPRINTED and key not in NEVER:
            lines.append(f"{key} = {_literal(value)}")
    return "\n".join(lines) + "\n"


def _literal(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise CliError(f"--print-config: TOML is UTF-8, which {value!r} isn't") from None
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return repr(value)
