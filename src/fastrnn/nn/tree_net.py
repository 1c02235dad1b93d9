"""Networks over trees: the recursive network, and Tree-LSTMs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._pullback import Pullback
from fastrnn.nn import init
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, generator
from fastrnn.nn.trees import Levels, Trees

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

PHI = {"tanh": _core.TREE_TANH, "relu": _core.TREE_RELU, "sigmoid": _core.TREE_SIGMOID}
MAX_ARITY = 16


class _TreeNet(Layer):
    """What both share: results of all nodes or of roots, in the order of the trees."""

    dtype: np.dtype[Any]
    hidden_size: int
    bias: bool

    def __call__(self, x: ArrayLike, trees: Trees, *, roots: bool = False) -> NDArray[Any]:
        """Run up the trees.

        Parameters
        ----------
        x : array, [num_leaves, ·], or for a Tree-LSTM also [num_nodes, ·]
        trees : Trees
        roots : bool
            Return h of the roots alone.

        Returns
        -------
        h : array, [num_nodes, hidden_size], or [len(trees), hidden_size]
        """
        return self._run(x, trees, roots)[0]

    def vjp(
        self, x: ArrayLike, trees: Trees, *, roots: bool = False, input_grad: bool = True, retain: bool = False
    ) -> tuple[NDArray[Any], Pullback]:
        """Run up the trees, and return what goes back down.

        Parameters
        ----------
        x, trees, roots
            As in the call. `x` is held by reference.
        input_grad : bool
            Compute the gradient of `x`; else the pullback returns None.
        retain : bool
            Allow the pullback to run more than once.

        Returns
        -------
        h : array, [num_nodes, hidden_size], or [len(trees), hidden_size]
        pullback : callable
            `pullback(dh)` adds to `grads` and returns `dx`.
        """
        y, saved = self._run(x, trees, roots)
        shape = y.shape

        def run(dy: ArrayLike) -> Any:
            dy = _check.gradient(dy, self.dtype, shape)
            levels: Levels = saved[0]
            if roots:
                dh = np.zeros((trees.num_nodes, self.hidden_size), self.dtype)
                dh[levels.roots] = dy
            else:
                dh = _rows(dy, levels.order)
            return self._back(dh, saved, input_grad, retain)

        return y, Pullback(run, type(self).__name__, retain)

    def _outputs(self, h: NDArray[Any], levels: Levels, roots: bool) -> NDArray[Any]:
        """h in the order of the nodes."""
        if roots:
            return _rows(h, levels.roots)
        y = _core.empty(h.shape, self.dtype)
        y[levels.order] = h
        return y

    def _run(self, x: ArrayLike, trees: Trees, roots: bool) -> tuple[NDArray[Any], tuple[Any, ...]]:
        raise NotImplementedError

    def _back(self, dh: NDArray[Any], saved: tuple[Any, ...], input_grad: bool, retain: bool) -> Any:
        raise NotImplementedError

    def _add_weights(self, shapes: dict[str, tuple[int, ...]], seed: Seed) -> None:
        rng = generator(seed)
        for name, shape in shapes.items():
            if name != "bias" or self.bias:
                self._add_param(name, init.uniform(shape, fan=self.hidden_size, dtype=self.dtype, seed=rng))


class RecursiveNet(_TreeNet):
    """A recursive network: one layer, applied at every inner node to its children.

    h = φ(weight·[h_1; …; h_A] + bias). The leaves' h are given.

    Parameters
    ----------
    hidden_size : int
        H, of leaves and nodes.
    arity : int
        A, the number of children of every inner node, up to 16.
    nonlinearity : "tanh", "relu" or "sigmoid"
        φ.
    bias : bool
    dtype : dtype
        float32 or float64.
    seed : None, int or numpy.random.Generator
        For the initial weights, uniform in ±1/√H.

    Notes
    -----
    `params` are `"weight"` [H, A·H] and `"bias"` [H].

    References
    ----------
    Socher, Lin, Ng, Manning: Parsing Natural Scenes and Natural Language with Recursive Neural Networks, 2011.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> trees = fr.Trees.from_nested([((0, 1), 2), (3, 4)])
    >>> words = np.random.default_rng(0).standard_normal((5, 8), np.float32)
    >>> net = fr.RecursiveNet(8, seed=0)
    >>> h, pullback = net.vjp(words, trees, roots=True)
    >>> h.shape, pullback(np.ones_like(h)).shape
    ((2, 8), (5, 8))
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        arity: int = 2,
        nonlinearity: str = "tanh",
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(dtype)
        self.hidden_size = _check.positive_int(hidden_size, "hidden_size")
        self.arity = _check.index(arity, MAX_ARITY + 1, "arity") or _check.positive_int(arity, "arity")
        self._cell = _check.choice(nonlinearity, PHI, "nonlinearity")
        self.nonlinearity, self.bias = nonlinearity, bool(bias)
        H = self.hidden_size
        self._add_weights({"weight": (H, self.arity * H), "bias": (H,)}, seed)

    def _run(self, x: ArrayLike, trees: Trees, roots: bool) -> tuple[NDArray[Any], tuple[Any, ...]]:
        trees = _check.trees(trees, Trees, self.arity, exact=True)
        H = self.hidden_size
        x = _check.tree_input(x, self.dtype, H, "hidden_size", trees.num_leaves, None)
        levels = trees.levels(self.arity)
        h = _core.empty((trees.num_nodes, H), self.dtype)
        h[: len(x)] = x
        hc = _core.empty((len(h) - len(x), self.arity * H), self.dtype)
        weight, bias = self._params["weight"], self._params.get("bias")
        _core.tree_forward(
            self._cell, levels.level, levels.first, levels.child, weight, bias, None, None, h, None, hc
        )  # fmt: skip
        return self._outputs(h, levels, roots), (levels, h, hc)

    def _back(self, dh: NDArray[Any], saved: tuple[Any, ...], input_grad: bool, retain: bool) -> Any:
        levels, h, hc = saved
        dz = _core.empty((len(hc), self.hidden_size), self.dtype)
        _core.tree_backward(
            self._cell, levels.level, levels.first, levels.child, self._params["weight"], dz, None, h, None, dh, None
        )  # fmt: skip
        with self._lock:  # z = weight·hc + bias
            _core.gemm(dz.T, hc, self._grads["weight"], accumulate=True)
            if self.bias:
                _core.column_sum(dz, self._grads["bias"])
        return dh[: len(h) - len(hc)] if input_grad else None

    def config(self) -> dict[str, Any]:
        return {
            "hidden_size": self.hidden_size,
            "arity": self.arity,
            "nonlinearity": self.nonlinearity,
            "bias": self.bias,
            "dtype": self.dtype.name,
        }


class TreeLSTM(_TreeNet):
    """Long short-term memory over trees: a node's cell takes in those of its children, each through a forget gate.

    i, o = σ(z_i), σ(z_o);  g = tanh(z_g);  c = i ⊙ g + Σ_k f_k ⊙ c_k;  h = o ⊙ tanh(c).

    `"child_sum"`: z = W·x + b + U·Σ_k h_k, f_k = σ(W_f·x + b_f + U_f·h_k): any number of children, in any order.
    N-ary: z = W·x + b + Σ_l U_l·h_l, f_k = σ(W_f·x + b_f + Σ_l U_fkl·h_l): up to N children, each place with weights of
    its own; `"binary"` is 2.

    Parameters
    ----------
    input_size, hidden_size : int
        I and H.
    kind : "child_sum", "binary" or int
        The number is N, up to 16.
    bias : bool
    dtype : dtype
        float32 or float64.
    seed : None, int or numpy.random.Generator
        For the initial weights, uniform in ±1/√H.

    Notes
    -----
    Inputs are those of leaves, [num_leaves, I] (a constituency tree; W·x is left out above), or of all nodes,
    [num_nodes, I] (a dependency tree).

    `params` are `"weight_ih"` [4·H, I] and `"bias"` [4·H], gates in the order i, f, g, o, and `"weight_hh"`: [4·H, H]
    in that order for child-sum; else [(3 + N)·H, N·H], rows i, f_1 … f_N, g, o, columns h_1 … h_N.

    References
    ----------
    Tai, Socher, Manning: Improved Semantic Representations From Tree-Structured Long Short-Term Memory Networks, 2015,
    equations 2 to 14.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> trees = fr.Trees([[-1, 0, 0, 0, 3]])  # a root with three children, of which the last has one
    >>> net = fr.TreeLSTM(3, 8, kind="child_sum", seed=0)
    >>> h, pullback = net.vjp(np.ones((5, 3), np.float32), trees)
    >>> h.shape, pullback(np.ones_like(h)).shape
    ((5, 8), (5, 3))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        kind: str | int = "child_sum",
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(dtype)
        self.input_size = _check.positive_int(input_size, "input_size")
        self.hidden_size = _check.positive_int(hidden_size, "hidden_size")
        self.kind, self.bias = kind, bool(bias)
        if isinstance(kind, str):
            self.slots = int(_check.choice(kind, {"child_sum": 0, "binary": 2}, "kind"))
        else:
            self.slots = _check.index(kind, MAX_ARITY + 1, "kind") or _check.positive_int(kind, "kind")
        self._cell = _core.TREE_NARY if self.slots else _core.TREE_CHILD_SUM
        H, A = self.hidden_size, self.slots or 1
        rows = 4 * H if not self.slots else (3 + A) * H
        self._add_weights({"weight_ih": (4 * H, self.input_size), "weight_hh": (rows, A * H), "bias": (4 * H,)}, seed)

    def _run(self, x: ArrayLike, trees: Trees, roots: bool) -> tuple[NDArray[Any], tuple[Any, ...]]:
        trees = _check.trees(trees, Trees, self.slots or None, exact=False)
        leaves, nodes, H = trees.num_leaves, trees.num_nodes, self.hidden_size
        x = _check.tree_input(x, self.dtype, self.input_size, "input_size", leaves, nodes)
        levels = trees.levels(self.slots)
        if len(x) == nodes > leaves:
            x = _rows(x, levels.order)
        z = _core.empty((nodes, 4 * H), self.dtype)
        bias = self._params.get("bias")
        _core.gemm(x, self._params["weight_ih"].T, z[: len(x)], bias)
        z[len(x) :] = 0 if bias is None else bias
        f = _core.empty((len(levels.child), H), self.dtype)
        h, c = _core.empty((nodes, H), self.dtype), _core.empty((nodes, H), self.dtype)
        hc = _core.empty((nodes - leaves, (self.slots or 1) * H), self.dtype)
        _core.tree_forward(
            self._cell, levels.level, levels.first, levels.child, self._params["weight_hh"], None, z, f, h, c, hc
        )  # fmt: skip
        return self._outputs(h, levels, roots), (levels, x, z, f, h, c, hc)

    def _back(self, dh: NDArray[Any], saved: tuple[Any, ...], input_grad: bool, retain: bool) -> Any:
        levels, x, z, f, h, c, hc = saved
        if retain:  # they are written over
            z, f = z.copy(), f.copy()
        dc = _core.empty(dh.shape, self.dtype)
        weight_ih, weight_hh = self._params["weight_ih"], self._params["weight_hh"]
        _core.tree_backward(
            self._cell, levels.level, levels.first, levels.child, weight_hh, z, f, h, c, dh, dc
        )  # fmt: skip
        H, nodes, leaves = self.hidden_size, len(h), len(h) - len(hc)
        forget = f if not self.slots else f.reshape(len(hc), hc.shape[1])  # by slot, or by node
        below = _rows(h, levels.child) if not self.slots else hc
        dU = self._grads["weight_hh"]
        with self._lock:
            _core.gemm(z[: len(x)].T, x, self._grads["weight_ih"], accumulate=True)
            if self.bias:
                _core.column_sum(z, self._grads["bias"])
            if nodes > leaves:  # rows i; f, of one slot or of each; g and o
                _core.gemm(z[leaves:, :H].T, hc, dU[:H], accumulate=True)
                _core.gemm(forget.T, below, dU[H : -2 * H], accumulate=True)
                _core.gemm(z[leaves:, 2 * H :].T, hc, dU[-2 * H :], accumulate=True)
        if not input_grad:
            return None
        dx = _core.empty(x.shape, self.dtype)
        _core.gemm(z[: len(x)], weight_ih, dx)
        if len(x) == leaves:
            return dx
        out = _core.empty(x.shape, self.dtype)
        out[levels.order] = dx
        return out

    def config(self) -> dict[str, Any]:
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "kind": self.kind,
            "bias": self.bias,
            "dtype": self.dtype.name,
        }


def _rows(a: NDArray[Any], index: NDArray[np.int64]) -> NDArray[Any]:
    """a[index], by the core."""
    out = _core.empty((len(index), a.shape[1]), a.dtype)
    _core.embedding_forward(np.ascontiguousarray(a), index, out)
    return out
