"""`fr.jit.check`: what was derived and compiled, against finite differences and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn import _check
from fastrnn.jit import _tiles
from fastrnn.jit._interpret import evaluate
from fastrnn.jit._trace import Scope, new_states, origin
from fastrnn.jit.cell import Cell

__all__ = ["check"]

_STEP = 1e-5
# Largest difference over largest magnitude. Of finite differences: STEP² of the third derivative, 1e-16 / STEP.
DIFFERENCES, DOUBLE, SINGLE, SINGLE_GRADIENT = 1e-6, 1e-12, 1e-5, 1e-4

_Values = dict[str, NDArray[Any]]


def _random(cell: Cell, rows: int, units: int, seed: Any) -> tuple[_Values, list[str]]:
    rng = np.random.default_rng(seed)
    names = [f"{kind}.{name}" for kind in ("wx", "rh") for name in cell.gates]
    names += [f"s.{name}" for name in cell.states] + [f"v.{name}" for name in cell.vectors]
    values = {name: rng.standard_normal((rows, units)) for name in names}
    for name in cell.vectors:  # one number a unit, near its initial value
        values[f"v.{name}"] = cell.initial.get(name, 0.0) + 0.5 * values[f"v.{name}"][:1]
    return values, [f"new {name}" for name in cell.states]


def _arguments(cell: Cell, values: _Values) -> list[Scope]:
    def scope(kind: str, what: str, names: tuple[str, ...]) -> Scope:
        return Scope(what, {name: values[f"{kind}.{name}"] for name in names})

    found = [scope("wx", "gate", cell.gates), scope("rh", "gate", cell.gates), scope("s", "state", cell.states)]
    return [*found, scope("v", "vector", cell.vectors)] if cell.vectors else found


def _call(cell: Cell, values: _Values) -> list[NDArray[Any]]:
    """The user's own function, on arrays."""
    shape = values[f"s.{cell.states[0]}"].shape
    after = new_states(cell.function(*_arguments(cell, values)), cell.states, origin(cell.function))
    return [np.broadcast_to(np.asarray(a, np.float64), shape) for a in after]


def _differences(cell: Cell, values: _Values, ds: list[NDArray[Any]]) -> tuple[_Values, list[NDArray[Any]]]:
    """Central differences of Σ ds ⊙ states, element by element: units don't meet.

    And where they can be trusted: where twice the step gives the same, so neither at kinks nor where it is too steep.
    """
    found, trusted = {}, []
    for name, value in values.items():
        slopes = []
        for step in (_STEP, 2 * _STEP):
            ends = [_call(cell, {**values, name: value + change}) for change in (step, -step)]
            slopes.append(sum(((a - b) * d for a, b, d in zip(*ends, ds)), np.zeros_like(ds[0])) / (2 * step))
        found[name] = slopes[0]
        trusted.append(np.abs(slopes[0] - slopes[1]) <= DIFFERENCES * np.nanmax(np.abs(slopes[0]), initial=1e-300))
    return found, trusted


def _evaluated(cell: Cell, values: _Values, ds: list[NDArray[Any]]) -> tuple[list[NDArray[Any]], _Values]:
    """Forward and the derived backward pass in NumPy."""
    plan = cell.plan_apart
    known: dict[Any, Any] = {}
    names: dict[tuple[str, int], str] = {}
    for kind, members in (("wx", cell.gates), ("rh", cell.gates), ("s", cell.states), ("v", cell.vectors)):
        for k, name in enumerate(members):
            names[kind, k] = f"{kind}.{name}"
            known[plan.graph.input(kind, k)] = values[f"{kind}.{name}"]
    known.update({plan.graph.input("ds", k): d for k, d in enumerate(ds)})
    found = evaluate([*plan.outputs, *plan.backward_roots()], known, np.dtype(np.float64))
    shape = ds[0].shape
    gradients = {names[node.value]: found[d] for node, (d, _) in zip(plan.products, plan.gradients)}
    gradients |= {names["s", k]: found[d] for k, d in enumerate(plan.state_gradients)}
    gradients |= {names["v", k]: found[d] for k, (d, _) in enumerate(plan.terms)}
    return [np.broadcast_to(found[n], shape) for n in plan.outputs], {
        name: np.broadcast_to(g, shape) for name, g in gradients.items()
    }


def _compiled(
    cell: Cell, values: _Values, ds: list[NDArray[Any]], dtype: Any
) -> tuple[list[NDArray[Any]], _Values, bool]:
    """What the compiled functions give, and whether they left forward's results alone without saving."""
    spec = cell.spec(dtype)
    given = {name: value.astype(dtype) for name, value in values.items()}
    wx, rh = (np.stack([given[f"{kind}.{name}"] for name in cell.gates]) for kind in ("wx", "rh"))
    before = [given[f"s.{name}"] for name in cell.states]
    vectors = [given[f"v.{name}"][0] for name in cell.vectors]
    quick = _tiles.forward(spec, wx, rh, before, vectors, save=False)
    step = _tiles.forward(spec, wx, rh, before, vectors)
    same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(quick.after, step.after))
    dwx, drh, dstates, dvectors = _tiles.backward(step, [d.astype(dtype) for d in ds])
    gradients = {f"wx.{name}": d for name, d in zip(cell.gates, dwx)}
    gradients |= {f"rh.{name}": d for name, d in zip(cell.gates, drh)}
    gradients |= {f"s.{name}": d for name, d in zip(cell.states, dstates)}
    gradients |= {f"v.{name}": d for name, d in zip(cell.vectors, dvectors)}
    return step.after, gradients, same


def _error(found: NDArray[Any], expected: NDArray[Any], usable: NDArray[Any]) -> float:
    """Largest difference over the largest magnitude, where finite numbers are expected."""
    found, expected = np.asarray(found, np.float64)[usable], expected[usable]
    if not found.size:
        return 0.0
    difference = np.abs(found - expected).max()
    scale = max(np.abs(expected).max(), 1e-300)
    error = 0.0 if difference == 0 else float(difference / scale)
    return error if np.isfinite(error) else np.inf


def check(cell: Cell, *, seed: int = 0) -> dict[str, float]:
    """Check a cell's derived backward pass and its compiled functions on random values.

    The gradients are compared with central differences of the cell's own function in float64; what was compiled, in
    both types, with the same expressions in NumPy. Values where the cell gives NaN or infinities (the logarithm of a
    negative number) or where differences say nothing (at kinks) are left out.

    Parameters
    ----------
    cell : Cell
    seed : int
        Of the random values.

    Returns
    -------
    dict
        The largest error of each comparison, relative to the largest magnitude.

    Raises
    ------
    AssertionError
        Something differs; the message says what, and by how much.
    ValueError
        The cell gives no finite number at any of the values.

    Examples
    --------
    >>> import fastrnn as fr
    >>> from fastrnn.jit import tanh
    >>> @fr.cell(gates=("n",))
    ... def simple(wx, rh, s):
    ...     return tanh(wx.n + rh.n)
    >>> errors = fr.jit.check(simple)
    >>> errors["finite differences"] < 1e-6
    True
    """
    if not isinstance(cell, Cell):
        raise TypeError(f"cell: expected a cell made by fr.cell, got {_check.describe(cell)}")
    values, after = _random(cell, 5, 37, seed)
    rng = np.random.default_rng([seed, 1])
    ds = [rng.standard_normal((5, 37)) for _ in cell.states]
    with np.errstate(all="ignore"):
        states = _call(cell, values)
        outputs, gradients = _evaluated(cell, values, ds)
        expected, trusted = _differences(cell, values, ds)
        single = {name: value.astype(np.float32).astype(np.float64) for name, value in values.items()}
        runs = [
            ("float64", np.float64, DOUBLE, DOUBLE, outputs, gradients),
            ("float32", np.float32, SINGLE, SINGLE_GRADIENT, *_evaluated(cell, single, ds)),
        ]
        finite = [np.isfinite(a) for a in [*states, *expected.values(), *gradients.values()]]
        usable = np.all([*finite, *trusted], axis=0)
        if not usable.any():
            raise ValueError(f"{cell!r} gives NaN or infinity at each of {usable.size} random values around 0")
        wrong: list[str] = []
        figures: dict[str, float] = {}

        def compare(what: str, name: str, found: Any, wanted: Any, allowed: float) -> None:
            error = _error(found, wanted, usable)
            figures[what] = max(figures.get(what, 0.0), error)
            if not error <= allowed:
                wrong.append(f"{what}, {name}: relative error {error:.1e}, allowed {allowed:.0e}")

        for name, a, b in zip(after, outputs, states):
            compare("traced equations", name, a, b, DOUBLE)
        for name, difference in expected.items():
            compare("finite differences", f"gradient of {name}", gradients[name], difference, DIFFERENCES)
        for label, dtype, forward, back, wanted_states, wanted in runs:
            found_states, found, same = _compiled(cell, values, ds, dtype)
            if not same:
                wrong.append(f"compiled {label}: other states without saving")
            for name, a, b in zip(after, found_states, wanted_states):
                compare(f"compiled {label}", name, a, b, forward)
            for name, gradient in found.items():
                compare(f"compiled {label} gradients", f"gradient of {name}", gradient, wanted[name], back)
    if wrong:
        raise AssertionError(f"{cell!r}:\n  " + "\n  ".join(wrong))
    return figures
