"""Checkpoints: one file with everything that a run needs to go on, always whole.

The file ``checkpoint.safetensors`` holds weights, optimiser, schedule, generators, position in the data,
carried state and history together, so that they can't disagree; it is replaced by renaming. Kill the process
at any moment: the file is the checkpoint before or the one after.
"""

from __future__ import annotations

import os
from typing import Any

from fastrnn.io import load_tree, save_tree

__all__ = ["Checkpoint"]

NAME = "checkpoint.safetensors"


class Checkpoint:
    """The checkpoint of a run in a folder.

    Parameters
    ----------
    folder : path
        Made when the first checkpoint is saved. One run at a time uses it.

    Examples
    --------
    >>> import tempfile
    >>> from fastrnn.train import Checkpoint
    >>> checkpoint = Checkpoint(tempfile.mkdtemp())
    >>> checkpoint.save({"step": 3})
    >>> checkpoint.load()
    {'step': 3}
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        from pathlib import Path  # see fastrnn.io

        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"checkpoint: expected a folder, {self.folder} is a file")
        self.path = self.folder / NAME

    def exists(self) -> bool:
        """Tell whether there is something to go on from."""
        return self.path.is_file()

    def found(self, resume: bool) -> bool:
        """Tell whether to go on from a checkpoint; remove temporary files.

        Raises
        ------
        FileExistsError
            There is one, and `resume` is False.
        """
        found = self.exists()
        if found and not resume:
            raise FileExistsError(
                f"checkpoint: {self.folder} holds a checkpoint; go on from it with resume=True, or use another folder"
            )
        self.clean()
        return found

    def save(self, tree: dict[str, Any]) -> None:
        """Replace the checkpoint. `tree` is nested dicts and lists of numbers, strings, None and arrays."""
        save_tree(self.path, tree)

    def load(self) -> dict[str, Any]:
        """Read the checkpoint.

        Raises
        ------
        FileNotFoundError, ValueError
            There is none, or it isn't one.
        """
        return load_tree(self.path)

    def clean(self) -> None:
        """Remove temporary files that killed runs left behind."""
        for path in self.folder.glob(f".{NAME}.tmp-*"):
            path.unlink(missing_ok=True)
