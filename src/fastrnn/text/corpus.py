"""Corpora: text of files, folders and the Python standard library."""

from __future__ import annotations

import codecs
import os
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastrnn import _check
from fastrnn.text.characters import UNKNOWN

if TYPE_CHECKING:
    from pathlib import Path

MAX_CHARS = 64_000_000
RUN_FILE, RUN_KEY = "settings.json", "fastrnn_train"  # the file that marks a run's folder, and its first key
HELD_OUT_LIMIT = 2_000_000
_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


class Corpus(NamedTuple):
    """Named texts, in a fixed order.

    Attributes
    ----------
    name : str
        What it is, for people.
    texts : list of (str, str)
        File name and content.
    undecodable : int
        How often bytes that aren't UTF-8 were read as U+FFFD.
    cut : bool
        The text went on after `max_chars`.
    """

    name: str
    texts: list[tuple[str, str]]
    undecodable: int = 0
    cut: bool = False

    @property
    def size(self) -> int:
        """Number of characters."""
        return sum(len(text) for _, text in self.texts)


def _read(path: Path, chars: int) -> tuple[str, int]:
    """Return a file's text with newlines made uniform, "" if it isn't text, and the count of decoding errors.

    Past `chars` characters it may be cut: some files are larger than memory, and devices have no end.
    """
    most = max(4 * chars + 16, 8192)  # bytes of so many characters, and a few more, which show that there are more
    with open(path, "rb") as file:
        data = file.read(8192)
        if b"\0" in data:
            return "", 0
        data += file.read(most - len(data))
    text, _ = codecs.utf_8_decode(data, "replace", len(data) < most)  # the last character may be cut
    errors = text.count(UNKNOWN) - data.count(UNKNOWN.encode())
    return text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff"), errors


def _collect(name: str, root: Path, files: Iterable[Path], max_chars: int) -> Corpus:
    """Read files in order until `max_chars` are there; the last text may be cut."""
    texts: list[tuple[str, str]] = []
    left, undecodable = max_chars, 0
    for path in files:
        text, errors = _read(path, left)
        if not text:
            continue
        if left <= 0:
            return Corpus(name, texts, undecodable, cut=True)
        texts.append((path.relative_to(root).as_posix(), text[:left]))
        left -= len(text)
        undecodable += errors
    return Corpus(name, texts, undecodable, cut=left < 0)


def _walk(root: Path, skipped: Collection[str] = (), exclude: Iterable[str | os.PathLike[str]] = ()) -> list[Path]:
    """Return the regular files below `root`, sorted.

    Left out are hidden files and folders, folders named in `skipped`, the folders `exclude`, and those of runs
    of ``fastrnn train``: what a run writes must not become the text that it goes on with.
    """
    from pathlib import Path

    excluded = {os.path.realpath(folder) for folder in exclude}
    found = []
    for folder, subfolders, names in os.walk(root):
        if os.path.realpath(folder) in excluded or _is_run(os.path.join(folder, RUN_FILE)):
            subfolders.clear()
            continue
        subfolders[:] = [s for s in subfolders if s not in skipped and not s.startswith(".")]
        paths = [Path(folder, name) for name in names if not name.startswith(".")]
        found += [path for path in paths if path.is_file()]  # no dangling links, pipes, sockets, devices
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _is_run(path: str) -> bool:
    """Tell whether `path` is the settings file of a run."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return RUN_KEY.encode() in file.read(64)


def standard_library(*, max_chars: int = MAX_CHARS) -> Corpus:
    """Return the Python sources of the standard library of this interpreter, its tests left out.

    Files come in the order of their names, so one Python version gives one corpus.
    """
    import sysconfig
    from pathlib import Path

    root = Path(sysconfig.get_paths()["stdlib"])
    files = [path for path in _walk(root, _SKIPPED_FOLDERS) if path.suffix == ".py"]
    corpus = _collect("the Python standard library", root, files, max_chars)
    if not corpus.texts:
        raise ValueError(f"{root}: holds no Python sources; this Python comes without them, pass a text of your own")
    return corpus


def load_corpus(
    path: str | os.PathLike[str] | None = None,
    *,
    max_chars: int = MAX_CHARS,
    exclude: Iterable[str | os.PathLike[str]] = (),
) -> Corpus:
    """Read a text file, all text files below a folder, or (None) the standard library.

    Parameters
    ----------
    path : path, optional
        In a folder, hidden files, files with NUL bytes and the folders of ``fastrnn train`` are passed over.
    max_chars : int
        Read this many characters at most.
    exclude : iterable of paths
        Folders to pass over, too.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file, or no text in it.
    """
    from pathlib import Path

    max_chars = _check.positive_int(max_chars, "max_chars")
    if path is None:
        return standard_library(max_chars=max_chars)
    path = Path(path)
    if path.is_dir():
        corpus = _collect(str(path), path, _walk(path, exclude=exclude), max_chars)
    elif path.exists():
        corpus = _collect(str(path), path.parent, [path], max_chars)
    else:
        raise FileNotFoundError(f"{path}: no such file or folder")
    if not corpus.texts:
        raise ValueError(f"{path}: holds no text")
    return corpus


def split_corpus(corpus: Corpus, held_out: float = 0.05, *, seed: int = 0) -> tuple[str, str]:
    """Split into training text and held-out text.

    With 20 files or more whole files are held out, chosen at random by `seed` (the files that stay are put in
    random order too, so that every part of the text is a mixture); with fewer, the last part of the joined
    text is. The held-out part has about `held_out` of the characters, and two million at most.

    Examples
    --------
    >>> from fastrnn.text import Corpus, split_corpus
    >>> split_corpus(Corpus("x", [("a", "0123456789")]), held_out=0.3)
    ('0123456', '789')
    """
    if not isinstance(corpus, Corpus):
        raise TypeError(f"corpus: expected a Corpus, such as load_corpus(path), got {_check.describe(corpus)}")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out: expected a share in (0, 1), got {held_out!r}")
    wanted = min(int(corpus.size * held_out), HELD_OUT_LIMIT)
    if len(corpus.texts) < 20:
        text = "\n".join(text for _, text in corpus.texts)
        cut = len(text) - max(wanted, 1)
        return text[:cut], text[cut:]
    train, test, taken = [], [], 0
    for i in np.random.default_rng(seed).permutation(len(corpus.texts)):
        text = corpus.texts[i][1]
        # A file that would overshoot by far stays in training; smaller ones follow.
        if taken < wanted and taken + len(text) <= 1.5 * wanted:
            test.append(text)
            taken += len(text)
        else:
            train.append(text)
    if not test:  # every file is larger than the share wanted
        test.append(train.pop())
    return "\n".join(train), "\n".join(test)
