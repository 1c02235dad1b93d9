"""Whole layers out of compiled functions, against PyTorch's autograd."""

import numpy as np
import pytest

from fastrnn import _core
from tests.core.cases import isas
from tests.jit.cells import CELLS, in_torch
from tests.jit.schedule import parameters, pull, run, torch_layer
from tests.reference.finite_differences import assert_close

pytest.importorskip("numba")
torch = pytest.importorskip("torch")

TOLERANCE = {np.float64: (1e-12, 1e-12), np.float32: (1e-5, 1e-4)}  # DESIGN's, forward and gradients


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("units", [1, 15, 16, 33])
@pytest.mark.parametrize("name", CELLS)
def test_against_torch(name, units, dtype):
    cell, rng = CELLS[name], np.random.default_rng(units)
    steps, batch, inputs = 6, 3, 4
    p = parameters(cell, inputs, units, rng)
    x, dy = rng.standard_normal((steps, batch, inputs)), rng.standard_normal((steps, batch, units))
    initial, dfinal = (
        [a for a in rng.standard_normal((2, len(cell.states), batch, units))[k]] for k in range(2)
    )  # fmt: skip
    y, final, kept = run(cell, dtype, p, x, initial)
    grads = pull(kept, dy, dfinal)
    wanted_y, wanted_final, wanted = torch_layer(cell, in_torch(name), p, x, initial, dy, dfinal)
    forward, backward = TOLERANCE[dtype]
    assert_close(y, wanted_y, forward, "y")
    for state, a, b in zip(cell.states, final, wanted_final):
        assert_close(a, b, forward, state)
    for key in wanted:
        pairs = zip(grads[key], wanted[key]) if key == "states" else [(grads[key], wanted[key])]
        for a, b in pairs:
            assert_close(a, b, backward, f"gradient of {key}")


@isas
@pytest.mark.parametrize("name", CELLS)
def test_instruction_sets(name, isa):
    """Each width of vectors gives the same within rounding."""
    cell, rng = CELLS[name], np.random.default_rng(0)
    p = parameters(cell, 3, 20, rng)
    x, dy = rng.standard_normal((5, 2, 3)), rng.standard_normal((5, 2, 20))
    initial = list(rng.standard_normal((len(cell.states), 2, 20)))
    found = []
    for chosen in (isa, None):
        _core.select_isa(chosen)
        y, _, kept = run(cell, np.float64, p, x, initial)
        found.append((y, pull(kept, dy, initial)))
    (y, grads), (wanted_y, wanted) = found
    assert_close(y, wanted_y, 1e-12, "y")
    assert_close(grads["x"], wanted["x"], 1e-12, "gradient of x")
    assert_close(grads["R"], wanted["R"], 1e-12, "gradient of R")
