"""The base of every layer: parameters, gradients, names, state, and how a layer is rebuilt."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastrnn import _check, _core
from fastrnn.nn._tape import recording

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

LAYER = "$layer"  # marks the description of a layer among a model's constructor arguments
LATER: list[str] = []  # modules to import when a description names a class that isn't known yet


class Arrays(dict[str, Any]):
    """Name → live array. Assigning copies into the array, so that it stays the one that everybody holds.

    `update` and `|=` assign; whatever would add or remove a name is refused, for names belong to the layer.
    """

    def __missing__(self, name: str) -> Any:
        raise _check.no_such_array(name, self)

    def __setitem__(self, name: str, value: Any) -> None:
        array = self[name]
        if value is not array:
            array[...] = _check.assignable(value, array.shape, name)

    def update(self, *args: Any, **kwargs: Any) -> None:
        # All names and shapes are looked at before the first array changes.
        values = dict(*args, **kwargs)
        for name, value in values.items():
            _check.assignable(value, self[name].shape, name)
        for name, value in values.items():
            self[name] = value

    def __ior__(self, other: Any) -> Arrays:  # type: ignore[override, misc]  # dict's takes two kinds of argument
        self.update(other)
        return self

    def _fixed(self, *args: Any, **kwargs: Any) -> Any:
        raise _check.fixed_names()

    __delitem__ = setdefault = pop = popitem = clear = _fixed

    def __reduce__(self) -> tuple[Any, ...]:
        return Arrays, (dict(self),)


class Layer:
    """What all layers have: two entries (call and `vjp`), parameters, and gradients that add up.

    Calling a layer is inference and saves nothing. `vjp` returns `(outputs, pullback)`; the pullback takes
    the gradient of the outputs, adds the gradients of the parameters to `grads` (under a lock), and returns
    the gradient of the input. It runs once, unless `retain=True`.

    A subclass passes its dtype to `__init__`, adds its parameters with `_add_param`, and writes `__call__`,
    `vjp` and `config`. A layer made of layers overrides `children` instead of adding parameters.

    Parameters
    ----------
    dtype : dtype or None
        float32 or float64; None for a layer without parameters, which accepts both.

    Attributes
    ----------
    dtype : numpy.dtype or None
        The dtype of parameters, inputs and outputs.
    is_recurrent : bool
        The layer takes and returns a state: `layer(x, state)` gives `(y, state)`.
    takes_lengths, takes_dropout : bool
        The layer accepts `lengths=`; `dropout=` (and, in `vjp`, `seed=`).
    removes_time : bool
        The output has no time axis any more, so `lengths` mean nothing to the layers after it.
    is_cell : bool
        The layer takes one time step and returns its state alone, so it has no place in a `Sequential`.

    Examples
    --------
    >>> import fastrnn as fr
    >>> layer = fr.Linear(3, 2, seed=0)
    >>> {name: array.shape for name, array in layer.params.items()}
    {'weight': (2, 3), 'bias': (2,)}
    >>> layer.num_params
    8
    """

    is_recurrent: bool = False
    takes_lengths: bool = False
    takes_dropout: bool = False
    removes_time: bool = False
    is_cell: bool = False
    records_itself: ClassVar[bool] = False  # its own __call__ looks for a tape

    type_name: ClassVar[str] = "Layer"
    _registry: ClassVar[dict[str, type[Layer]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Users' classes carry their module, so that none of them can take the name of one of ours.
        ours = cls.__module__.partition(".")[0] == "fastrnn"
        cls.type_name = cls.__name__ if ours else f"{cls.__module__}.{cls.__qualname__}"
        if not cls.__name__.startswith("_"):
            Layer._registry[cls.type_name] = cls
        if "__call__" in cls.__dict__ and "records_itself" not in cls.__dict__:
            cls.__call__ = recording(cls.__call__)  # type: ignore[method-assign]

    def __init__(self, dtype: DTypeLike | None = None) -> None:
        self.dtype: np.dtype[Any] | None = None if dtype is None else _check.float_dtype(dtype)
        self._params = Arrays()
        self._grads = Arrays()
        self._touched: dict[str, list[NDArray[np.int64]]] = {}
        self._lock = threading.Lock()

    def _add_param(self, name: str, value: NDArray[Any]) -> None:
        """Give the layer a parameter; its gradient starts as zeros."""
        array = np.ascontiguousarray(value, dtype=self.dtype)
        dict.__setitem__(self._params, name, array)
        self._add_grad(name, array)

    def _add_grad(self, name: str, param: NDArray[Any]) -> None:
        # np.zeros costs no memory before the first gradient arrives; np.zeros_like would write at once.
        dict.__setitem__(self._grads, name, np.zeros(param.shape, param.dtype))

    # ---- running ---------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Inference: outputs from inputs, nothing saved."""
        raise NotImplementedError(f"{type(self).__name__} does not define __call__")

    def vjp(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Training: `(outputs, pullback)`."""
        raise NotImplementedError(f"{type(self).__name__} does not define vjp")

    # ---- parameters and gradients ------------------------------------------------------------------------

    @property
    def children(self) -> dict[str, Layer]:
        """The layers that this one is made of, by the name that precedes theirs: `"0"` in `"0.weight"`."""
        return {}

    def _walk(self, prefix: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Layer]]:
        """Yield `(prefix, layer)` for this layer and those below, depth first, a shared one only once."""
        found: list[tuple[str, Layer]] = []
        self._collect(prefix, set() if seen is None else seen, found)
        return iter(found)

    def _collect(self, prefix: str, seen: set[int], found: list[tuple[str, Layer]]) -> None:
        if id(self) in seen:
            return
        seen.add(id(self))
        found.append((prefix, self))
        for name, child in self.children.items():
            child._collect(f"{prefix}{name}.", seen, found)

    @property
    def params(self) -> dict[str, NDArray[Any]]:
        """The live parameter arrays by name. Assigning to a name copies into the array."""
        if not self.children:
            return self._params
        return Arrays({p + name: a for p, layer in self._walk() for name, a in layer._params.items()})

    @params.setter
    def params(self, arrays: Mapping[str, Any]) -> None:
        # `layer.params |= {...}` assigns its result, the live arrays, once more.
        self.load_state_dict(arrays)

    @property
    def grads(self) -> dict[str, NDArray[Any]]:
        """The live gradient arrays by the names of `params`; pullbacks add to them."""
        if not self.children:
            return self._grads
        return Arrays({p + name: a for p, layer in self._walk() for name, a in layer._grads.items()})

    @property
    def num_params(self) -> int:
        """The number of values in all parameters."""
        return sum(array.size for array in self.params.values())

    @property
    def touched(self) -> dict[str, NDArray[np.int64]]:
        """For parameters with lazy gradients: the rows, sorted, that got gradients since `zero_grads`.

        All other rows of the gradient are zero, so an optimiser may leave them alone. Parameters that are
        not named here have dense gradients.
        """
        found: dict[str, NDArray[np.int64]] = {}
        for prefix, layer in self._walk():
            if not layer._touched:
                continue
            with layer._lock:
                for name, parts in layer._touched.items():
                    rows = np.unique(np.concatenate([*parts, np.empty(0, np.int64)]))
                    parts[:] = [rows]
                    found[prefix + name] = rows
        return found

    def zero_grads(self) -> None:
        """Set all gradients to zero; of lazy ones only the rows that were touched."""
        self._zero(self._walk())

    @staticmethod
    def _zero(walked: Iterable[tuple[str, Layer]]) -> None:
        for _, layer in walked:
            if not layer._grads:
                continue
            with layer._lock:
                lazy = layer._touched
                _core.scale_all([(grad, None) for name, grad in layer._grads.items() if name not in lazy], 0)
                for name, parts in lazy.items():
                    for rows in parts:
                        layer._grads[name][rows] = 0
                    parts.clear()

    # ---- state -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of all parameters by name."""
        return {name: array.copy() for name, array in self.params.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy parameters in, casting between float types; the live arrays stay the same objects.

        Parameters
        ----------
        state : mapping of str to array
            One entry for each name in `params`, of the same shape.

        Raises
        ------
        ValueError
            Lists every missing, unknown, misshapen or non-float entry; nothing is copied then.
        """
        params = self.params
        for name, array in _check.state_dict(state, params, type(self).__name__).items():
            params[name][...] = array

    def config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON-able values: `type(layer)(**layer.config())` rebuilds the layer
        with fresh weights."""
        return {}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({arguments})"

    def __getstate__(self) -> dict[str, Any]:
        """What pickle and copy keep: everything but the lock and the gradients, which start at zero."""
        state = self.__dict__.copy()
        for name in ("_lock", "_grads"):
            del state[name]
        state["_touched"] = {name: [] for name in self._touched}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
        self._grads = Arrays()
        for name, param in self._params.items():
            self._add_grad(name, param)


def to_spec(layer: Layer) -> dict[str, Any]:
    """Describe how to rebuild `layer`, without its weights, as JSON-able values.

    Examples
    --------
    >>> import fastrnn as fr
    >>> fr.nn.to_spec(fr.Linear(3, 2))
    {'type': 'Linear', 'config': {'in_features': 3, 'out_features': 2, 'bias': True, 'dtype': 'float32'}}
    """
    return {"type": layer.type_name, "config": layer.config()}


def from_spec(spec: Mapping[str, Any]) -> Layer:
    """Rebuild a layer from `to_spec`, with fresh weights. It knows fastrnn's classes, and yours that are imported.

    Raises
    ------
    ValueError
        The spec names no known class of layers.

    Examples
    --------
    >>> import fastrnn as fr
    >>> fr.nn.from_spec({"type": "Linear", "config": {"in_features": 3, "out_features": 2}})
    Linear(in_features=3, out_features=2, bias=True, dtype='float32')
    """
    if isinstance(spec, Mapping) and spec.get("type") not in Layer._registry:
        for module in LATER:
            importlib.import_module(module)
    name, config = _check.spec(spec, Layer._registry)
    for key, value in config.items():
        if isinstance(value, dict) and value.keys() == {LAYER}:
            config[key] = from_spec(value[LAYER])
    return Layer._registry[name](**config)
