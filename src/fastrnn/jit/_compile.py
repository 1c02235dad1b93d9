"""Compiled functions of cells, and where they are kept.

For a plan and a target there is a module in a folder of the user's cache, under a name that stands for all that the
machine code depends on. Numba compiles its two functions to C function pointers and keeps them beside it, so that the
next process only loads them. The module is the same few lines for every cell; the plan never leaves the process.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from fastrnn import _core
from fastrnn.jit._derive import Plan
from fastrnn.jit._graph import in_order

__all__ = ["cache_folder", "compile_plan", "write_function"]

MISSING = 'cells are compiled with Numba, which is not installed: pip install "fastrnn[jit]" (or set FASTRNN_JIT=numpy)'
WIDTHS = {"avx512": 64, "avx2": 32, "v2": 16, "neon": 16}

_MODULE = '''\
"""Made by fastrnn: the compiled functions of a cell are kept beside this file. It may be deleted at any time."""

from numba import cfunc, types
from numba.extending import intrinsic

from fastrnn.jit._compile import write_function

KEY = "{key}"


@intrinsic
def write_forward(context, tile):
    return types.void(tile), lambda target, builder, signature, args: write_function(KEY, "forward", builder, args[0])


@intrinsic
def write_backward(context, tile):
    return types.void(tile), lambda target, builder, signature, args: write_function(KEY, "backward", builder, args[0])


@cfunc(types.void(types.voidptr), cache=True)
def forward(tile):
    write_forward(tile)


@cfunc(types.void(types.voidptr), cache=True)
def backward(tile):
    write_backward(tile)
'''

_lock = threading.RLock()
_plans: dict[str, tuple[Plan, Any]] = {}
_modules: dict[str, ModuleType] = {}
_temporary: list[str] = []


def write_function(key: str, direction: str, builder: Any, tile: Any) -> Any:
    """What Numba calls for the body of a function that isn't in the cache."""
    from fastrnn.jit._emit import emit

    emit(builder, tile, *_plans[key], direction)


def _numba() -> Any:
    try:
        return importlib.import_module("numba")
    except ImportError as error:
        raise ImportError(MISSING) from error


def _target(numba: Any, dtype: str) -> tuple[Any, str]:
    """The target for this machine and the core's instruction set, and what else the machine code depends on."""
    binding = importlib.import_module("llvmlite.binding")

    from fastrnn.jit._vector_math import Target

    isa = _core.isa()
    settings = (numba.config.CPU_NAME, numba.config.CPU_FEATURES)
    host = not any(settings)  # else Numba may compile for less than this CPU
    fma = isa != "v2" and host
    target = Target(dtype, WIDTHS[isa], fma, isa == "avx512" and host)
    return target, repr((numba.__version__, binding.get_host_cpu_name(), settings, isa))


def _text(plan: Plan) -> str:
    """The plan in words; equal plans, equal words."""
    roots = [*plan.outputs, *plan.saved, *plan.backward_roots()]
    nodes = in_order(roots)
    place = {node: k for k, node in enumerate(nodes)}
    lines = [(n.op, [place[a] for a in n.args], n.value.hex() if n.op == "const" else n.value) for n in nodes]
    sections = [(place[n], k) for n, k in [*plan.saved.items(), *plan.gradients, *plan.terms]]
    products = [(n.value, k) for n, k in plan.products.items()]
    return repr((lines, [place[n] for n in roots], sections, products))


def _makers() -> bytes:
    """The source of what writes LLVM: another version of it makes other code."""
    here = Path(__file__).parent
    return b"".join((here / name).read_bytes() for name in ("_emit.py", "_vector_math.py", "_compile.py"))


def cache_folder() -> Path:
    """The folder of compiled cells: `FASTRNN_CACHE_DIR`, or the platform's place for caches."""
    given = os.environ.get("FASTRNN_CACHE_DIR")
    if given:
        return Path(given) / "jit"
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "fastrnn" / "jit"


def _writable_folder() -> Path:
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=folder)
        os.close(handle)
        os.unlink(name)
        return folder
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        if not _temporary:
            _temporary.append(tempfile.mkdtemp(prefix="fastrnn-jit-"))
            atexit.register(shutil.rmtree, _temporary[0], ignore_errors=True)
            warnings.warn(
                f"compiled cells are not kept: {error}; FASTRNN_CACHE_DIR names another folder",
                RuntimeWarning,
                stacklevel=2,
            )
        return Path(_temporary[0])


def _module_file(folder: Path, key: str) -> Path:
    """The module's file, written so that processes that do it at once see whole and equal files."""
    path = folder / f"fastrnn_cell_{key}.py"
    if not path.exists():
        handle, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(_MODULE.format(key=key))
        os.utime(name, (1, 1))  # Numba takes its files for stale when the time of this one has changed
        os.replace(name, path)
    return path


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def compile_plan(plan: Plan, dtype: str) -> tuple[int, int]:
    """Addresses of a plan's forward and backward functions, compiled or from the cache.

    Raises
    ------
    ImportError
        Numba is not installed.
    """
    with _lock:
        numba = _numba()
        target, machine = _target(numba, dtype)
        words = "\n".join((_text(plan), repr(target), machine))
        key = hashlib.sha256(_makers() + words.encode()).hexdigest()[:24]
        module = _modules.get(key)
        if module is None:
            _plans[key] = (plan, target)
            path = _module_file(_writable_folder(), key)
            kept = list(path.parent.glob(f"__pycache__/{path.stem}*"))
            try:
                module = _load(path)
            except Exception:
                if not kept:
                    raise
                for old in kept:  # one of them may be damaged; all can be made again
                    old.unlink(missing_ok=True)
                module = _load(path)
            finally:
                del _plans[key]
            _modules[key] = module
        return int(module.forward.address), int(module.backward.address)
