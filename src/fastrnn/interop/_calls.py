"""What autograd and JAX ask of fastrnn: functions of flat arrays, and pullbacks that may run any number of times."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check, functional
from fastrnn.nn import Layer

if TYPE_CHECKING:
    from numpy.typing import NDArray

NORM = functional.Norm._fields
WEIGHTS = {
    "lstm": ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "peephole", *NORM),
    "gru": ("weight_ih", "weight_hh", "bias_ih", "bias_hh", *NORM[:2]),
    "rnn": ("weight_ih", "weight_hh", "bias_ih", "bias_hh", *NORM[:2]),
}

_SPARE = 4  # copies of a layer that are kept


class Replay:
    """A pullback that may be asked for again: the first run uses what the forward pass saved, others compute it anew.

    Most programs pull once. A Jacobian pulls once for each number of the output.

    Parameters
    ----------
    run : callable
        Runs forward; returns `(outputs, pull)`, where `pull(gradients)` may be called once.
    """

    __slots__ = ("_ready", "_run", "outputs")

    def __init__(self, run: Callable[[], tuple[Any, Callable[[Any], Any]]]) -> None:
        self._run = run
        self.outputs, pull = run()
        self._ready = [pull]

    def pull(self, gradients: Any) -> Any:
        try:
            pull = self._ready.pop()
        except IndexError:
            pull = self._run()[1]
        return pull(gradients)


class Function:
    """`fastrnn.functional`'s function of one cell, over a flat tuple of arrays.

    The arrays are x, the states, and the weights in the order of `WEIGHTS`; None where there is none. The outputs
    are y, the final states, and with `return_all_states` c of all steps (h of all steps is y).

    Parameters
    ----------
    cell : {"lstm", "gru", "rnn"}
    options : dict
        What else the function takes.
    """

    def __init__(self, cell: str, options: dict[str, Any]) -> None:
        self.cell, self.options, self.num_states = cell, dict(options), 2 if cell == "lstm" else 1
        drawn = bool(self.options.get("zoneout") or self.options.get("recurrent_dropout"))
        if drawn and (isinstance(self.options.get("seed"), bool) or not isinstance(self.options.get("seed"), int)):
            raise ValueError(
                "seed: expected an integer with zoneout or recurrent_dropout, so that the same arguments give the same "
                f"result, got {self.options.get('seed')!r}"
            )
        self.draws = drawn
        self.all_states = self.options.get("return_all_states") is True

    def arguments(self, arrays: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and further arguments of `fastrnn.functional`'s functions."""
        n = 1 + self.num_states
        states, weights = arrays[1:n], dict(zip(WEIGHTS[self.cell], arrays[n:], strict=True))
        norm = [weights.pop(name) for name in NORM if name in weights]
        state = states[0] if self.num_states == 1 else None if all(s is None for s in states) else tuple(states)
        further = dict(self.options)
        if any(gain is not None for gain in norm):
            further["norm"] = functional.Norm(*norm)
        if weights.get("peephole") is not None:
            further["peephole"] = weights["peephole"]
        weights.pop("peephole", None)
        return (arrays[0], state, *weights.values()), further

    def outputs(self, results: Any) -> tuple[Any, ...]:
        """Flat outputs."""
        y, state_n, *states = results
        found = (y, *state_n) if self.num_states == 2 else (y, state_n)
        return (*found, states[0][1]) if states and self.num_states == 2 else found

    def nested(self, flat: Sequence[Any]) -> Any:
        """What the caller gets, of flat outputs."""
        y, state_n = flat[0], tuple(flat[1:3]) if self.num_states == 2 else flat[1]
        if not self.all_states:
            return y, state_n
        return y, state_n, (y, flat[3]) if self.num_states == 2 else y

    def infer(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """Outputs alone."""
        args, further = self.arguments(arrays)
        if self.draws:
            return self.outputs(getattr(functional, f"{self.cell}_vjp")(*args, input_grad=False, **further)[0])
        for name in ("seed", "recurrent_dropout", "checkpoint"):
            further.pop(name, None)
        return self.outputs(getattr(functional, self.cell)(*args, **further))

    def train(self, arrays: Sequence[Any], input_grad: bool) -> Replay:
        """Outputs, and gradients of all arrays, flat, None where there is none."""
        args, further = self.arguments(arrays)
        vjp = getattr(functional, f"{self.cell}_vjp")

        def run() -> tuple[Any, Callable[[Any], Any]]:
            outputs, pullback = vjp(*args, input_grad=input_grad, **further)

            def pull(gradients: Sequence[Any]) -> tuple[Any, ...]:
                dy, dstate = gradients[0], tuple(gradients[1:3]) if self.num_states == 2 else gradients[1]
                more = {"dstates": (None, gradients[3])} if self.all_states and self.num_states == 2 else {}
                dx, dstate_0, grads = pullback(dy, dstate, **more)
                states = dstate_0 if self.num_states == 2 else (dstate_0,)
                return (dx, *states, *(getattr(grads, name) for name in WEIGHTS[self.cell]))

            return self.outputs(outputs), pull

        return Replay(run)


def flat_arguments(cell: str, x: Any, state: Any, weights: dict[str, Any], options: dict[str, Any]) -> tuple[Any, ...]:
    """x, the states and all weights; those among the options, peephole and norm, are taken from there."""
    if options.get("out") is not None:
        raise ValueError("out: expected None, for each result is an array of its own")
    if (norm := options.pop("norm", None)) is not None:
        found = _check.norm(norm, cell == "lstm")
        weights |= {name: gain for name, gain in zip(NORM, found, strict=True) if name in WEIGHTS[cell]}
    if cell == "lstm":
        weights["peephole"] = options.pop("peephole", None)
    states: tuple[Any, ...] = (state,)
    if cell == "lstm":
        states = (None, None) if state is None else tuple(state)
        if len(states) != 2:
            raise ValueError(f"state: expected a tuple (h_0, c_0), got {len(states)} arrays")
    return (x, *states, *map(weights.get, WEIGHTS[cell]))


class Copies:
    """Copies of a layer, each with parameters of its own for the time between a forward pass and its pullback.

    Parameters
    ----------
    layer : Layer
        Is left as it is: neither its parameters nor its gradients change.
    """

    def __init__(self, layer: Any) -> None:
        if not isinstance(layer, Layer):
            raise TypeError(f"layer: expected a layer or model of fastrnn, got {type(layer).__name__}")
        self._layer, self._free = layer, list[Any]()
        self.names = tuple(layer.params)

    def check(self, params: Any) -> None:
        """Whether those are the layer's parameters, by name."""
        if not callable(getattr(params, "keys", None)):
            raise TypeError(f"params: expected a dict such as layer.state_dict(), got {type(params).__name__}")
        names = set(params.keys())
        if names != set(self.names):
            missing, unknown = sorted(set(self.names) - names), sorted(map(str, names - set(self.names)))
            found = [f"{word} {', '.join(some)}" for word, some in (("missing", missing), ("unknown", unknown)) if some]
            raise ValueError(
                f"params: expected those of the {type(self._layer).__name__}, as layer.state_dict() has them; "
                + "; ".join(found)
            )

    def take(self, params: dict[str, Any]) -> Any:
        """A copy with these parameters, the caller's until it is given back."""
        self.check(params)
        try:
            layer = self._free.pop()  # atomic: of two threads each has its own
        except IndexError:
            layer = copy.deepcopy(self._layer)
        layer.load_state_dict(params)
        return layer

    def give(self, layer: Any) -> None:
        """Keep a copy for later calls; many may have waited for their pullbacks, which would fill the memory."""
        if len(self._free) < _SPARE:
            self._free.append(layer)

    def infer(self, params: dict[str, Any], x: Any, state: Any, options: dict[str, Any]) -> Any:
        """Outputs alone; with a `seed` those of training."""
        if options.get("seed") is not None:
            return self.train(params, x, state, options, False).outputs
        layer = self.take(params)
        outputs = layer(*self._arguments(x, state), **self._options(options, False))
        self.give(layer)
        return outputs

    def train(self, params: dict[str, Any], x: Any, state: Any, options: dict[str, Any], input_grad: bool) -> Replay:
        """Outputs; pulling gives `(params', x', state')`, the last two None where there is none."""

        def run() -> tuple[Any, Callable[[Any], Any]]:
            layer = self.take(params)
            layer.zero_grads()
            further = self._options(options, True)
            outputs, pullback = layer.vjp(*self._arguments(x, state), input_grad=input_grad, **further)

            def pull(gradients: Any) -> tuple[dict[str, NDArray[Any]], Any, Any]:
                parts = gradients if isinstance(outputs, tuple) else (gradients,)
                found = pullback(*parts)
                grads = {name: np.array(grad, params[name].dtype) for name, grad in layer.grads.items()}
                self.give(layer)
                dx, dstate = found if isinstance(found, tuple) else (found, None)
                return grads, dx, dstate

            return outputs, pull

        return Replay(run)

    def _arguments(self, x: Any, state: Any) -> tuple[Any, ...]:
        return (x,) if state is None and not self._layer.is_recurrent else (x, state)

    def _options(self, options: dict[str, Any], train: bool) -> dict[str, Any]:
        found = dict(options)
        seed = found.pop("seed", None)
        if train and self._layer.takes_dropout:
            found |= {"dropout": seed is not None, "seed": seed}
        if found.get("lengths", True) is None:
            del found["lengths"]
        return found
