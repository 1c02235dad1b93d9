"""`check`, `explain`, and cells that run uncompiled."""

import io
import traceback

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import _core, jit
from fastrnn.jit import _tiles
from fastrnn.jit._callbacks import Callbacks
from tests.core.cases import isas
from tests.jit.cells import CELLS
from tests.jit.schedule import parameters, pull, run
from tests.reference.finite_differences import assert_close


@isas
@pytest.mark.parametrize("name", CELLS)
def test_cells_pass(name, isa):
    pytest.importorskip("numba")
    errors = jit.check(CELLS[name])
    assert set(errors) == {
        "traced equations",
        "finite differences",
        *(f"compiled {dtype}{what}" for dtype in ("float64", "float32") for what in ("", " gradients")),
    }
    assert 0 < errors["finite differences"] < 1e-6


def test_wrong_gradients_are_told(monkeypatch):
    from fastrnn.jit import _differentiate

    monkeypatch.setenv("FASTRNN_JIT", "numpy")
    monkeypatch.setitem(_differentiate._RULES, "tanh", lambda g, y, dy: (g.mul(dy, y),))
    cell = fr.cell(gates=("a", "b"))(lambda wx, rh, s: jit.tanh(wx.a + rh.a) + wx.b * rh.b)
    with pytest.raises(
        AssertionError, match=r"(?s)finite differences, gradient of wx\.a: relative error.*rh\.a"
    ) as error:
        jit.check(cell)
    assert "wx.b" not in str(error.value)


def test_wrong_code_is_told(monkeypatch):
    pytest.importorskip("numba")
    cell, other = (fr.cell(gates=("a",))(lambda wx, rh, s, k=k: jit.exp(wx.a + rh.a) * k) for k in (0.25, 0.2501))
    monkeypatch.setitem(cell._specs, ("float64", "numba", _core.isa()), other.spec(np.float64))
    with pytest.raises(AssertionError, match="compiled float64, new h: relative error"):
        jit.check(cell)


def test_functions_with_a_memory_are_told(monkeypatch):
    """What the function does when it is traced is what is compiled."""
    monkeypatch.setenv("FASTRNN_JIT", "numpy")
    factor = [2.0]
    cell = fr.cell(gates=("a",))(lambda wx, rh, s: jit.tanh(factor[0] * wx.a + rh.a))
    factor[0] = 3.0
    with pytest.raises(AssertionError, match="traced equations, new h"):
        jit.check(cell)


def test_domains(monkeypatch):
    """Values outside are left out; nowhere inside is an error."""
    monkeypatch.setenv("FASTRNN_JIT", "numpy")
    assert jit.check(fr.cell(gates=("a",))(lambda wx, rh, s: jit.log(wx.a + rh.a)))["finite differences"] > 0
    with pytest.raises(ValueError, match="NaN or infinity at each of 185 random values"):
        jit.check(fr.cell(gates=("a",))(lambda wx, rh, s: jit.log(-1 - (wx.a + rh.a) ** 2)))


def test_no_cell():
    for function in (jit.check, jit.explain):
        with pytest.raises(TypeError, match="cell: expected a cell made by"):
            function(3)


def test_explain_the_gru(capsys):
    jit.explain(CELLS["gru"])
    printed = capsys.readouterr().out
    assert (
        printed
        == """\
cell my_gru: 4 numbers a unit and step
products
  z.r = wx.r + rh.r
  z.z = wx.z + rh.z
  wx.n and rh.n, apart
forward
  a1 = sigmoid(z.r)
  a2 = sigmoid(z.z)
  a3 = tanh(wx.n + rh.n * a1)
  h = a3 * (1 - a2) + s.h * a2
saved for backward
  rh.n, a1, a2, a3
backward, from the gradient dh
  d1 = 1 - a2
  d2 = dh * d1 * (1 - a3 * a3)
  dz.r = a1 * rh.n * d2 * (1 - a1)
  dz.z = d1 * a2 * (s.h * dh - dh * a3)
  drh.n = a1 * d2
  dwx.n = d2
  ds.h = dh * a2
"""
    )
    file = io.StringIO()
    jit.explain(CELLS["gru"], file)
    assert file.getvalue() == printed and capsys.readouterr().out == ""


@pytest.mark.parametrize("name", CELLS)
def test_explanations_are_whole(name):
    """Every gradient has a line."""
    cell = CELLS[name]
    lines = [line.strip() for line in jit.equations(cell).splitlines()]
    back = lines[next(k for k, line in enumerate(lines) if line.startswith("backward")) :]
    targets = {line.split(" = ")[0] for line in back if " = " in line}
    for gate in cell.gates:
        assert f"dz.{gate}" in targets or {f"dwx.{gate}", f"drh.{gate}"} <= targets
    assert {f"dv.{name}" for name in cell.vectors} <= targets
    assert all(line.count("(") == line.count(")") for line in lines)


# ---- FASTRNN_JIT=numpy


@pytest.mark.parametrize("name", CELLS)
def test_uncompiled_is_the_same(name, monkeypatch):
    pytest.importorskip("numba")
    cell, rng = CELLS[name], np.random.default_rng(1)
    p = parameters(cell, 3, 9, rng)
    x, dy = rng.standard_normal((4, 2, 3)), rng.standard_normal((4, 2, 9))
    initial = list(rng.standard_normal((len(cell.states), 2, 9)))
    compiled = run(cell, np.float64, p, x, initial)
    monkeypatch.setenv("FASTRNN_JIT", "numpy")
    assert isinstance(cell.spec(np.float64).callbacks, Callbacks)
    plain = run(cell, np.float64, p, x, initial)
    assert_close(plain[0], compiled[0], 1e-13, "y")
    ours, theirs = (pull(kept, dy, initial) for *_, kept in (plain, compiled))
    for key in theirs:
        for a, b in zip(ours[key], theirs[key]):
            assert_close(a, b, 1e-12, key)


def test_the_function_itself_runs(monkeypatch):
    """With arrays, each gate's two products apart; what it raises comes out of the call, from its line."""
    monkeypatch.setenv("FASTRNN_JIT", "numpy")
    seen = []

    def function(wx, rh, s):
        if isinstance(wx.a, np.ndarray):
            seen.append((wx.a.copy(), rh.a.copy(), s.h.copy()))
            if wx.a[0, 0] == 7:
                raise RuntimeError("seven")
        return jit.tanh(wx.a + rh.a) * 0.5

    cell = fr.cell(gates=("a",))(function)
    one = np.ones((1, 2, 3), np.float32)
    after = _tiles.forward(cell.spec(np.float32), one, 2 * one, [3 * one[0]], []).after[0]
    np.testing.assert_allclose(after, np.tanh(np.float32(3)) * 0.5, rtol=1e-6)
    for array, value in zip(seen[0], (1, 2, 3)):
        np.testing.assert_array_equal(array[:, :3], np.full((2, 3), value))
    with pytest.raises(RuntimeError, match="seven") as error:
        _tiles.forward(cell.spec(np.float32), 7 * one, one, [one[0]], [])
    assert any(frame.name == "function" for frame in traceback.extract_tb(error.value.__traceback__))
    _tiles.forward(cell.spec(np.float32), one, one, [one[0]], [])  # and it is forgotten


def test_one_thread_while_it_runs(monkeypatch, threads):
    monkeypatch.setenv("FASTRNN_JIT", "numpy")
    CELLS["gru"].spec(np.float32)
    threads(3)
    assert CELLS["gru"].guarded(_core.get_num_threads) == 1
    assert _core.get_num_threads() == 3
