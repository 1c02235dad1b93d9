"""Other libraries: PyTorch, ONNX, Keras, scikit-learn, autograd, JAX, threadpoolctl.

Each is a module of its own, imported by name (``import fastrnn.interop.torch``), which imports the other library.
Here alone the order of gates changes.
"""

from __future__ import annotations

import importlib.util

__all__: list[str] = []


def needed(module: str, name: str, install: str) -> None:
    """Say what to install where a library is missing.

    Parameters
    ----------
    module : str
        What is imported, "torch" say.
    name : str
        What the library is called, "PyTorch" say.
    install : str
        What pip is given to install it.

    Raises
    ------
    ImportError
        If there is no such module.
    """
    if importlib.util.find_spec(module) is None:
        raise ImportError(f"{name} is not installed, which this module is for: pip install {install}", name=module)
