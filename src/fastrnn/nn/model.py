"""Model: what users compose of layers; `forward` is written once, and training follows from it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn._pullback import Pullback
from fastrnn.nn._layer import LAYER, Arrays, Layer, to_spec
from fastrnn.nn._random import Seed
from fastrnn.nn._tape import Tape, _flatten, _rebuild, current, take
from fastrnn.nn._variable import Variable

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["Model", "Parameter", "value_and_grad"]


_HOLDERS = (list, tuple, dict)  # `list | tuple` is made anew wherever it stands
_OWN = ("_arguments", "_params", "_grads", "_touched")


class Model(Layer):
    """The base of what users compose: layers in attributes, and a `forward` that calls them.

    Layers are found in attributes, and in lists, tuples and dicts there; parameters get dotted names as in PyTorch,
    `"encoder.weight_ih_l0"`, `"blocks.0.bias"`. A layer that is found twice counts once. Calling the model runs
    `forward` on plain arrays, inference; `vjp` runs the same `forward` and records each layer's pullback. In between,
    arrays that depend on parameters are `Variable`s, to be computed with as described there.

    Notes
    -----
    Constructor arguments are remembered: when they are JSON-able (or layers), `fr.save` and `fr.load` need no `config`.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> class Joint(fr.Model):
    ...     def __init__(self, hidden_size):
    ...         self.enc = fr.LSTM(3, hidden_size, bidirectional=True, seed=0)
    ...         self.cls = fr.Linear(2 * hidden_size, 2, seed=1)
    ...     def forward(self, x, *, lengths=None):
    ...         _, (h, _) = self.enc(x, lengths=lengths)
    ...         return self.cls(fr.concat([h[0], h[1]], -1))
    >>> model = Joint(8)
    >>> y, pullback = model.vjp(np.ones((5, 4, 3), np.float32))
    >>> dx = pullback(np.ones_like(y))
    >>> dx.shape, model.grads["cls.bias"]
    ((5, 4, 3), array([4., 4.], dtype=float32))
    """

    records_itself = True
    takes_dropout = True
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "forward" in cls.__dict__:
            cls.takes_lengths = "lengths" in inspect.signature(cls.forward).parameters

    def __new__(cls, *args: Any, **kwargs: Any) -> Model:
        self = super().__new__(cls)
        Layer.__init__(self)  # so that a forgotten super().__init__() does no harm
        self._arguments = (args, kwargs)
        return self

    def __init__(self) -> None:
        pass

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Outputs from inputs; a subclass writes it.

        Returns
        -------
        array, or a tuple of arrays and tuples
        """
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    @property
    def children(self) -> dict[str, Layer]:
        found: dict[str, Layer] = {}
        for name, value in vars(self).items():
            if isinstance(value, Layer):
                found[name] = value
            elif isinstance(value, _HOLDERS) and value and name not in _OWN:
                found.update(_layers(name, value))
        return found

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The dtype of the first layer that has one."""
        return next((layer.dtype for layer in self.children.values() if layer.dtype is not None), None)

    @dtype.setter
    def dtype(self, value: Any) -> None:
        pass

    def __call__(self, *args: Any, dropout: bool = False, **kwargs: Any) -> Any:
        """Inference: `forward` on plain arrays; inside another model's `forward` a part of that.

        Parameters
        ----------
        *args, **kwargs
            As `forward` takes them.
        dropout : bool
            Apply dropout, with fresh masks.
        """
        if dropout and current() is None:
            return self.vjp(*args, input_grad=False, **kwargs)[0]
        return self.forward(*args, **kwargs)

    def vjp(
        self,
        *args: Any,
        dropout: bool = True,
        seed: Seed = None,
        checkpoint: int | None = None,
        input_grad: bool = True,
        retain: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, Pullback]:
        """Training: outputs, and what gives their gradients.

        Parameters
        ----------
        *args, **kwargs
            As in the call.
        dropout, seed
            Whether layers drop values; where their masks come from.
        checkpoint : int, optional
            Handed to recurrent layers.
        input_grad : bool
            Compute the gradients of the positional arguments that are float arrays (or tuples of them).
        retain : bool
            Allow the pullback to run more than once.

        Returns
        -------
        outputs
            What `forward` returns.
        pullback : callable
            Takes a gradient for each output (None for zero), `pullback(dy)` or `pullback(dy, dstate)`; adds to `grads`,
            and returns the gradient of the input, or a tuple of them where there are several.
        """
        tape = Tape(dropout=dropout, seed=seed, checkpoint=checkpoint, retain=retain)
        inputs: list[Variable] = []
        with tape:
            traced = tuple(_trace(tape, arg, inputs) for arg in args) if input_grad else args
            outputs = self.forward(*traced, **kwargs)
        leaves: list[Any] = []
        shape = _outputs(outputs, leaves)
        owner = type(self).__name__

        def run(*gradients: Any) -> Any:
            given = _given(gradients, shape, leaves, owner)
            tape.backward([leaf for leaf in leaves if isinstance(leaf, Variable)], given)
            found = tuple(_gradients(arg) for arg in traced)
            return found[0] if len(found) == 1 else found

        plain = _rebuild(shape, iter([leaf.value if isinstance(leaf, Variable) else leaf for leaf in leaves]))
        return plain, Pullback(run, owner, retain)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        args, kwargs = self._arguments
        bound = inspect.signature(type(self).__init__).bind(self, *args, **kwargs)
        given = {name: _described(value) for name, value in list(bound.arguments.items())[1:]}
        if isinstance(given.get("seed"), np.random.Generator):  # what it gave is in the parameters
            del given["seed"]
        for name, value in given.items():
            if not _jsonable(value):
                raise TypeError(
                    f"{type(self).__name__}: {name}={value!r:.60} can't be written to a file; write a method `config` "
                    "that returns JSON-able constructor arguments"
                )
        return given

    def __repr__(self) -> str:
        lines = [f"  {name}: " + repr(layer).replace("\n", "\n  ") for name, layer in self.children.items()]
        return f"{type(self).__name__}(\n" + "\n".join(lines) + "\n)"


class Parameter(Layer):
    """An array that is trained: a learned initial state, a query, a scale.

    Parameters
    ----------
    value : array
        Where it starts; float32 or float64, or `dtype`.
    dtype : dtype, optional

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> start = fr.Parameter(np.zeros((1, 8), np.float32))
    >>> start().shape, list(start.params)
    ((1, 8), ['value'])
    """

    def __init__(self, value: ArrayLike, dtype: DTypeLike | None = None) -> None:
        array = _check.floats(value if dtype is None else np.asarray(value, _check.float_dtype(dtype)), None, "value")
        super().__init__(array.dtype)
        self._add_param("value", array.copy())

    def __call__(self) -> NDArray[Any]:
        """The array itself."""
        value: NDArray[Any] = self._params["value"]
        return value

    def vjp(self, *, input_grad: bool = True, retain: bool = False) -> tuple[NDArray[Any], Pullback]:
        """The array, and what adds to its gradient."""
        value: NDArray[Any] = self._params["value"]

        def run(dy: ArrayLike) -> None:
            dy = _check.gradient(dy, value.dtype, value.shape)
            with self._lock:
                np.add(self._grads["value"], dy, out=self._grads["value"])

        return value, Pullback(run, "Parameter", retain)

    def config(self) -> dict[str, Any]:
        value = self._params["value"]
        return {"value": np.zeros(value.shape).tolist(), "dtype": value.dtype.name}


def value_and_grad(loss: Callable[..., Any], model: Layer) -> Callable[..., tuple[float, dict[str, NDArray[Any]]]]:
    """Return a function that computes a loss and its gradients at a model's parameters.

    Parameters
    ----------
    loss : callable
        Calls layers and returns the loss, a number (or what the functions of `fr.losses` return: the first of a tuple).
        It gets the arguments of the returned function; before them the model, if its first parameter is called `model`.
    model : Layer
        Its `grads` are zeroed first and returned.

    Returns
    -------
    callable
        `f(*args, accumulate=False, dropout=True, seed=None, checkpoint=None, **kwargs)` returns `(loss, grads)`: the
        loss as a float and `model.grads`, the live arrays by name. With `accumulate` they are not zeroed first.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> model = fr.Linear(3, 2, seed=0)
    >>> def loss(x, target):
    ...     return fr.losses.mse(model(x), target)[0] + 0.1 * fr.ops.mean(model(2 * x)) ** 2
    >>> x = np.ones((4, 3), np.float32)
    >>> value, grads = fr.value_and_grad(loss, model)(x, np.zeros((4, 2), np.float32))
    >>> sorted(grads)
    ['bias', 'weight']
    """
    if not callable(loss):
        raise TypeError(f"loss: expected a function, got {type(loss).__name__}")
    if not isinstance(model, Layer):
        raise TypeError(f"model: expected a layer or model, got {type(model).__name__}")
    try:
        takes_model = next(iter(inspect.signature(loss).parameters), None) == "model"
    except (TypeError, ValueError):  # compiled functions may hide theirs
        takes_model = False

    @functools.wraps(loss)
    def run(
        *args: Any,
        accumulate: bool = False,
        dropout: bool = True,
        seed: Seed = None,
        checkpoint: int | None = None,
        **kwargs: Any,
    ) -> tuple[float, dict[str, NDArray[Any]]]:
        walked = list(model._walk())  # once: in a small step it counts
        if not accumulate:
            model._zero(walked)
        with Tape(dropout=dropout, seed=seed, checkpoint=checkpoint) as tape:
            value = loss(*((model, *args) if takes_model else args), **kwargs)
        value = pull_loss(tape, value)
        return value, Arrays([(p + name, grad) for p, layer in walked for name, grad in layer._grads.items()])

    return run


def pull_loss(tape: Tape, loss: Any) -> float:
    """Hand the gradient 1 of a recorded loss down; return the loss."""
    if isinstance(loss, tuple) and loss:
        loss = loss[0]
    if not isinstance(loss, Variable):
        raise TypeError(
            f"loss: expected a number that depends on the model's parameters, got {type(loss).__name__}"
            + (
                "; it was computed from plain arrays (.value, stop_gradient)"
                if isinstance(loss, float | np.floating)
                else ""
            )
        )
    if loss.size != 1:
        raise ValueError(f"loss: expected one number, got shape {loss.shape}; take its sum or mean")
    tape.backward([loss], [np.ones(loss.shape, loss.dtype)])
    return float(loss.value.reshape(()))


def _layers(name: str, value: Any) -> Iterator[tuple[str, Layer]]:
    if isinstance(value, Layer):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for position, part in enumerate(value):
            yield from _layers(f"{name}.{position}", part)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _layers(f"{name}.{key}", part)


def _trace(tape: Tape, arg: Any, inputs: list[Variable]) -> Any:
    """A positional argument with Variables for its float arrays."""
    if isinstance(arg, tuple):
        return tuple(_trace(tape, part, inputs) for part in arg)
    if isinstance(arg, np.ndarray) and arg.dtype.kind == "f":
        inputs.append(Variable(arg, tape))
        return inputs[-1]
    return arg


def _gradients(arg: Any) -> Any:
    if isinstance(arg, tuple):
        return tuple(_gradients(part) for part in arg)
    if not isinstance(arg, Variable):
        return None
    gradient = take(arg)
    return np.zeros_like(arg.value) if gradient is None else np.asarray(gradient)


def _outputs(tree: Any, leaves: list[Any]) -> Any:
    """As `_flatten`, with Variables among the leaves."""
    if isinstance(tree, tuple):
        return tuple(_outputs(part, leaves) for part in tree)
    if isinstance(tree, Variable):
        leaves.append(tree)
        return None
    if isinstance(tree, list | dict):
        parts = tree.values() if isinstance(tree, dict) else tree
        if any(isinstance(part, Variable | tuple | list | dict) for part in parts):
            raise TypeError(f"forward: expected to return arrays or tuples of them, got a {type(tree).__name__}")
    return _flatten(tree, leaves)


def _given(gradients: tuple[Any, ...], shape: Any, leaves: Sequence[Any], owner: str) -> list[Any]:
    """Gradients of the outputs that are Variables, checked, from the arguments of a pullback."""
    parts = shape if isinstance(shape, tuple) else (shape,)
    if len(gradients) > len(parts):
        raise TypeError(f"pullback of {owner}: expected gradients of {len(parts)} outputs, got {len(gradients)}")
    flat: list[Any] = []
    for position, part in enumerate(parts):
        _spread(gradients[position] if position < len(gradients) else None, part, flat, f"dy[{position}]")
    checked = []
    for gradient, leaf in zip(flat, leaves, strict=True):
        if isinstance(leaf, Variable):
            checked.append(None if gradient is None else _check.gradient(gradient, leaf.dtype, leaf.shape))
    return checked


def _spread(gradient: Any, shape: Any, flat: list[Any], name: str) -> None:
    if isinstance(shape, tuple):
        if gradient is not None and not (isinstance(gradient, tuple | list) and len(gradient) == len(shape)):
            raise TypeError(f"{name}: expected a tuple of {len(shape)}, got {type(gradient).__name__}")
        for position, part in enumerate(shape):
            _spread(None if gradient is None else gradient[position], part, flat, f"{name}[{position}]")
    elif shape is None:
        flat.append(gradient)


def _described(value: Any) -> Any:
    """A constructor's argument as JSON can hold it, where it can."""
    if isinstance(value, Layer):
        return {LAYER: to_spec(value)}
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    if callable(getattr(value, "config", None)) and not isinstance(value, type):  # a vocabulary; __init__ gets the dict
        return value.config()
    return value.tolist() if isinstance(value, np.ndarray | np.integer | np.floating) else value


def _jsonable(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _jsonable(part) for key, part in value.items())
    if isinstance(value, list | tuple):
        return all(map(_jsonable, value))
    return value is None or isinstance(value, bool | int | float | str)
