"""SRU, QRNN, minGRU, minLSTM and IndRNN: layers whose steps are elementwise, so that one product serves all of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn.nn import init
from fastrnn.nn._random import Seed
from fastrnn.nn._scan import Scan, Way

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

_CANDIDATES = {"plain": False, "g": True}
_SRU_ACTIVATIONS = {"identity": False, "tanh": True}
_NONLINEARITIES = {"tanh": False, "relu": True}


class SRU(Scan):
    """Simple recurrent unit: a stack of layers in one direction or two.

    x̃ = W_x·x;  f = σ(W_f·x + v_f ⊙ c₋₁ + b_f);  r = σ(W_r·x + v_r ⊙ c₋₁ + b_r);  c = f ⊙ c₋₁ + (1 − f) ⊙ x̃;
    h = r ⊙ g(c) + (1 − r) ⊙ α·x. Where I ≠ H the highway carries W_s·x instead of x.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed
        As for `GRU`.
    peephole : bool
        Have v: the gates see c₋₁, as in the paper of 2018. Without it the equations are those of its first version.
    activation : {"identity", "tanh"}
        g. The identity is the paper's of 2018, tanh that of its first version.
    highway_bias : float
        Initial value of b_r: the lower, the more of x passes.
    rescale : bool
        α = √(1 + 2·exp(highway_bias)), which keeps the variance from layer to layer at the start; else 1.

    Notes
    -----
    `params` are `weight_ih_l0` [3·H, I], the blocks in the order x̃, f, r, and [4·H, I] with W_s at the end where I ≠
    H; `weight_c_l0` [2·H], v_f and v_r; `bias_ih_l0` [2·H], b_f and b_r. W starts uniform with variance 1/I, v and b_f
    at zero. The state is c [num_layers·D, B, H].

    References
    ----------
    Lei, Zhang, Wang, Dai & Artzi 2018, "Simple Recurrent Units for Highly Parallelizable Recurrence", equations 1 to 4
    and section 3.2; version 1 of arXiv:1709.02755 (2017).

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> sru = fr.SRU(3, 5, num_layers=2, seed=0)
    >>> x = np.ones((7, 2, 3), np.float32)  # [T, B, I]
    >>> y, c_n = sru(x, lengths=[7, 4])
    >>> y.shape, c_n.shape
    ((7, 2, 5), (2, 2, 5))
    >>> (y, _), pullback = sru.vjp(x)
    >>> dx, dc_0 = pullback(np.ones_like(y))
    >>> sru.grads["weight_ih_l0"].shape, sru.grads["weight_ih_l1"].shape
    ((20, 3), (15, 5))
    """

    _code = _core.SCAN_SRU

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        peephole: bool = True,
        activation: str = "identity",
        highway_bias: float = 0.0,
        rescale: bool = True,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self.peephole = bool(peephole)
        self._tanh = bool(_check.choice(activation, _SRU_ACTIVATIONS, "activation"))
        self.activation = activation
        self.highway_bias = _check.number(highway_bias, "highway_bias")
        self.rescale = bool(rescale)
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed)

    def _draw(self, inputs: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        H = self.hidden_size
        bound = math.sqrt(3 / inputs)
        found = {"weight_ih": rng.uniform(-bound, bound, ((3 if inputs == H else 4) * H, inputs))}
        if self.peephole:
            found["weight_c"] = np.zeros(2 * H)
        if self.bias:
            found["bias_ih"] = np.repeat([0.0, self.highway_bias], H)
        return found

    def _option(self) -> bool:
        return self._tanh

    def _scale(self) -> float:
        return math.sqrt(1 + 2 * math.exp(self.highway_bias)) if self.rescale else 1.0

    def _channel(self, params: dict[str, Any]) -> Any:
        return params.get("weight_c")

    def _wide_bias(self, params: dict[str, Any]) -> Any:
        if not self.bias:
            return None
        H = self.hidden_size
        wide = np.zeros(len(params["weight_ih"]), self.dtype)
        wide[H : 3 * H] = params["bias_ih"]
        return wide

    def _add_bias(self, grads: dict[str, Any], db: NDArray[Any]) -> None:
        grads["bias_ih"] += db[self.hidden_size : 3 * self.hidden_size]

    def _skip(self, way: Way) -> Any:
        return way.x if way.x.shape[1] == self.hidden_size else None

    def _saves(self) -> bool:
        return True

    def config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("peephole", "activation", "highway_bias", "rescale")}
        return {**super().config(), **own}


class QRNN(Scan):
    """Quasi-recurrent network with fo-pooling: a stack of layers in one direction or two.

    z, f, o = tanh(W_z∗x + b_z), σ(W_f∗x + b_f), σ(W_o∗x + b_o);  c = f ⊙ c₋₁ + (1 − f) ⊙ z;  h = o ⊙ c, where W∗x is
    W·x, or, with a window of 2, W·[x; x₋₁] with the input of the step before.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed
        As for `GRU`.
    window : {1, 2}
        Inputs that a step sees: its own, and that of the step before (in the reverse direction, the one after).

    Notes
    -----
    `params` are `weight_ih_l0` [3·H, window·I] and `bias_ih_l0` [3·H], the blocks in the order z, f, o, a step's own
    input in the first columns. The state is c [num_layers·D, B, H]. With a window of 2 it is a tuple: c, the last input
    of the lowest layer [D, B, I], and, with several layers, the last inputs of those above [(num_layers − 1)·D, B,
    D·H].

    References
    ----------
    Bradbury, Merity, Xiong & Socher 2017, "Quasi-Recurrent Neural Networks", section 2.1.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> qrnn = fr.QRNN(3, 5, window=2, seed=0)
    >>> x = np.ones((7, 2, 3), np.float32)  # [T, B, I]
    >>> y, (c_n, x_n) = qrnn(x)
    >>> y.shape, c_n.shape, x_n.shape
    ((7, 2, 5), (1, 2, 5), (1, 2, 3))
    >>> halves = [qrnn(x[:4])]
    >>> halves.append(qrnn(x[4:], halves[0][1]))
    >>> np.array_equal(np.concatenate([y for y, _ in halves]), y)
    True
    """

    _code = _core.SCAN_QRNN

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        window: int = 1,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self.window = _check.window(window)
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed)

    def _draw(self, inputs: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        return _uniform(3 * self.hidden_size, self.window * inputs, self.bias, rng)

    def _saves(self) -> bool:
        return True

    def _state_shapes(self, batch: int) -> list[tuple[int, int, int]]:
        shapes = super()._state_shapes(batch)
        D, above = self._directions, (self.num_layers - 1) * self._directions
        if self.window == 2:
            shapes.append((D, batch, self.input_size))
            if above:
                shapes.append((above, batch, D * self.hidden_size))
        return shapes

    def _extra(self, states: list[Any], layer: int, direction: int) -> Any:
        if self.window == 1:
            return None
        array = states[2 if layer else 1]
        return None if array is None else array[max(0, layer - 1) * self._directions + direction]

    def _wide(self, way: Way) -> NDArray[Any]:
        """[N, 2·I]: each step's input, and that of the step before in the direction."""
        size, step, x = way.x.shape[1], way.places.step, way.x
        wide = _core.empty((len(x), 2 * size), self.dtype)
        wide[:, :size] = x
        if way.reverse:
            wide[:-step, size:] = x[step:]
        else:
            wide[step:, size:] = x[:-step]
        rows, first, _ = way.places.ends(way.reverse)
        wide[first, size:] = 0 if way.extra_0 is None else way.extra_0[rows]
        return wide

    def _forward(self, way: Way, s_n: NDArray[Any], extra_n: Any, keep: bool) -> Any:
        if self.window == 1:
            return super()._forward(way, s_n, extra_n, keep)
        rows, _, last = way.places.ends(way.reverse)
        extra_n[...] = 0 if way.extra_0 is None else way.extra_0  # of rows without steps
        extra_n[rows] = way.x[last]
        wide = way._replace(x=self._wide(way))
        saved = super()._forward(wide, s_n, None, keep)
        return (*saved, wide.x) if keep else None

    def _backward(
        self,
        way: Way,
        saved: Any,
        dy: Any,
        ds_n: Any,
        ds_0: NDArray[Any],
        extra: Any,
        grads: Any,
        need: bool,
        retain: bool,
    ) -> Any:
        if self.window == 1:
            return super()._backward(way, saved, dy, ds_n, ds_0, extra, grads, need, retain)
        z, s, x = saved
        dwide = super()._backward(way._replace(x=x), (z, s), dy, ds_n, ds_0, None, grads, True, retain)
        size, step = way.x.shape[1], way.places.step
        dx, before = np.ascontiguousarray(dwide[:, :size]), dwide[:, size:]
        dextra_n, dextra_0 = extra
        rows, first, last = way.places.ends(way.reverse)
        dextra_0[...] = 0 if dextra_n is None else dextra_n
        dextra_0[rows] = before[first]
        before[first] = 0
        if way.reverse:
            dx[step:] += before[:-step]
        else:
            dx[:-step] += before[step:]
        if dextra_n is not None:
            dx[last] += dextra_n[rows]
        return dx if need else None

    def _again(self, way: Way) -> Any:
        if self.window == 1:
            return super()._again(way)
        s_n = np.empty(self._state_shapes(way.places.batch)[0][1:], self.dtype)
        extra_n = np.empty((way.places.batch, way.x.shape[1]), self.dtype)
        return self._forward(way._replace(y=_core.empty(way.y.shape, self.dtype)), s_n, extra_n, True)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "window": self.window}


class _Gated(Scan):
    """minGRU and minLSTM."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        candidate: str = "plain",
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self._positive = bool(_check.choice(candidate, _CANDIDATES, "candidate"))
        self.candidate = candidate
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed)

    def _draw(self, inputs: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        return _uniform(self._gates * self.hidden_size, inputs, self.bias, rng)

    def _option(self) -> bool:
        return self._positive

    def config(self) -> dict[str, Any]:
        return {**super().config(), "candidate": self.candidate}


class MinGRU(_Gated):
    """minGRU, in linear space: a stack of layers in one direction or two.

    z = σ(W_z·x + b_z);  h̃ = W_h·x + b_h, or g of it;  h = (1 − z) ⊙ h₋₁ + z ⊙ h̃.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed
        As for `GRU`.
    candidate : {"plain", "g"}
        "g" makes h̃ positive, as the paper's log-space form does: g(v) = v + ½ for v ≥ 0, σ(v) for v < 0.

    Notes
    -----
    `params` are `weight_ih_l0` [2·H, I] and `bias_ih_l0` [2·H], the blocks in the order z, h̃. The state is h.

    References
    ----------
    Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024, "Were RNNs All We Needed?", section 3.1 and appendix B.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> layer = fr.MinGRU(3, 5, bidirectional=True, seed=0)
    >>> x = np.ones((7, 2, 3), np.float32)  # [T, B, I]
    >>> (y, h_n), pullback = layer.vjp(x)
    >>> dx, dh_0 = pullback(np.ones_like(y))
    >>> y.shape, h_n.shape, layer.grads["weight_ih_l0"].shape
    ((7, 2, 10), (2, 2, 5), (10, 3))
    """

    _code = _core.SCAN_MIN_GRU
    _gates = 2


class MinLSTM(_Gated):
    """minLSTM, in linear space: a stack of layers in one direction or two.

    f, i = σ(W_f·x + b_f), σ(W_i·x + b_i);  h̃ = W_h·x + b_h, or g of it;  h = f/(f + i) ⊙ h₋₁ + i/(f + i) ⊙ h̃.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed
        As for `GRU`.
    candidate : {"plain", "g"}
        As for `MinGRU`.

    Notes
    -----
    `params` are `weight_ih_l0` [3·H, I] and `bias_ih_l0` [3·H], the blocks in the order f, i, h̃. The state is h. The
    shares are computed from 1/f and 1/i, and are right where both gates are closed and f + i is 0 in floating point.

    References
    ----------
    Feng et al. 2024, "Were RNNs All We Needed?", section 3.2.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> layer = fr.MinLSTM(3, 5, seed=0)
    >>> y, h_n = layer(np.ones((7, 2, 3), np.float32))
    >>> y.shape, np.array_equal(y[-1], h_n[0])
    ((7, 2, 5), True)
    """

    _code = _core.SCAN_MIN_LSTM
    _gates = 3


class IndRNN(Scan):
    """Independently recurrent network: a stack of layers in one direction or two.

    h = φ(W·x + u ⊙ h₋₁ + b), a recurrent weight a unit.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed
        As for `GRU`.
    nonlinearity : {"relu", "tanh"}
        φ.

    Notes
    -----
    `params` are `weight_ih_l0` [H, I], `weight_hh_l0` [H], which is u, and `bias_ih_l0` [H]; u starts uniform in 0 … 1,
    where relu neither explodes nor dies. For long sequences the paper limits |u| to 2^(1/T) after each step of the
    optimiser. The state is h.

    References
    ----------
    Li, Li, Cook, Zhu & Gao 2018, "Independently Recurrent Neural Network (IndRNN): Building A Longer and Deeper RNN".

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> layer = fr.IndRNN(3, 5, seed=0)
    >>> (y, h_n), pullback = layer.vjp(np.ones((7, 2, 3), np.float32))
    >>> dx, dh_0 = pullback(np.ones_like(y))
    >>> y.shape, layer.grads["weight_hh_l0"].shape
    ((7, 2, 5), (5,))
    """

    _code = _core.SCAN_IND_RNN

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: str = "relu",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self._relu = bool(_check.choice(nonlinearity, _NONLINEARITIES, "nonlinearity"))
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed)

    def _draw(self, inputs: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        found = _uniform(self.hidden_size, inputs, self.bias, rng)
        found["weight_hh"] = rng.uniform(0, 1, self.hidden_size)
        return found

    def _option(self) -> bool:
        return self._relu

    def _channel(self, params: dict[str, Any]) -> Any:
        return params["weight_hh"]

    def config(self) -> dict[str, Any]:
        return {**super().config(), "nonlinearity": self.nonlinearity}


def _uniform(rows: int, columns: int, bias: bool, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Weights and biases as those of a Linear."""
    draw: dict[str, Any] = {"fan": columns, "dtype": np.float64, "seed": rng}
    found = {"weight_ih": init.uniform((rows, columns), **draw)}
    if bias:
        found["bias_ih"] = init.uniform((rows,), **draw)
    return found
