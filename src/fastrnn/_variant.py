"""What recurrent layers may have beyond the plain cell, and how the core is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._random import Seed, mask_seed

if TYPE_CHECKING:
    from numpy.typing import NDArray

# ONNX's alpha and beta where none are given
_NUMBERS = {
    "leaky_relu": (0.01, 0.0),
    "thresholded_relu": (1.0, 0.0),
    "affine": (1.0, 0.0),
    "scaled_tanh": (1.0, 1.0),
    "hard_sigmoid": (0.2, 0.5),
    "elu": (1.0, 0.0),
}
RNN_CELLS = {"tanh": _core.RNN_TANH, "relu": _core.RNN_RELU, "sigmoid": _core.RNN_SIGMOID}
NONLINEARITIES = (*RNN_CELLS, "leaky_relu", "identity")  # those without a cell of their own are variants
_KEYS = {name.replace("_", ""): name for name in _core.ACTIVATIONS}
Activation = tuple[str, float, float]

# What is drawn for a call has seeds of its own, past those of the dropout between layers.
_MASKS, _INPUTS, _WEIGHTS = 1 << 32, 2 << 32, 3 << 32
_BITS = (1 << 64) - 1


def activation(value: Any) -> Activation:
    """(name, alpha, beta) of a name, in any case, or of a tuple of a name and one or two numbers."""
    name, *numbers = (value,) if isinstance(value, str) else value if isinstance(value, tuple | list) else ("",)
    key = _KEYS.get(name.lower().replace("_", "")) if isinstance(name, str) else None
    if key is None or len(numbers) > 2:
        raise ValueError(
            f"activations: expected one of {', '.join(_core.ACTIVATIONS)}, or a tuple (name, alpha, beta), "
            f"got {value!r}"
        )
    given = [_check.number(number, "activations: alpha and beta") for number in numbers]
    alpha, beta = (*given, *_NUMBERS.get(key, (0.0, 0.0))[len(given) :])
    return key, alpha, beta


class Variant:
    """The options of a built-in cell; `activations` is complete or None for the usual ones. Nobody changes them."""

    # no dataclass, whose import alone is a tenth of fastrnn's
    FIELDS = (
        *("usual", "peephole", "coupled", "clip", "forget_bias", "layer_norm", "zoneout"),
        *("recurrent_dropout", "input_dropout", "weight_dropout", "activations"),
    )

    def __init__(
        self,
        usual: tuple[str, ...],  # activations of the plain cell
        peephole: bool = False,
        coupled: bool = False,
        clip: float | None = None,
        forget_bias: float | None = None,
        layer_norm: bool = False,
        zoneout: tuple[float, ...] = (),
        recurrent_dropout: float = 0.0,
        input_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        activations: tuple[Activation, ...] | None = None,
    ) -> None:
        self.usual, self.peephole, self.coupled, self.clip = usual, peephole, coupled, clip
        self.forget_bias, self.layer_norm, self.zoneout = forget_bias, layer_norm, zoneout
        self.recurrent_dropout, self.input_dropout = recurrent_dropout, input_dropout
        self.weight_dropout, self.activations = weight_dropout, activations

    @classmethod
    def of(cls, usual: tuple[str, ...], states: int, **options: Any) -> Variant:
        """From a layer's arguments."""
        for name in ("recurrent_dropout", "input_dropout", "weight_dropout"):
            options[name] = _check.fraction(options[name], name)
        for name in ("peephole", "coupled", "layer_norm"):
            options[name] = _check.flag(options.get(name, False), name)
        if options["clip"] is not None:
            options["clip"] = _check.above_zero(options["clip"], "clip")
        if options.get("forget_bias") is not None:
            options["forget_bias"] = _check.number(options["forget_bias"], "forget_bias")
        zoneout = options["zoneout"]
        pair = zoneout if isinstance(zoneout, tuple | list) and states > 1 else (zoneout,) * states
        if len(pair) != states:
            raise ValueError(f"zoneout: expected a number or {states} of them, got {zoneout!r}")
        options["zoneout"] = tuple(_check.fraction(rate, "zoneout") for rate in pair)
        given = options["activations"]
        if given is not None:
            if isinstance(given, str) or (len(usual) == 1 and isinstance(given, tuple) and len(given) != 1):
                given = (given,)
            if not isinstance(given, tuple | list) or len(given) != len(usual):
                raise ValueError(f"activations: expected {len(usual)} of them, got {given!r}")
            options["activations"] = tuple(activation(one) for one in given)
        return cls(usual, **options)

    @property
    def masks(self) -> bool:
        """Whether something is drawn for a call in training."""
        rates = (*self.zoneout, self.recurrent_dropout, self.input_dropout, self.weight_dropout)
        return any(rate > 0 for rate in rates)

    @property
    def in_kernel(self) -> bool:
        """Whether the cell isn't the plain one."""
        return bool(
            self.peephole
            or self.coupled
            or self.clip
            or self.layer_norm
            or any(self.zoneout)
            or self.recurrent_dropout
            or (self.activations and tuple(name for name, _, _ in self.activations) != self.usual)
        )

    def shapes(self, suffix: str, gates: int, hidden: int, lstm: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Parameters beyond weights and biases."""
        if self.peephole:
            yield f"peephole{suffix}", ((2 if self.coupled else 3) * hidden,)
        if self.layer_norm:
            yield f"gain_ih{suffix}", (gates * hidden,)
            yield f"gain_hh{suffix}", (gates * hidden,)
            if lstm:
                yield f"gain_c{suffix}", (hidden,)
                yield f"bias_c{suffix}", (hidden,)

    def arrays(self, arrays: dict[str, Any], suffix: str, hidden: int) -> tuple[Any, ...]:
        """What the core takes after the five weights: two gains, and vectors."""
        if not self.in_kernel:
            return ()
        found = [arrays.get(f"gain_ih{suffix}"), arrays.get(f"gain_hh{suffix}")]
        if self.peephole:
            found += np.split(arrays[f"peephole{suffix}"], 2 if self.coupled else 3)
        if f"gain_c{suffix}" in arrays:
            found += [arrays[f"gain_c{suffix}"], arrays[f"bias_c{suffix}"]]
        return tuple(found)

    def config(self) -> dict[str, Any]:
        """The arguments that differ from their defaults, for files."""
        plain = Variant(self.usual, zoneout=(0.0,) * len(self.zoneout))
        found = {
            name: getattr(self, name) for name in Variant.FIELDS[1:] if getattr(self, name) != getattr(plain, name)
        }
        for name in ("zoneout", "activations"):
            if name in found:
                found[name] = [list(part) if isinstance(part, tuple) else part for part in found[name]]
        if len(found.get("zoneout", ())) == 1:
            found["zoneout"] = found["zoneout"][0]
        return found

    def norm(self, gates: int, states: int) -> int:
        """Gates that are normalised together, or 0: the candidate of a GRU goes alone."""
        return 0 if not self.layer_norm else 2 if gates == 3 and states == 1 else gates

    def in_python(self, dtype: np.dtype[Any]) -> bool:
        """Whether the core calls back into Python, so that calls into it need `Recurrent._guarded`."""
        return False

    def functions(self, lstm: bool, dtype: np.dtype[Any]) -> dict[str, Any]:
        """What tells `_core.Options` the arithmetic."""
        return {"variant": self.core(lstm)} if self.in_kernel else {}

    def core(self, norm_c: bool) -> tuple[Any, ...]:
        """What `_core.Options` takes as `variant`; norm_c: a layer norm applies to c, too."""
        chosen = self.activations or tuple((name, *_NUMBERS.get(name, (0.0, 0.0))) for name in self.usual)
        numbers = [(_core.ACTIVATIONS.index(name), alpha, beta) for name, alpha, beta in chosen]
        numbers += [(0, 0.0, 0.0)] * (3 - len(numbers))
        return self.peephole, self.coupled, norm_c and self.layer_norm, self.clip or 0.0, tuple(numbers)


def rnn_variant(nonlinearity: str, **options: Any) -> Variant:
    """The variant of a simple recurrent network, whose activation has two names."""
    _check.choice(nonlinearity, dict.fromkeys(NONLINEARITIES), "nonlinearity")
    if options["activations"] is None and nonlinearity not in RNN_CELLS:
        options["activations"] = (nonlinearity,)
    elif options["activations"] is not None and nonlinearity != "tanh":
        raise ValueError(f"activations: expected without nonlinearity, got nonlinearity={nonlinearity!r} too")
    return Variant.of((nonlinearity if nonlinearity in RNN_CELLS else "tanh",), 1, **options)


class Draw:
    """The masks of one call of a stack: seeds, input masks, and weights with some of R dropped."""

    def __init__(self, variant: Variant, seed: Seed, needed: bool) -> None:
        self.variant = variant
        self.bits = mask_seed(seed) if needed else 0

    def _mask(self, shape: tuple[int, ...], rate: float, seed: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        mask = np.ones(shape, dtype)
        _core.dropout(mask, rate, (self.bits + seed) & _BITS, mask)
        return mask

    @property
    def seed(self) -> int:
        return (self.bits + _MASKS) & _BITS

    def inputs(self, batch: int, sizes: list[int], batch_first: bool, dtype: np.dtype[Any]) -> list[Any] | None:
        """A mask for the input of each layer."""
        rate = self.variant.input_dropout
        if not rate:
            return None
        masks = [self._mask((batch, size), rate, _INPUTS + k, dtype) for k, size in enumerate(sizes)]
        return [mask[:, None] if batch_first else mask[None] for mask in masks]

    def weights(self, layers: Any) -> tuple[Any, Any]:
        """(layers with masked R, the masks)."""
        rate = self.variant.weight_dropout
        if not rate:
            return layers, None
        masks = [
            [self._mask(R.shape, rate, _WEIGHTS + 2 * k + d, R.dtype) for d, (_, R, *_) in enumerate(directions)]
            for k, directions in enumerate(layers)
        ]
        dropped = tuple(
            tuple((W, R * mask, *rest) for (W, R, *rest), mask in zip(directions, of_layer, strict=True))
            for directions, of_layer in zip(layers, masks, strict=True)
        )
        return dropped, masks
