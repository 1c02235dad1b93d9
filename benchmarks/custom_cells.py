"""Cells that users write beside the built-in ones and loops in PyTorch: ``python benchmarks/custom_cells.py``.

An LSTM and a GRU as a user of `fr.cell` writes them, compiled by Numba and run by the schedule of the built-in cells;
`fr.LSTM` and `fr.GRU`; and a loop over time steps in PyTorch (`fastrnn/bench/peers/torch_loops.py`). A run is forward
and backward, with the gradients of the input and of every weight, T=100 and I=H. Results are compared before anything
is timed, the three run in turn, ratios are medians of the ratios turn by turn. Compiling isn't timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from typing import Any

import fastrnn as fr
from fastrnn import bench
from fastrnn.bench.peers import choose
from fastrnn.bench.peers.torch_loops import TorchLoop
from fastrnn.bench.variants import timed

try:
    from fastrnn.jit import sigmoid, tanh
except ImportError:
    sigmoid = tanh = None

T, SIZES, ROWS = 100, (32, 128, 512), (1, 32)
MOST_OF_BUILTIN, LEAST_OVER_TORCH = 1.5, 10.0
SIDES = ("custom", "fastrnn", "torch")  # fastrnn is the built-in cell


def lstm(wx, rh, s):
    i, f = sigmoid(wx.i + rh.i), sigmoid(wx.f + rh.f)
    c = f * s.c + i * tanh(wx.g + rh.g)
    return sigmoid(wx.o + rh.o) * tanh(c), c


def gru(wx, rh, s):
    r, z = sigmoid(wx.r + rh.r), sigmoid(wx.z + rh.z)
    n = tanh(wx.n + r * rh.n)
    return (1 - z) * n + z * s.h


WRITTEN = {"lstm": (lstm, ("i", "f", "g", "o"), ("h", "c")), "gru": (gru, ("r", "z", "n"), ("h",))}
BUILT_IN = {"lstm": fr.LSTM, "gru": fr.GRU}


def why_not() -> str | None:
    """None, or why there are no cells of users."""
    try:
        fr.cell, fr.CustomRNN  # noqa: B018
    except (AttributeError, ImportError) as error:
        return str(error)
    return None if sigmoid is not None else "fastrnn.jit can't be imported"


def training(layer: Any, case: bench.Case) -> tuple[Callable[[], Any], Callable[[Any], dict[str, Any]]]:
    """A training step of a layer of fastrnn, and what it computed."""
    x, dy = case.data()

    def train() -> Any:
        layer.zero_grads()
        outputs, pullback = layer.vjp(x)
        return outputs, pullback(dy)[0]

    def results(result: Any) -> dict[str, Any]:
        (y, state_n), dx = result
        states = state_n if isinstance(state_n, tuple) else (state_n,)
        named = dict(zip(("h_n", "c_n"), (array[0] for array in states)))
        return {"y": y, **named, "dx": dx, **{name: grad.copy() for name, grad in layer.grads.items()}}

    return train, results


def loop_training(case: bench.Case, weights: dict[str, Any], threads: int) -> tuple[Any, Any]:
    """The same of a loop in PyTorch."""
    loop = TorchLoop(case.cell, weights, threads=threads)
    x, dy = (loop.torch.tensor(array) for array in case.data())
    x.requires_grad_()

    def train() -> Any:
        loop.zero_grad()
        x.grad = None
        y, state, _ = loop(x)
        y.backward(dy)
        return y, state

    def results(result: Any) -> dict[str, Any]:
        y, state = result
        named = {"y": y, **dict(zip(("h_n", "c_n"), state))}
        arrays = {name: tensor.detach().numpy() for name, tensor in named.items()}
        return {**arrays, "dx": x.grad.numpy(), **loop.grads()}

    return train, results


def prepared(case: bench.Case, threads: int, torch: bool) -> dict[str, Callable[[], Any]]:
    """What to time, after all sides computed the same."""
    weights = case.weights()
    fr.set_num_threads(threads)
    layers = {"fastrnn": BUILT_IN[case.cell](*case.shape[2:], seed=0)}
    if why_not() is None:
        equations, gates, states = WRITTEN[case.cell]
        cell = fr.cell(gates=gates, states=states)(equations)
        layers["custom"] = fr.CustomRNN(cell, *case.shape[2:], seed=0)
    sides = {}
    for name, layer in layers.items():
        layer.load_state_dict(weights)
        sides[name] = training(layer, case)
    if torch:
        sides["torch"] = loop_training(case, weights, threads)
    bench.check({name: results(train()) for name, (train, results) in sides.items()}, case.dtype, str(case))
    return {name: sides[name][0] for name in SIDES if name in sides}


def measured(case: bench.Case, threads: int, torch: bool, repeat: int, turn_seconds: float) -> dict[str, Any]:
    """Milliseconds of each side, and the ratios."""
    turns = timed(prepared(case, threads, torch), repeat, turn_seconds)
    found: dict[str, Any] = {"ms": {side: 1e3 * turns.median(side) for side in turns.seconds}}
    if "custom" in turns.seconds:
        found["of_builtin"] = turns.speedup("fastrnn", over="custom")
    if "torch" in turns.seconds:
        found["builtin_over_torch"] = turns.speedup("fastrnn", over="torch")
    if {"custom", "torch"} <= set(turns.seconds):
        found["over_torch"] = turns.speedup("custom", over="torch")
    return found


def means(rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Geometric means of the ratios that every row has."""
    names = ("of_builtin", "over_torch", "builtin_over_torch")
    return {
        name: statistics.geometric_mean(row[name] for row in rows.values())
        for name in names
        if rows and all(name in row for row in rows.values())
    }


def cells(name: str, row: dict[str, Any]) -> list[str]:
    """A row of the table."""
    ms = [f"{row['ms'][side]:.3f}" if side in row["ms"] else "" for side in SIDES]
    ratios = [f"{row[key]:.2f}" if key in row else "" for key in ("of_builtin", "over_torch", "builtin_over_torch")]
    return [name, *ms, *ratios]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=11, help="turns of each side (default: 11)")
    parser.add_argument("--cell", nargs="+", choices=tuple(WRITTEN), default=list(WRITTEN))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), metavar="H", help="(default: 32 128 512)")
    parser.add_argument("--rows", nargs="+", type=int, default=list(ROWS), metavar="B", help="(default: 1 32)")
    parser.add_argument("--quick", action="store_true", help="two turns of small layers, to see that all of it works")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    args = parser.parse_args()
    if min(args.threads, args.repeat, *args.sizes, *args.rows) < 1:
        parser.error("--threads, --repeat, --sizes, --rows: expected whole numbers >= 1")
    steps, repeat, turn = (10, 2, 0.0) if args.quick else (T, args.repeat, 0.03)
    sizes = [5, 17] if args.quick else args.sizes
    peers, skipped = choose(["torch"])
    missing = why_not()
    rows = {}
    for cell in args.cell:
        for H in sizes:
            for B in args.rows:
                case = bench.Case(cell, bench.Shape(steps, B, H, H))
                rows[f"{cell} H={H} B={B}"] = measured(case, args.threads, bool(peers), repeat, turn)
    mean = means(rows)
    head = ["training", "custom ms", "built-in ms", "PyTorch ms", "custom ÷ built-in", "PyTorch ÷ custom"]
    print(f"T={steps}, I=H, {args.threads} thread{'s' * (args.threads > 1)}, float32")
    print(bench.table([[*head, "PyTorch ÷ built-in"], *(cells(name, row) for name, row in rows.items())]))
    for key, text in (
        ("of_builtin", f"custom ÷ built-in (wanted: at most {MOST_OF_BUILTIN:g})"),
        ("over_torch", f"PyTorch ÷ custom (wanted: at least {LEAST_OVER_TORCH:g})"),
        ("builtin_over_torch", "PyTorch ÷ built-in"),
    ):
        if key in mean:
            print(f"geometric mean, {text}: {mean[key]:.2f}")
    if missing:
        print(f"no cells of users here: {missing}")
    for reason in skipped.values():
        print(reason)
    if args.json:
        met = None
        if {"of_builtin", "over_torch"} <= set(mean):
            met = mean["of_builtin"] <= MOST_OF_BUILTIN and mean["over_torch"] >= LEAST_OVER_TORCH
        found = {"threads": args.threads, "T": steps, "rows": rows, "geometric_means": mean, "met": met}
        print(json.dumps({**found, "missing": missing, "skipped": skipped}))


if __name__ == "__main__":
    main()
