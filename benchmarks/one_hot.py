"""One-hot input by its codes against the dense array: ``python benchmarks/one_hot.py``, under a minute.

The two run in turn, after their results were found to be the same to the bit. Tokens are drawn by Zipf's law. Training
has no gradient of x on either side.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import fastrnn as fr
from fastrnn import bench

SHAPES = (bench.Shape(128, 32, 96, 256), bench.Shape(100, 1, 50, 64), bench.Shape(50, 16, 5000, 128))
LAYERS = {"lstm": fr.LSTM, "gru": fr.GRU, "rnn": fr.RNN}


def train(layer: Any, dy: Any, x: Any) -> Any:
    (y, _), pullback = layer.vjp(x, input_grad=False)
    pullback(dy)
    return y


def infer(layer: Any, dy: Any, x: Any) -> Any:
    return layer(x)[0]


def same(layer: Any, run: Callable[[Any], Any], inputs: tuple[Any, Any]) -> bool:
    """Outputs and gradients of both, bit by bit."""
    found = []
    for x in inputs:
        layer.zero_grads()
        found.append([run(x).tobytes(), *(grad.tobytes() for grad in layer.grads.values())])
    return found[0] == found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", choices=tuple(LAYERS), default="lstm")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=25)
    args = parser.parse_args()
    fr.set_num_threads(args.threads)
    lines = [["", "mode", "dense ms", "one-hot ms", "ratio"]]
    for shape in SHAPES:
        rng = np.random.default_rng(0)
        layer = LAYERS[args.cell](shape.I, shape.H, seed=0)
        often = 1 / np.arange(1, shape.I + 1)
        codes = fr.one_hot(rng.choice(shape.I, (shape.T, shape.B), p=often / often.sum()), shape.I)
        inputs = (np.asarray(codes), codes)
        dy = rng.standard_normal((shape.T, shape.B, shape.H)).astype(np.float32)
        for mode in (train, infer):
            run = partial(mode, layer, dy)
            if not same(layer, run, inputs):
                raise SystemExit(f"{shape} {mode.__name__}: results differ")
            sides = {"dense": partial(run, inputs[0]), "one-hot": partial(run, inputs[1])}
            turns = bench.in_turn(sides, repeat=args.repeat)
            times = [f"{1e3 * turns.median(side):.3g}" for side in sides]
            lines.append([str(shape), mode.__name__, *times, f"{turns.speedup('one-hot', over='dense'):.2f}"])
    print(bench.table(lines))


if __name__ == "__main__":
    main()
