"""JAX: `lax.scan` under `jit`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.bench.peers.base import Peer, Prepared, states
from fastrnn.bench.timing import timed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastrnn.bench.cases import Case, Data

__all__ = ["JAX"]

UNROLLS = (1, 4)  # steps of a scan in one iteration; the faster one is timed


class JAX(Peer):
    """Layers written with `jax.lax.scan`, the input's product before the scan; gradients by `jax.vjp` in the
    jitted function. XLA's threads are those of the CPUs that its process may use."""

    name = package = "jax"
    title = "JAX"
    own_process = True

    def environment(self, threads: int) -> dict[str, str]:
        flags = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
        return {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": str(threads)}

    def prepare(self, case: Case, weights: Mapping[str, NDArray[Any]], data: Data, threads: int) -> Prepared:
        jax: Any = importlib.import_module("jax")
        jax.config.update("jax_enable_x64", case.dtype == "float64")
        params = {name: jax.numpy.asarray(w) for name, w in weights.items()}
        x, dy = (jax.numpy.asarray(a) for a in data)
        if case.mode == "step":
            return _step(jax, case, params, x)
        runs = []
        for unroll in UNROLLS if 2 * max(UNROLLS) <= case.shape.T else UNROLLS[:1]:
            forward = _forward(jax, case, unroll)
            call = jax.jit(_train(jax, forward) if case.training else forward)
            arguments = (params, x, dy) if case.training else (params, x)

            def run(call: Any = call, arguments: Any = arguments) -> Any:
                return jax.block_until_ready(call(*arguments))

            run()  # compiles
            runs.append(run)

        def arrays(result: Any) -> dict[str, NDArray[Any]]:
            outputs, dx, grads = result if case.training else (result, None, {})
            named = {"y": outputs[0], **states(outputs[1]), **grads}
            if case.training:
                named["dx"] = dx
            return {name: np.asarray(a) for name, a in named.items()}

        best = min(runs, key=lambda run: min(timed(run, 1) for _ in range(3))) if len(runs) > 1 else runs[0]
        return Prepared(best, arrays)


def _cell(jax: Any, kind: str) -> Callable[..., Any]:
    """The step of a cell: (state, pre-activations of the input [B, G·H], R transposed, b_r) to (state, output)."""
    jnp, sigmoid = jax.numpy, jax.nn.sigmoid

    def lstm(state: Any, z: Any, R: Any, b: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(z + h @ R, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
        h = sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def gru(state: Any, z: Any, R: Any, b: Any) -> Any:
        (h,) = state
        r_x, z_x, n_x = jnp.split(z, 3, axis=-1)
        r_h, z_h, n_h = jnp.split(h @ R + b, 3, axis=-1)
        r, u = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
        n = jnp.tanh(n_x + r * n_h)
        h = n + u * (h - n)
        return (h,), h

    def rnn(state: Any, z: Any, R: Any, b: Any) -> Any:
        h = jnp.tanh(z + state[0] @ R)
        return (h,), h

    return {"lstm": lstm, "gru": gru, "rnn": rnn}[kind]


def _input(case: Case, params: Any, suffix: str, x: Any) -> Any:
    """The product of the whole input, with every bias that may be added outside of the step."""
    z = x @ params[f"weight_ih{suffix}"].T + params[f"bias_ih{suffix}"]
    return z if case.cell == "gru" else z + params[f"bias_hh{suffix}"]


def _forward(jax: Any, case: Case, unroll: int) -> Callable[[Any, Any], Any]:
    jnp, step = jax.numpy, _cell(jax, case.cell)
    directions = ("", "_reverse") if case.bidirectional else ("",)

    def forward(params: Any, x: Any) -> Any:
        finals = []
        zero = jnp.zeros((case.shape.B, case.shape.H), x.dtype)
        for layer in range(case.num_layers):
            parts = []
            for direction in directions:
                suffix = f"_l{layer}{direction}"
                R, b = params[f"weight_hh{suffix}"].T, params[f"bias_hh{suffix}"]
                final, y = jax.lax.scan(
                    lambda state, z, R=R, b=b: step(state, z, R, b),
                    (zero, zero) if case.cell == "lstm" else (zero,),
                    _input(case, params, suffix, x),
                    reverse=bool(direction),
                    unroll=unroll,
                )
                parts.append(y)
                finals.append(final)
            x = jnp.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
        return x, tuple(jnp.stack(each) for each in zip(*finals, strict=True))

    return forward


def _train(jax: Any, forward: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    def train(params: Any, x: Any, dy: Any) -> Any:
        (y, state), pullback = jax.vjp(forward, params, x)
        grads, dx = pullback((dy, jax.tree.map(jax.numpy.zeros_like, state)))
        return (y, state), dx, grads

    return train


def _step(jax: Any, case: Case, params: Any, x: Any) -> Prepared:
    cell, jnp = _cell(jax, case.cell), jax.numpy
    zero = jnp.zeros((case.shape.B, case.shape.H), x.dtype)
    state: Any = [(zero, zero) if case.cell == "lstm" else (zero,) for _ in range(case.num_layers)]

    @jax.jit  # type: ignore[untyped-decorator]
    def call(params: Any, state: Any, x: Any) -> Any:
        after = []
        for layer, before in enumerate(state):
            suffix = f"_l{layer}"
            R, b = params[f"weight_hh{suffix}"].T, params[f"bias_hh{suffix}"]
            now, x = cell(before, _input(case, params, suffix, x), R, b)
            after.append(now)
        return after, x

    x_0 = x[0]

    def step() -> Any:
        nonlocal state
        state, y = call(params, state, x_0)
        return y.block_until_ready()

    return Prepared(step, lambda y: {"y": np.asarray(y)})
