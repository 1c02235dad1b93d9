"""`fr.cell`: a recurrent cell from the equations of one unit."""

from __future__ import annotations

import keyword
import os
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any

import numpy as np

from fastrnn import _check, _core
from fastrnn.jit._derive import Plan, derive
from fastrnn.jit._graph import in_order
from fastrnn.jit._interpret import evaluate
from fastrnn.jit._spec import MOST_GATES, MOST_STATES, MOST_VECTORS, Spec
from fastrnn.jit._trace import origin, trace

__all__ = ["Cell", "cell", "find_cell", "given_cells"]

# Cells by "module:name": files are read with those that are there, and nothing is imported for them.
_known: weakref.WeakValueDictionary[str, Cell] = weakref.WeakValueDictionary()
_given: ContextVar[Mapping[str, Cell] | None] = ContextVar("cells", default=None)

MODES = ("numba", "numpy")
_TAKEN = {"weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh", "gain_ih", "gain_hh"}  # by layers


def mode() -> str:
    """How cells run: FASTRNN_JIT, by default "numba"."""
    found = os.environ.get("FASTRNN_JIT") or "numba"
    if found not in MODES:
        raise ValueError(f"FASTRNN_JIT: expected one of {', '.join(MODES)}, got {found!r}")
    return found


def _names(value: Any, what: str, least: int, most: int) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, tuple | list):
        raise TypeError(f"{what}: expected a tuple of names, got {value!r}")
    for name in value:
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or name.startswith("__"):
            raise ValueError(f"{what}: expected names such as Python's variables have, got {name!r}")
    if what == "vectors" and (taken := _TAKEN.intersection(value)):
        raise ValueError(f"vectors: {min(taken)!r} is the name of another parameter")
    if len(set(value)) < len(value):
        raise ValueError(f"{what}: expected each name once, got {', '.join(value)}")
    if not least <= len(value) <= most:
        raise ValueError(f"{what}: expected {least} to {most} names, got {len(value)}")
    return tuple(value)


def _initial(value: Any, gates: tuple[str, ...], vectors: tuple[str, ...]) -> dict[str, float]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"initial: expected a dict from names of gates and vectors to numbers, got {value!r}")
    found = {}
    for name, number in value.items():
        if (name in gates) == (name in vectors):
            known = ", ".join(gates + vectors)
            which = "both a gate and a vector" if name in gates else f"one of {known}"
            raise ValueError(
                f"initial: {name!r} is {which}" if name in gates else f"initial: expected {which}, got {name!r}"
            )
        found[str(name)] = _check.number(number, f"initial[{name!r}]")
    return found


class Cell:
    """A recurrent cell given by the equations of one unit; `fr.cell` makes it from a function.

    Attributes
    ----------
    name : str
        "module:name" of the function.
    gates, states, vectors : tuple of str
    initial : dict of str to float
        Of gates' biases and of vectors, as given.
    function : callable
        The user's function.

    Examples
    --------
    >>> import fastrnn as fr
    >>> from fastrnn.jit import tanh
    >>> @fr.cell(gates=("n",))
    ... def simple(wx, rh, s):
    ...     return tanh(wx.n + rh.n)
    >>> simple
    <cell simple: gates n; states h>
    >>> simple.states
    ('h',)
    """

    def __init__(
        self,
        function: Callable[..., Any],
        gates: tuple[str, ...],
        states: tuple[str, ...],
        vectors: tuple[str, ...],
        initial: dict[str, float],
    ) -> None:
        self.function = function
        self.gates, self.states, self.vectors, self.initial = gates, states, vectors, initial
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.__qualname__ = getattr(function, "__qualname__", self.__name__)
        self.__module__ = getattr(function, "__module__", None) or "__main__"
        self.__doc__ = function.__doc__ or type(self).__doc__
        self.__wrapped__ = function
        self.name = f"{self.__module__}:{self.__qualname__}"
        self._lock = threading.RLock()
        self._specs: dict[tuple[Any, ...], Spec] = {}
        self._traced = trace(function, gates, states, vectors)
        self._all_used()
        _known[self.name] = self

    def _all_used(self) -> None:
        _, outputs = self._traced
        used = {n.value for n in in_order(outputs) if n.is_input}
        for what, names, kinds in (("gate", self.gates, ("wx", "rh")), ("vector", self.vectors, ("v",))):
            for k, name in enumerate(names):
                if not any((kind, k) in used for kind in kinds):
                    raise ValueError(f"{origin(self.function)}{what} {name!r} is in no equation")

    def __call__(self, *args: Any) -> Any:
        """The function itself: on numbers, on arrays, or in another cell's equations."""
        return self.function(*args)

    def __repr__(self) -> str:
        vectors = f"; vectors {', '.join(self.vectors)}" if self.vectors else ""
        return f"<cell {self.__name__}: gates {', '.join(self.gates)}; states {', '.join(self.states)}{vectors}>"

    def __reduce__(self) -> str:
        if "<" in self.__qualname__:
            raise TypeError(
                f"{self!r} can't be pickled: define it at the top of a module, where its name can be looked up"
            )
        return self.__qualname__  # by name, as functions are

    # ---- for the core ------------------------------------------------------------------------------------------------

    def _derive(self, together: bool) -> Plan:
        graph, outputs = self._traced
        counts = len(self.gates), len(self.states), len(self.vectors)
        with self._lock:
            return derive(graph, outputs, *counts, together=together)

    @cached_property
    def plan(self) -> Plan:
        """What forward and backward do."""
        return self._derive(True)

    @cached_property
    def plan_apart(self) -> Plan:
        """The same with each gate's two products apart, as the user's function sees them."""
        return self._derive(False)

    def spec(self, dtype: Any) -> Spec:
        """The cell for the core: compiled (or from the cache) at the first call.

        Parameters
        ----------
        dtype : dtype
            float32 or float64.

        Returns
        -------
        Spec
            With `address`, that of a `CellSpec` (csrc/cell.h), valid as long as the cell lives.

        Raises
        ------
        ImportError
            Numba is not installed.
        """
        dtype, how = _check.float_dtype(dtype), mode()
        key = (dtype.name, how, _core.isa())
        found = self._specs.get(key)
        if found is None:
            with self._lock:
                found = self._specs.get(key) or self._build(dtype, how)
                self._specs[key] = found
        return found

    def _build(self, dtype: np.dtype[Any], how: str) -> Spec:
        if how == "numpy":
            from fastrnn.jit._callbacks import python_spec

            return python_spec(self.function, (self.gates, self.states, self.vectors), self.plan_apart, dtype)
        from fastrnn.jit._compile import compile_plan

        return Spec(self.plan, dtype, *compile_plan(self.plan, dtype.name))

    def guarded(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call into the core. With Python's functions: one thread, and their exceptions come out at the end."""
        callbacks = [spec.callbacks for spec in self._specs.values() if spec.callbacks is not None]
        if not callbacks:
            return function(*args)
        threads = _core.get_num_threads()
        _core.set_num_threads(1)
        try:
            found = function(*args)
        finally:
            _core.set_num_threads(threads)
        for one in callbacks:
            one.raise_kept()
        return found

    # ---- by name ---------------------------------------------------------------------------------------------------

    @cached_property
    def signature(self) -> str:
        """ "module:name#fingerprint", under which files know the cell.

        The fingerprint is of the equations' values at some points, so that it outlasts versions and ways of writing.
        """
        names = [f"{kind}.{n}" for kind, ns in (("wx", self.gates), ("rh", self.gates)) for n in ns]
        names += [f"s.{n}" for n in self.states] + [f"v.{n}" for n in self.vectors]
        graph, outputs = self._traced
        kinds = {"wx": self.gates, "rh": self.gates, "s": self.states, "v": self.vectors}
        points = 1.5 * np.sin(1.0 + np.arange(len(names) * 4, dtype=np.float64)).reshape(-1, 4)
        known = {
            graph.input(kind, k): points[names.index(f"{kind}.{name}")]
            for kind, members in kinds.items()
            for k, name in enumerate(members)
        }
        with np.errstate(all="ignore"):
            found = evaluate(outputs, known, np.dtype(np.float64))
        values = [f"{v:.4e}" for n in outputs for v in np.broadcast_to(found[n], 4)]
        return f"{self.name}#{zlib.crc32(' '.join([*names, *values]).encode()):08x}"

    def config(self) -> str:
        """What files have for the cell among a model's arguments."""
        return self.signature

    def __copy__(self) -> Cell:
        return self

    def __deepcopy__(self, memo: Any) -> Cell:
        return self


@contextmanager
def given_cells(cells: Mapping[str, Cell] | None) -> Iterator[None]:
    """While a file is read, `find_cell` looks among these first, by "module:name" or the name alone."""
    for name, found in (cells or {}).items():
        if not isinstance(found, Cell):
            raise TypeError(f"cells[{name!r}]: expected a cell made by fr.cell, got {_check.describe(found)}")
    token = _given.set(cells)
    try:
        yield
    finally:
        _given.reset(token)


def find_cell(value: Any) -> Cell:
    """A cell, itself or by its "module:name", as files have it; with a fingerprint only one with these equations.

    Raises
    ------
    ValueError
        No such cell was made yet, or its equations are others.
    """
    if isinstance(value, Cell):
        return value
    if not isinstance(value, str):
        raise TypeError(f"cell: expected a cell made by fr.cell, or its name, got {_check.describe(value)}")
    name, _, fingerprint = value.partition("#")
    given = _given.get() or {}
    found = given.get(name) or given.get(name.rpartition(":")[2])
    if found is not None:
        return found
    found = _known.get(name)
    if found is None:
        module = name.partition(":")[0]
        raise ValueError(
            f"cell: {name!r} is not known; import {module}, where it was made, or use "
            f"fr.load(path, cells={{{name!r}: ...}})"
        )
    if fingerprint and found.signature != value:
        raise ValueError(
            f"cell: {name!r} has other equations now; to use them all the same, fr.load(path, cells={{{name!r}: ...}})"
        )
    return found


def cell(
    *,
    gates: tuple[str, ...],
    states: tuple[str, ...] = ("h",),
    vectors: tuple[str, ...] = (),
    initial: Mapping[str, float] | None = None,
) -> Callable[[Callable[..., Any]], Cell]:
    """Make a recurrent cell of a function with the equations of one unit.

    The function is called once, with values that note what is done to them: `wx` and `rh`, the products W·x + b_w and
    R·h + b_r with one value a gate; `s`, the states before the step; and, where there are vectors, `v`. It returns the
    new states, a tuple when there are several. Arithmetic, powers, comparisons with `where`, the functions of
    `fastrnn.jit`, NumPy's functions of the same names, and functions of your own that use these can be derived;
    anything else is an error that names file and line.

    Parameters
    ----------
    gates : tuple of str
        1 to 8. Weights are [G·H, ·] in this order.
    states : tuple of str
        1 to 4. The first is y, and what R multiplies.
    vectors : tuple of str
        Up to 8 parameters with one number a unit, such as peepholes.
    initial : dict, optional
        Initial values by name: of a gate's `bias_ih` (its `bias_hh` starts at 0), of a vector. Everything else is
        uniform in ±1/√H, as in the other layers.

    Returns
    -------
    decorator
        Of the function; it gives a `Cell`, for `fr.CustomRNN`.

    Raises
    ------
    TypeError, ValueError
        The function does something that can't be derived, or an argument doesn't fit.

    Examples
    --------
    >>> import fastrnn as fr
    >>> from fastrnn.jit import sigmoid, tanh
    >>> @fr.cell(gates=("i", "f", "g", "o"), states=("h", "c"), vectors=("p_o",), initial={"f": 1.0, "p_o": 0.0})
    ... def peephole_lstm(wx, rh, s, v):
    ...     i, f = sigmoid(wx.i + rh.i), sigmoid(wx.f + rh.f)
    ...     c = f * s.c + i * tanh(wx.g + rh.g)
    ...     return sigmoid(wx.o + rh.o + v.p_o * c) * tanh(c), c
    >>> peephole_lstm
    <cell peephole_lstm: gates i, f, g, o; states h, c; vectors p_o>
    """
    gate_names = _names(gates, "gates", 1, MOST_GATES)
    state_names = _names(states, "states", 1, MOST_STATES)
    vector_names = _names(vectors, "vectors", 0, MOST_VECTORS)
    values = _initial(initial, gate_names, vector_names)

    def decorate(function: Callable[..., Any]) -> Cell:
        if not callable(function):
            raise TypeError(f"cell: expected a function, got {_check.describe(function)}")
        return Cell(function, gate_names, state_names, vector_names, values)

    return decorate
