"""The Transformer's encoder and decoder: attention, position-wise feed-forward, residuals and layer norms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, split
from fastrnn.nn.activations import ReLU
from fastrnn.nn.dropout import Dropout
from fastrnn.nn.gelu import GELU
from fastrnn.nn.layer_norm import LayerNorm
from fastrnn.nn.linear import Linear
from fastrnn.nn.model import Model
from fastrnn.nn.multihead import MultiHeadAttention
from fastrnn.nn.transformer_stream import TransformerStream

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

_ACTIVATIONS: dict[str, type[Layer]] = {"relu": ReLU, "gelu": GELU}


class _Block(Model):
    """What encoder and decoder layers share: self-attention first, feed-forward last, and how parts are added up."""

    _attentions = 1  # and as many norms, and one more

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        *,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        norm_first: bool = False,
        batch_first: bool = False,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__()
        kind = _check.float_dtype(dtype)
        size, hidden = _check.positive_int(d_model, "d_model"), _check.positive_int(dim_feedforward, "dim_feedforward")
        _check.heads_divide(size, _check.positive_int(nhead, "nhead"), "nhead", "d_model")
        seeds = split(seed, 4)

        def attention(k: int) -> MultiHeadAttention:
            return MultiHeadAttention(
                size, nhead, dropout=dropout, bias=bias, batch_first=batch_first, dtype=kind, seed=seeds[k]
            )

        self.self_attn = attention(0)
        if self._attentions == 2:
            self.multihead_attn = attention(1)
        self.linear1 = Linear(size, hidden, bias=bias, dtype=kind, seed=seeds[2])
        self.activation = _check.choice(activation, _ACTIVATIONS, "activation")()
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(hidden, size, bias=bias, dtype=kind, seed=seeds[3])
        for k in range(1, self._attentions + 2):
            setattr(self, f"norm{k}", LayerNorm(size, layer_norm_eps, dtype=kind))
            setattr(self, f"dropout{k}", Dropout(dropout))
        self.norm_first = bool(norm_first)
        self._config = {
            "d_model": size, "nhead": nhead, "dim_feedforward": hidden, "dropout": dropout, "activation": activation,
            "layer_norm_eps": layer_norm_eps, "norm_first": self.norm_first, "batch_first": bool(batch_first),
            "bias": bool(bias), "dtype": kind.name,
        }  # fmt: skip

    def _added(self, k: int, x: Any, part: Any) -> Any:
        """x with the k-th part added: normalised before the part (norm_first), or the sum afterwards."""
        norm, drop = getattr(self, f"norm{k}"), getattr(self, f"dropout{k}")
        return x + drop(part(norm(x))) if self.norm_first else norm(x + drop(part(x)))

    def _feed_forward(self, x: Any) -> Any:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))

    def config(self) -> dict[str, Any]:
        return dict(self._config)


class TransformerEncoderLayer(_Block):
    """Self-attention and a feed-forward network at each step, each added to its input and normalised.

    x ← norm(x + attention(x)), x ← norm(x + linear2(φ(linear1(x)))), or with `norm_first`
    x ← x + attention(norm(x)), x ← x + linear2(φ(linear1(norm(x)))).

    Parameters
    ----------
    d_model : int
        Size F of a step.
    nhead : int
        Heads, a divisor of F.
    dim_feedforward : int
        Size between the two linear maps.
    dropout : float
        Share of attention weights, and of values after each part and within the feed-forward network, to drop.
    activation : {"relu", "gelu"}
        φ.
    layer_norm_eps : float
    norm_first : bool
        Normalise what goes into a part instead of the sum that comes out.
    batch_first : bool
        Arrays are [B, T, F] instead of [T, B, F].
    bias : bool
        Of all linear maps.
    dtype : dtype
    seed : None, int or numpy.random.Generator

    Notes
    -----
    Parameters have the names of PyTorch's `TransformerEncoderLayer`, whose state_dict loads.

    References
    ----------
    Vaswani et al.: Attention Is All You Need, 2017. Xiong et al.: On Layer Normalization in the Transformer
    Architecture, 2020, for `norm_first`.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> layer = fr.TransformerEncoderLayer(8, 2, 16, seed=0)
    >>> x = np.ones((5, 3, 8), np.float32)
    >>> y, pullback = layer.vjp(x, lengths=[5, 2, 4], seed=1)
    >>> y.shape, pullback(np.ones_like(y)).shape
    ((5, 3, 8), (5, 3, 8))
    """

    def forward(self, x: Any, *, lengths: Any = None, causal: bool = False, mask: Any = None) -> Any:
        """One layer.

        Parameters
        ----------
        x : array, [T, B, F], or [T, F] for one sequence
        lengths : integers [B], optional
            Steps past them are not looked at; they are computed like others.
        causal : bool
            A step sees itself and those before it.
        mask : array, optional
            As for `MultiHeadAttention`.
        """
        x = self._added(1, x, lambda a: self.self_attn(a, lengths=lengths, causal=causal, mask=mask))
        return self._added(2, x, self._feed_forward)


class TransformerDecoderLayer(_Block):
    """Self-attention, attention over the encoder's output, and a feed-forward network.

    Parameters
    ----------
    d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, norm_first, batch_first, bias, dtype, seed
        As for `TransformerEncoderLayer`.

    Notes
    -----
    Parameters have the names of PyTorch's `TransformerDecoderLayer`, whose state_dict loads.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> layer = fr.TransformerDecoderLayer(8, 2, 16, seed=0)
    >>> x, memory = np.ones((4, 3, 8), np.float32), np.ones((5, 3, 8), np.float32)
    >>> layer(x, memory, memory_lengths=[5, 2, 4]).shape
    (4, 3, 8)
    """

    _attentions = 2

    def forward(
        self,
        x: Any,
        memory: Any,
        *,
        lengths: Any = None,
        memory_lengths: Any = None,
        causal: bool = True,
        mask: Any = None,
        memory_mask: Any = None,
    ) -> Any:
        """One layer.

        Parameters
        ----------
        x : array, [T, B, F]
        memory : array, [S, B, F]
            The encoder's output.
        lengths, memory_lengths : integers [B], optional
            Of the rows of x and of memory.
        causal : bool
            A step sees itself and those before it.
        mask, memory_mask : array, optional
            [B, N, T, T] and [B, N, T, S], as for `MultiHeadAttention`.
        """
        x = self._added(1, x, lambda a: self.self_attn(a, lengths=lengths, causal=causal, mask=mask))
        x = self._added(2, x, lambda a: self.multihead_attn(a, memory, lengths=memory_lengths, mask=memory_mask))
        return self._added(3, x, self._feed_forward)


class _Stack(Model):
    """Equal layers one after another, and a last norm where they normalise first."""

    _block: type[_Block]

    def __init__(
        self,
        d_model: int,
        nhead: int,
        num_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        *,
        final_norm: bool | None = None,
        layer_norm_eps: float = 1e-5,
        norm_first: bool = False,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
        **options: Any,
    ) -> None:
        super().__init__()
        count = _check.positive_int(num_layers, "num_layers")
        options |= {"layer_norm_eps": layer_norm_eps, "norm_first": norm_first, "dtype": dtype}
        self.layers = [
            self._block(d_model, nhead, dim_feedforward, dropout, seed=bits, **options) for bits in split(seed, count)
        ]
        final_norm = bool(norm_first if final_norm is None else final_norm)
        self.norm = LayerNorm(d_model, layer_norm_eps, dtype=dtype) if final_norm else None
        self._config = {**self.layers[0].config(), "num_layers": count, "final_norm": final_norm}

    def _run(self, x: Any, *args: Any, **options: Any) -> Any:
        for layer in self.layers:
            x = layer(x, *args, **options)
        return x if self.norm is None else self.norm(x)

    def config(self) -> dict[str, Any]:
        return dict(self._config)


class TransformerEncoder(_Stack):
    """A stack of `TransformerEncoderLayer`s.

    Parameters
    ----------
    d_model, nhead
        As for the layers.
    num_layers : int
    dim_feedforward, dropout
        As for the layers.
    final_norm : bool, optional
        A layer norm at the end; by default with `norm_first`, where sums leave the last layer as they are.
    layer_norm_eps, norm_first, dtype, seed, activation, batch_first, bias
        As for the layers.

    Notes
    -----
    Parameters have the names of PyTorch's `TransformerEncoder`, `"layers.0.self_attn.in_proj_weight"` to
    `"norm.bias"`, whose state_dict loads.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> model = fr.TransformerEncoder(8, 2, num_layers=3, dim_feedforward=16, norm_first=True, seed=0)
    >>> y = model(np.ones((5, 3, 8), np.float32), lengths=[5, 2, 4])
    >>> y.shape, list(model.params)[-1]
    ((5, 3, 8), 'norm.bias')
    """

    _block = TransformerEncoderLayer

    def forward(self, x: Any, *, lengths: Any = None, causal: bool = False, mask: Any = None) -> Any:
        """All layers; arguments as for one."""
        return self._run(x, lengths=lengths, causal=causal, mask=mask)

    def stream(self, batch_size: int = 1) -> TransformerStream:
        """Return what runs the layers step by step, each step seeing itself and those before (as ``causal=True``).

        Parameters
        ----------
        batch_size : int
            Sequences side by side.
        """
        return TransformerStream(self.layers, self.norm, batch_size)


class TransformerDecoder(_Stack):
    """A stack of `TransformerDecoderLayer`s.

    Parameters
    ----------
    d_model, nhead, num_layers, dim_feedforward, dropout, final_norm, layer_norm_eps, norm_first, dtype, seed
        As for `TransformerEncoder`, and so are activation, batch_first and bias.

    Notes
    -----
    Parameters have the names of PyTorch's `TransformerDecoder`.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> model = fr.TransformerDecoder(8, 2, num_layers=2, dim_feedforward=16, seed=0)
    >>> model(np.ones((4, 3, 8), np.float32), np.ones((5, 3, 8), np.float32)).shape
    (4, 3, 8)
    """

    _block = TransformerDecoderLayer

    def forward(
        self,
        x: Any,
        memory: Any,
        *,
        lengths: Any = None,
        memory_lengths: Any = None,
        causal: bool = True,
        mask: Any = None,
        memory_mask: Any = None,
    ) -> Any:
        """All layers, each of which reads the memory; arguments as for one."""
        return self._run(
            x, memory, lengths=lengths, memory_lengths=memory_lengths, causal=causal, mask=mask, memory_mask=memory_mask
        )

    def stream(self, memory: Any, *, memory_lengths: Any = None) -> TransformerStream:
        """Return what runs the layers step by step: a sequence for each row of a memory.

        Parameters
        ----------
        memory : array, [S, B, F]
            The encoder's output.
        memory_lengths : integers [B], optional
        """
        return TransformerStream(self.layers, self.norm, 1, memory, memory_lengths)
