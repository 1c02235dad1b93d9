"""Text for word2vec: sentences from files, arrays and iterables, as numbers, in pieces that fit into memory."""

from __future__ import annotations

import os
import queue
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn import _check

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIECE = 1 << 17  # tokens that are trained at once: some hundredths of a second
LONGEST = 10_000  # tokens of a sentence; longer ones are cut
BLOCK = 1 << 20  # characters that are read from a file at once
CACHE = 1 << 26  # tokens that are kept as numbers, 256 MB; a longer text is read again each epoch


class Piece(NamedTuple):
    """Some sentences as numbers.

    Attributes
    ----------
    tokens : int32 [N]
    begin : int64 [S+1]
        Sentence s is ``tokens[begin[s]:begin[s + 1]]``.
    """

    tokens: NDArray[np.int32]
    begin: NDArray[np.int64]


class Sentences:
    """Sentences that can be read again and again: lists of words, at most `LONGEST` long.

    Parameters
    ----------
    corpus : path, integers [N] or [S, T], or iterable of sentences
        A file has one sentence a line, words apart by white space. An iterable yields lists of words or arrays
        of integers, and must be able to start anew.
    """

    def __init__(self, corpus: Any) -> None:
        self.corpus = corpus
        self.path: str | None = None
        if isinstance(corpus, str | os.PathLike):
            self.path = os.fspath(corpus)
            if not os.path.isfile(self.path):
                raise FileNotFoundError(
                    f"corpus: expected a text file, sentences or integers; there is no file {self.path!r:.200}"
                )
        elif isinstance(corpus, np.ndarray):
            _check.integers(corpus, "corpus")
            if corpus.ndim not in (1, 2):
                raise ValueError(f"corpus: expected integers [N] or [S, T], got shape {corpus.shape}")
        elif isinstance(corpus, Iterator):
            raise TypeError(
                f"corpus: expected an iterable that can start anew (it is read once to count words, then each epoch), "
                f"got a {type(corpus).__name__}, which is over after one pass; use a list, or a class with __iter__"
            )
        elif not isinstance(corpus, Iterable):
            raise TypeError(f"corpus: expected a path, integers or sentences, got {type(corpus).__name__}")

    def __iter__(self) -> Iterator[Any]:
        if self.path is not None:
            found: Iterable[Any] = _lines(self.path)
        elif isinstance(self.corpus, np.ndarray) and self.corpus.ndim == 1:
            found = [self.corpus]
        else:
            found = self.corpus
        for sentence in found:
            words = _words(sentence)
            if len(words) <= LONGEST:
                yield words if isinstance(words, list) else words.tolist()
            else:
                for start in range(0, len(words), LONGEST):
                    part = words[start : start + LONGEST]
                    yield part if isinstance(part, list) else part.tolist()


def _words(sentence: Any) -> Any:
    """Return a list of words, or an array of integers."""
    if type(sentence) is list:
        return sentence
    if isinstance(sentence, str | bytes):
        raise TypeError(
            f"corpus: expected sentences as lists of words, got the text {sentence!r:.60}; split it into words: "
            "[text.split() for text in corpus]"
        )
    if isinstance(sentence, np.ndarray) and sentence.dtype.kind in "iu" and sentence.ndim == 1:
        return sentence
    if isinstance(sentence, Iterable):
        return list(sentence)
    raise TypeError(f"corpus: expected sentences as lists of words, got {sentence!r:.60}")


def _lines(path: str) -> Iterator[list[str]]:
    """Yield the words of each line, of a line that is longer than a block in parts."""
    rest = ""
    try:
        with open(path, encoding="utf-8") as file:
            if file.read(1) != "\ufeff":  # the mark that some editors put first
                file.seek(0)
            while block := file.read(BLOCK):
                text = rest + block
                cut = text.rfind("\n") + 1
                if not cut and len(text) > 4 * BLOCK:
                    cut = max(map(text.rfind, " \t")) + 1
                rest = text[cut:]
                for line in text[:cut].split("\n"):
                    if words := line.split():
                        yield words
    except UnicodeDecodeError as error:
        raise ValueError(f"corpus: {path} is not a text in UTF-8 ({error})") from None
    if words := rest.split():
        yield words


class _Numbers(dict[Any, int]):
    """Word → number; a word that is new gets the next one."""

    def __missing__(self, word: Any) -> int:
        number = self[word] = len(self)
        return number


class _Known(dict[Any, int]):
    """Word → number, or -1."""

    def __missing__(self, word: Any) -> int:
        return -1


def _pieces(sentences: Iterable[Any], number: Callable[[Any], int], size: int) -> Iterator[Piece]:
    """Yield pieces of some `size` tokens."""
    tokens, ends = array("i"), [0]
    for sentence in sentences:
        try:
            tokens.extend(map(number, sentence))
        except TypeError:
            raise TypeError(f"corpus: expected words as strings or integers, got {sentence!r:.80}") from None
        ends.append(len(tokens))
        if ends[-1] >= size:
            yield Piece(np.frombuffer(tokens, np.int32), np.array(ends))
            tokens, ends = array("i"), [0]
    if tokens:
        yield Piece(np.frombuffer(tokens, np.int32), np.array(ends))


def _known_only(piece: Piece, table: NDArray[np.int32] | None = None) -> Piece:
    """Renumber by `table`, and leave out words that have no number (-1)."""
    tokens = piece.tokens if table is None else table[piece.tokens]
    known = tokens >= 0
    before = np.concatenate([[0], np.cumsum(known)])
    return Piece(np.ascontiguousarray(tokens[known]), before[piece.begin])


class Scan:
    """One pass over a corpus: its words with their counts, and the text as numbers where memory allows.

    Attributes
    ----------
    words : list
        In order of first occurrence.
    counts : int64 [len(words)]
    total : int
        Tokens in the corpus.
    """

    def __init__(self, corpus: Any, *, size: int = PIECE, cache: int | None = None) -> None:
        self._sentences = Sentences(corpus)
        self._size = size
        cache = CACHE if cache is None else cache
        numbers = _Numbers()
        self.total = 0
        counts = np.zeros(0, np.int64)
        pieces: list[Piece] | None = []
        for piece in _pieces(self._sentences, numbers.__getitem__, size):
            found = np.bincount(piece.tokens, minlength=len(numbers))
            found[: len(counts)] += counts
            counts = found
            self.total += len(piece.tokens)
            if self.total > cache:
                pieces = None
            if pieces is not None:
                pieces.append(piece)
        self.words, self.counts = list(numbers), counts
        self._pieces = pieces
        self._index: _Known | None = None

    def encode(self, words: list[Any]) -> int:
        """Number the text by the words' places in `words`, leaving out others. Return how many tokens stay."""
        index = _Known(zip(words, range(len(words))))
        table = np.fromiter(map(index.__getitem__, self.words), np.int32, len(self.words))
        if self._pieces is None:
            self._index = index
        else:
            self._pieces = [_known_only(piece, table) for piece in self._pieces]
        return int(self.counts[table >= 0].sum())

    def epoch(self, stopped: Callable[[], bool]) -> Iterator[Piece]:
        """Yield the whole text once. `stopped` is asked now and then while another thread reads."""
        if self._pieces is not None:
            yield from self._pieces
        else:
            assert self._index is not None
            number = self._index.__getitem__
            yield from _ahead(map(_known_only, _pieces(self._sentences, number, self._size)), stopped)


def _ahead(pieces: Iterator[Piece], stopped: Callable[[], bool]) -> Iterator[Piece]:
    """Yield what a thread of its own reads, some pieces ahead."""
    ready: queue.Queue[Any] = queue.Queue(maxsize=4)
    over = threading.Event()

    def put(item: Any) -> bool:
        while not over.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        try:
            for piece in pieces:
                if not put(piece):
                    return
            put(None)
        except BaseException as error:  # raised where the pieces are used
            put(error)

    thread = threading.Thread(target=read, name="fastrnn-corpus", daemon=True)
    thread.start()
    try:
        while not stopped():
            try:
                item = ready.get(timeout=0.1)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        over.set()
        thread.join()
