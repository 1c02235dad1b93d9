"""The recurrent decoder with attention and input feeding, forward and backward.

Luong et al. 2015, with the scores of Bahdanau et al. 2015::

    x_t = [emb_t, y_{t-1}]                       or emb_t without input feeding
    h_t = layers(x_t)                            the last one's output
    e[s] = q · key[s]  or  v · tanh(q + key[s])  q = h_t or weight_query h_t, key = source or weight_key source
    w = softmax(e)                               over the source steps within a row's length
    context = Σ w[s] source[s]
    y_t = tanh(weight_c [context, h_t] + bias_c)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from . import gru, lstm, rnn
from ._sequence import Array, Cell, array_or_zeros, check_dtype, check_lengths


def _cell(name: str, reset_after: bool, nonlinearity: str) -> Cell:
    if name == "lstm":
        return lstm.cell()
    return gru.cell(reset_after=reset_after) if name == "gru" else rnn.cell((nonlinearity,))


class _Attention:
    """What a step does with the source, for all rows."""

    def __init__(self, params: Mapping[str, Any], source: Array, lengths: Array, scale: float) -> None:
        self.params, self.source, self.scale = params, source, scale
        key = params.get("weight_key")
        self.keys = source if key is None else source @ key.T
        self.seen = np.arange(len(source))[:, None] < lengths  # [S, B]
        self.grads = {
            name: np.zeros_like(params[name]) for name in ("weight_query", "weight_key", "v") if name in params
        }
        self.dsource, self.dkeys = np.zeros_like(source), np.zeros_like(self.keys)

    def forward(self, h: Array, rows: Array) -> tuple[Array, Array, Any]:
        """h [N, H] of some rows: context [N, K], weights [N, S]."""
        keys, U, v = self.keys[:, rows], self.params.get("weight_query"), self.params.get("v")
        q = h if U is None else h @ U.T
        u = None if v is None else np.tanh(q + keys)
        e = self.scale * np.einsum("na,sna->sn", q, keys) if v is None or u is None else u @ v
        seen = self.seen[:, rows]
        e = np.where(seen, e, -np.inf)
        with np.errstate(invalid="ignore"):
            w = np.where(seen, np.exp(e - e.max(axis=0)), 0)
        total = w.sum(axis=0)
        w = w / np.where(total > 0, total, 1)
        return np.einsum("sn,snk->nk", w, self.source[:, rows]), w.T, (h, q, u, w, rows)

    def backward(self, saved: Any, dcontext: Array) -> Array:
        """Reverse of `forward`: dh; what the source and the weights get is added up."""
        h, q, u, w, rows = saved
        dw = np.einsum("nk,snk->sn", dcontext, self.source[:, rows])  # context = Σ w source
        self.dsource[:, rows] += w[:, :, None] * dcontext
        de = w * (dw - (w * dw).sum(axis=0))  # w = softmax(e)
        U, v = self.params.get("weight_query"), self.params.get("v")
        if v is None or u is None:  # e = scale q · key
            dq = self.scale * np.einsum("sn,sna->na", de, self.keys[:, rows])
            self.dkeys[:, rows] += self.scale * de[:, :, None] * q
        else:  # e = v · tanh(q + key)
            dz = de[:, :, None] * v * (1 - u**2)
            dq = dz.sum(axis=0)
            self.dkeys[:, rows] += dz
            self.grads["v"] += np.einsum("sn,sna->a", de, u)
        if U is None:
            return np.asarray(dq)
        self.grads["weight_query"] += dq.T @ h  # q = U h
        return np.asarray(dq @ U)

    def finish(self) -> Array:
        """The gradient of the source."""
        if "weight_key" not in self.params:
            return self.dsource + self.dkeys
        self.grads["weight_key"] += np.einsum("sna,snk->ak", self.dkeys, self.source)  # keys = source weight_keyᵀ
        return np.asarray(self.dsource + self.dkeys @ self.params["weight_key"])


def decoder(x: Any, source: Any, state: Any, params: Mapping[str, Any], **options: Any) -> tuple[Array, Any, Array]:
    """Run a decoder.

    Parameters
    ----------
    x : [T, B, E]
    source : [S, B, K]
    state : None or [L, B, H] (lstm: two of them)
    params : dict
        ``weight_ih_l0`` …, ``weight_c``, ``bias_c``, and the score's ``weight_key``, ``weight_query``, ``v``.
    **options
        ``cell`` "lstm", "gru" or "rnn", ``input_feeding``, ``feed`` [B, A], ``lengths``, ``source_lengths`` [B],
        ``scale`` of dot products, ``reset_after``, ``nonlinearity``.

    Returns
    -------
    y : [T, B, A], zero past the end of each row
    state_n : as ``state``
    weights : [T, B, S]

    Examples
    --------
    >>> params = {"weight_ih_l0": np.ones((3, 2)), "weight_hh_l0": np.ones((3, 3)), "weight_c": np.ones((4, 6))}
    >>> options = {"cell": "rnn", "input_feeding": False}
    >>> y, h_n, w = decoder(np.ones((5, 2, 2)), np.ones((7, 2, 3)), None, params, **options)
    >>> y.shape, h_n.shape, float(w[0, 0, 0].round(3))
    ((5, 2, 4), (1, 2, 3), 0.143)
    """
    outputs: tuple[Array, Any, Array] = decoder_vjp(x, source, state, params, **options)[0]
    return outputs


def decoder_vjp(
    x: Any,
    source: Any,
    state: Any,
    params: Mapping[str, Any],
    *,
    cell: str = "lstm",
    input_feeding: bool = True,
    feed: Any = None,
    lengths: Any = None,
    source_lengths: Any = None,
    scale: float = 1.0,
    reset_after: bool = True,
    nonlinearity: str = "tanh",
) -> tuple[Any, Callable[..., Any]]:
    """Run `decoder` and return its outputs with the function that pulls gradients back through it.

    Returns
    -------
    (y, state_n, weights) : as `decoder` returns them
    pullback : ``pullback(dy=None, dstate=None)`` → ``(dx, dsource, dstate_0, dfeed, grads)``; it runs once

    Examples
    --------
    >>> params = {"weight_ih_l0": np.ones((3, 2)), "weight_hh_l0": np.ones((3, 3)), "weight_c": np.ones((4, 6))}
    >>> options = {"cell": "rnn", "input_feeding": False}
    >>> (y, h_n, w), pullback = decoder_vjp(np.ones((5, 2, 2)), np.ones((7, 2, 3)), None, params, **options)
    >>> dx, dsource, dh_0, dfeed, grads = pullback(np.ones_like(y))
    >>> dsource.shape, sorted(grads)
    ((7, 2, 3), ['weight_c', 'weight_hh_l0', 'weight_ih_l0'])
    """
    x, source = np.asarray(x), np.asarray(source)
    dtype = check_dtype(x=x, source=source, **dict(params))
    forward, backward, _, count, Grads = _cell(cell, reset_after, nonlinearity)
    (T, B, E), (S, _, K) = x.shape, source.shape
    lengths, source_lengths = check_lengths(lengths, T, B), check_lengths(source_lengths, S, B)
    A, H = params["weight_c"].shape[0], params["weight_hh_l0"].shape[1]
    L = sum(name.startswith("weight_hh_l") for name in params)
    layers = [tuple(params.get(f"{name}_l{l}") for name in Grads._fields) for l in range(L)]

    def states_in(name: str, given: Any) -> list[list[Array]]:
        parts = (given,) if count == 1 else (None, None) if given is None else given
        arrays = [array_or_zeros(name, part, (L, B, H), dtype) for part in parts]
        return [[a[l].copy() for a in arrays] for l in range(L)]

    def states_out(states: list[list[Array]]) -> Any:
        arrays = tuple(np.stack([layer[k] for layer in states]) for k in range(count))
        return arrays if count > 1 else arrays[0]

    states = states_in("state", state)
    attention = _Attention(params, source, source_lengths, scale)
    fed = array_or_zeros("feed", feed, (B, A), dtype).copy()
    y, weights, tape = np.zeros((T, B, A), dtype), np.zeros((T, B, S), dtype), []
    for t in range(T):
        rows = np.flatnonzero(t < lengths)
        h, saved = x[t, rows], []
        if input_feeding:
            h = np.concatenate([h, fed[rows]], axis=1)
        for l in range(L):
            new, kept = forward(layers[l], h, tuple(s[rows] for s in states[l]))
            for s, value in zip(states[l], new):
                s[rows] = value
            h = new[0]
            saved.append(kept)
        context, weights[t, rows], looked = attention.forward(h, rows)
        both = np.concatenate([context, h], axis=1)
        z = both @ params["weight_c"].T
        y[t, rows] = fed[rows] = np.tanh(z + params["bias_c"] if "bias_c" in params else z)
        tape.append((t, rows, saved, looked, both))

    def pullback(dy: Any = None, dstate: Any = None) -> tuple[Any, ...]:
        """Gradients of everything; each line beside the one that it reverses, from the last to the first."""
        dy = array_or_zeros("dy", dy, y.shape, dtype)
        dstates, dfed = states_in("dstate", dstate), np.zeros((B, A), dtype)
        dx, grads = np.zeros_like(x), {name: np.zeros_like(a) for name, a in params.items()}
        for t, rows, saved, looked, both in reversed(tape):
            dz = (dy[t, rows] + dfed[rows]) * (1 - y[t, rows] ** 2)
            grads["weight_c"] += dz.T @ both
            if "bias_c" in grads:
                grads["bias_c"] += dz.sum(axis=0)
            dboth = dz @ params["weight_c"]
            dh = dboth[:, K:] + attention.backward(looked, dboth[:, :K])
            for l in reversed(range(L)):
                first, *others = (d[rows] for d in dstates[l])
                dh, before, parts = backward(layers[l], saved[l], (first + dh, *others))
                for d, value in zip(dstates[l], before):
                    d[rows] = value
                for name, part in zip(Grads._fields, parts):
                    if f"{name}_l{l}" in grads:
                        grads[f"{name}_l{l}"] += part
            dx[t, rows] = dh[:, :E]
            dfed[rows] = dh[:, E:] if input_feeding else 0
        dsource = attention.finish()
        return dx, dsource, states_out(dstates), dfed, {**grads, **attention.grads}

    return (y, states_out(states), weights), pullback
