"""Recurrent layers inside JAX: functions that `jit`, `grad`, `vmap` and `scan` know, in fastrnn's kernels both ways.

XLA calls back into Python for them, once forward and once backward (see `interop/_xla.py`). Between the two lies what
the forward pass saved: it stays here under a number, which is all that XLA sees of it. Should it be gone (a program may
pull twice, or keep very many calls waiting), the backward pass computes it anew from the arguments.

Examples
--------
>>> import jax, jax.numpy as jnp
>>> from fastrnn.interop.jax import gru
>>> @jax.jit
... def loss(weight_ih, weight_hh, x):
...     y, h_n = gru(x, None, weight_ih, weight_hh)
...     return jnp.sum(y**2)
>>> weight_ih, weight_hh = jnp.ones((15, 3)), jnp.ones((15, 5))
>>> jax.grad(loss)(weight_ih, weight_hh, jnp.ones((7, 2, 3))).shape
(15, 3)
"""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn.interop import needed
from fastrnn.interop._calls import Copies, Function, Replay, flat_arguments

needed("jax", "JAX", "jax")

import jax  # noqa: E402  after the message that says what to install

from fastrnn.interop._xla import callback  # noqa: E402

__all__ = ["from_layer", "gru", "lstm", "rnn"]

WAITING = 32  # calls whose saved arrays may wait for their backward pass; those that came first go first


class _Waiting:
    """What forward passes saved, by number, until it is asked for or there is too much of it."""

    def __init__(self) -> None:
        # From where chance says: a number from another process is none of ours.
        self._lock, self._numbers = threading.Lock(), itertools.count(int.from_bytes(os.urandom(4), "little"))
        self._saved: dict[int, Replay] = {}

    def add(self, saved: Replay) -> np.ndarray[Any, Any]:
        with self._lock:
            number = next(self._numbers) % (1 << 31)
            self._saved[number] = saved
            while len(self._saved) > WAITING:
                del self._saved[next(iter(self._saved))]
        return np.asarray(number, np.int32)

    def pop(self, number: Any) -> Replay | None:
        with self._lock:
            return self._saved.pop(int(number), None)


_waiting = _Waiting()


class _Primitive:
    """A differentiable function of a tree of arrays, and of further arguments that have no gradient.

    A subclass has `infer(arrays, others)`, which returns a tree of arrays, and `train(arrays, others, input_grad)`,
    whose Replay pulls a tuple: gradients as `arrays`, None where there is none.
    """

    def __init__(self) -> None:
        self._shapes: dict[Any, Any] = {}
        self._function = jax.custom_vjp(self._infer)
        self._function.defvjp(self._forward, self._backward, symbolic_zeros=True)

    def infer(self, arrays: Any, others: Any) -> Any:
        raise NotImplementedError

    def train(self, arrays: Any, others: Any, input_grad: bool) -> Replay:
        raise NotImplementedError

    def _wanted(self, arrays: Any, x_wanted: bool) -> Any:
        """The arrays that have gradients: all that aren't integers, and x only where somebody asks for it."""
        arrays = arrays if x_wanted else (None, *arrays[1:])
        return jax.tree.map(lambda a: a if np.issubdtype(a.dtype, np.floating) else None, arrays)

    def __call__(self, arrays: tuple[Any, ...], others: dict[str, Any]) -> Any:
        # An array is one of JAX's from here on; None stays None.
        return self._function(*jax.tree.map(jax.numpy.asarray, (arrays, others)))

    def _results(self, arrays: Any, others: Any) -> Any:
        """Shapes of the outputs: the function on zeros, once for each form of arguments, which checks them as well."""
        leaves, form = jax.tree.flatten((arrays, others))
        key = (form, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves))
        if key not in self._shapes:
            zeros = jax.tree.unflatten(form, [np.zeros(leaf.shape, leaf.dtype) for leaf in leaves])
            self._shapes[key] = jax.tree.map(_shape, self.infer(*zeros))
        return self._shapes[key]

    def _infer(self, arrays: Any, others: Any) -> Any:
        return callback(self._call_infer, self._results(arrays, others), arrays, others)

    def _call_infer(self, arrays: Any, others: Any) -> Any:
        return self.infer(arrays, others)

    def _forward(self, arrays: Any, others: Any) -> Any:
        x_wanted = any(leaf.perturbed for leaf in jax.tree.leaves(arrays[0], is_leaf=_is_primal))
        arrays, others = jax.tree.map(lambda primal: primal.value, (arrays, others), is_leaf=_is_primal)
        results = (self._results(arrays, others), jax.ShapeDtypeStruct((), np.int32))
        outputs, number = callback(self._call_train[x_wanted], results, arrays, others)
        return outputs, (number, arrays, others, () if x_wanted else None)

    def _call_forward(self, x_wanted: bool, arrays: Any, others: Any) -> Any:
        # XLA's memory is ours only until we return: what is kept is copied.
        arrays, others = jax.tree.map(np.array, (arrays, others))
        saved = self.train(arrays, others, x_wanted)
        return saved.outputs, _waiting.add(saved)

    def _backward(self, kept: Any, gradients: Any) -> Any:
        number, arrays, others, x_wanted = kept
        gradients = jax.tree.map(
            lambda g: None if isinstance(g, jax.custom_derivatives.SymbolicZero) else g,
            gradients,
            is_leaf=lambda g: isinstance(g, jax.custom_derivatives.SymbolicZero),
        )
        results = jax.tree.map(_shape, self._wanted(arrays, x_wanted == ()))
        return callback(self._call_pull[x_wanted == ()], results, number, arrays, others, gradients), None

    def _call_backward(self, x_wanted: bool, number: Any, arrays: Any, others: Any, gradients: Any) -> Any:
        saved = _waiting.pop(number) or self.train(arrays, others, x_wanted)
        found = saved.pull(gradients)
        return _filled(self._wanted(arrays, x_wanted), found)

    @functools.cached_property
    def _call_train(self) -> list[Callable[..., Any]]:
        return [functools.partial(self._call_forward, wanted) for wanted in (False, True)]

    @functools.cached_property
    def _call_pull(self) -> list[Callable[..., Any]]:
        return [functools.partial(self._call_backward, wanted) for wanted in (False, True)]


def _shape(array: Any) -> Any:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _filled(wanted: Any, found: Any) -> Any:
    """A tree of gradients of the form of `wanted`, zeros where none were found."""
    if wanted is None:
        return None
    if isinstance(wanted, dict):
        return {name: _filled(part, found[name]) for name, part in wanted.items()}
    if isinstance(wanted, (tuple, list)):
        parts = [None] * len(wanted) if found is None else found
        return type(wanted)(_filled(part, gradient) for part, gradient in zip(wanted, parts, strict=True))
    return np.zeros_like(wanted) if found is None else found


def _is_primal(leaf: Any) -> bool:
    return isinstance(leaf, jax.custom_derivatives.CustomVJPPrimal)


# ---- functions of arrays


class _Cell(_Primitive):
    """A function of `fastrnn.functional`; `others` are its array arguments without a gradient."""

    def __init__(self, cell: str, options: dict[str, Any]) -> None:
        super().__init__()
        self.cell, self.options = cell, options

    def _bound(self, others: dict[str, Any]) -> Function:
        given = {name: value for name, value in others.items() if value is not None}
        if "seed" in given:
            given["seed"] = int(given["seed"])
        return Function(self.cell, {**self.options, **given})

    def infer(self, arrays: Any, others: Any) -> Any:
        return self._bound(others).infer(arrays)

    def train(self, arrays: Any, others: Any, input_grad: bool) -> Replay:
        return self._bound(others).train(arrays, input_grad)


@functools.lru_cache(256)
def _cell(cell: str, options: tuple[tuple[str, Any], ...]) -> _Cell:
    """One object for each form of a call: what is compiled for it can be found again."""
    return _Cell(cell, dict(options))


def _hashable(name: str, value: Any) -> Any:
    if isinstance(value, list):
        value = tuple(value)
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"{name}: expected a Python value, known when JAX traces, got {type(value).__name__}") from None
    return value


def _recurrent(cell: str, x: Any, state: Any, weights: dict[str, Any], options: dict[str, Any]) -> Any:
    arrays = flat_arguments(cell, x, state, weights, options)
    others = {name: options.pop(name, None) for name in ("lengths", "reset_mask", "reset_state", "seed")}
    static = tuple(sorted((name, _hashable(name, value)) for name, value in options.items() if value is not None))
    flat = _cell(cell, static)(arrays, others)
    return Function(cell, {"return_all_states": options.get("return_all_states", False)}).nested(flat)


def lstm(
    x: Any,
    state: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    weight_hr: Any = None,
    **options: Any,
) -> Any:
    """`fastrnn.functional.lstm`, differentiable in every array.

    Parameters
    ----------
    x, state, weight_ih, weight_hh, bias_ih, bias_hh, weight_hr
        As for `fastrnn.functional.lstm`; the state is a tuple (h_0, c_0), or None for zeros.
    **options
        Its further arguments, except `out`: of these `peephole` and `norm` are differentiable, too. `lengths`,
        `reset_mask`, `reset_state` and `seed` may be traced, the others are Python values. What draws masks (zoneout,
        recurrent_dropout) needs an integer `seed`, and `checkpoint` saves memory, as for `lstm_vjp`.

    Returns
    -------
    y, (h_n, c_n)
        And a third, (h_all, c_all), with `return_all_states`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from fastrnn.interop.jax import lstm
    >>> @jax.jit
    ... def loss(weights, x, lengths):
    ...     y, (h_n, c_n) = lstm(x, None, weights["weight_ih"], weights["weight_hh"], lengths=lengths)
    ...     return jnp.mean(h_n**2)
    >>> weights = {"weight_ih": jnp.ones((20, 3)), "weight_hh": jnp.ones((20, 5))}
    >>> value, grads = jax.value_and_grad(loss)(weights, jnp.ones((7, 2, 3)), jnp.array([7, 4]))
    >>> grads["weight_hh"].shape
    (20, 5)
    """
    weights = {
        "weight_ih": weight_ih, "weight_hh": weight_hh, "bias_ih": bias_ih, "bias_hh": bias_hh, "weight_hr": weight_hr,
    }  # fmt: skip
    return _recurrent("lstm", x, state, weights, options)


def gru(
    x: Any, state: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None, **options: Any
) -> Any:
    """`fastrnn.functional.gru`, differentiable in every array: as `lstm`, with one array for the state.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from fastrnn.interop.jax import gru
    >>> def loss(x):
    ...     y, h_n = gru(x, None, jnp.ones((12, 3)), jnp.ones((12, 4)), reset_after=False)
    ...     return jnp.sum(h_n)
    >>> jax.grad(loss)(jnp.ones((5, 2, 3))).shape
    (5, 2, 3)
    """
    weights = {"weight_ih": weight_ih, "weight_hh": weight_hh, "bias_ih": bias_ih, "bias_hh": bias_hh}
    return _recurrent("gru", x, state, weights, options)


def rnn(
    x: Any, state: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None, **options: Any
) -> Any:
    """`fastrnn.functional.rnn`, differentiable in every array: as `lstm`, with one array for the state.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from fastrnn.interop.jax import rnn
    >>> def loss(h_0):
    ...     y, h_n = rnn(jnp.ones((5, 2, 3)), h_0, jnp.ones((4, 3)), jnp.ones((4, 4)), nonlinearity="relu")
    ...     return jnp.sum(y)
    >>> jax.grad(loss)(jnp.zeros((2, 4))).shape
    (2, 4)
    """
    weights = {"weight_ih": weight_ih, "weight_hh": weight_hh, "bias_ih": bias_ih, "bias_hh": bias_hh}
    return _recurrent("rnn", x, state, weights, options)


# ---- layers


class _Layer(_Primitive):
    """A layer; `arrays` are x, the state, and the parameters."""

    def __init__(self, copies: Copies, options: dict[str, Any]) -> None:
        super().__init__()
        self.copies, self.options = copies, options

    def _given(self, others: dict[str, Any]) -> dict[str, Any]:
        seed = others.get("seed")
        return {**self.options, **others, "seed": None if seed is None else int(seed)}

    def infer(self, arrays: Any, others: Any) -> Any:
        x, state, params = arrays
        return self.copies.infer(params, x, state, self._given(others))

    def train(self, arrays: Any, others: Any, input_grad: bool) -> Replay:
        x, state, params = arrays

        def run() -> tuple[Any, Callable[[Any], Any]]:
            replay = self.copies.train(params, x, state, self._given(others), input_grad)

            def pull(gradients: Any) -> Any:
                grads, dx, dstate = replay.pull(gradients)
                return dx, dstate, grads

            return replay.outputs, pull

        return Replay(run)


def from_layer(layer: Any) -> Callable[..., Any]:
    """A function of a layer's parameters and input, differentiable in both.

    Parameters
    ----------
    layer : Layer
        Any layer or model of fastrnn, and yours made of them. It gives the form; its own parameters and gradients are
        neither read nor changed by calls.

    Returns
    -------
    callable
        `f(params, x, state=None, *, lengths=None, seed=None)` returns what the layer does. `params` is a dict such as
        `layer.state_dict()`; gradients have the same form. An integer `seed`, which may be traced, applies dropout,
        without one there is none. Further arguments by name go to the layer.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, fastrnn as fr
    >>> from fastrnn.interop.jax import from_layer
    >>> layer = fr.GRU(3, 4, bidirectional=True, seed=0)
    >>> f = from_layer(layer)
    >>> @jax.jit
    ... def loss(params, x):
    ...     y, h_n = f(params, x, lengths=jnp.array([5, 2]))
    ...     return jnp.sum(jnp.tanh(y))
    >>> grads = jax.grad(loss)(layer.state_dict(), jnp.ones((5, 2, 3)))
    >>> grads["weight_hh_l0_reverse"].shape
    (12, 4)
    """
    copies = Copies(layer)

    @functools.lru_cache(64)
    def made(options: tuple[tuple[str, Any], ...]) -> _Layer:
        return _Layer(copies, dict(options))

    def function(
        params: Any, x: Any, state: Any = None, *, lengths: Any = None, seed: Any = None, **options: Any
    ) -> Any:
        copies.check(params)
        static = tuple(sorted((name, _hashable(name, value)) for name, value in options.items()))
        return made(static)((x, state, dict(params)), {"lengths": lengths, "seed": seed})

    function.__name__ = function.__qualname__ = type(layer).__name__
    return function
