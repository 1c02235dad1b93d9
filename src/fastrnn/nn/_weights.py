"""The parameters of recurrent layers: names, shapes, initial values, and how the core takes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._variant import Variant
from fastrnn.nn import init
from fastrnn.nn._layer import Layer

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


class _Weights(Layer):
    """What a recurrent layer knows of its parameters."""

    dtype: np.dtype[Any]
    input_size: int
    hidden_size: int
    num_layers: int
    proj_size: int
    bias: bool
    gates = 1  # G
    num_states = 1
    variant: Variant
    _directions: int
    _layer_params: Any
    _layer_grads: Any

    @property
    def _h_size(self) -> int:
        return self.proj_size or self.hidden_size

    def _suffixes(self) -> Iterator[tuple[int, str]]:
        for layer in range(self.num_layers):
            for direction in range(self._directions):
                yield layer, f"_l{layer}" + ("_reverse" if direction else "")

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        rows = self.gates * self.hidden_size
        for layer, suffix in self._suffixes():
            inputs = self.input_size if layer == 0 else self._h_size * self._directions
            yield f"weight_ih{suffix}", (rows, inputs)
            yield f"weight_hh{suffix}", (rows, self._h_size)
            if self.bias:
                yield f"bias_ih{suffix}", (rows,)
                yield f"bias_hh{suffix}", (rows,)
            if self.proj_size:
                yield f"weight_hr{suffix}", (self.proj_size, self.hidden_size)
            yield from self.variant.shapes(suffix, self.gates, self.hidden_size, self.num_states > 1)

    def _initial_values(self, name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
        if name.startswith(("gain", "bias_c")):
            return np.full(shape, name.startswith("gain"), self.dtype)
        values: NDArray[Any] = init.uniform(shape, fan=self.hidden_size, dtype=self.dtype, seed=rng)
        if self.variant.forget_bias is not None and name.startswith("bias"):
            values[self.hidden_size : 2 * self.hidden_size] = self.variant.forget_bias * name.startswith("bias_ih")
        return values

    def _by_layer(self, arrays: dict[str, Any]) -> tuple[tuple[tuple[Any, ...], ...], ...]:
        """For each layer, for each direction, the arrays that `_core` takes: five, and what a variant adds."""
        rows = [self._arrays(arrays, suffix) for _, suffix in self._suffixes()]
        n = self._directions
        return tuple(tuple(rows[k : k + n]) for k in range(0, len(rows), n))

    def _arrays(self, arrays: dict[str, Any], suffix: str) -> tuple[Any, ...]:
        """What the core takes of one direction: arrays of the dict, or some that a subclass computes from them.

        One that computes some doesn't keep `_layers`, and has its own `_gradients` and `_add_gradients`.
        """
        found = (arrays.get(name + suffix) for name in _NAMES)
        return (*found, *self.variant.arrays(arrays, suffix, self.hidden_size))

    def _gradients(self) -> tuple[tuple[tuple[Any, ...], ...], ...]:
        """What the core adds gradients to, in the order of `_layers`."""
        layers: tuple[tuple[tuple[Any, ...], ...], ...] | None = self._layer_grads
        if layers is None:
            layers = self._layer_grads = self._by_layer(self._grads)
        return layers

    def _add_gradients(self, layers: tuple[tuple[tuple[Any, ...], ...], ...]) -> None:
        """Add to `grads` what the core has put into those of `_gradients` that are not there."""

    def _layers(self) -> tuple[tuple[tuple[Any, ...], ...], ...]:
        """`_by_layer` of the parameters, whose arrays stay the same for ever."""
        layers: tuple[tuple[tuple[Any, ...], ...], ...] | None = self._layer_params
        if layers is None:
            layers = self._layer_params = self._by_layer(self._params)
        return layers

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_layer_params": None, "_layer_grads": None}
