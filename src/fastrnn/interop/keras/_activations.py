"""Activations under Keras's names."""

from __future__ import annotations

from typing import Any

from fastrnn.nn import GELU, Layer, LeakyReLU, ReLU, Sigmoid, Softmax, Swish, Tanh

# In a recurrent cell: what `activations=` takes.
_HARD_SIGMOID = ("hard_sigmoid", 1 / 6, 0.5)  # Keras 3: relu6(x + 3) / 6
_HARD_SIGMOID_2 = ("hard_sigmoid", 0.2, 0.5)  # Keras 2
IN_CELLS: dict[str, Any] = {
    "tanh": ("tanh", 0.0, 0.0),
    "sigmoid": ("sigmoid", 0.0, 0.0),
    "relu": ("relu", 0.0, 0.0),
    "linear": ("identity", 0.0, 0.0),
    "hard_sigmoid": _HARD_SIGMOID,
    "elu": ("elu", 1.0, 0.0),
    "softsign": ("softsign", 0.0, 0.0),
    "softplus": ("softplus", 0.0, 0.0),
    "leaky_relu": ("leaky_relu", 0.2, 0.0),
}
# After a layer, or as one.
LAYERS: dict[str, Any] = {
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "relu": ReLU,
    "softmax": Softmax,
    "silu": Swish,
    "swish": Swish,
    "gelu": GELU,
    "leaky_relu": lambda: LeakyReLU(0.2),
}


def name_of(value: Any, where: str) -> str:
    """The name in a config: a string, None for linear, or the description of one of Keras's functions."""
    if value is None:
        return "linear"
    if isinstance(value, dict) and str(value.get("module", "")).partition(".")[0] in ("keras", "builtins"):
        value = value.get("config")
    if not isinstance(value, str):
        raise ValueError(f"{where}: expected the name of one of Keras's activations, got {value!s:.80}")
    return value


def in_cell(value: Any, where: str, keras_2: bool) -> tuple[str, float, float]:
    """What a cell of ours takes."""
    name = name_of(value, where)
    if name not in IN_CELLS:
        raise ValueError(f"{where}={name!r}: cells have {', '.join(IN_CELLS)}")
    found: tuple[str, float, float] = _HARD_SIGMOID_2 if keras_2 and name == "hard_sigmoid" else IN_CELLS[name]
    return found


def as_layers(value: Any, where: str) -> list[Layer]:
    """The layer of an activation; none for "linear"."""
    name = name_of(value, where)
    if name == "linear":
        return []
    if name not in LAYERS:
        raise ValueError(f"{where}={name!r}: expected one of linear, {', '.join(LAYERS)}")
    return [LAYERS[name]()]


def keras_name(activation: tuple[str, float, float], where: str) -> str:
    """Keras's name of a cell's activation."""
    name, alpha, beta = activation
    numbers = {"leaky_relu": (alpha,), "elu": (alpha,), "hard_sigmoid": (alpha, beta)}.get(name, ())
    for theirs, (ours, *wanted) in IN_CELLS.items():
        if ours == name and all(abs(a - b) < 1e-6 for a, b in zip(numbers, wanted, strict=False)):
            return theirs
    raise ValueError(f"{where}: Keras has no activation {(name, *numbers)} by name")
