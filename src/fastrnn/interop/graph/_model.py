"""OnnxModel: a loaded graph, which is called with arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from fastrnn import _check
from fastrnn._pullback import Pullback
from fastrnn.interop.graph._arrays import dtype_of
from fastrnn.interop.graph._program import Program
from fastrnn.nn._layer import Layer
from fastrnn.nn._tape import RECORDING, current

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Port(NamedTuple):
    """An input or output: name, type and shape. A size that may vary is a name or None, an unknown shape is None."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...] | None
    optional: bool = False

    def __str__(self) -> str:
        shape = "" if self.shape is None else "[" + ", ".join("?" if s is None else str(s) for s in self.shape) + "]"
        return f"{self.name} {self.dtype.name}{shape}" + (" (optional)" if self.optional else "")


class OnnxModel(Layer):
    """A graph that `fastrnn.interop.onnx.load` has read, for inference.

    It is called with arrays by position or by name, or as onnxruntime's sessions are: ``model.run(None, {"x": x})``.
    What is the same at every call is computed once, recurrent nodes run on fastrnn's kernels, and intermediate results
    are freed after their last use. Calls from several threads are safe.

    It is a layer without `vjp`: `load(file, layers=True)` makes layers that can be trained, where a graph is a chain
    of them. Its parameters are read-only; `load_state_dict` changes them.

    Parameters
    ----------
    graph : dict
        The description, as `config` gives it. Parameters are zeros.

    Attributes
    ----------
    inputs, outputs : list of Port
        (name, dtype, shape, optional) of each.

    Raises
    ------
    ValueError
        The description makes no graph, or needs an operator that isn't here; the message names operator and node.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.interop.graph import OnnxModel
    >>> x, y = ({"name": name, "type": "float32", "shape": ["N", 3]} for name in "xy")
    >>> nodes = [{"op": "Softmax", "inputs": ["x"], "outputs": ["y"], "attributes": {"axis": ["int", -1]}}]
    >>> graph = {"opsets": {"": 17}, "inputs": [x], "outputs": [y], "nodes": nodes, "constants": {}, "params": {}}
    >>> model = OnnxModel(graph=graph)
    >>> model(np.zeros((1, 3), np.float32))
    array([[0.33333334, 0.33333334, 0.33333334]], dtype=float32)
    >>> print(*model.inputs)
    x float32[N, 3]
    """

    records_itself: ClassVar[bool] = True

    def __init__(self, *, graph: Mapping[str, Any]) -> None:
        super().__init__()
        self._graph = dict(graph)
        try:
            params = {name: (dtype_of(kind), tuple(shape)) for name, (kind, shape) in graph["params"].items()}
            self._program = Program(graph, graph["opsets"], params)
            given = {*params, *self._program.constants}
            self.inputs = [_port(one, one["name"] in given) for one in graph["inputs"]]
            self.outputs = [_port(one, False) for one in graph["outputs"]]
        except (KeyError, TypeError, AttributeError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"graph: not a description of a graph: {what}") from error
        for name, (dtype, shape) in params.items():
            self._set(name, np.zeros(shape, dtype))
        self._fixed: dict[str, Any] | None = None  # what is the same at every call

    def _set(self, name: str, value: NDArray[Any]) -> None:
        value.flags.writeable = False
        dict.__setitem__(self._params, name, value)

    def _add_grad(self, name: str, param: NDArray[Any]) -> None:
        """No gradients."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, array in _check.state_dict(state, self._params, "OnnxModel").items():
            self._set(name, np.array(array, self._params[name].dtype, order="C"))
        self._fixed = None

    def config(self) -> dict[str, Any]:
        return {"graph": self._graph}

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in ("_program", "_fixed"):  # made of the rest
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for array in self._params.values():
            array.flags.writeable = False
        self._program = Program(self._graph, self._graph["opsets"], self._params)
        self._fixed = None

    def __repr__(self) -> str:
        return f"OnnxModel({', '.join(map(str, self.inputs))} → {', '.join(map(str, self.outputs))})"

    # ---- running

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs: one array, or a tuple of them in the graph's order.

        Parameters
        ----------
        *args : array
            The inputs in their order; or one dict of them.
        **kwargs : array
            Inputs by name.
        """
        if RECORDING and current() is not None:
            raise TypeError(self._no_gradients())
        if len(args) == 1 and isinstance(args[0], Mapping) and not kwargs:
            return self(**args[0])
        if len(args) > len(self.inputs):
            raise TypeError(f"expected at most {len(self.inputs)} inputs ({self._names()}), got {len(args)}")
        feeds = dict(zip((port.name for port in self.inputs), args, strict=False))
        for name in kwargs:
            if name in feeds:
                raise TypeError(f"{name}: given by position and by name")
        found = self._outputs({**feeds, **kwargs})
        return found[0] if len(found) == 1 else tuple(found)

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
        """As `onnxruntime.InferenceSession.run`: the outputs of these names, or all of them, as a list.

        Parameters
        ----------
        names : sequence of str, or None for all outputs
        feeds : mapping of str to array
            Inputs by name.
        """
        found = dict(zip((port.name for port in self.outputs), self._outputs(feeds), strict=True))
        for name in names or ():
            if name not in found:
                raise ValueError(f"names: expected some of {', '.join(found)}, got {name!r}")
        return [found[name] for name in (found if names is None else names)]

    def _outputs(self, feeds: Mapping[str, Any]) -> list[Any]:
        values: dict[str, Any] = {}
        for port in self.inputs:
            if port.name in feeds:
                values[port.name] = _accepted(feeds[port.name], port)
            elif not port.optional:
                raise ValueError(f"{port.name}: this input is missing; there are {self._names()}")
        for name in feeds:
            if name not in values:
                raise ValueError(f"{name}: no such input; there are {self._names()}")
        try:
            with np.errstate(all="ignore"):  # graphs may divide by zero where the result isn't used
                fixed = self._fixed
                if fixed is None:
                    fixed = self._fixed = {**self._params, **self._program.fold(self._params)}
                return self._program.run({**fixed, **values})
        except ValueError as error:
            if (why := self._sizes_apart(values)) is None:
                raise
            raise ValueError(f"{why}; {error}") from error

    def _sizes_apart(self, values: Mapping[str, Any]) -> str | None:
        """Which inputs disagree on a size that has a name. Not all graphs are in earnest about these names."""
        seen: dict[str, tuple[int, str]] = {}
        for port in self.inputs:
            sizes = values[port.name].shape if port.name in values else ()
            for name, size in zip(port.shape or (), sizes, strict=False):
                have, where = seen.setdefault(name, (size, port.name)) if isinstance(name, str) else (size, "")
                if have != size:
                    return f"{port.name}: expected {name} = {have}, as in {where}, got {size}"
        return None

    def _names(self) -> str:
        return ", ".join(map(str, self.inputs)) or "none"

    # ---- training

    @property
    def grads(self) -> dict[str, NDArray[Any]]:
        """There are none: this raises."""
        raise TypeError(self._no_gradients())

    def vjp(self, *args: Any, **kwargs: Any) -> tuple[Any, Pullback]:
        """A loaded graph has no gradients: this raises."""
        raise TypeError(self._no_gradients())

    def _no_gradients(self) -> str:
        return (
            "OnnxModel is for inference and has no gradients; fastrnn.interop.onnx.load(file, layers=True) makes "
            "layers of a graph that is a chain of them"
        )


def _port(given: Mapping[str, Any], optional: bool) -> Port:
    shape = given["shape"]
    return Port(given["name"], dtype_of(given["type"]), None if shape is None else tuple(shape), optional)


def _accepted(value: Any, port: Port) -> NDArray[Any]:
    """An input of the type and shape that the graph says; whole numbers and lists are converted."""
    listed = isinstance(value, list | tuple | int | float | bool) and not isinstance(value, np.generic)
    array = np.asarray(value)
    kinds = "iu" if port.dtype.kind in "iu" else "iuf" if listed and port.dtype.kind == "f" else ""
    if array.dtype != port.dtype:
        bfloat = array.dtype.name == "bfloat16" and port.dtype == np.float32
        if array.dtype.kind not in kinds and not bfloat:
            raise TypeError(
                f"{port.name}: expected {port.dtype}, got {array.dtype}; use {port.name}.astype(np.{port.dtype})"
            )
        converted = array.astype(port.dtype)
        if kinds == "iu" and not np.array_equal(converted, array):
            raise ValueError(f"{port.name}: expected {port.dtype}, which doesn't hold {array.min()} to {array.max()}")
        array = converted
    if port.shape is not None and not (
        len(port.shape) == array.ndim
        and all(not isinstance(want, int) or want == size for want, size in zip(port.shape, array.shape, strict=True))
    ):
        raise ValueError(f"{port.name}: expected {port}, got shape {array.shape}")
    return array
