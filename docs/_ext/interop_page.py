"""The page of the reference about other libraries: of `fastrnn.interop` what can be imported here.

It is written anew for each build, as no build can be asked to have all of these libraries.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import fastrnn.interop

HEAD = """\
Other libraries
===============

Each of these modules is imported by its name, ``import fastrnn.interop.torch``, and imports the other library then.

"""


# the page about each room, where it has one
GUIDES = {
    "autograd": "autodiff",
    "jax": "autodiff",
    "keras": "keras",
    "onnx": "onnx",
    "sklearn": "scikit-learn",
    "threads": "threads",
    "torch": "torch",
}


def modules() -> list[str]:
    """Names of the public rooms in `fastrnn.interop`."""
    return sorted(m.name for m in pkgutil.iter_modules(fastrnn.interop.__path__) if m.name[0] != "_")


def public(name: str) -> list[str] | None:
    """Public names of one room; None where it can't be imported."""
    try:
        module = importlib.import_module(f"fastrnn.interop.{name}")
    except ImportError:
        return None
    return list(getattr(module, "__all__", []))


def section(name: str, pages: dict[object, str]) -> str:
    """One room: its first lines and a table of its names. `pages` are the classes that have one, and grows."""
    full = f"fastrnn.interop.{name}"
    text = f"{full}\n{'-' * len(full)}\n\n"
    guide = f"How to use it: :doc:`/interop/{GUIDES[name]}`." if name in GUIDES else ""
    names = public(name)
    if names is None:
        return f"{text}Not described here: its library was missing where these pages were built. {guide}\n"
    doc = inspect.cleandoc(importlib.import_module(full).__doc__ or "").split("\n\nExamples\n---")[0]
    skipped = ("Notes\n", "Parameters\n", "The page ")
    intro = "\n\n".join(part for part in doc.split("\n\n") if not part.startswith(skipped))
    module = importlib.import_module(full)
    classes = {entry: getattr(module, entry) for entry in names if inspect.isclass(getattr(module, entry))}
    own = [f"{full}.{entry}" for entry, kind in classes.items() if kind not in pages]
    elsewhere = [pages[kind] for kind in classes.values() if kind in pages]  # another room's, shown again
    pages |= {kind: f"{full}.{entry}" for entry, kind in classes.items() if kind not in pages}
    rest = [entry for entry in names if entry not in classes]
    parts = [text + intro, guide, table(own, "   :toctree: generated\n")]
    parts += [table([*elsewhere, *(f"{full}.{entry}" for entry in rest)])]
    parts += [f".. auto{'function' if callable(getattr(module, entry)) else 'data'}:: {full}.{entry}" for entry in rest]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(names: list[str], options: str = "") -> str:
    """A table of names; nothing for none."""
    entries = "".join(f"   {name}\n" for name in names)
    return f".. autosummary::\n{options}   :nosignatures:\n\n{entries}" if names else ""


def write(path: Path) -> None:
    """Write the page, if it isn't the same already."""
    names = modules()
    pages: dict[object, str] = {}
    text = HEAD + "\n".join(section(name, pages) for name in names)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
