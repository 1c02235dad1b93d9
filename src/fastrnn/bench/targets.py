"""Files to write at the end: find out before an hour is spent whether they can be."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["check"]


def check(path: str | os.PathLike[str], option: str) -> None:
    """Find out whether a file can be written; nothing is created.

    Raises
    ------
    ValueError
        The path is a folder, or the folder it is in isn't there or can't be written to.

    Examples
    --------
    >>> check("no such folder/a.json", "--json")
    Traceback (most recent call last):
    ...
    ValueError: --json: no such folder: no such folder
    """
    file = Path(path)
    parent = file.absolute().parent
    if not os.fspath(path) or file.is_dir():
        raise ValueError(f"{option}: expected a file, got {os.fspath(path)!r}")
    if not parent.is_dir():
        raise ValueError(f"{option}: {file.parent}: no such folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"{option}: {file.parent}: can't be written to")
