"""RNN, LSTM and GRU: stacks of recurrent layers with PyTorch's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._variant import RNN_CELLS, Variant, rnn_variant
from fastrnn.nn._random import Seed
from fastrnn.nn._recurrent import Recurrent

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


class LSTM(Recurrent):
    """Long short-term memory: a stack of layers in one direction or two.

    i, f, o = σ(z_i), σ(z_f), σ(z_o);  g = tanh(z_g);  c = f ⊙ c₋₁ + i ⊙ g;  h = o ⊙ tanh(c), with
    z = weight_ih·x + bias_ih + weight_hh·h₋₁ + bias_hh. With a projection h = weight_hr·(o ⊙ tanh(c)).

    Parameters
    ----------
    input_size, hidden_size : int
        I and H.
    num_layers : int
        Each layer reads the outputs of the one below.
    bias : bool
        Add bias_ih and bias_hh.
    batch_first : bool
        `x` and `y` are [B, T, ·] instead of [T, B, ·]; no copy is made.
    dropout : float
        Probability of zeroing each output between layers, in `vjp`.
    bidirectional : bool
        Add a second direction, which reads each row from its end; D = 2.
    proj_size : int
        P, the size of h with a projection; 0 for none, then P = H.
    peephole : bool
        z_i += p_i ⊙ c₋₁, z_f += p_f ⊙ c₋₁, z_o += p_o ⊙ c: parameter `peephole_l0` [3·H] ([2·H], i and o, if coupled).
    coupled : bool
        f = 1 − i; weights and biases have 3·H rows, in the order i, g, o.
    clip : float, optional
        Limits z to [−clip, clip] before each gate's activation.
    forget_bias : float, optional
        Initial value of the forget gate's part of bias_ih; that of bias_hh is 0 then. Needs biases, and not `coupled`.
    layer_norm : bool
        Normalise W·x, R·h₋₁, and c in h: parameters `gain_ih_l0`, `gain_hh_l0` [4·H], `gain_c_l0`, `bias_c_l0` [H].
    zoneout : float, or a pair for h and c
        Probability that a number keeps its old value, in `vjp`; by expectation in inference.
    recurrent_dropout, input_dropout : float
        Probability of dropping a number of h₋₁ before R, of x before W, by one mask for a sequence, in `vjp`.
    weight_dropout : float
        Probability of dropping an element of R, in `vjp`.
    activations : sequence of three, optional
        Of the gates, of g, and of c in h: each one of ONNX's names, or (name, alpha, beta).
    dtype : dtype
        float32 or float64: of parameters, inputs and outputs.
    seed : None, int or numpy.random.Generator
        For the initial weights, uniform in ±1/√H as in PyTorch.

    Notes
    -----
    With layer_norm z = gain_ih ⊙ N(W·x) + bias_ih + gain_hh ⊙ N(R·h₋₁) + bias_hh, h = o ⊙ tanh(gain_c ⊙ N(c) + bias_c),
    N(v) = (v − mean)/√(var + 1e-5). With zoneout c = d_c ⊙ c₋₁ + (1 − d_c) ⊙ c̃, h likewise with o ⊙ tanh(c̃).

    `params` are PyTorch's: `weight_ih_l0` [4·H, I], `weight_hh_l0` [4·H, P], `bias_ih_l0`, `bias_hh_l0` [4·H],
    `weight_hr_l0` [P, H], with suffix `_reverse` for the second direction and `_l1` … above; gates in the order
    i, f, g, o. The state is a tuple (h [num_layers·D, B, P], c [num_layers·D, B, H]).

    References
    ----------
    Hochreiter & Schmidhuber 1997, "Long Short-Term Memory"; Gers et al. 2000; Sak et al. 2014 (projection); Gers &
    Schmidhuber 2000 (peephole); Greff et al. 2017 (coupled); Ba, Kiros & Hinton 2016 (layer_norm); Krueger et al. 2016
    (zoneout); Gal & Ghahramani 2016 (recurrent_dropout, input_dropout); Merity et al. 2017 (weight_dropout).

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> lstm = fr.LSTM(3, 5, bidirectional=True, seed=0)
    >>> x = np.ones((7, 2, 3), np.float32)  # [T, B, I]
    >>> y, (h_n, c_n) = lstm(x, lengths=[7, 4])
    >>> y.shape, h_n.shape
    ((7, 2, 10), (2, 2, 5))
    >>> (y, _), pullback = lstm.vjp(x)
    >>> dx, (dh_0, dc_0) = pullback(np.ones_like(y))
    >>> dx.shape, lstm.grads["weight_ih_l0"].shape
    ((7, 2, 3), (20, 3))
    >>> lstm = fr.LSTM(3, 5, layer_norm=True, peephole=True, zoneout=(0.1, 0.05), seed=0)
    >>> (y, _), pullback = lstm.vjp(x, seed=1)
    >>> lstm.params["gain_ih_l0"].shape, lstm.params["peephole_l0"].shape
    ((20,), (15,))
    """

    gates = 4
    num_states = 2

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
        proj_size: int = 0,
        peephole: bool = False,
        coupled: bool = False,
        clip: float | None = None,
        forget_bias: float | None = None,
        layer_norm: bool = False,
        zoneout: float | tuple[float, float] = 0.0,
        recurrent_dropout: float = 0.0,
        input_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        activations: Any = None,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        variant = Variant.of(
            ("sigmoid", "tanh", "tanh"), 2, peephole=peephole, coupled=coupled, forget_bias=forget_bias,
            clip=clip, layer_norm=layer_norm, zoneout=zoneout, recurrent_dropout=recurrent_dropout,
            input_dropout=input_dropout, weight_dropout=weight_dropout, activations=activations,
        )  # fmt: skip
        _check.forget_bias(variant.forget_bias, variant.coupled, bool(bias))
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, dtype, seed,
            variant,
        )  # fmt: skip
        self._cell = _core.LSTM

    def config(self) -> dict[str, Any]:
        return {**super().config(), "proj_size": self.proj_size}


class GRU(Recurrent):
    """Gated recurrent unit: a stack of layers in one direction or two.

    r, z = σ(·), σ(·);  h = (1 − z) ⊙ n + z ⊙ h₋₁, with n = tanh(W_n·x + b_wn + r ⊙ (R_n·h₋₁ + b_rn)), or, with
    `reset_after=False`, n = tanh(W_n·x + b_wn + R_n·(r ⊙ h₋₁) + b_rn).

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed
        As for `LSTM`.
    reset_after : bool
        Apply the reset gate after the recurrent product, as PyTorch and cuDNN do, or before it, as in the paper.
    layer_norm : bool
        Normalise W·x and R·h₋₁, r and z together and n alone: parameters `gain_ih_l0`, `gain_hh_l0` [3·H].
    activations : sequence of two, optional
        Of the gates and of n: each one of ONNX's names, or (name, alpha, beta).
    clip, zoneout, recurrent_dropout, input_dropout, weight_dropout
        As for `LSTM`, with one state.

    Notes
    -----
    `params` are PyTorch's, [3·H, ·], gates in the order r, z, n. The state is one array [num_layers·D, B, H].

    References
    ----------
    Cho et al. 2014, "Learning Phrase Representations using RNN Encoder–Decoder".

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> gru = fr.GRU(3, 5, num_layers=2, seed=0)
    >>> y, h_n = gru(np.ones((7, 2, 3), np.float32))
    >>> y.shape, h_n.shape
    ((7, 2, 5), (2, 2, 5))
    """

    gates = 3

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
        reset_after: bool = True,
        clip: float | None = None,
        layer_norm: bool = False,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
        input_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        activations: Any = None,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        variant = Variant.of(
            ("sigmoid", "tanh"), 1, clip=clip, layer_norm=layer_norm, zoneout=zoneout,
            recurrent_dropout=recurrent_dropout, input_dropout=input_dropout, weight_dropout=weight_dropout,
            activations=activations,
        )  # fmt: skip
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, dtype, seed, variant
        )  # fmt: skip
        self.reset_after = bool(reset_after)
        self._cell = _core.GRU_AFTER if self.reset_after else _core.GRU_BEFORE

    def config(self) -> dict[str, Any]:
        return {**super().config(), "reset_after": self.reset_after}


class RNN(Recurrent):
    """Simple recurrent network: a stack of layers in one direction or two.

    h = φ(weight_ih·x + bias_ih + weight_hh·h₋₁ + bias_hh).

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed
        As for `LSTM`.
    nonlinearity : "tanh", "relu", "sigmoid", "leaky_relu" or "identity"
        φ; relu's derivative at 0 is 0, the slope of leaky_relu below it 0.01.
    layer_norm : bool
        Normalise W·x and R·h₋₁: parameters `gain_ih_l0`, `gain_hh_l0` [H].
    activations : one of ONNX's names, or (name, alpha, beta), optional
        In place of nonlinearity.
    clip, zoneout, recurrent_dropout, input_dropout, weight_dropout
        As for `LSTM`, with one state.

    Notes
    -----
    `params` are PyTorch's, [H, ·]. The state is one array [num_layers·D, B, H].

    References
    ----------
    Elman 1990, "Finding Structure in Time".

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> rnn = fr.RNN(3, 5, nonlinearity="relu", seed=0)
    >>> y, h_n = rnn(np.ones((7, 2, 3), np.float32))
    >>> y.shape, h_n.shape
    ((7, 2, 5), (1, 2, 5))
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        clip: float | None = None,
        layer_norm: bool = False,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
        input_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        activations: Any = None,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        variant = rnn_variant(
            nonlinearity, clip=clip, layer_norm=layer_norm, zoneout=zoneout, recurrent_dropout=recurrent_dropout,
            input_dropout=input_dropout, weight_dropout=weight_dropout, activations=activations,
        )  # fmt: skip
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, dtype, seed, variant
        )  # fmt: skip
        self._cell = RNN_CELLS.get(nonlinearity, _core.RNN_TANH)
        self.nonlinearity = nonlinearity

    def config(self) -> dict[str, Any]:
        found = {**super().config(), "nonlinearity": self.nonlinearity}
        if self.nonlinearity not in RNN_CELLS:  # it is the activation
            del found["activations"]
        return found
