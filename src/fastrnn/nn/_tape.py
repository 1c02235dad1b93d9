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


class Node:
    """One entry of the tape: the gradients that arrive at its outputs, and the pullback that hands them on.

    `pull` takes a list with a gradient for each output (None where none arrived), and returns one for each of `inputs`.
    """

    __slots__ = ("gradients", "inputs", "owned", "pull", "templates")

    def __init__(
        self,
        pull: Callable[[list[Any]], Sequence[Any]] | None,
        inputs: Sequence[Any],
        outputs: Sequence[NDArray[Any]],
    ) -> None:
        self.pull = pull
        self.inputs = inputs  # Variables, or None for what needs no gradient
        self.templates = [(value.shape, value.dtype) for value in outputs]
        self.gradients: list[Any] = [None] * len(outputs)
        self.owned = [False] * len(outputs)

    def add(self, slot: int, gradient: Any) -> None:
        """Add a gradient at an output. Arrays are shared until a second one comes."""
        have = self.gradients[slot]
        dtype = self.templates[slot][1]
        if gradient.dtype != dtype:  # a loss is a float64 beside float32 arrays
            gradient = gradient.astype(dtype)
        if isinstance(gradient, Piece):
            if have is None:
                have = np.zeros(*self.templates[slot])
            elif not self.owned[slot]:
                have = have.copy()
            if _basic(gradient.index):
                have[gradient.index] += gradient.gradient
            else:
                np.add.at(have, gradient.index, gradient.gradient)
            self.gradients[slot], self.owned[slot] = have, True
        elif have is None:
            self.gradients[slot] = gradient
        elif self.owned[slot]:
            np.add(have, gradient, out=have)
        else:
            self.gradients[slot], self.owned[slot] = np.add(have, gradient), True


def _basic(index: Any) -> bool:
    """Whether an index names no element twice."""
    parts = index if isinstance(index, tuple) else (index,)
    return not any(isinstance(part, list | np.ndarray) and np.asarray(part).dtype != bool for part in parts)


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
        self.nodes: list[Node] = []
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
        return int(np.random.SeedSequence([_check.seed(self._seed), self._seeds]).generate_state(1, np.uint64)[0])

    # ---- recording ---------------------------------------------------------------------------------------------

    def add(
        self,
        pull: Callable[[list[Any]], Sequence[Any]] | None,
        inputs: Sequence[Any],
        outputs: Sequence[NDArray[Any]],
    ) -> list[Variable]:
        """Enter an operation; return its outputs as Variables."""
        node = Node(pull, inputs, outputs)
        self.nodes.append(node)
        return [Variable(value, self, node, slot) for slot, value in enumerate(outputs)]

    def call(self, layer: Layer, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Run a layer's `vjp` and enter it."""
        if len(args) == 1 and "state" in options:
            args = (*args, options.pop("state"))
        if layer.takes_dropout:
            options.setdefault("dropout", self.dropout)
            if options["dropout"]:
                options.setdefault("seed", self.next_seed())
        if layer.is_recurrent and self.checkpoint is not None:
            options.setdefault("checkpoint", self.checkpoint)
        options = {name: _plain(value) for name, value in options.items()}
        inputs: list[Any] = []
        plain = tuple(_strip(arg, inputs) for arg in args)
        _local.tape = None
        try:
            outputs, pullback = layer.vjp(*plain, input_grad=bool(inputs), retain=self.retain, **options)
        finally:
            _local.tape = self
        if not inputs and not any(below._params for _, below in layer._walk()):
            return outputs
        leaves: list[NDArray[Any]] = []
        shape = _flatten(outputs, leaves)

        def pull(gradients: list[Any]) -> Sequence[Any]:
            given = _rebuild(shape, iter(gradients))
            found = pullback(*map(_or_none, given)) if isinstance(shape, tuple) else pullback(given)
            taken: list[Any] = []
            _match(args, found if isinstance(found, tuple) else (found,), taken)
            return taken

        variables = self.add(pull, inputs, leaves)
        return _rebuild(shape, iter(variables))

    # ---- backwards ---------------------------------------------------------------------------------------------

    def backward(self, outputs: Sequence[Variable], gradients: Sequence[Any]) -> None:
        """Hand the gradients of outputs down to the parameters and the Variables that began the tape."""
        if self.retain:
            for node in self.nodes:
                node.gradients = [None] * len(node.gradients)
                node.owned = [False] * len(node.owned)
        for variable, gradient in zip(outputs, gradients, strict=True):
            if gradient is not None:
                variable._node.add(variable._slot, gradient)
        for node in reversed(self.nodes):
            arrived = node.gradients
            if node.pull is None or all(g is None for g in arrived):
                continue
            for variable, gradient in zip(node.inputs, node.pull(arrived), strict=True):
                if variable is not None and gradient is not None:
                    variable._node.add(variable._slot, gradient)
            if not self.retain:  # what is no longer needed goes at once
                node.gradients, node.pull = [], None
        if not self.retain:
            self.nodes = [node for node in self.nodes if not node.inputs]


def recording(call: Callable[..., Any]) -> Callable[..., Any]:
    """Make a layer's `__call__` enter itself on the tape that records."""

    @functools.wraps(call)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        if RECORDING and (tape := current()) is not None:
            return tape.call(self, args, kwargs)
        return call(self, *args, **kwargs)

    return __call__


# ---- trees of arrays: an array, or tuples of trees


def _plain(value: Any) -> Any:
    """The value behind a Variable that is an option, such as lengths."""
    return value.value if isinstance(value, Variable) else value


def _strip(tree: Any, found: list[Any]) -> Any:
    """The tree with values for Variables, which are collected."""
    if isinstance(tree, Variable):
        found.append(tree)
        return tree.value
    if isinstance(tree, tuple | list) and any(isinstance(part, Variable | tuple | list) for part in tree):
        return tuple(_strip(part, found) for part in tree)
    return tree


def _flatten(tree: Any, leaves: list[NDArray[Any]]) -> Any:
    """Collect the float arrays of a tree; return its shape: None for those, and everything else as it is."""
    if isinstance(tree, tuple):
        return tuple(_flatten(part, leaves) for part in tree)
    if isinstance(tree, np.ndarray | np.floating) and tree.dtype.kind == "f":
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


def _or_none(tree: Any) -> Any:
    """A tuple of nothing but None as None."""
    if not isinstance(tree, tuple):
        return tree
    parts = tuple(map(_or_none, tree))
    return None if all(part is None for part in parts) else parts


def _match(args: Any, gradients: Any, taken: list[Any]) -> None:
    """Collect the gradients of the Variables in a tree of arguments, in the order of `_strip`."""
    if isinstance(args, Variable):
        taken.append(gradients)
    elif isinstance(args, tuple | list):
        parts = gradients if isinstance(gradients, tuple) else (None,) * len(args)
        for position, part in enumerate(args):
            _match(part, parts[position] if position < len(parts) else None, taken)
