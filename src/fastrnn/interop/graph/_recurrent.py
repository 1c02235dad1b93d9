"""ONNX's RNN, GRU and LSTM as fastrnn's layers, and the other way round."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import functional
from fastrnn.functional import reorder_gates
from fastrnn.interop.graph._node import Node, operator
from fastrnn.nn import GRU, LSTM, RNN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn.nn._recurrent import Recurrent

Array = Any

ORDERS = {"LSTM": ("iofg", "ifgo"), "GRU": ("zrn", "rzn"), "RNN": ("h", "h")}  # ONNX's, ours
HOLES = ("iof", "ifo")
LAYERS: dict[str, type[Recurrent]] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}
USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
# which of alpha and beta an activation takes: a node's lists hold those numbers alone, in the order of its activations
TAKES = {"leakyrelu": "a", "thresholdedrelu": "a", "elu": "a", "affine": "ab", "scaledtanh": "ab", "hardsigmoid": "ab"}
OWN_CELLS = ("tanh", "relu", "sigmoid")  # of a simple RNN
DIRECTIONS = ("forward", "reverse", "bidirectional")


def activations(node: Node, directions: int) -> list[list[tuple[Any, ...]]]:
    """(name, alpha, beta) for each direction; of numbers that aren't given, none."""
    usual = USUAL[node.op]
    names = node.get("activations") or usual * directions
    if len(names) != len(usual) * directions:
        raise ValueError(f"activations: expected {len(usual) * directions} of them, got {len(names)}")
    found: list[list[Any]] = [[name] for name in names]
    for letter, key in (("a", "activation_alpha"), ("b", "activation_beta")):
        takers = [one for one in found if letter in TAKES.get(one[0].lower(), "")]
        numbers = list(node.get(key) or [])
        if len(numbers) > len(takers) and len(numbers) == len(found):  # some exporters give every one a number
            numbers = [number for number, one in zip(numbers, found, strict=True) if one in takers]
        for one, number in zip(takers, numbers, strict=False):
            one += [None] * (letter == "b" and len(one) == 1) + [number]
    chosen = [_without_gaps(one) for one in found]
    return [chosen[k : k + len(usual)] for k in range(0, len(chosen), len(usual))]


def _without_gaps(one: list[Any]) -> tuple[Any, ...]:
    """A beta without an alpha: ONNX has defaults of its own for that."""
    if len(one) == 3 and one[1] is None:
        one[1] = {"hardsigmoid": 0.2}.get(one[0].lower(), 1.0)
    return tuple(one)


def parameters(op: str, coupled: bool, W: Array, R: Array, B: Array, P: Array) -> dict[str, NDArray[Any]]:
    """One direction's weights in fastrnn's orders, by its names without "_l0"."""
    theirs, ours = ORDERS[op]
    arrays = {"weight_ih": W, "weight_hh": R}
    if B is not None:
        arrays["bias_ih"], arrays["bias_hh"] = np.split(B, 2)
    found = {name: reorder_gates(a, theirs, ours) for name, a in arrays.items()}
    if P is not None:
        found["peephole"] = reorder_gates(P, *HOLES)
    if coupled:  # no forget gate
        hidden = R.shape[-1]
        found = {name: np.delete(a, slice(hidden, 2 * hidden), axis=0) for name, a in found.items()}
    return found


def _sizes(node: Node, W: Array, R: Array, B: Array, P: Array) -> tuple[int, int, int]:
    """(directions, inputs, hidden), once the weights fit each other."""
    direction = node.get("direction", "forward")
    if direction not in DIRECTIONS:
        raise ValueError(f"direction: expected one of {', '.join(DIRECTIONS)}, got {direction!r}")
    count, gates = 1 + (direction == "bidirectional"), len(ORDERS[node.op][0])
    if W.ndim != 3 or R.ndim != 3:
        raise ValueError(f"W and R: expected 3 axes, got shapes {W.shape} and {R.shape}")
    hidden = node.get("hidden_size", R.shape[2])
    expected: dict[str, tuple[int, ...]] = {
        "W": (count, gates * hidden, W.shape[2]),
        "R": (count, gates * hidden, hidden),
    }
    expected |= {"B": (count, 2 * gates * hidden), "P": (count, 3 * hidden)}
    for name, array in (("W", W), ("R", R), ("B", B), ("P", P)):
        if array is not None and array.shape != expected[name]:
            raise ValueError(f"{name}: expected shape {expected[name]}, got {array.shape}")
    return count, W.shape[2], hidden


Run = Callable[[Array, Any, Any], tuple[Array, Any]]  # x, state, lengths → y [T, B, D·H], state


def options_of(node: Node) -> dict[str, Any]:
    """What constructors and functions take of a node's attributes, but for its activations."""
    clip = node.get("clip")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip: expected a number > 0, got {clip}")
    options: dict[str, Any] = {} if clip is None else {"clip": clip}
    if node.op == "LSTM" and node.get("input_forget", 0):
        options["coupled"] = True
    if node.op == "GRU":
        options["reset_after"] = bool(node.get("linear_before_reset", 0))
    return options


def directions_of(node: Node, W: Array, R: Array, B: Array = None, P: Array = None) -> list[dict[str, NDArray[Any]]]:
    """The weights of each direction of a node, by fastrnn's names without "_l0"."""
    count, _, _ = _sizes(node, W, R, B, P)
    coupled = node.op == "LSTM" and bool(node.get("input_forget", 0))
    return [parameters(node.op, coupled, *(None if a is None else a[d] for a in (W, R, B, P))) for d in range(count)]


def layer_of(
    node: Node, W: Array, R: Array, B: Array = None, P: Array = None, batch_first: bool = False
) -> Recurrent | None:
    """A node as a layer; None if there is none: the reverse direction alone, or two with different activations."""
    weights = directions_of(node, W, R, B, P)
    chosen = activations(node, len(weights))
    if node.get("direction") == "reverse" or chosen[0] != chosen[-1]:
        return None
    options = options_of(node) | _activated(node.op, chosen[0]) | {"batch_first": batch_first}
    if P is not None:
        options["peephole"] = True
    layer: Recurrent = LAYERS[node.op](
        W.shape[2], R.shape[2], bias=B is not None, bidirectional=len(weights) > 1, dtype=W.dtype, seed=0, **options
    )
    state = {f"{name}_l0": a for name, a in weights[0].items()}
    if len(weights) > 1:
        state |= {f"{name}_l0_reverse": a for name, a in weights[1].items()}
    layer.load_state_dict(state)
    return layer


def build(node: Node, W: Array, R: Array, B: Array = None, P: Array = None) -> list[Run]:
    """A node as one function for all its directions, or one for each."""
    layer = layer_of(node, W, R, B, P)
    if layer is not None:
        return [lambda x, state, lengths: layer(x, state, lengths=lengths)]
    weights = directions_of(node, W, R, B, P)
    chosen = activations(node, len(weights))
    options = options_of(node)
    backward = [node.get("direction") == "reverse", True]
    return [
        _function(node.op, arrays, reverse, options | _activated(node.op, one))
        for arrays, one, reverse in zip(weights, chosen, backward, strict=False)
    ]


def _function(op: str, arrays: dict[str, Array], reverse: bool, options: dict[str, Any]) -> Run:
    functions: dict[str, Any] = {"LSTM": functional.lstm, "GRU": functional.gru, "RNN": functional.rnn}
    function = functions[op]
    weights = [arrays.get(name) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    if "peephole" in arrays:
        options = {**options, "peephole": arrays["peephole"]}

    def run(x: Array, state: Any, lengths: Any) -> tuple[Array, Any]:
        if state is not None:
            state = tuple(a[0] for a in state) if op == "LSTM" else state[0]
        y, end = function(x, state, *weights, lengths=lengths, reverse=reverse, **options)
        return y, tuple(a[None] for a in end) if op == "LSTM" else end[None]

    return run


def _activated(op: str, chosen: list[tuple[Any, ...]]) -> dict[str, Any]:
    """What the constructor is told about activations: nothing, if they are the usual ones."""
    if [one[0].lower() for one in chosen] == [name.lower() for name in USUAL[op]]:
        return {}
    if op == "RNN" and chosen[0][0].lower() in OWN_CELLS:
        return {"nonlinearity": chosen[0][0].lower()}
    return {"activations": tuple(chosen) if len(chosen) > 1 else (chosen[0],)}


WEIGHTS = (1, 2, 3, 7)  # the places of W, R, B and P among a node's inputs


@operator("LSTM", "GRU", "RNN")
def _recurrent(
    node: Node,
    x: Array,
    W: Array,
    R: Array,
    B: Array = None,
    lengths: Array = None,
    h_0: Array = None,
    c_0: Array = None,
    P: Array = None,
) -> tuple[Array, ...]:
    """Y [T, D, B, H], Y_h and Y_c [D, B, H]; with layout=1 X is [B, T, I], Y [B, T, D, H], states [B, D, H]."""
    runs, given = node.kept, x.dtype
    if runs is None:
        runs = build(node, *(None if a is None else _wide(a) for a in (W, R, B, P)))
        if node.constant and all(node.constant[k] for k in WEIGHTS if k < len(node.constant)):
            node.kept = runs
    lstm, turned = node.op == "LSTM", bool(node.get("layout", 0))
    if turned:
        x, h_0, c_0 = (None if a is None else a.swapaxes(0, 1) for a in (x, h_0, c_0))
    if given == np.float16:
        x, h_0, c_0 = (None if a is None else _wide(a) for a in (x, h_0, c_0))
    found = _run(runs, x, lengths, _initial(h_0, c_0, lstm), lstm, (len(R), x.shape[1], R.shape[2]))
    if turned:
        y, *states = found
        found = (y.transpose(2, 0, 1, 3), *(None if a is None else a.swapaxes(0, 1) for a in states))
    if given == np.float16:
        found = tuple(None if a is None else a.astype(given) for a in found)
    return found if lstm else found[:2]


def _initial(h_0: Array, c_0: Array, lstm: bool) -> Any:
    """A layer's state: one that isn't given is zeros beside one that is."""
    if not lstm or (h_0 is None and c_0 is None):
        return h_0
    return (np.zeros_like(c_0) if h_0 is None else h_0, np.zeros_like(h_0) if c_0 is None else c_0)


def _wide(a: Array) -> Array:
    return a.astype(np.float32) if a.dtype == np.float16 else a


def _run(
    runs: list[Run], x: Array, lengths: Array, state: Any, lstm: bool, shape: tuple[int, int, int]
) -> tuple[Array, ...]:
    """y [T, D, B, H], h and c [D, B, H]; c is None but for the LSTM."""
    count, batch, hidden = shape
    if len(x) == 0:  # nothing happens
        zeros = np.zeros(shape, x.dtype)
        h, c = (zeros, zeros) if state is None else state if lstm else (state, None)
        return np.zeros((0, *shape), x.dtype), h, c
    found = []
    for d, run in enumerate(runs):
        mine = state
        if len(runs) > 1 and state is not None:
            mine = tuple(a[d : d + 1] for a in state) if lstm else state[d : d + 1]
        y, end = run(x, mine, lengths)
        found.append((y, *(end if lstm else (end, None))))
    if len(runs) > 1:
        ys, hs, cs = zip(*found, strict=True)
        return np.stack(ys, axis=1), np.concatenate(hs), np.concatenate(cs) if lstm else None
    y, h, c = found[0]
    return y.reshape(len(x), batch, count, hidden).transpose(0, 2, 1, 3), h, c
