"""``--cell``: a built-in cell, or one that users write, which is imported because they name it."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterable
from typing import Any

from fastrnn.cli._parse import CliError, reason
from fastrnn.models._cells import CELLS, STEPS

__all__ = ["cell", "imported", "own_cell", "step_cell"]


def cell(text: str, known: Iterable[str] = CELLS) -> str:
    """The type of the argument."""
    module, colon, name = text.partition(":")
    if text not in known and not (module and colon and name):
        raise argparse.ArgumentTypeError(
            f"expected one of {', '.join(known)}, or module:name of a cell made by fr.cell, got {text!r}"
        )
    return text


def step_cell(text: str) -> str:
    """The type of an argument for decoders."""
    return cell(text, STEPS)


def own_cell(text: str) -> str:
    """The type of an argument that is of no built-in cell."""
    if ":" not in cell(text):
        raise argparse.ArgumentTypeError(f"expected module:name of a cell made by fr.cell, got {text!r}")
    return text


def imported(text: str) -> Any:
    """The cell: a built-in one's name, or the object that module:name is. Modules may be in the current folder."""
    if ":" not in text:
        return text
    from fastrnn.jit import Cell

    module, _, name = text.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        holder = importlib.import_module(module)
    except Exception as error:  # whatever a user's module does
        raise CliError(f"--cell: {module} can't be imported: {type(error).__name__}: {reason(error)}") from error
    finally:
        sys.path.remove(here)
    if not hasattr(holder, name):
        raise CliError(f"--cell: {module} has no {name}")
    found = getattr(holder, name)
    if not isinstance(found, Cell):
        raise CliError(f"--cell: expected {name} of {module} to be a cell made by fr.cell, got {type(found).__name__}")
    return found
