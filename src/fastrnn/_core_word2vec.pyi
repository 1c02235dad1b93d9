"""Types of `_core_word2vec.pxi`, a part of the compiled core, not a module."""

from typing import Any

from numpy.typing import NDArray

from fastrnn._core import Array

word2vec_block: int
word2vec_pad: int

class Word2VecTrainer:
    def __init__(
        self,
        vectors: Array,
        output: Array | None,
        nodes: Array | None,
        *,
        path: NDArray[Any] | None,
        steps: NDArray[Any] | None,
        keep: NDArray[Any] | None,
        alias_share: NDArray[Any] | None,
        alias: NDArray[Any] | None,
        negative: int,
        window: int,
        shrink: bool,
        cbow: int,
        seed: int,
    ) -> None: ...
    def train(
        self,
        tokens: NDArray[Any],
        begin: NDArray[Any],
        lr_first: float,
        lr_last: float,
        first_block: int,
        num_threads: int,
    ) -> tuple[float, int, int]: ...
