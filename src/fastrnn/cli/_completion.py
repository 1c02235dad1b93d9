"""Completion in shells, by shtab: it writes a script once, so that a TAB starts no Python, and knows bash, zsh, fish
and tcsh. (argcomplete, the other well-kept library, runs the program, and so imports NumPy, at every TAB.)"""

from __future__ import annotations

import argparse
import importlib

from fastrnn.cli._parse import CliError

__all__ = ["SHELLS", "script"]

SHELLS = ("bash", "zsh", "fish", "tcsh")
# An argument that shows one of these is the name of a file or a folder.
FILES = ("FILE", "FILE.png", "PATH", "MODEL", "PAIRS", "SOURCE", "TARGET")
FOLDERS = ("FOLDER",)


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script that completes the parser's commands, options, choices and names of files.

    Raises
    ------
    CliError
        shtab isn't there, or is one that doesn't know the shell.
    """
    try:
        shtab = importlib.import_module("shtab")
    except ImportError:
        raise CliError('--print-completion: needs shtab: pip install "fastrnn[cli]"') from None
    if shell not in shtab.SUPPORTED_SHELLS:
        raise CliError(f"--print-completion: this shtab knows {', '.join(shtab.SUPPORTED_SHELLS)}; a newer one {shell}")
    _mark(parser, shtab.FILE, shtab.DIRECTORY)
    return str(shtab.complete(parser, shell=shell))


def _mark(parser: argparse.ArgumentParser, file: object, folder: object) -> None:
    """Tell shtab which arguments are names of files."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                _mark(each, file, folder)
        elif action.metavar in FILES:
            action.complete = file  # type: ignore[attr-defined]
        elif action.metavar in FOLDERS:
            action.complete = folder  # type: ignore[attr-defined]
