"""TransformerStream: a causal Transformer step by step, with the keys and values of earlier steps kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._attention import Heads, score_mask, with_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastrnn.nn.multihead import MultiHeadAttention

__all__ = ["TransformerStream"]

ROOM = 64  # steps that there is room for at first; it doubles


class _Attention:
    """One attention: its weights, and the keys and values [S, B, 2·F] of what it looks at."""

    def __init__(self, layer: MultiHeadAttention) -> None:
        self.layer = layer
        self.kept: NDArray[Any] | None = None

    def keep(self, x: NDArray[Any], at: int) -> None:
        """Keys and values of the steps x [n, B, F], behind the first `at` ones."""
        size, need = self.layer.embed_dim, at + len(x)
        if self.kept is None or len(self.kept) < need:
            room = need if self.kept is None and at == 0 and len(x) > 1 else max(ROOM, 2 * need)
            grown = _core.empty((room, x.shape[1], 2 * size), x.dtype)
            if self.kept is not None:
                grown[:at] = self.kept[:at]
            self.kept = grown
        _map(self.layer, x, slice(size, 3 * size), self.kept[at:need])

    def look(self, x: NDArray[Any], steps: int, lengths: Any, mask: Any) -> NDArray[Any]:
        """What queries x [n, B, F] find in the first `steps` of what was kept."""
        layer, size = self.layer, self.layer.embed_dim
        assert self.kept is not None
        q, kept = _core.empty(x.shape, x.dtype), self.kept[:steps]
        _map(layer, x, slice(0, size), q)
        mask = score_mask(mask, (x.shape[1], layer.num_heads, len(x), steps), x.dtype)
        scale = 1 / math.sqrt(size // layer.num_heads)
        call = Heads(q, kept[..., :size], kept[..., size:], layer.num_heads, lengths, False, mask, scale)
        joined, y = call.forward(False, False), _core.empty(x.shape, x.dtype)
        params = layer.params
        _core.gemm(
            _rows(joined), params["out_proj.weight"].T, _rows(y), params["out_proj.bias"] if layer.bias else None
        )
        return y

    def select(self, rows: NDArray[np.int64], steps: int) -> None:
        """Go on with these rows of the batch, after `steps` steps."""
        if self.kept is not None:
            kept = _core.empty((len(self.kept), len(rows), self.kept.shape[2]), self.kept.dtype)
            kept[:steps] = self.kept[:steps, rows]
            self.kept = kept


class TransformerStream:
    """A causal stack of layers that takes one step after another, as in writing a text.

    Made by `TransformerEncoder.stream` and `TransformerDecoder.stream`. Each step costs what its own row of attention
    costs: the keys and values of earlier steps are kept, and those of a decoder's memory are computed once. Results are
    those of a call with all steps and ``causal=True``. Weights are read as they are at each step.

    Attributes
    ----------
    position : int
        How many steps it has taken: the `offset` of `fr.PositionalEncoding` for the next.
    batch_size : int

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> model = fr.TransformerEncoder(8, 2, 2, 16, seed=0)
    >>> x = np.random.default_rng(0).standard_normal((5, 3, 8), np.float32)
    >>> stream = model.stream(batch_size=3)
    >>> y = np.stack([stream.step(x_t) for x_t in x])
    >>> bool(np.allclose(y, model(x, causal=True), atol=1e-5)), stream.position
    (True, 5)
    """

    def __init__(
        self, blocks: Sequence[Any], norm: Any, batch_size: int, memory: Any = None, memory_lengths: Any = None
    ) -> None:
        first = blocks[0]
        self.dtype: np.dtype[Any] = first.self_attn.dtype
        self.batch_first: bool = first.self_attn.batch_first
        self._size: int = first.self_attn.embed_dim
        self._blocks, self._norm = list(blocks), norm
        self._memory: NDArray[Any] | None = None
        self._lengths: Any = None
        if memory is not None:
            memory = _check.stream_steps(memory, self.dtype, self._size, None, self.batch_first, "memory")
            self._memory = with_rows(memory.swapaxes(0, 1) if self.batch_first else memory)
            batch_size = self._memory.shape[1]
            if memory_lengths is not None:
                steps = len(self._memory)
                self._lengths = _check.lengths(memory_lengths, batch_size, steps, "S", "memory_lengths")
        self._first_batch = self.batch_size = _check.positive_int(batch_size, "batch_size")
        self.reset()

    def reset(self) -> None:
        """Begin anew, with the batch that the stream was made for."""
        self.position, self.batch_size = 0, self._first_batch
        self._own = [_Attention(block.self_attn) for block in self._blocks]
        self._across: list[_Attention] = []
        self._seen = self._lengths
        if self._memory is not None:
            self._across = [_Attention(block.multihead_attn) for block in self._blocks]
            for attention in self._across:
                attention.keep(np.ascontiguousarray(self._memory), 0)

    def step(self, x: ArrayLike) -> NDArray[Any]:
        """Take a step.

        Parameters
        ----------
        x : array, [B, F]

        Returns
        -------
        y : array, [B, F]
        """
        x = _check.stream_step(x, self.dtype, self._size, self.batch_size)
        y: NDArray[Any] = self._run(np.ascontiguousarray(x)[None])[0]
        return y

    def run(self, x: ArrayLike) -> NDArray[Any]:
        """Take several steps at once, such as a prompt.

        Parameters
        ----------
        x : array, [T, B, F], or [B, T, F] where the layers are `batch_first`

        Returns
        -------
        y : array like x
        """
        x = _check.stream_steps(x, self.dtype, self._size, self.batch_size, self.batch_first)
        if not self.batch_first:
            return self._run(np.ascontiguousarray(x))
        return self._run(np.ascontiguousarray(x.swapaxes(0, 1))).swapaxes(0, 1)

    def select(self, rows: ArrayLike) -> None:
        """Go on with these rows of the batch, in this order, each as often as it is named: a beam search's survivors.

        Parameters
        ----------
        rows : integers [B']
            0 … B − 1. The batch has B' rows from here on.
        """
        rows = _check.integers(rows, "rows")
        if rows.ndim != 1 or not len(rows):
            raise ValueError(f"rows: expected integers [B] with B ≥ 1, got shape {rows.shape}")
        _check.in_range(rows, self.batch_size, "batch_size", "rows")
        for attention in self._own:
            attention.select(rows, self.position)
        for attention in self._across:
            assert self._memory is not None
            attention.select(rows, len(self._memory))
        self._seen = None if self._seen is None else np.ascontiguousarray(self._seen[rows])
        self.batch_size = len(rows)

    def _run(self, x: NDArray[Any]) -> NDArray[Any]:
        steps, at = len(x), self.position
        mask = None if steps == 1 else np.tri(steps, at + steps, at, dtype=bool)
        for k, (block, own) in enumerate(zip(self._blocks, self._own, strict=True)):

            def attend(a: NDArray[Any], own: _Attention = own) -> NDArray[Any]:
                own.keep(a, at)
                return own.look(a, at + steps, None, mask)

            x = block._added(1, x, attend)
            if self._across:
                assert self._memory is not None
                across, sources = self._across[k], len(self._memory)
                x = block._added(
                    2, x, lambda a, across=across, sources=sources: across.look(a, sources, self._seen, None)
                )
            x = block._added(2 + bool(self._across), x, block._feed_forward)
        self.position += steps
        y: NDArray[Any] = x if self._norm is None else self._norm(x)
        return y

    def __repr__(self) -> str:
        layers = f"{len(self._blocks)} layers, d_model={self._size}, batch_size={self.batch_size}"
        return f"TransformerStream({layers}, position={self.position})"


def _rows(a: NDArray[Any]) -> NDArray[Any]:
    return a.reshape(-1, a.shape[-1])


def _map(layer: MultiHeadAttention, x: NDArray[Any], part: slice, out: NDArray[Any]) -> None:
    """Write the map of x to queries, or to keys and values, into `out`."""
    bias = layer.params["in_proj_bias"][part] if layer.bias else None
    _core.gemm(_rows(x), layer.params["in_proj_weight"][part].T, _rows(out), bias)
