"""Attention: what a decoder's query finds in the states of an encoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn import _check, _core
from fastrnn._attention import Heads, empty_like, with_rows, without_padding
from fastrnn._pullback import Pullback
from fastrnn.nn import init
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, generator

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

_KINDS = {"additive": True, "concat": True, "general": False, "dot": False, "scaled_dot": False}  # tanh or product


class _Inputs(NamedTuple):
    """Checked arguments of one call, in the caller's layout, and how to see them as [T, B, ·]."""

    query: NDArray[Any]
    source: NDArray[Any]
    lengths: Any
    one_step: bool
    batch_first: bool

    def steps(self, a: NDArray[Any]) -> NDArray[Any]:
        """An array like query as [T, B, ·]."""
        if a.ndim == 3:
            return a.swapaxes(0, 1) if self.batch_first else a
        return a[None] if self.one_step else a[:, None]

    def states(self, a: NDArray[Any]) -> NDArray[Any]:
        """An array like source as [S, B, ·]."""
        if a.ndim == 2:
            return a[:, None]
        return a.swapaxes(0, 1) if self.batch_first else a

    def out(self, a: NDArray[Any]) -> NDArray[Any]:
        """[T, B, ·] in the layout of query."""
        if self.one_step:
            first: NDArray[Any] = a[0]
            return first
        if self.source.ndim == 2:
            return a[:, 0]
        return a.swapaxes(0, 1) if self.batch_first else a


class Attention(Layer):
    """Weights over the source states, and their weighted mean: the context of each query.

    With q a query and x_s a source state, the scores are

    - additive: v · tanh(weight_query·q + weight_source·x_s) (Bahdanau et al. 2015)
    - concat: v · tanh(weight·[q; x_s]) (Luong et al. 2015)
    - general: q · weight·x_s (Luong et al. 2015)
    - dot: q · x_s (Luong et al. 2015)
    - scaled_dot: q · x_s / √K (Vaswani et al. 2017)

    the weights their softmax over s, and the context Σ weights_s·x_s.

    Parameters
    ----------
    query_size : int
        Size Q of a query, usually the decoder's hidden size.
    source_size : int, optional
        Size K of a source state, by default `query_size`; for dot and scaled_dot it must be that.
    kind : {"additive", "concat", "general", "dot", "scaled_dot"}
    hidden_size : int, optional
        Size A of the scores' hidden layer (additive and concat), by default `query_size`.
    batch_first : bool
        Arrays are [B, T, ·] and [B, S, ·].
    dtype : dtype
        float32 or float64.
    seed : None, int or numpy.random.Generator
        For the initial weights, uniform in ±1/√(size that is summed over).

    Notes
    -----
    `params` are `"weight_query"` [A, Q], `"weight_source"` [A, K] and `"v"` [A]; `"weight"` [A, Q + K] and `"v"` [A];
    `"weight"` [Q, K]; none; none.

    References
    ----------
    Bahdanau, Cho, Bengio: Neural Machine Translation by Jointly Learning to Align and Translate, 2015, A.1.2.
    Luong, Pham, Manning: Effective Approaches to Attention-based Neural Machine Translation, 2015, equation 8.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> layer = fr.Attention(8, 16, kind="additive", hidden_size=10, seed=0)
    >>> query, source = np.ones((3, 2, 8), np.float32), np.ones((5, 2, 16), np.float32)  # [T, B, Q], [S, B, K]
    >>> context, weights = layer(query, source, lengths=[5, 4], return_weights=True)
    >>> context.shape, weights.shape, weights[0, 1]
    ((3, 2, 16), (3, 2, 5), array([0.25, 0.25, 0.25, 0.25, 0.  ], dtype=float32))
    """

    dtype: np.dtype[Any]

    def __init__(
        self,
        query_size: int,
        source_size: int | None = None,
        *,
        kind: str = "general",
        hidden_size: int | None = None,
        batch_first: bool = False,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(dtype)
        self.query_size = _check.positive_int(query_size, "query_size")
        source_size = self.query_size if source_size is None else source_size
        self.source_size = _check.positive_int(source_size, "source_size")
        self.is_additive: bool = _check.choice(kind, _KINDS, "kind")
        self.kind, self.batch_first = kind, bool(batch_first)
        self.hidden_size = _check.positive_int(self.query_size if hidden_size is None else hidden_size, "hidden_size")
        rng, q, k, a = generator(seed), self.query_size, self.source_size, self.hidden_size

        def add(name: str, shape: tuple[int, ...], fan: int) -> None:
            self._add_param(name, init.uniform(shape, fan=fan, dtype=self.dtype, seed=rng))

        if kind == "additive":
            add("weight_query", (a, q), q)
            add("weight_source", (a, k), k)
        elif kind == "concat":
            add("weight", (a, q + k), q + k)
        elif kind == "general":
            add("weight", (q, k), k)
        else:
            _check.equal_sizes(kind, q, k)
        if self.is_additive:
            add("v", (a,), a)

    def __call__(
        self, query: ArrayLike, source: ArrayLike, /, *, lengths: ArrayLike | None = None, return_weights: bool = False
    ) -> Any:
        """Contexts of queries.

        Parameters
        ----------
        query : array, [T, B, Q], or [B, Q] for one step
        source : array, [S, B, K]
            With [S, K], for one sequence, query is [T, Q].
        lengths : integers, [B], optional
            0 … S for each row: the states past it are not looked at. A row without source has zero contexts.
        return_weights : bool
            Return the weights, too: for looking at them, no gradient passes through.

        Returns
        -------
        context : array, [T, B, K] or [B, K]
        weights : array, [T, B, S] or [B, S], with `return_weights`
        """
        return self._run(query, source, lengths, return_weights, False)[0]

    def vjp(
        self,
        query: ArrayLike,
        source: ArrayLike,
        /,
        *,
        lengths: ArrayLike | None = None,
        return_weights: bool = False,
        input_grad: bool = True,
        retain: bool = False,
    ) -> tuple[Any, Pullback]:
        """Contexts, and what gives their gradients.

        Parameters
        ----------
        query, source, lengths, return_weights
            As in the call; held by reference until the pullback has run.
        input_grad : bool
            Compute the gradients of query and source; else they are None.
        retain : bool
            Allow the pullback to run more than once.

        Returns
        -------
        outputs
            What the call returns.
        pullback : callable
            `pullback(dcontext)` adds to `grads` and returns `(dquery, dsource)`, zero past lengths.
        """
        outputs, back, shape = self._run(query, source, lengths, return_weights, True)

        def run(dcontext: ArrayLike, dweights: None = None) -> tuple[Any, Any]:
            _check.no_weights_gradient(dweights)
            dcontext = _check.gradient(dcontext, self.dtype, shape)
            dquery, dsource = back(dcontext)
            return (dquery, dsource) if input_grad else (None, None)

        return outputs, Pullback(run, "Attention", retain)

    def _run(self, query: Any, source: Any, lengths: Any, return_weights: bool, save: bool) -> tuple[Any, Any, Any]:
        """(outputs, the function from dcontext to (dquery, dsource), shape of the context)."""
        query, source = _check.source(query, source, self.dtype, (self.query_size, self.source_size), self.batch_first)
        one_step = source.ndim == 3 and query.ndim == 2
        inputs = _Inputs(with_rows(query), with_rows(source), None, one_step, self.batch_first and source.ndim == 3)
        states = inputs.states(source)
        if lengths is not None:
            lengths = [lengths] if source.ndim == 2 and np.ndim(lengths) == 0 else lengths
            lengths = _check.lengths(lengths, states.shape[1], len(states), "S")
        inputs = inputs._replace(lengths=lengths)
        context, weights, back = (self._additive if self.is_additive else self._product)(inputs, return_weights, save)
        context = inputs.out(context)
        if return_weights:
            return (context, inputs.out(weights)), back, context.shape
        return context, back, context.shape

    # ---- products ------------------------------------------------------------------------------------------------

    def _product(self, inputs: _Inputs, weights: bool, save: bool) -> tuple[Any, Any, Callable[..., Any]]:
        general = self.kind == "general"
        query = _linear(inputs.query, self._params["weight"].T) if general else inputs.query
        states = inputs.states(inputs.source)
        scale = 1 / math.sqrt(self.source_size) if self.kind == "scaled_dot" else 1.0
        call = Heads(inputs.steps(query), states, states, 1, inputs.lengths, False, None, scale)
        context = call.forward(save, weights)

        def back(dcontext: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
            dquery, dsource, dvalues = (_core.empty(a.shape, self.dtype) for a in (query, inputs.source, inputs.source))
            grads = inputs.steps(dquery), inputs.states(dsource), inputs.states(dvalues)
            call.backward(inputs.steps(dcontext), *grads)
            _core.add(dsource, dvalues, dsource)
            if general:  # q' = q·W: dW += qᵀ·dq'
                rows = dquery.reshape(-1, self.source_size)
                with self._lock:
                    _core.gemm(_rows(inputs.query).T, rows, self._grads["weight"], accumulate=True)
                dquery = _linear(dquery, self._params["weight"])
            return dquery, dsource

        return context, None if call.weights is None else call.weights[:, :, 0], back

    # ---- scores with a hidden layer ------------------------------------------------------------------------------

    def _matrices(self, arrays: dict[str, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """[A, Q] and [A, K]."""
        if self.kind == "additive":
            return arrays["weight_query"], arrays["weight_source"]
        weight = arrays["weight"]
        return weight[:, : self.query_size], weight[:, self.query_size :]

    def _additive(self, inputs: _Inputs, weights: bool, save: bool) -> tuple[Any, Any, Callable[..., Any]]:
        of_query, of_source = self._matrices(self._params)
        query, keys = _linear(inputs.query, of_query), _linear(inputs.source, of_source)
        steps, states = inputs.steps(query), inputs.states(inputs.source)
        context = empty_like(steps, self.source_size)
        shares = _core.empty((*steps.shape[:2], len(states)), self.dtype)
        arrays = (steps, inputs.states(keys), self._params["v"], states, inputs.lengths)
        _core.additive_attention(*arrays, context, shares)

        def back(dcontext: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
            dquery, dkeys = _core.empty(query.shape, self.dtype), _core.empty(keys.shape, self.dtype)
            dsource, dv = _core.empty(inputs.source.shape, self.dtype), np.zeros(self.hidden_size, self.dtype)
            dcontext = with_rows(inputs.steps(dcontext))
            grads = inputs.steps(dquery), inputs.states(dkeys), dv, inputs.states(dsource)
            _core.additive_attention_backward(*arrays, shares, dcontext, *grads)
            _core.gemm(_rows(dkeys), of_source, _rows(dsource), accumulate=True)
            source = without_padding(inputs.source, inputs.states, inputs.lengths)
            with self._lock:
                d_of_query, d_of_source = self._matrices(self._grads)
                _core.gemm(_rows(dquery).T, _rows(inputs.query), d_of_query, accumulate=True)
                _core.gemm(_rows(dkeys).T, _rows(source), d_of_source, accumulate=True)
                self._grads["v"] += dv
            return _linear(dquery, of_query.T), dsource

        return context, shares, back

    def config(self) -> dict[str, Any]:
        return {
            "query_size": self.query_size,
            "source_size": self.source_size,
            "kind": self.kind,
            "hidden_size": self.hidden_size,
            "batch_first": self.batch_first,
            "dtype": self.dtype.name,
        }


def _rows(a: NDArray[Any]) -> NDArray[Any]:
    return a.reshape(-1, a.shape[-1])


def _linear(a: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    """a·weightᵀ, weight [out, in], in the layout of `a`."""
    out = _core.empty((*a.shape[:-1], len(weight)), a.dtype)
    _core.gemm(_rows(a), weight.T, _rows(out))
    return out
