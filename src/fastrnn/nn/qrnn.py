"""QRNN: the quasi-recurrent network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn.nn._random import Seed
from fastrnn.nn._scan import Scan, Way, uniform

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


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
        return uniform(3 * self.hidden_size, self.window * inputs, self.bias, rng)

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
