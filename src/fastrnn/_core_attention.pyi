"""Types of `_core_attention.pxi`, a part of the compiled core, not a module."""

from typing import Any

from numpy.typing import NDArray

from fastrnn._core import Array

def dot_attention(
    q: Array,
    k: Array,
    v: Array,
    heads: int,
    lengths: NDArray[Any] | None,
    causal: bool,
    mask: Array | None,
    scale: float,
    dropout: float,
    seed: int,
    y: Array,
    stats: Array | None = None,
    weights: Array | None = None,
) -> None: ...
def dot_attention_backward(
    q: Array,
    k: Array,
    v: Array,
    heads: int,
    lengths: NDArray[Any] | None,
    causal: bool,
    mask: Array | None,
    scale: float,
    dropout: float,
    seed: int,
    y: Array,
    stats: Array,
    dy: Array,
    dq: Array,
    dk: Array,
    dv: Array,
) -> None: ...
def additive_attention(
    q: Array, k: Array, v: Array, x: Array, lengths: NDArray[Any] | None, y: Array, weights: Array
) -> None: ...
def additive_attention_backward(
    q: Array,
    k: Array,
    v: Array,
    x: Array,
    lengths: NDArray[Any] | None,
    weights: Array,
    dy: Array,
    dq: Array,
    dk: Array,
    dv: Array,
    dx: Array,
) -> None: ...
