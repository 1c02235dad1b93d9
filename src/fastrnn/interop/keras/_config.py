"""Keras's configurations: nested dicts, read with a complaint about everything that isn't understood."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastrnn import _check

MALFORMED = (
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
    OverflowError,
)  # what a config without the usual form runs into
# About training, or about how Keras computes: the results are the same without.
_IGNORED = {
    "name", "trainable", "seed", "unroll", "implementation", "unit_forget_bias", "zero_output_for_mask", "input_shape",
    "batch_input_shape", "batch_shape", "input_length", "build_config", "sparse", "ragged", "optional", "autocast",
    "layout_map",
}  # fmt: skip
_INITIALIZERS = "_initializer"
_TRAINING = ("_regularizer", "_constraint")


@dataclass
class Node:
    """One layer of Keras: its class, its configuration, and where its weights are."""

    kind: str
    config: dict[str, Any]
    name: str
    path: str = ""  # in a weights file of Keras 3
    keras_2: bool = False
    dtype: Any = None
    ignore: tuple[str, ...] = ()
    rank: int = 0  # axes of its input, where they are known
    masked: bool = False  # a functional model hands it a mask
    taken: set[str] = field(default_factory=set)

    @property
    def where(self) -> str:
        return f"{self.kind} {self.name!r}"

    def option(self, name: str, default: Any = None) -> Any:
        """An option that is understood."""
        self.taken.add(name)
        return self.config.get(name, default)

    def size(self, name: str) -> int:
        """An option that is a positive whole number."""
        value = self.option(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{self.where}: {name}: expected a positive integer, got {value!r:.60}")
        return value

    def rate(self, name: str) -> float:
        value = self.option(name, 0.0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
            raise ValueError(f"{self.where}: {name}: expected a rate from 0 up to 1, got {value!r:.60}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.option(name, default)
        if not isinstance(value, bool):
            raise ValueError(f"{self.where}: {name}: expected true or false, got {value!r:.60}")
        return value

    def refuse(self, name: str, usual: Any, why: str) -> None:
        """Complain about an option that has another value than the usual one."""
        value = self.option(name, usual)
        if value not in (usual, None) and name not in self.ignore:
            raise ValueError(f"{self.where}: {name}={value!r:.60}: {why}")

    def done(self) -> None:
        """Complain about options that nobody asked for."""
        for name, value in self.config.items():
            if name in self.taken or name in _IGNORED or name in self.ignore or name.endswith(_INITIALIZERS):
                continue
            if value is None or value is False or name == "dtype":
                continue
            if name.endswith(_TRAINING):
                text = f"{self.where}: {name} is about training in Keras, and isn't carried over"
                warnings.warn(text, UserWarning, stacklevel=2)
                continue
            raise ValueError(f"{self.where}: {name}={value!r:.60}: fastrnn doesn't know this option")

    def float_type(self) -> np.dtype[Any]:
        """The dtype of weights and arithmetic."""
        if self.dtype is not None:
            return _check.float_dtype(self.dtype)
        value = self.config.get("dtype", "float32")
        if isinstance(value, Mapping):
            value = value.get("config", {}).get("name") if value.get("class_name") in _POLICIES else value
        if value not in ("float32", "float64", None):
            raise ValueError(
                f"{self.where}: dtype={value!r:.80}: fastrnn computes in float32 or float64; load(…, dtype=np.float32) "
                "takes the weights as that"
            )
        return np.dtype(value or "float32")

    def inner(self, name: str) -> Node:
        """The layer that a wrapper wraps."""
        return node_of(self.option(name), self.keras_2, self.dtype, self.ignore)


_POLICIES = ("DTypePolicy", "Policy", "FloatDTypePolicy")


def node_of(spec: Any, keras_2: bool, dtype: Any, ignore: tuple[str, ...]) -> Node:
    """A layer of its description `{"class_name": …, "config": …}`."""
    if not isinstance(spec, Mapping) or not isinstance(spec.get("config"), Mapping):
        raise ValueError(f"expected the description of a Keras layer, got {spec!s:.80}")
    kind, config = spec.get("class_name"), dict(spec["config"])
    module = str(spec.get("module") or "keras").partition(".")[0]
    if not isinstance(kind, str):
        raise ValueError(f"expected the name of a Keras layer, got {kind!s:.80}")
    name = str(config.get("name", spec.get("name", kind)))
    if module not in ("keras", "tf_keras") or spec.get("registered_name") not in (None, kind):
        raise ValueError(f"{kind} {name!r}: a class of your own ({spec.get('module')}), which fastrnn doesn't know")
    return Node(kind, config, name, keras_2=keras_2, dtype=dtype, ignore=ignore)


def snake_case(name: str) -> str:
    """LayerNormalization to layer_normalization, GRU to gru, as in weights files."""
    found = ""
    for k, letter in enumerate(name):
        before, after = name[k - 1 : k], name[k + 1 : k + 2]
        if letter.isupper() and k and (before.islower() or before.isdigit() or after.islower()):
            found += "_"
        found += letter.lower()
    return found


class Counter:
    """Names of a container's members: dense, dense_1, dense_2."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}

    def __call__(self, kind: str) -> str:
        name = snake_case(kind)
        count = self._used[name] = self._used.get(name, -1) + 1
        return f"{name}_{count}" if count else name


MODELS = ("Sequential", "Functional", "Model")


def chain(model: Mapping[str, Any], make: Callable[[Any], Node], path: str = "") -> Iterator[Node]:
    """The layers of a model, one after another; nested models are opened.

    Raises
    ------
    ValueError
        The model isn't a chain.
    """
    kind, config = model["class_name"], model["config"]
    module = str(model.get("module") or "keras")
    if kind not in MODELS or module.partition(".")[0] not in ("keras", "tf_keras"):
        raise ValueError(f"{kind!s:.80} ({module:.80}): expected a Sequential or a functional model of Keras")
    specs = config["layers"] if isinstance(config, Mapping) else config  # a list in files of Keras 2.1
    count = Counter()
    nodes: list[tuple[str, Any, Node]] = []
    for spec in specs:
        node = make(spec)
        node.path = f"{path}layers/{count(node.kind)}"
        nodes.append((str(spec.get("name", node.name)), spec, node))
    if kind != "Sequential":
        nodes = _ordered(nodes, config)
    for _, spec, node in nodes:
        if node.kind in MODELS:
            yield from chain(spec, make, f"{node.path}/")
        else:
            yield node


def _ordered(nodes: list[tuple[str, Any, Node]], config: Mapping[str, Any]) -> list[tuple[str, Any, Node]]:
    """A functional model's layers from input to output, without those that compute masks."""
    by_name = {name: (name, spec, node) for name, spec, node in nodes}
    (first,), (last,) = (_ends(config[f"{end}_layers"], end) for end in ("input", "output"))
    found, name, seen = [], last, set[str]()
    while True:
        if name in seen:
            raise ValueError(f"{name!r} comes twice; fastrnn reads models whose layers come one after another")
        seen.add(name)
        found.append(by_name[name])
        if name == first:
            break
        name = _source(by_name[name])
    left = [node for name, _, node in nodes if name not in seen and node.kind not in ("NotEqual", "Any")]
    if left:
        names = ", ".join(node.where for node in left)
        raise ValueError(f"{names}: beside the chain from input to output; fastrnn reads layers one after another")
    return found[::-1]


def _ends(value: Any, end: str) -> list[str]:
    """Names of a model's inputs, or outputs: `[name, 0, 0]`, or a list of those, which must hold one."""
    if value and isinstance(value[0], str):
        value = [value]
    if len(value) != 1:
        raise ValueError(f"a model with {len(value)} {end}s; fastrnn reads layers one after another")
    return [str(value[0][0])]


def _source(entry: tuple[str, Any, Node]) -> str:
    """The layer whose output a layer reads."""
    _, spec, node = entry
    calls = spec["inbound_nodes"]
    if len(calls) != 1:
        raise ValueError(f"{node.where}: called {len(calls)} times in the model; fastrnn reads layers in a chain")
    if isinstance(calls[0], list):  # Keras 2: [[name, 0, 0, {}]]
        tensors = [(tensor[0], tensor[2]) for tensor in calls[0]]
        further = dict(calls[0][0][3]) if calls[0] and len(calls[0][0]) > 3 else {}
    else:
        args, further = calls[0]["args"], dict(calls[0].get("kwargs") or {})
        tensors = [tuple(arg["config"]["keras_history"][::2]) for arg in args if isinstance(arg, Mapping)]
        if len(tensors) != len(args):
            tensors = []
    node.masked = further.get("mask") is not None
    further = {key: value for key, value in further.items() if key not in ("mask", "training") and value is not None}
    if len(tensors) != 1 or further:
        told = f" and {', '.join(further)}" if further else ""
        raise ValueError(f"{node.where}: called with {len(tensors)} tensors{told}; fastrnn reads layers in a chain")
    if tensors[0][1] != 0:
        raise ValueError(f"{node.where}: reads a state of {tensors[0][0]!r}; fastrnn reads layers in a chain")
    return str(tensors[0][0])


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Errors about something malformed as ValueErrors that say where."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(name) else f"{name}: {text}") from error
    except MALFORMED as error:
        raise ValueError(f"{name}: its description doesn't make a model ({type(error).__name__}: {error})") from error
