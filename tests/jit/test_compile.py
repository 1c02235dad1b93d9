"""Where compiled cells are kept, and what happens without Numba, without a writable folder, with damaged files."""

import ctypes
import os
import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import _core, jit
from fastrnn.jit import _compile, _spec
from tests.jit import cells
from tests.jit.cells import CELLS

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys, numpy as np, fastrnn as fr
from fastrnn import jit

@fr.cell(gates=("n", "u"))
def cell(wx, rh, s):
    return jit.tanh(wx.n + rh.n) * jit.sigmoid(wx.u * rh.u + {constant})

spec = cell.spec(np.{dtype})
from fastrnn.jit import _tiles
one = np.ones((2, 1, 3), np.{dtype})
print(_tiles.forward(spec, one, one, [one[0]], []).after[0].tolist())
"""


def run(script, folder, *, check=True, **environment):
    """A new process; (standard output, standard error)."""
    given = {**os.environ, "FASTRNN_CACHE_DIR": str(folder), "FASTRNN_NUM_THREADS": "1", **environment}
    found = subprocess.run([sys.executable, "-c", script], env=given, capture_output=True, text=True, timeout=120)
    assert not check or found.returncode == 0, found.stderr
    return found.stdout, found.stderr


def script(constant=0.5, dtype="float32"):
    return SCRIPT.format(constant=constant, dtype=dtype)


@pytest.fixture
def numba():
    return pytest.importorskip("numba")


# ---- layout


def test_structs_are_those_of_the_header():
    """Members in the order of csrc/cell.h, eight bytes each or an array of eight."""
    text = (ROOT / "csrc" / "cell.h").read_text(encoding="utf-8")
    limits = dict(re.findall(r"(kMost\w+) = (\d+)", text))
    found = (_spec.MOST_GATES, _spec.MOST_STATES, _spec.MOST_VECTORS)
    assert found == tuple(int(limits[f"kMost{what}"]) for what in ("Gates", "States", "Vectors"))
    from fastrnn.jit._derive import MOST_SECTIONS

    assert int(limits["kMostSections"]) == MOST_SECTIONS
    for struct in (_spec.CellTile, _spec.CellSpec):
        (body,) = re.findall(rf"struct {struct.__name__} \{{(.*?)\}};", text, re.DOTALL)
        lines = [line.split("//")[0].strip() for line in body.splitlines()]
        members = re.findall(r"[\w\[\]]+(?=[,;])", " ".join(lines))
        assert [name.partition("[")[0] for name in members] == [field[0] for field in struct._fields_]
        offset = 0
        for name, field in struct._fields_:
            assert getattr(struct, name).offset == offset
            offset += ctypes.sizeof(field)


def test_spec(numba):
    spec = CELLS["peephole"].spec("float32")
    there = _spec.CellSpec.from_address(spec.address)
    assert (there.gates, there.states, there.vectors, there.sections) == (4, 2, 3, 7)
    assert list(there.section_x)[:4] == list(there.section_r)[:4] == [0, 1, 2, 3]
    assert list(there.section_v)[:3] == [4, 5, 6]
    assert there.forward and there.backward and not there.forward2 and not there.whole_rows
    assert CELLS["peephole"].spec(np.float32) is spec
    assert CELLS["peephole"].spec(np.float64).address != spec.address
    with pytest.raises(TypeError, match="dtype: expected float32 or float64"):
        CELLS["peephole"].spec(np.int32)


def test_whole_vectors(numba):
    """The widest vectors that the core uses are those of the machine code."""
    if _core.isa() != "avx512":
        pytest.skip("no AVX-512 here")

    @fr.cell(gates=("a",), states=("h",))
    def nowhere_else(wx, rh, s):  # code from the cache can't be looked at
        return fr.jit.tanh(wx.a + rh.a) * 0.7320508

    spec = nowhere_else.spec("float32")
    code = next(m for m in _compile._modules.values() if int(m.forward.address) == _address(spec.forward))
    text = code.forward._library.get_asm_str() or code.forward.inspect_llvm()
    assert "zmm" in text or "<16 x float>" in text
    assert "ymm" not in text


def _address(function):
    return ctypes.cast(function, ctypes.c_void_p).value


# ---- the cache


def test_the_next_process_compiles_nothing(numba, tmp_path):
    first, _ = run(script(), tmp_path)
    files = sorted(p for p in tmp_path.rglob("*") if p.is_file())
    assert any(p.suffix == ".nbc" for p in files)
    times = [p.stat().st_mtime_ns for p in files]
    broken = "import fastrnn.jit._compile as c\ndef fail(*a): raise SystemExit('compiled')\nc.write_function = fail\n"
    second, _ = run(broken + script(), tmp_path)
    assert first == second
    assert times == [p.stat().st_mtime_ns for p in files]
    _, errors = run(broken + script(0.25), tmp_path, check=False)
    assert "compiled" in errors  # another cell, which the cache doesn't have


def test_what_keys_depend_on(numba, tmp_path):
    """Types, equations and instruction sets have modules of their own."""
    for n, arguments in enumerate([(0.5, "float32"), (0.5, "float64"), (0.75, "float32")], start=1):
        run(script(*arguments), tmp_path)
        assert len(list(tmp_path.rglob("fastrnn_cell_*.py"))) == n
    if len(_core.isas()) > 1:
        other = next(name for name in _core.isas() if name != _core.isa())
        run(script(), tmp_path, FASTRNN_ISA=other)
        assert len(list(tmp_path.rglob("fastrnn_cell_*.py"))) == 4


def test_damaged_files_are_made_again(numba, tmp_path):
    first, _ = run(script(), tmp_path)
    for path in tmp_path.rglob("*.nb[ci]"):
        path.write_bytes(path.read_bytes()[:40])
    assert run(script(), tmp_path)[0] == first
    for path in tmp_path.rglob("*.nbc"):
        path.write_bytes(b"")
    assert run(script(), tmp_path)[0] == first


def test_processes_at_once(numba, tmp_path):
    given = {**os.environ, "FASTRNN_CACHE_DIR": str(tmp_path), "FASTRNN_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([sys.executable, "-c", script()], env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    found = [process.communicate(timeout=120) for process in running]
    assert all(process.returncode == 0 for process in running), found
    assert len({out for out, _ in found}) == 1
    assert not list(tmp_path.rglob("*.tmp"))


def test_threads_at_once(numba):
    cell = fr.cell(gates=("a",))(lambda wx, rh, s: jit.tanh(wx.a - 3 * rh.a))
    found = []
    threads = [threading.Thread(target=lambda: found.append(cell.spec("float32"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(map(id, found))) == 1


def test_unwritable_folder(numba, tmp_path):
    (tmp_path / "file").write_text("no folder")
    output, errors = run(script(), tmp_path / "file")
    assert "RuntimeWarning: compiled cells are not kept" in errors and "FASTRNN_CACHE_DIR" in errors
    assert output == run(script(), tmp_path / "folder")[0]


def test_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTRNN_CACHE_DIR", str(tmp_path))
    assert _compile.cache_folder() == tmp_path / "jit"
    monkeypatch.delenv("FASTRNN_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform.startswith("linux"):
        assert _compile.cache_folder() == tmp_path / "xdg" / "fastrnn" / "jit"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert _compile.cache_folder() == Path.home() / ".cache" / "fastrnn" / "jit"


# ---- imports


def test_numba_is_imported_late(tmp_path):
    code = """
import sys, fastrnn as fr
assert "fastrnn.jit" not in sys.modules
cell = fr.cell(gates=("a",))(lambda wx, rh, s: fr.jit.tanh(wx.a + rh.a))
fr.jit.explain(cell)
assert "numba" not in sys.modules and "llvmlite" not in sys.modules
"""
    assert "dz.a" in run(code, tmp_path)[0]


def test_without_numba(tmp_path):
    hide = "import sys\nsys.modules['numba'] = sys.modules['llvmlite'] = None\n"
    _, errors = run(hide + script(), tmp_path, check=False)
    assert "ImportError: cells are compiled with Numba" in errors and 'pip install "fastrnn[jit]"' in errors
    assert run(hide + script(), tmp_path, FASTRNN_JIT="numpy")[0]
    names = "\n".join(
        f"import fastrnn.jit.{p.stem}"
        for p in (ROOT / "src/fastrnn/jit").glob("*.py")
        if p.stem[0] != "_" and p.stem != "native"
    )
    run(hide + names + "\nimport fastrnn.jit._emit, fastrnn.jit._vector_math", tmp_path)


def test_unknown_mode(monkeypatch):
    monkeypatch.setenv("FASTRNN_JIT", "fast")
    with pytest.raises(ValueError, match="FASTRNN_JIT: expected one of numba, numpy, got 'fast'"):
        CELLS["gru"].spec("float32")


# ---- pickling


def test_pickled_by_name():
    assert pickle.loads(pickle.dumps(cells.importable)) is cells.importable
    with pytest.raises(TypeError, match="can't be pickled: define it at the top of a module"):
        pickle.dumps(CELLS["gru"])
