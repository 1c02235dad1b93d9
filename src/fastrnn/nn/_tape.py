"""The tape: one entry for each layer, loss or array operation between layers, walked backwards once.

A layer that is called while a tape records runs its `vjp` and leaves its pullback here. What it returns are
`Variable`s, and whatever is computed from them is recorded too; arrays that don't depend on parameters stay plain
arrays, so data may be handled with NumPy as anywhere.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn.nn._random import Seed
from fastrnn.nn._variable import Variable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn.nn._layer import Layer

# Tapes that record in any thread. Layers look at it at every call: an empty list costs nothing.
RECORDING: list[Tape] = []
_SEQUENCES, _FLOATS = (tuple, list), (np.ndarray, np.floating)  # `tuple | list` is made anew wherever it stands
_local = threading.local()


def current() -> Tape | None:
    """The tape that records this thread's calls."""
    return getattr(_local, "tape", None) if RECORDING else None


class Piece:
    """A gradient of a part of an array: zero outside `index`."""

    __slots__ = ("gradient", "index")

    def __init__(self, index: Any, gradient: NDArray[Any]) -> None:
        self.index, self.gradient = index, gradient

    @property
    def dtype(self) -> Any:
        return self.gradient.dtype

    def astype(self, dtype: Any) -> Piece:
        return Piece(self.index, self.gradient.astype(dtype))


def give(variable: Variable, gradient: Any) -> None:
    """Add a gradient at a Variable. Arrays are shared until a second one comes."""
    value, have = variable.value, variable._gradient
    if gradient.dtype is not value.dtype and gradient.dtype != value.dtype:  # a loss is a float64 beside float32 arrays
        gradient = gradient.astype(value.dtype)
    if type(gradient) is Piece:
        if have is None:
            have = np.zeros(value.shape, value.dtype)
        elif not variable._owned:
            have = have.copy()
        if _basic(gradient.index):
            have[gradient.index] += gradient.gradient
        else:
            np.add.at(have, gradient.index, gradient.gradient)
        variable._gradient, variable._owned = have, True
    elif have is None:
        variable._gradient = gradient
    elif variable._owned:
        np.add(have, gradient, out=have)
    else:
        have = np.add(have, gradient)
        variable._gradient, variable._owned = have, isinstance(have, np.ndarray)  # not the scalar that 0-d arrays make


def take(tree: Any) -> Any:
    """The gradients that arrived at a Variable, or at a tree of them; None for nothing at all. None are left there."""
    if type(tree) is Variable:
        gradient = tree._gradient
        tree._gradient, tree._owned = None, False
        return gradient
    if isinstance(tree, tuple):
        parts = tuple([take(part) for part in tree])
        for part in parts:
            if part is not None:
                return parts
    return None


def _basic(index: Any) -> bool:
    """Whether an index names no element twice."""
    if type(index) is int or type(index) is slice:
        return True
    parts = index if isinstance(index, tuple) else (index,)
    return not any(isinstance(part, (list, np.ndarray)) and np.asarray(part).dtype != bool for part in parts)


class Tape:
    """Record what happens inside `with`, in this thread.

    Parameters
    ----------
    dropout : bool
        Apply dropout.
    seed : None, int or numpy.random.Generator
        For the layers that draw.
    checkpoint : int, optional
        Handed to recurrent layers.
    retain : bool
        Allow `backward` more than once.
    """

    def __init__(
        self, *, dropout: bool = True, seed: Seed = None, checkpoint: int | None = None, retain: bool = False
    ) -> None:
        # What was computed, in order: a tree of Variables, what pulls their gradients, and what they were made of.
        self.nodes: list[tuple[Any, Callable[..., Any], Sequence[Any]]] = []
        self.dropout, self.checkpoint, self.retain = dropout, checkpoint, retain
        self._seed, self._seeds = seed, 0
        self._outer: Tape | None = None

    def __enter__(self) -> Tape:
        self._outer = current()
        RECORDING.append(self)
        _local.tape = self
        return self

    def __exit__(self, *_: object) -> None:
        _local.tape = self._outer
        RECORDING.remove(self)

    def next_seed(self) -> Any:
        """A seed for the next layer that draws; the same ones for the same `seed`."""
        if self._seed is None:
            return None
        if isinstance(self._seed, np.random.Generator):
            return int(self._seed.integers(1 << 63))
        self._seeds += 1
        return _mixed(_check.seed(self._seed) + self._seeds * 0x9E3779B97F4A7C15)

    # ---- recording ---------------------------------------------------------------------------------------------

    def add(self, value: NDArray[Any], pull: Callable[[Any], Sequence[Any]], inputs: Sequence[Any]) -> Variable:
        """Enter an operation with one output. `pull` gives a gradient for each of `inputs` that is a Variable."""
        output = Variable(value, self)
        self.nodes.append((output, pull, inputs))
        return output

    def call(self, layer: Layer, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Run a layer's `vjp` and enter it."""
        if len(args) == 1 and "state" in options:
            args = (*args, options.pop("state"))
        if layer.takes_dropout:
            options.setdefault("dropout", self.dropout)
            if options["dropout"]:
                options.setdefault("seed", self.next_seed())
        if self.checkpoint is not None and layer.is_recurrent:
            options.setdefault("checkpoint", self.checkpoint)
        for name, value in options.items():
            if type(value) is Variable:  # such as lengths
                options[name] = value.value
        known, plain = False, []
        for arg in args:
            if type(arg) is Variable:
                known, arg = True, arg.value
            elif isinstance(arg, _SEQUENCES):
                below = _strip(arg)
                known, arg = known or below is not arg, below
            plain.append(arg)
        _local.tape = None
        try:
            outputs, pullback = layer.vjp(*plain, input_grad=known, retain=self.retain, **options)
        finally:
            _local.tape = self
        if not known and not layer._params and not any(below._params for _, below in layer._walk()):
            return outputs
        outputs = self._variables(outputs)
        self.nodes.append((outputs, pullback, args))
        return outputs

    def _variables(self, tree: Any) -> Any:
        """The tree with Variables for float arrays."""
        if isinstance(tree, _FLOATS) and tree.dtype.kind == "f":
            return Variable(np.asarray(tree), self)
        if isinstance(tree, tuple):
            return tuple([self._variables(part) for part in tree])
        return tree

    # ---- backwards ---------------------------------------------------------------------------------------------

    def backward(self, outputs: Sequence[Variable], gradients: Sequence[Any]) -> None:
        """Hand the gradients of outputs down to the parameters and the Variables that began the tape."""
        if self.retain:  # something may be left from a pullback that raised
            for tree, _, inputs in self.nodes:
                take(tree)
                take(tuple(inputs))
        for variable, gradient in zip(outputs, gradients, strict=True):
            if gradient is not None:
                give(variable, gradient)
        nodes = self.nodes.copy() if self.retain else self.nodes
        while nodes:  # what is no longer needed goes at once
            tree, pull, inputs = nodes.pop()
            gradient = take(tree)
            if gradient is None:
                continue
            found = pull(gradient) if type(tree) is Variable else pull(*gradient)
            _hand_down(inputs, found if isinstance(found, _SEQUENCES) else (found,))


def _mixed(bits: int) -> int:
    """64 bits that look random for each of `bits` (Steele et al. 2014, SplitMix); a SeedSequence takes 10 µs."""
    bits &= 0xFFFF_FFFF_FFFF_FFFF
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFF_FFFF_FFFF_FFFF
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & 0xFFFF_FFFF_FFFF_FFFF
    return bits ^ bits >> 31


def recording(call: Callable[..., Any]) -> Callable[..., Any]:
    """Make a layer's `__call__` enter itself on the tape that records."""

    @functools.wraps(call)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        if RECORDING and (tape := current()) is not None:
            return tape.call(self, args, kwargs)
        return call(self, *args, **kwargs)

    return __call__


# ---- trees of arrays: an array, or tuples of trees


def _strip(tree: Any) -> Any:
    """The tree with values for Variables; the same object if there are none."""
    if type(tree) is Variable:
        return tree.value
    if isinstance(tree, _SEQUENCES):
        parts = tuple([_strip(part) for part in tree])
        if any(part is not old for part, old in zip(parts, tree, strict=True)):
            return parts
    return tree


def _hand_down(inputs: Sequence[Any], gradients: Sequence[Any]) -> None:
    """Gradients to the Variables in a tree of arguments; a layer may return fewer."""
    for arg, gradient in zip(inputs, gradients, strict=False):
        if gradient is None:
            continue
        if type(arg) is Variable:
            if arg._gradient is None and type(gradient) is np.ndarray and gradient.dtype is arg.value.dtype:
                arg._gradient = gradient  # as `give` does
            else:
                give(arg, gradient)
        elif isinstance(arg, _SEQUENCES) and isinstance(gradient, _SEQUENCES):
            _hand_down(arg, gradient)


def _flatten(tree: Any, leaves: list[NDArray[Any]]) -> Any:
    """Collect the float arrays of a tree; return its shape: None for those, and everything else as it is."""
    if isinstance(tree, tuple):
        return tuple(_flatten(part, leaves) for part in tree)
    if isinstance(tree, _FLOATS) and tree.dtype.kind == "f":
        leaves.append(np.asarray(tree))
        return None
    return Constant(tree)


class Constant:
    """What a tree of outputs holds beside float arrays."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _rebuild(shape: Any, leaves: Iterator[Any]) -> Any:
    """A tree of that shape from its leaves."""
    if isinstance(shape, tuple):
        return tuple(_rebuild(part, leaves) for part in shape)
    return next(leaves) if shape is None else shape.value
