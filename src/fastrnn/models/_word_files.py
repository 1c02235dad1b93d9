"""The files of Mikolov's word2vec program, text and binary, which gensim and many others read and write.

Both begin with a line "words size". Text: a line a word, the word and its numbers with blanks between. Binary: the
word, a blank, the numbers as little-endian float32, and, from most writers, a line break.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.io import write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BLOCK = 1 << 20


def write(path: str | os.PathLike[str], words: Sequence[Any], vectors: NDArray[Any], *, binary: bool) -> None:
    """Write a file, atomically. Words of integers become their digits."""
    out = bytearray(f"{len(words)} {vectors.shape[1]}\n".encode())
    numbers = "%.9g " * (vectors.shape[1] - 1) + "%.9g\n"  # nine digits give each float32 back
    for word, vector in zip(words, vectors):
        text = str(word)
        if not text or text.split() != [text]:
            raise ValueError(
                f"path: this format has no place for a word with white space, such as {text!r:.80}; use fr.save"
            )
        out += text.encode() + b" "
        out += (
            np.ascontiguousarray(vector, "<f4").tobytes() + b"\n"
            if binary
            else (numbers % tuple(vector.tolist())).encode()
        )
    write_atomic(path, bytes(out))


def read(path: str | os.PathLike[str], *, binary: bool, limit: int | None = None) -> tuple[list[str], NDArray[Any]]:
    """Return the words and the vectors, float32 [V, D], of a file; of the first `limit` words only.

    Raises
    ------
    ValueError
        The file isn't of this format, or isn't whole.
    """
    with open(path, "rb") as file:
        header = file.readline(100).split()
        try:
            count, size = (int(number) for number in header)
            if count < 1 or size < 1 or (binary and count * size * 4 > os.path.getsize(path)):
                raise ValueError
        except ValueError:
            raise ValueError(f"{path}: expected a first line with the number of words and their size") from None
        count = count if limit is None else min(count, limit)
        words: list[str] = []
        vectors = np.empty((count, size), np.float32)
        rows = _binary_rows(file, size) if binary else _text_rows(file)
        try:
            for (word, numbers), row in zip(rows, vectors):
                row[...] = numbers
                words.append(word.decode())
        except ValueError as error:  # bad numbers, or not UTF-8
            kind = "binary" if binary else "text"
            raise ValueError(f"{path}: word {len(words) + 1} is not in word2vec's {kind} format ({error})") from None
    if len(words) != count:
        raise ValueError(f"{path}: expected {count} words, got {len(words)}; the file is not whole")
    if len(set(words)) != count:
        raise ValueError(f"{path}: a word occurs twice")
    return words, vectors


def _text_rows(file: Any) -> Any:
    for line in file:
        word, *numbers = line.split()
        yield word, [float(number) for number in numbers]


def _binary_rows(file: Any, size: int) -> Any:
    data = b""
    while True:
        end = data.find(b" ")
        if end < 0 or len(data) < end + 1 + 4 * size:
            block = file.read(BLOCK)
            if not block:
                return
            data += block
            continue
        yield data[:end].lstrip(b"\n"), np.frombuffer(data, "<f4", size, end + 1)
        data = data[end + 1 + 4 * size :]
