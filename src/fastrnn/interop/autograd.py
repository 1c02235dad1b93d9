"""Recurrent layers inside HIPS autograd: functions that it differentiates, in fastrnn's kernels both ways.

Examples
--------
>>> import autograd.numpy as np
>>> from autograd import grad
>>> from fastrnn.interop.autograd import gru
>>> x, h_0 = np.ones((7, 2, 3)), np.zeros((2, 5))
>>> def loss(weight_ih, weight_hh):
...     y, h_n = gru(x, h_0, weight_ih, weight_hh)
...     return np.sum(y**2)
>>> grad(loss)(np.ones((15, 3)), np.ones((15, 5))).shape
(15, 3)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastrnn.interop import needed
from fastrnn.interop._calls import Copies, Function, Replay, flat_arguments

needed("autograd", "autograd", "autograd")

from autograd.extend import defvjp_argnums  # noqa: E402  after the message that says what to install
from autograd.extend import primitive as primitive_of  # noqa: E402
from autograd.tracer import getval, isbox  # noqa: E402

__all__ = ["gru", "lstm", "primitive", "rnn"]


class _Call:
    """One call: what runs, and what it left for the way back."""

    def __init__(self, name: str, infer: Callable[[Any], Any], train: Callable[[Any, bool], Replay]) -> None:
        self.name, self.infer, self.train = name, infer, train
        self.differentiated = self.input_grad = False
        self.saved: Any = None


@primitive_of
def _run(*arrays: Any, call: _Call) -> tuple[Any, ...]:
    """Flat outputs. The forward pass of a differentiated call saves what its pullback needs: nothing runs twice."""
    if not call.differentiated:
        return tuple(call.infer(arrays))
    call.saved = call.train(arrays, call.input_grad)
    return tuple(call.saved.outputs)


def _vjp(argnums: Any, ans: Any, args: Any, kwargs: Any) -> Callable[[Any], Any]:
    call = kwargs["call"]

    def pull(g: Any) -> Iterator[Any]:
        if any(map(isbox, (g, *args))):
            raise NotImplementedError(f"{call.name}: second derivatives are not known, only first ones")
        given = tuple(np.asarray(part, np.asarray(y).dtype) for part, y in zip(g, ans, strict=True))
        found = call.saved.pull(given)
        return (found[k] for k in argnums)

    return pull


defvjp_argnums(_run, _vjp)


def _called(call: _Call, arrays: tuple[Any, ...], options: dict[str, Any]) -> Any:
    for name, value in options.items():
        if any(map(isbox, value if isinstance(value, (tuple, list)) else (value,))):
            raise NotImplementedError(f"{call.name}: no gradient with respect to {name} is known")
    call.differentiated, call.input_grad = any(map(isbox, arrays)), isbox(arrays[0])
    return _run(*arrays, call=call)


# ---- functions of arrays


def _recurrent(cell: str, x: Any, state: Any, weights: dict[str, Any], options: dict[str, Any]) -> Any:
    arrays = flat_arguments(cell, x, state, weights, options)
    function = Function(cell, options)
    return function.nested(_called(_Call(cell, function.infer, function.train), arrays, options))


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
        Its further arguments, except `out`: of these `peephole` and `norm` are differentiable, too. What draws masks
        (zoneout, recurrent_dropout) needs an integer `seed`, and `checkpoint` saves memory, as for `lstm_vjp`.

    Returns
    -------
    y, (h_n, c_n)
        And a third, (h_all, c_all), with `return_all_states`.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> from autograd import value_and_grad
    >>> from fastrnn.interop.autograd import lstm
    >>> def loss(weights, x):
    ...     y, (h_n, c_n) = lstm(x, None, weights["weight_ih"], weights["weight_hh"], lengths=[7, 4])
    ...     return np.mean(h_n**2)
    >>> weights = {"weight_ih": np.ones((20, 3)), "weight_hh": np.ones((20, 5))}
    >>> value, grads = value_and_grad(loss)(weights, np.ones((7, 2, 3)))
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
    >>> import autograd.numpy as np
    >>> from autograd import grad
    >>> from fastrnn.interop.autograd import gru
    >>> def loss(x):
    ...     y, h_n = gru(x, None, np.ones((12, 3)), np.ones((12, 4)), reset_after=False)
    ...     return np.sum(h_n)
    >>> grad(loss)(np.ones((5, 2, 3))).shape
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
    >>> import autograd.numpy as np
    >>> from autograd import grad
    >>> from fastrnn.interop.autograd import rnn
    >>> def loss(h_0):
    ...     y, h_n = rnn(np.ones((5, 2, 3)), h_0, np.ones((4, 3)), np.ones((4, 4)), nonlinearity="relu")
    ...     return np.sum(y)
    >>> grad(loss)(np.zeros((2, 4))).shape
    (2, 4)
    """
    weights = {"weight_ih": weight_ih, "weight_hh": weight_hh, "bias_ih": bias_ih, "bias_hh": bias_hh}
    return _recurrent("rnn", x, state, weights, options)


# ---- layers


def primitive(layer: Any) -> Callable[..., Any]:
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
        `layer.state_dict()`; gradients have the same form. An integer `seed` applies dropout, without one there is
        none. Further arguments by name go to the layer.

    Examples
    --------
    >>> import autograd.numpy as np, fastrnn as fr
    >>> from autograd import grad
    >>> from fastrnn.interop.autograd import primitive
    >>> layer = fr.GRU(3, 4, bidirectional=True, dtype=np.float64, seed=0)
    >>> f = primitive(layer)
    >>> def loss(params, x):
    ...     y, h_n = f(params, x, lengths=[5, 2])
    ...     return np.sum(np.tanh(y))
    >>> grads = grad(loss)(layer.state_dict(), np.ones((5, 2, 3)))
    >>> grads["weight_hh_l0_reverse"].shape
    (12, 4)
    """
    copies = Copies(layer)
    names = copies.names
    owner = type(layer).__name__

    def function(params: Any, x: Any, state: Any = None, **options: Any) -> Any:
        copies.check(params)
        leaves = [x]
        form = _flatten(state, leaves)
        outer: list[Any] = []  # the form of what comes out

        def arguments(arrays: Any) -> tuple[Any, Any, Any]:
            count = len(leaves)
            return dict(zip(names, arrays[count:], strict=True)), arrays[0], _unflatten(form, iter(arrays[1:count]))

        def infer(arrays: Any) -> Any:
            return _outputs(copies.infer(*arguments(arrays), options), outer)

        def train(arrays: Any, input_grad: bool) -> Replay:
            wanted = input_grad or any(isbox(leaf) for leaf in leaves)

            def run() -> tuple[Any, Callable[[Any], Any]]:
                replay = copies.train(*arguments(arrays), options, wanted)

                def pull(gradients: Any) -> tuple[Any, ...]:
                    grads, dx, dstate = replay.pull(_unflatten(outer[0], iter(gradients)))
                    below: list[Any] = [None] * (len(leaves) - 1)
                    if state is not None and dstate is not None:
                        below = []
                        _flatten(dstate, below)
                    return (dx, *below, *(grads[name] for name in names))

                return _outputs(replay.outputs, outer), pull

            return Replay(run)

        call = _Call(owner, infer, train)
        flat = _called(call, (*leaves, *(params[name] for name in names)), options)
        return _unflatten(outer[0], iter([flat[k] for k in range(len(flat))]))

    function.__name__ = function.__qualname__ = owner
    return function


def _flatten(tree: Any, leaves: list[Any]) -> Any:
    """Collect the leaves of nested tuples, which autograd may have boxed; return the form."""
    if isinstance(getval(tree), (tuple, list)):
        return tuple(_flatten(tree[k], leaves) for k in range(len(tree)))
    leaves.append(tree)
    return None


def _unflatten(form: Any, leaves: Iterator[Any]) -> Any:
    return next(leaves) if form is None else tuple(_unflatten(part, leaves) for part in form)


def _outputs(outputs: Any, outer: list[Any]) -> tuple[Any, ...]:
    flat: list[Any] = []
    outer[:] = [_flatten(outputs, flat)]
    return tuple(flat)
