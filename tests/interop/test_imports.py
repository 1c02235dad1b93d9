"""Modules of `interop` import where their library is there, say what is missing where not, and cost nobody else."""

import importlib.util
import pkgutil
import re
import subprocess
import sys

import pytest

import fastrnn.interop
from fastrnn.interop import needed

# what each module of the room imports
LIBRARIES = {
    "autograd": "autograd",
    "graph": "fastrnn.interop.graph",  # none: it runs graphs where onnx isn't installed
    "jax": "jax",
    "keras": "h5py",
    "onnx": "onnx",
    "sklearn": "sklearn",
    "threads": "threadpoolctl",
    "torch": "torch",
}
NAMES = [module.name for module in pkgutil.iter_modules(fastrnn.interop.__path__) if module.name[0] != "_"]


@pytest.mark.parametrize("name", NAMES)
def test_it_imports_or_says_what_is_missing(name):
    """In a process of its own: doctests skip modules that can't be imported, so that this must see it."""
    code = f"import fastrnn.interop.{name}"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    if importlib.util.find_spec(LIBRARIES[name]):
        assert ran.returncode == 0, ran.stderr
    else:
        assert re.search(r"^ImportError: .* is not installed.*: pip install", ran.stderr, re.MULTILINE), ran.stderr


def test_what_is_missing():
    with pytest.raises(ImportError, match=r"^No Such Thing is not installed.*: pip install such-a-thing$") as raised:
        needed("no_such_thing", "No Such Thing", "such-a-thing")
    assert raised.value.name == "no_such_thing"


def test_nobody_else_pays():
    code = "import sys, fastrnn, fastrnn.nn, fastrnn.train, fastrnn.models; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert not set(LIBRARIES.values()) & set(loaded.stdout.split())
    assert "fastrnn.interop" not in loaded.stdout.split()
