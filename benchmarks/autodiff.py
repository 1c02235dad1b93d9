"""Layers inside JAX and autograd, beside fastrnn alone and `lax.scan`: ``python benchmarks/autodiff.py``.

A run is a training step of an LSTM: forward, the mean of y², and the gradients of all weights. All sides start from
equal weights and their gradients are compared before anything is timed; then they run in turn. Ratios are medians of
the ratios turn by turn.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

import numpy as np

import fastrnn as fr
from fastrnn import bench

SHAPES = [bench.Shape(1, 1, 16, 16), bench.Shape(20, 8, 32, 32), bench.Shape(100, 32, 128, 128)]
NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def scanned(jax: Any) -> Any:
    """The layer by `lax.scan`, the input's product before it."""
    jnp, sigmoid = jax.numpy, jax.nn.sigmoid

    def layer(params: Any, x: Any) -> Any:
        W, R, b, d = (params[name] for name in NAMES)

        def step(state: Any, z: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(z + h @ R.T, 4, axis=-1)
            c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
            h = sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((x.shape[1], R.shape[1]), x.dtype)
        state, y = jax.lax.scan(step, (zero, zero), x @ W.T + b + d)
        return y, state

    return layer


def sides(shape: bench.Shape) -> dict[str, Any]:
    """Name → a function without arguments that returns the gradients."""
    import autograd
    import autograd.numpy as anp
    import jax
    import jax.numpy as jnp

    from fastrnn.interop.autograd import primitive
    from fastrnn.interop.jax import from_layer, lstm

    layer = fr.LSTM(shape.I, shape.H, seed=0)
    params = layer.state_dict()
    x = np.random.default_rng(0).standard_normal((shape.T, shape.B, shape.I)).astype(np.float32)
    theirs, x_theirs = jax.tree.map(jnp.asarray, params), jnp.asarray(x)

    def alone() -> Any:
        layer.zero_grads()
        (y, _), pullback = layer.vjp(x, input_grad=False)
        pullback(y * np.float32(2 / y.size))
        return layer.grads

    def compiled(function: Any) -> Any:
        step = jax.jit(jax.grad(lambda params, x: jnp.mean(function(params, x)[0] ** 2)))
        return lambda: jax.block_until_ready(step(theirs, x_theirs))

    recorded = primitive(layer)
    slope = autograd.grad(lambda params: anp.mean(recorded(params, x)[0] ** 2))
    return {
        "fastrnn": alone,
        "jax, cell": compiled(lambda params, x: lstm(x, None, *(params[name] for name in NAMES))),
        "jax, layer": compiled(from_layer(layer)),
        "lax.scan": compiled(scanned(jax)),
        "autograd": lambda: slope(params),
    }


def measured(shape: bench.Shape, repeat: int, turn_seconds: float) -> dict[str, Any]:
    runs = sides(shape)
    expected = runs["fastrnn"]()
    for name, run in runs.items():
        found = run()
        worst = max(float(abs(np.asarray(found[key]) - expected[key]).max()) for key in NAMES)
        scale = max(float(abs(expected[key]).max()) for key in NAMES)
        if not worst <= 1e-4 * scale:  # float32, as between any two of our engines
            raise SystemExit(f"{shape}: {name} computes other gradients, off by {worst:.1e} of {scale:.1e}")
    turns = bench.in_turn(runs, repeat=repeat, turn_seconds=turn_seconds)
    medians = {name: turns.median(name) for name in runs}
    return {
        "ms": {name: 1e3 * seconds for name, seconds in medians.items()},
        "overhead_us": {name: 1e6 * (seconds - medians["fastrnn"]) for name, seconds in medians.items()},
        "over_scan": {name: turns.speedup(name, over="lax.scan") for name in runs},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=15, help="turns of each side (default: 15)")
    parser.add_argument("--quick", action="store_true", help="three turns of the small shapes, to see that all works")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    args = parser.parse_args()
    if min(args.threads, args.repeat) < 1:
        parser.error("--threads, --repeat: expected whole numbers >= 1")
    os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if args.threads > 1 else 'false'}"
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    fr.set_num_threads(args.threads)
    repeat, turn, shapes = (3, 0.0, SHAPES[:2]) if args.quick else (args.repeat, 0.02, SHAPES)
    rows = {str(shape): measured(shape, repeat, turn) for shape in shapes}
    lines = [
        [shape, name, f"{row['ms'][name]:.3f}", f"{row['overhead_us'][name]:.0f}", f"{row['over_scan'][name]:.2f}"]
        for shape, row in rows.items()
        for name in row["ms"]
    ]
    print(bench.table([["T,B,I,H", "LSTM, training step", "ms", "µs more than fastrnn", "lax.scan ÷ it"], *lines]))
    if args.json:
        print(json.dumps({"threads": args.threads, "rows": rows}))


if __name__ == "__main__":
    main()
