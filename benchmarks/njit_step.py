"""Steps of streams inside a user's `@njit` loop, beside the same loop in Python.

    python benchmarks/njit_step.py [--repeat N] [--steps N] [--json]

Each round runs the three in turn, over the same inputs: the loop in Python with `stream.step(x, out=y)`, the loop
compiled by Numba with `s.step(x, y)`, and one `stream.run` of the whole block, which is what the arithmetic takes
without calls (for larger layers less: several steps share a pass through the weights). Before, they must agree to the
bit. Medians of rounds, in nanoseconds a step. The control loop feeds outputs back and does some arithmetic of its own,
as a simulator does: in Python that costs more than the network.
"""

import argparse
import json
import time

import numba
import numpy as np

import fastrnn as fr


@numba.njit(nogil=True)
def compiled(s, x, out):
    for t in range(len(x)):
        s.step(x[t], out[t])


def interpreted(s, x, out):
    step = s.step
    for x_t, y_t in zip(x, out, strict=True):
        step(x_t, out=y_t)


def block(s, x, out):
    s.run(x, out=out)


def control(s, x, out):
    """A plant of three states, and a network that steers it."""
    position = speed = np.float32(0)
    seen = np.empty(x.shape[1], np.float32)
    for t in range(len(x)):
        seen[:] = x[t]
        seen[0] = position - seen[0]
        seen[1] = speed
        y = out[t]
        s.step(seen, y)
        force = y[0] - np.float32(2) * seen[0]
        speed = np.float32(0.9) * speed + np.float32(0.01) * force
        position = position + np.float32(0.01) * speed


LAYERS = {
    "RNN 2-4": lambda: fr.RNN(2, 4, seed=0),
    "GRU 8-32": lambda: fr.GRU(8, 32, seed=0),
    "LSTM 8-64": lambda: fr.LSTM(8, 64, seed=0),
    "LSTM 16-128, 2 layers": lambda: fr.LSTM(16, 128, 2, seed=0),
}


def measure(sides, stream, x, out, repeat):
    """Median nanoseconds a step of each side, in turn."""
    found = {}
    for name, run in sides.items():
        stream.reset()
        run(stream, x, out)
        found[name] = out.copy()
    for name in sides:
        if name in ("compiled", "interpreted", "block"):
            np.testing.assert_array_equal(found[name], found["compiled"])
    np.testing.assert_array_equal(found["control"], found["compiled control"])
    times = {name: [] for name in sides}
    for _ in range(repeat):
        for name, run in sides.items():
            start = time.perf_counter()
            run(stream, x, out)
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(taken)) / len(x) * 1e9 for name, taken in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=60)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--json", action="store_true", help="figures as JSON in the last line")
    args = parser.parse_args()
    fr.set_num_threads(1)
    sides = {
        "interpreted": interpreted,
        "compiled": compiled,
        "block": block,
        "control": control,
        "compiled control": numba.njit(nogil=True)(control),
    }
    figures = {}
    print(
        f"{'ns a step':24}{'Python':>9}{'njit':>9}{'run':>9}{'calls':>17}{'control loop: Python':>23}{'njit':>9}{'':>8}"
    )
    for name, make in LAYERS.items():
        layer = make()
        x = np.random.default_rng(0).standard_normal((args.steps, layer.input_size)).astype(np.float32)
        out = np.empty((args.steps, layer.hidden_size), np.float32)
        ns = measure(sides, layer.stream(), x, out, args.repeat)
        shares = [max(0, 1 - ns["block"] / ns[side]) for side in ("interpreted", "compiled")]
        figures[name] = {side.replace(" ", "_") + "_ns": round(taken, 1) for side, taken in ns.items()}
        figures[name] |= {"share_of_calls_python": round(shares[0], 3), "share_of_calls_njit": round(shares[1], 3)}
        row = "".join(f"{ns[side]:9.0f}" for side in ("interpreted", "compiled", "block"))
        loop = f"{ns['control']:19.0f}{ns['compiled control']:9.0f}{ns['control'] / ns['compiled control']:7.1f}x"
        print(f"{name:24}{row}{shares[0]:9.0%} ->{shares[1]:5.0%}{loop}")
    if args.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
