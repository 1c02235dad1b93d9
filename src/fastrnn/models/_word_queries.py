"""Questions to word vectors: which words are alike, and what is to a word as another is to a third."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check

if TYPE_CHECKING:
    from numpy.typing import NDArray


class WordQueries:
    """What a table of words and vectors answers. A subclass provides `words`, `index` and `vectors`.

    Attributes
    ----------
    words : list
        By number.
    index : dict
        Number of each word.
    vectors : float32 [V, D]
        The live array.
    """

    words: list[Any]
    index: dict[Any, int]

    @property
    def vectors(self) -> NDArray[Any]:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: Any) -> bool:
        return word in self.index

    def __getitem__(self, words: Any) -> NDArray[Any]:
        """Return a copy of the vector of a word, [D], or of those of a list of words, [N, D].

        Raises
        ------
        KeyError
            There is no such word.
        """
        numbers = [self._number(word) for word in words] if isinstance(words, list) else self._number(words)
        return np.array(self.vectors[numbers])

    def _number(self, word: Any) -> int:
        try:
            return self.index[word]
        except (KeyError, TypeError):
            raise KeyError(f"{word!r:.80} is not among the {len(self)} words; `word in model` tells") from None

    def _direction(self, word: Any) -> NDArray[Any]:
        """Return the unit vector of a word, or of a vector."""
        if isinstance(word, np.ndarray) and word.ndim:
            vector = _check.features(word.astype(np.float32), None, self.vectors.shape[1], "vector_size", "positive")
        else:
            vector = self[word]
        return vector / max(float(np.linalg.norm(vector)), 1e-30)

    def similarity(self, a: Any, b: Any) -> float:
        """Return the cosine of the angle between two words.

        Examples
        --------
        >>> import fastrnn as fr
        >>> model = fr.models.Word2Vec({"a": 5, "b": 5}, min_count=1, seed=0)
        >>> round(model.similarity("a", "a"), 5)
        1.0
        """
        return float(self._direction(a) @ self._direction(b))

    def most_similar(
        self, positive: Any = (), negative: Any = (), *, topn: int = 10, restrict: int | None = None
    ) -> list[tuple[Any, float]]:
        """Return the words whose vectors point most nearly where the sum of some unit vectors points.

        Parameters
        ----------
        positive, negative : word, vector [D], or a list of them
            What is added, and what is subtracted. Words among them aren't answers.
        topn : int
            How many answers.
        restrict : int, optional
            Look among the first so many words only: they are the most frequent ones.

        Returns
        -------
        list of (word, cosine), the nearest first
        """
        topn = _check.positive_int(topn, "topn")
        rows = len(self) if restrict is None else min(_check.positive_int(restrict, "restrict"), len(self))
        plus, minus = _listed(positive), _listed(negative)
        if not plus and not minus:
            raise ValueError("positive: expected a word, a vector, or a list of them, got nothing")
        table = self.vectors[:rows]
        wanted = np.zeros(table.shape[1], np.float32)
        for sign, words in ((1, plus), (-1, minus)):
            for word in words:
                wanted += sign * self._direction(word)
        wanted /= max(float(np.linalg.norm(wanted)), 1e-30)
        lengths = np.sqrt(np.einsum("ij,ij->i", table, table))
        cosines = table @ wanted / np.maximum(lengths, 1e-30)
        asked = [self.index[word] for word in plus + minus if not isinstance(word, np.ndarray)]
        cosines[[number for number in asked if number < rows]] = -np.inf
        best = np.argpartition(-cosines, min(topn, rows - 1))[:topn]
        best = best[np.argsort(-cosines[best], kind="stable")]
        return [(self.words[k], float(cosines[k])) for k in best.tolist() if cosines[k] > -np.inf]

    def analogy(self, a: Any, b: Any, c: Any, *, topn: int = 1) -> list[tuple[Any, float]]:
        """Return what is to `c` as `b` is to `a`: the words nearest to b - a + c (Mikolov et al. 2013a).

        Returns
        -------
        list of (word, cosine), the nearest first
        """
        return self.most_similar([b, c], [a], topn=topn)


def _listed(words: Any) -> list[Any]:
    """Return a list of words and vectors."""
    if isinstance(words, np.ndarray) and words.ndim == 2:
        return list(words)
    if isinstance(words, str | bytes | np.ndarray) or not isinstance(words, Iterable):
        return [words]
    return list(words)
