"""CustomRNN: recurrent layers of a cell that users write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._variant import Variant
from fastrnn.nn import init
from fastrnn.nn._random import Seed
from fastrnn.nn._recurrent import Recurrent

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from fastrnn.jit import Cell


class CustomVariant(Variant):
    """The arithmetic of a user's cell, and what is drawn around it."""

    def __init__(self, usual: tuple[str, ...], cell: Any = None, **options: Any) -> None:
        super().__init__(usual, **options)
        self.cell = cell

    @property
    def in_kernel(self) -> bool:
        return True

    def shapes(self, suffix: str, gates: int, hidden: int, lstm: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
        for name in self.cell.vectors:
            yield f"{name}{suffix}", (hidden,)

    def arrays(self, arrays: dict[str, Any], suffix: str, hidden: int) -> tuple[Any, ...]:
        return (None, None, *(arrays[f"{name}{suffix}"] for name in self.cell.vectors))

    def in_python(self, dtype: np.dtype[Any]) -> bool:
        return self.cell.spec(dtype).callbacks is not None

    def functions(self, lstm: bool, dtype: np.dtype[Any]) -> dict[str, Any]:
        spec = self.cell.spec(dtype)
        return {"address": spec.address, "owner": spec}


class CustomRNN(Recurrent):
    """A cell that users write (`fr.cell`) as a stack of layers in one direction or two, with all that others have.

    Parameters
    ----------
    cell : Cell
        Made by `fr.cell`; or the "module:name" of one that has been made already.
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed
        As for `LSTM`.
    zoneout : float, or one for each state
        Probability of keeping a unit's old value (Krueger et al. 2016).
    recurrent_dropout, input_dropout, weight_dropout : float
        As for `LSTM`.

    Notes
    -----
    With G gates, `params` are `weight_ih_l0` [G·H, I], `weight_hh_l0` [G·H, H], `bias_ih_l0`, `bias_hh_l0` [G·H], gates
    in the cell's order, and for each of its vectors an array [H], such as `p_i_l0`; suffix `_reverse` for the second
    direction, `_l1` … above. The state is one array [num_layers·D, B, H], or a tuple of them where the cell has
    several.
    The first call compiles the cell, or takes it from the cache (see docs/custom-cells.md).

    A saved file holds the cell's name, not its equations: `fr.load` finds a cell of that name that has been made, and
    checks that it computes the same; or it is told, `fr.load(path, cells={"my_gru": my_gru})`.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> from fastrnn.jit import sigmoid, tanh
    >>> @fr.cell(gates=("r", "z", "n"), states=("h",))
    ... def my_gru(wx, rh, s):
    ...     r = sigmoid(wx.r + rh.r)
    ...     z = sigmoid(wx.z + rh.z)
    ...     n = tanh(wx.n + r * rh.n)
    ...     return (1 - z) * n + z * s.h
    >>> layer = fr.CustomRNN(my_gru, input_size=3, hidden_size=5, num_layers=2, seed=0)
    >>> x = np.ones((7, 2, 3), np.float32)
    >>> (y, h_n), pullback = layer.vjp(x, lengths=[7, 4])
    >>> y.shape, h_n.shape
    ((7, 2, 5), (2, 2, 5))
    >>> dx, dh_0 = pullback(np.ones_like(y))
    >>> gru = fr.GRU(3, 5, num_layers=2)
    >>> gru.load_state_dict(layer.state_dict())
    >>> bool(np.abs(gru(x, lengths=[7, 4])[0] - y).max() < 1e-6)
    True
    """

    variant: CustomVariant

    def __init__(
        self,
        cell: Cell | str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        zoneout: float | tuple[float, ...] = 0.0,
        recurrent_dropout: float = 0.0,
        input_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        from fastrnn.jit.cell import find_cell

        self.cell = find_cell(cell)
        self.gates, self.num_states = len(self.cell.gates), len(self.cell.states)
        closed = [name for name in self.cell.initial if name in self.cell.gates]
        if closed and not bias:
            raise ValueError(f"bias: expected True, since {self.cell!r} has an initial bias of {', '.join(closed)}")
        options: dict[str, Any] = {
            **{"zoneout": zoneout, "recurrent_dropout": recurrent_dropout, "input_dropout": input_dropout},
            **{"weight_dropout": weight_dropout, "clip": None, "activations": None, "cell": self.cell},
        }
        variant = CustomVariant.of((), self.num_states, **options)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, dtype, seed, variant
        )  # fmt: skip

    def _initial_values(self, name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
        values: NDArray[Any] = init.uniform(shape, fan=self.hidden_size, dtype=self.dtype, seed=rng)
        parameter = name.rpartition("_l")[0]
        for given, value in self.cell.initial.items():
            if parameter == given:
                values[:] = value
            elif parameter in ("bias_ih", "bias_hh") and given in self.cell.gates:
                first = self.cell.gates.index(given) * self.hidden_size
                values[first : first + self.hidden_size] = value if parameter == "bias_ih" else 0
        return values

    def _guarded(self, function: Any, *args: Any) -> Any:
        return self.cell.guarded(function, *args)

    def config(self) -> dict[str, Any]:
        return {"cell": self.cell.signature, **super().config()}
