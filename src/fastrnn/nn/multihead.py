"""MultiHeadAttention: attention of several heads between linear maps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._attention import Heads, score_mask, with_rows, without_padding
from fastrnn._pullback import Pullback
from fastrnn.nn import init
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, generator, mask_seed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray


class MultiHeadAttention(Layer):
    """Attention of N heads: linear maps to queries, keys and values, attention, and a linear map of all heads' results.

    y = out_proj(concat(head_1 … head_N)), head_i = softmax(q_i·k_iᵀ/√D)·v_i, with D = embed_dim / N.

    Parameters
    ----------
    embed_dim : int
        Size F of queries and of the output.
    num_heads : int
        N, a divisor of `embed_dim`.
    dropout : float
        Share of the weights to drop in training.
    bias : bool
        Of all linear maps.
    kdim, vdim : int, optional
        Sizes of keys and values, by default `embed_dim`.
    batch_first : bool
        Arrays are [B, T, F] instead of [T, B, F].
    dtype : dtype
        float32 or float64.
    seed : None, int or numpy.random.Generator
        For the initial weights, distributed as PyTorch's.

    Notes
    -----
    `params` have PyTorch's names: `"in_proj_weight"` [3·F, F] (with other sizes of keys or values `"q_proj_weight"`
    [F, F], `"k_proj_weight"` [F, kdim], `"v_proj_weight"` [F, vdim]), `"in_proj_bias"` [3·F], `"out_proj.weight"`
    [F, F], `"out_proj.bias"` [F]. Unlike there, `lengths` stand for a padding mask, a mask of bools is True where a
    query may look, weights come a head, and a query that may look at nothing gets `out_proj.bias` and not NaN.

    References
    ----------
    Vaswani et al.: Attention Is All You Need, 2017, section 3.2.2.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> layer = fr.MultiHeadAttention(8, 2, seed=0)
    >>> x, source = np.ones((3, 4, 8), np.float32), np.ones((5, 4, 8), np.float32)
    >>> layer(x, causal=True).shape
    (3, 4, 8)
    >>> y, weights = layer(x, source, lengths=[5, 2, 3, 1], return_weights=True)
    >>> weights.shape, weights[0, 1, 0]
    ((3, 4, 2, 5), array([0.5, 0.5, 0. , 0. , 0. ], dtype=float32))
    """

    dtype: np.dtype[Any]
    takes_lengths = True
    takes_dropout = True

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(dtype)
        size = self.embed_dim = _check.positive_int(embed_dim, "embed_dim")
        self.num_heads = _check.positive_int(num_heads, "num_heads")
        _check.heads_divide(size, self.num_heads)
        self.dropout, self.bias, self.batch_first = _check.fraction(dropout, "dropout"), bool(bias), bool(batch_first)
        self.kdim = size if kdim is None else _check.positive_int(kdim, "kdim")
        self.vdim = size if vdim is None else _check.positive_int(vdim, "vdim")
        rng = generator(seed)
        self._packed = self.kdim == self.vdim == size
        if self._packed:
            self._add_param("in_proj_weight", init.xavier_uniform((3 * size, size), dtype=self.dtype, seed=rng))
        else:
            for letter, columns in zip("qkv", (size, self.kdim, self.vdim), strict=True):
                weight = init.xavier_uniform((size, columns), dtype=self.dtype, seed=rng)
                self._add_param(f"{letter}_proj_weight", weight)
        if self.bias:
            self._add_param("in_proj_bias", np.zeros(3 * size))
        self._add_param("out_proj.weight", init.uniform((size, size), fan=size, dtype=self.dtype, seed=rng))
        if self.bias:
            self._add_param("out_proj.bias", np.zeros(size))

    def __call__(
        self,
        query: ArrayLike,
        key: ArrayLike | None = None,
        value: ArrayLike | None = None,
        /,
        *,
        lengths: ArrayLike | None = None,
        causal: bool = False,
        mask: ArrayLike | None = None,
        return_weights: bool = False,
        dropout: bool = False,
        seed: Seed = None,
    ) -> Any:
        """Attend.

        Parameters
        ----------
        query : array, [T, B, F], or [T, F] for one sequence
        key : array, [S, B, kdim], optional
            By default `query`: self-attention.
        value : array, [S, B, vdim], optional
            By default `key`.
        lengths : integers, [B], optional
            0 … S for each row: what lies past it in key and value is not looked at. Queries past it are answered as
            others are.
        causal : bool
            Query t sees steps 0 … t of the source only.
        mask : array that broadcasts to [B, N, T, S], optional
            Bools, True where a query may look, or floats that are added to the scores.
        return_weights : bool
            Return the weights before dropout, too: for looking at them, no gradient passes through.
        dropout, seed
            Whether to drop weights, and where the mask comes from (None, int or Generator).

        Returns
        -------
        y : array, [T, B, F] in the layout of query
        weights : array, [T, B, N, S] in the layout of query, with `return_weights`
        """
        options = (lengths, causal, mask, return_weights, mask_seed(seed) if dropout and self.dropout else None)
        return self._run((query, key, value), options, False)[0]

    def vjp(
        self,
        query: ArrayLike,
        key: ArrayLike | None = None,
        value: ArrayLike | None = None,
        /,
        *,
        lengths: ArrayLike | None = None,
        causal: bool = False,
        mask: ArrayLike | None = None,
        return_weights: bool = False,
        dropout: bool = True,
        seed: Seed = None,
        input_grad: bool = True,
        retain: bool = False,
    ) -> tuple[Any, Pullback]:
        """Attend, and return what gives the gradients.

        Parameters
        ----------
        query, key, value, lengths, causal, mask, return_weights, dropout, seed
            As in the call; arrays are held by reference until the pullback has run.
        input_grad : bool
            Compute the gradients of query, key and value; else they are None.
        retain : bool
            Allow the pullback to run more than once.

        Returns
        -------
        outputs
            What the call returns.
        pullback : callable
            `pullback(dy)` adds to `grads` and returns the gradients of the arrays that were given: `dquery`, or
            `(dquery, dkey)`, or `(dquery, dkey, dvalue)`.
        """
        given = (query, key, value)
        options = (lengths, causal, mask, return_weights, mask_seed(seed) if dropout and self.dropout else None)
        outputs, back, shape = self._run(given, options, True)
        count = 1 if key is None else 2 if value is None else 3

        def run(dy: ArrayLike, dweights: None = None) -> Any:
            _check.no_weights_gradient(dweights)
            found = back(_check.gradient(dy, self.dtype, shape), input_grad)
            return found[0] if count == 1 else found

        return outputs, Pullback(run, "MultiHeadAttention", retain)

    # ---- the maps before attention -------------------------------------------------------------------------------

    def _maps(self, arrays: dict[str, Any], parts: slice) -> tuple[NDArray[Any], Any]:
        """Weight and bias of the maps to queries, keys and values that a slice of 0, 1, 2 names: [n·F, in], [n·F]."""
        size = self.embed_dim
        rows = slice(parts.start * size, parts.stop * size)
        bias = arrays["in_proj_bias"][rows] if self.bias else None
        if self._packed:
            return arrays["in_proj_weight"][rows], bias
        return arrays[f"{'qkv'[parts.start]}_proj_weight"], bias

    def _groups(self, given: tuple[Any, Any, Any]) -> list[slice]:
        """Maps that read one array are one product."""
        if not self._packed or given[2] is not None:
            return [slice(0, 1), slice(1, 2), slice(2, 3)]
        return [slice(0, 3)] if given[1] is None else [slice(0, 1), slice(1, 3)]

    def _run(self, given: tuple[Any, Any, Any], options: tuple[Any, ...], save: bool) -> tuple[Any, Any, Any]:
        """(outputs, the function from dy to gradients of the arrays given, shape of y)."""
        lengths, causal, mask, return_weights, bits = options
        sizes = (self.embed_dim, self.kdim, self.vdim)
        arrays = _check.heads(given, self.dtype, sizes, self.batch_first)
        query = arrays[0]
        unbatched = query.ndim == 2

        def steps(a: NDArray[Any]) -> NDArray[Any]:
            return a[:, None] if unbatched else a.swapaxes(0, 1) if self.batch_first else a

        groups = self._groups(given)
        inputs = [with_rows(arrays[group.start]) for group in groups]
        maps = [self._maps(self._params, group) for group in groups]
        mapped = [_linear(x, *pair) for x, pair in zip(inputs, maps, strict=True)]
        q, k, v = self._split(mapped, steps)
        if lengths is not None:
            lengths = [lengths] if unbatched and np.ndim(lengths) == 0 else lengths
            lengths = _check.lengths(lengths, k.shape[1], len(k), "S")
        mask = score_mask(mask, (q.shape[1], self.num_heads, len(q), len(k)), self.dtype)
        scale = 1 / math.sqrt(self.embed_dim // self.num_heads)
        rate = 0.0 if bits is None else self.dropout
        call = Heads(q, k, v, self.num_heads, lengths, bool(causal), mask, scale, rate, bits or 0)
        joined = call.forward(save, bool(return_weights))
        joined = (joined.swapaxes(0, 1) if self.batch_first and not unbatched else joined).reshape(query.shape)
        y = _linear(joined, self._params["out_proj.weight"], self._params.get("out_proj.bias"))

        def back(dy: NDArray[Any], input_grad: bool) -> tuple[Any, ...]:
            dy = np.ascontiguousarray(dy)
            dmapped = [_core.empty(a.shape, self.dtype) for a in mapped]
            call.backward(steps(_linear(dy, self._params["out_proj.weight"].T)), *self._split(dmapped, steps))
            with self._lock:
                self._add(self._grads["out_proj.weight"], self._grads.get("out_proj.bias"), dy, joined)
                for x, group, d in zip(inputs, groups, dmapped, strict=True):
                    if group.start:  # keys and values, not queries
                        x = without_padding(x, steps, lengths)
                    self._add(*self._maps(self._grads, group), d, x)
            if not input_grad:
                return (None,) * 3
            found = [_linear(d, weight.T) for d, (weight, _) in zip(dmapped, maps, strict=True)]
            return _collect(found, given)

        outputs = (y, self._weights(call.weights, unbatched)) if return_weights else y
        return outputs, back, y.shape

    def _split(self, mapped: list[NDArray[Any]], steps: Callable[[Any], Any]) -> list[NDArray[Any]]:
        """q, k, v as [T or S, B, F]: columns of what the maps gave."""
        size = self.embed_dim
        return [steps(a)[..., i : i + size] for a in mapped for i in range(0, a.shape[-1], size)]

    def _weights(self, weights: NDArray[Any], unbatched: bool) -> NDArray[Any]:
        return weights[:, 0] if unbatched else weights.swapaxes(0, 1) if self.batch_first else weights

    @staticmethod
    def _add(dweight: NDArray[Any], dbias: Any, dy: NDArray[Any], x: NDArray[Any]) -> None:
        """dW += dyᵀ·x, db += Σ dy."""
        rows = _rows(dy)
        _core.gemm(rows.T, _rows(x), dweight, accumulate=True)
        if dbias is not None:
            _core.column_sum(rows, dbias)

    def config(self) -> dict[str, Any]:
        return {
            "embed_dim": self.embed_dim,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "bias": self.bias,
            "kdim": self.kdim,
            "vdim": self.vdim,
            "batch_first": self.batch_first,
            "dtype": self.dtype.name,
        }


def _collect(found: list[NDArray[Any]], given: tuple[Any, Any, Any]) -> tuple[Any, ...]:
    """Gradients of the arrays given from those of the groups of maps; what stood for several gets their sum."""
    if given[1] is None:
        for other in found[1:]:
            _core.add(found[0], other, found[0])
        return (found[0],)
    if given[2] is None:
        if len(found) == 3:
            _core.add(found[1], found[2], found[1])
        return tuple(found[:2])
    return tuple(found)


def _rows(a: NDArray[Any]) -> NDArray[Any]:
    return a.reshape(-1, a.shape[-1])


def _linear(a: NDArray[Any], weight: NDArray[Any], bias: Any = None) -> NDArray[Any]:
    """a·weightᵀ + bias in the layout of `a`, weight [out, in]."""
    out = _core.empty((*a.shape[:-1], len(weight)), a.dtype)
    _core.gemm(_rows(a), weight.T, _rows(out), bias)
    return out
