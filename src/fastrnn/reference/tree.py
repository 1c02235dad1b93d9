"""Recursive networks over trees, a node after the other.

A tree is a list of the children of each node, children before parents: ``[[], [], [0, 1]]`` is a root with two leaves.
Nodes without children are leaves. A forest is one such list, with several roots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._sequence import Array
from .activations import sigmoid
from .rnn import NONLINEARITIES

Children = Sequence[Sequence[int]]


class RecursiveNetGrads(NamedTuple):
    """Gradients of the parameters of `recursive_net`; ``bias`` is None where there was none."""

    weight: Array
    bias: Array | None


class TreeLSTMGrads(NamedTuple):
    """Gradients of the parameters of `tree_lstm`; ``bias`` is None where there was none."""

    weight_ih: Array
    weight_hh: Array
    bias: Array | None


def recursive_net(
    x: Array, children: Children, weight: Array, bias: Array | None = None, *, nonlinearity: str = "tanh"
) -> Array:
    """h = φ(weight·[h_1; …; h_A] + bias) at inner nodes; leaves' h are x (Socher et al. 2011).

    Parameters
    ----------
    x : [leaves, H]
    children : A of them at every inner node, children before parents
    weight : [H, A·H]
    bias : [H], optional

    Returns
    -------
    h : [nodes, H]

    Examples
    --------
    >>> x, children = np.array([[1.0], [2.0]]), [[], [], [0, 1]]
    >>> recursive_net(x, children, np.array([[3.0, 4.0]]), nonlinearity="relu").tolist()
    [[1.0], [2.0], [11.0]]
    """
    return recursive_net_vjp(x, children, weight, bias, nonlinearity=nonlinearity)[0]


def recursive_net_vjp(
    x: Array, children: Children, weight: Array, bias: Array | None = None, *, nonlinearity: str = "tanh"
) -> tuple[Array, Callable[[Array], tuple[Array, RecursiveNetGrads]]]:
    """Return ``recursive_net(...)`` and its pullback ``dh`` → ``(dx, RecursiveNetGrads)``."""
    phi, derivative = NONLINEARITIES[nonlinearity]
    h = np.zeros((len(children), len(weight)), x.dtype)
    h[[not below for below in children]] = x
    for n, below in enumerate(children):
        if below:
            z = weight @ h[list(below)].ravel()
            h[n] = phi(z if bias is None else z + bias)

    def pullback(dh: Array) -> tuple[Array, RecursiveNetGrads]:
        dh, dW, db = dh.copy(), np.zeros_like(weight), np.zeros_like(h[:1, :].sum(0))
        for n in reversed(range(len(children))):
            below = list(children[n])
            if below:
                dz = dh[n] * derivative(h[n])  # h = φ(z)
                dW += np.outer(dz, h[below].ravel())  # z = weight·h_below + bias
                db += dz
                dh[below] += (dz @ weight).reshape(len(below), -1)
        return dh[[not below for below in children]], RecursiveNetGrads(dW, None if bias is None else db)

    return h, pullback


def tree_lstm(
    x: Array, children: Children, weight_ih: Array, weight_hh: Array, bias: Array | None = None, *, slots: int = 0
) -> Array:
    """Tree-LSTM (Tai et al. 2015): child-sum with ``slots=0``, else N-ary with so many places for children.

    Parameters
    ----------
    x : [nodes, I], or [leaves, I]: inner nodes then have no input
    children : children before parents
    weight_ih : [4·H, I], gates i f g o
    weight_hh : [4·H, H]; N-ary [(3 + N)·H, N·H], rows i, f_1 … f_N, g, o
    bias : [4·H], optional

    Returns
    -------
    h : [nodes, H]

    Examples
    --------
    >>> one = np.ones((4, 1))
    >>> h = tree_lstm(np.zeros((2, 1)), [[], [], [0, 1]], one, one)
    >>> h.tolist()
    [[0.0], [0.0], [0.0]]
    """
    return tree_lstm_vjp(x, children, weight_ih, weight_hh, bias, slots=slots)[0]


def tree_lstm_vjp(
    x: Array, children: Children, weight_ih: Array, weight_hh: Array, bias: Array | None = None, *, slots: int = 0
) -> tuple[Array, Callable[[Array], tuple[Array, TreeLSTMGrads]]]:
    """Return ``tree_lstm(...)`` and its pullback ``dh`` → ``(dx, TreeLSTMGrads)``."""
    N, H = len(children), len(weight_ih) // 4
    rows = range(N) if len(x) == N else [n for n, below in enumerate(children) if not below]
    row_of = {n: r for r, n in enumerate(rows)}
    W = weight_ih.reshape(4, H, -1)
    b = np.zeros((4, H), x.dtype) if bias is None else bias.reshape(4, H)
    h, c = np.zeros((2, N, H), x.dtype)
    saved: list[Any] = []
    for n, below in enumerate(children):
        z = b + W @ x[row_of[n]] if n in row_of else b
        step = _child_sum if not slots else _nary
        i, f, g, o, _ = gates = step(z, h[list(below)], weight_hh, slots)
        c[n] = i * g + (f * c[list(below)]).sum(0)
        h[n] = o * np.tanh(c[n])
        saved.append(gates)

    def pullback(dh: Array) -> tuple[Array, TreeLSTMGrads]:
        dh, dc = dh.copy(), np.zeros_like(c)
        dx, dW, dU, db = (np.zeros_like(a) for a in (x, W, weight_hh, b))
        for n in reversed(range(N)):
            below = list(children[n])
            i, f, g, o, read = saved[n]
            tanh_c = np.tanh(c[n])
            dc[n] += dh[n] * o * (1 - tanh_c**2)  # h = o ⊙ tanh(c)
            d_o = dh[n] * tanh_c * o * (1 - o)
            di, dg = dc[n] * g * i * (1 - i), dc[n] * i * (1 - g**2)  # c = i ⊙ g + Σ f_k ⊙ c_k
            df = dc[n] * c[below] * f * (1 - f)
            dc[below] += dc[n] * f
            dz = np.stack([di, df.sum(0), dg, d_o])  # z = W·x + b + …
            db += dz
            if n in row_of:
                dW += dz[:, :, None] * x[row_of[n]]
                dx[row_of[n]] = np.einsum("gh,ghi->i", dz, W)
            if below:
                back = _child_sum_back if not slots else _nary_back
                dh[below] += back(di, df, dg, d_o, read, weight_hh, dU)
        grads = TreeLSTMGrads(dW.reshape(weight_ih.shape), dU, None if bias is None else db.reshape(-1))
        return dx, grads

    return h, pullback


def _child_sum(z: Array, below: Array, weight_hh: Array, _: int) -> tuple[Array, ...]:
    """i, f [children, H], g, o, and the children's h: z = … + U·Σ h_k; f_k = σ(… + U_f·h_k)."""
    U_i, U_f, U_g, U_o = np.split(weight_hh, 4)
    total = below.sum(0)
    f = sigmoid(z[1] + below @ U_f.T)
    return sigmoid(z[0] + U_i @ total), f, np.tanh(z[2] + U_g @ total), sigmoid(z[3] + U_o @ total), below


def _child_sum_back(di: Array, df: Array, dg: Array, d_o: Array, below: Array, weight_hh: Array, dU: Array) -> Array:
    H = len(di)
    U_i, U_f, U_g, U_o = np.split(weight_hh, 4)
    total = below.sum(0)
    for row, dz in ((0, di), (2, dg), (3, d_o)):
        dU[row * H : (row + 1) * H] += np.outer(dz, total)
    dU[H : 2 * H] += df.T @ below
    d_below: Array = di @ U_i + dg @ U_g + d_o @ U_o + df @ U_f
    return d_below


def _nary(z: Array, below: Array, weight_hh: Array, slots: int) -> tuple[Array, ...]:
    """The same with weights of their own for every place: z = … + Σ_l U_l·h_l; f_k = σ(… + Σ_l U_fkl·h_l)."""
    H = z.shape[1]
    read = np.zeros((slots, H), z.dtype)
    read[: len(below)] = below
    s = (weight_hh @ read.ravel()).reshape(-1, H)  # i, f_1 … f_N, g, o
    f = sigmoid(z[1] + s[1 : 1 + len(below)])
    return sigmoid(z[0] + s[0]), f, np.tanh(z[2] + s[-2]), sigmoid(z[3] + s[-1]), read


def _nary_back(di: Array, df: Array, dg: Array, d_o: Array, read: Array, weight_hh: Array, dU: Array) -> Array:
    children, H = df.shape
    ds = np.zeros((len(weight_hh) // H, H), di.dtype)
    ds[0], ds[1 : 1 + children], ds[-2], ds[-1] = di, df, dg, d_o
    dU += np.outer(ds.ravel(), read.ravel())
    d_below: Array = (ds.ravel() @ weight_hh).reshape(-1, H)[:children]
    return d_below
