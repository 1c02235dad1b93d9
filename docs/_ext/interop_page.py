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


def section(name: str) -> str:
    """One room: its first lines and a table of its names."""
    full = f"fastrnn.interop.{name}"
    text = f"{full}\n{'-' * len(full)}\n\n"
    names = public(name)
    if names is None:
        return text + "Not described here: the library that it is for was missing where these pages were built.\n"
    doc = inspect.cleandoc(importlib.import_module(full).__doc__ or "").split("\n\nExamples\n---")[0]
    intro = "\n\n".join(part for part in doc.split("\n\n") if not part.startswith(("Notes\n", "Parameters\n")))
    module = importlib.import_module(full)
    classes = [entry for entry in names if inspect.isclass(getattr(module, entry))]
    rest = [entry for entry in names if entry not in classes]
    parts = [text + intro, table(full, classes, "   :toctree: generated\n"), table(full, rest)]
    parts += [f".. auto{'function' if callable(getattr(module, entry)) else 'data'}:: {full}.{entry}" for entry in rest]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(module: str, names: list[str], options: str = "") -> str:
    """A table of names; nothing for none."""
    entries = "".join(f"   {module}.{name}\n" for name in names)
    return f".. autosummary::\n{options}   :nosignatures:\n\n{entries}" if names else ""


def write(path: Path) -> None:
    """Write the page, if it isn't the same already."""
    names = modules()
    text = HEAD + "\n".join(map(section, names)) if names else HEAD + "There are none in this version.\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
