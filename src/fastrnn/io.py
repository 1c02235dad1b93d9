"""Files: weights as safetensors, everything else as JSON, each file written atomically.

A file is written under a temporary name beside its target, synced, and renamed. A process killed at any
moment leaves the old file or the new one. Nothing that is read here can run code: a model's class is looked
up among fastrnn's and the layers that are imported already.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn.nn._layer import Layer, from_spec, to_spec

# json and pathlib are imported where they are used; `import fastrnn` has to be quick.

__all__ = ["finite", "load", "load_tree", "read_header", "save", "save_tree", "write_atomic", "write_json"]

# safetensors keeps metadata in no fixed order; with all of ours under one key, equal models make equal files.
KEY = "fastrnn"
FORMAT = 1


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` so that a crash leaves either the old content or the new.

    Parameters
    ----------
    path : path
        Its folder is made if it is missing.
    data : bytes
        The whole content.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(f"{os.fspath(path)}: is a folder, expected the name of a file")
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    # Threads and processes may write the same file at once: each has a temporary one of its own.
    temporary = os.path.join(folder, f".{name}.tmp-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        with open(temporary, "xb") as file:  # unlike tempfile's, with the mode that the umask leaves
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None and error.filename2 is None:
            error.filename = os.fspath(path)  # nobody knows the temporary one
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """Make a rename in `folder` survive a power cut, where the system can."""
    if os.name == "nt":  # folders can't be opened there, and a rename is flushed with the file
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str | os.PathLike[str], value: Any, *, indent: int | None = 1) -> None:
    """Write JSON atomically."""
    import json

    write_atomic(path, (json.dumps(value, indent=indent) + "\n").encode())


def finite(value: Any) -> Any:
    """Return a tree with None for the numbers that strict JSON can't hold.

    Examples
    --------
    >>> finite({"loss": [1.0, float("nan")]})
    {'loss': [1.0, None]}
    """
    if isinstance(value, float):
        return value if -np.inf < value < np.inf else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("reading and writing models needs safetensors: pip install safetensors") from error
    return safetensors


def _dump(tensors: dict[str, np.ndarray], header: dict[str, Any]) -> bytes:
    import json

    # Contiguous copies keep 0-d arrays 0-d, which np.ascontiguousarray doesn't.
    arrays = {name: np.asarray(array).copy(order="C") for name, array in tensors.items()}
    text = json.dumps({"format": FORMAT, **header}, sort_keys=True)
    data: bytes = _safetensors().numpy.save(arrays, metadata={KEY: text})
    return data


def _open(path: str | os.PathLike[str], *, arrays: bool = True) -> tuple[dict[str, Any] | None, dict[str, np.ndarray]]:
    """Return our part of the metadata (None in a file of someone else) and, if wanted, all arrays."""
    import json

    library = _safetensors()
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: {'not a file' if os.path.exists(path) else 'no such file'}")
    try:
        with library.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            names = list(file.keys()) if arrays else []
            tensors = {name: file.get_tensor(name) for name in names}
    except library.SafetensorError as error:
        raise ValueError(f"{path}: not a complete safetensors file ({error})") from None
    if KEY not in metadata:
        return None, tensors
    try:
        header = json.loads(metadata[KEY])
    except ValueError as error:
        raise ValueError(f"{path}: its metadata is not JSON ({error})") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else header
        raise ValueError(f"{path}: written in format {found!r}, this version of fastrnn reads format {FORMAT}")
    return header, tensors


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a file of ours says about itself: its kind, and a model's spec and metadata.

    Raises
    ------
    ValueError
        The file is truncated, or not fastrnn's.
    """
    header, _ = _open(path, arrays=False)
    if header is None:
        raise ValueError(f"{path}: a safetensors file, but not written by fastrnn")
    return header


def save(model: Any, path: str | os.PathLike[str], *, metadata: dict[str, Any] | None = None) -> None:
    """Write a layer or model to one safetensors file, from which `load` rebuilds it.

    Parameters
    ----------
    model : Layer
        Its parameters become the file's tensors under their own names, so other safetensors readers
        understand them.
    path : path
        Written atomically.
    metadata : dict, optional
        JSON-able notes, kept in the file's header; `read_header(path)["metadata"]` returns them.

    Examples
    --------
    >>> import fastrnn as fr, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "m.safetensors")
    >>> layer = fr.Linear(3, 2, seed=0)
    >>> fr.save(layer, path)
    >>> bool((fr.load(path).params["weight"] == layer.params["weight"]).all())
    True
    """
    if not isinstance(model, Layer):
        raise TypeError(f"model: expected a layer or model, got {type(model).__name__}")
    try:
        header = {"kind": "model", "spec": to_spec(model), "metadata": metadata or {}}
        data = _dump(model.params, header)
    except TypeError as error:
        raise TypeError(f"{type(model).__name__} or its metadata can't be written as JSON: {error}") from None
    write_atomic(path, data)


def load(path: str | os.PathLike[str], *, cells: Mapping[str, Any] | None = None) -> Any:
    """Rebuild the model that `save` wrote.

    Parameters
    ----------
    path : path
    cells : dict, optional
        Cells made by `fr.cell` under the names that the file has for them, "module:name" or the name alone. By default
        those that exist already, for nothing is imported; their equations must then be those of the file.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is truncated, was written by something else, is a checkpoint, or holds a class of yours that
        isn't imported.

    Examples
    --------
    >>> import os, tempfile, fastrnn as fr
    >>> path = os.path.join(tempfile.mkdtemp(), "m.safetensors")
    >>> fr.save(fr.GRU(3, 4), path)
    >>> fr.load(path).hidden_size
    4
    """
    header, tensors = _open(path)
    if header is None:
        raise ValueError(
            f"{path}: a safetensors file without fastrnn's description of the model; build the model "
            "yourself and use model.load_state_dict(safetensors.numpy.load_file(path))"
        )
    if header.get("kind") != "model":
        raise ValueError(f"{path}: holds a {header.get('kind')}, expected a model written by fastrnn.save")
    with _cells(cells):
        try:
            model = from_spec(header["spec"])
            model.load_state_dict(tensors)
        except _MALFORMED as error:
            raise ValueError(f"{path}: its description doesn't make a model ({_in_words(error)})") from error
    return model


def _cells(cells: Mapping[str, Any] | None) -> contextlib.AbstractContextManager[None]:
    if cells is None:
        return contextlib.nullcontext()
    from fastrnn.jit.cell import given_cells

    return given_cells(cells)


# What code that expects a well-formed tree raises for another one.
_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, OverflowError)


def _in_words(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


# ---- trees: nested dicts and lists of numbers, strings and arrays, such as a checkpoint
# ------------------------

_MARK = "$array"


def _flatten(value: Any, where: str, tensors: dict[str, np.ndarray]) -> Any:
    """Return `value` with arrays moved to `tensors` and replaced by their names."""
    if isinstance(value, np.ndarray):
        tensors[where] = value
        return {_MARK: where}
    if isinstance(value, dict):
        if _MARK in value or not all(isinstance(key, str) for key in value):
            raise TypeError(f"{where}: expected a dict with string keys, got {list(value)}")
        return {key: _flatten(item, f"{where}/{key}", tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_flatten(item, f"{where}/{i}", tensors) for i, item in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{where}: can't be saved, it is a {type(value).__name__}")


def _restore(value: Any, tensors: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if set(value) == {_MARK}:
            return tensors[value[_MARK]]
        return {key: _restore(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_restore(item, tensors) for item in value]
    return value


def save_tree(path: str | os.PathLike[str], tree: dict[str, Any], kind: str = "checkpoint") -> None:
    """Write nested dicts and lists of numbers, strings, None and arrays to one file, atomically.

    Floats and arrays come back bit for bit; tuples come back as lists. One file holds everything, so its
    parts always belong together.
    """
    tensors: dict[str, np.ndarray] = {}
    skeleton = _flatten(tree, "", tensors)
    write_atomic(path, _dump(tensors, {"kind": kind, "tree": skeleton}))


def load_tree(path: str | os.PathLike[str], kind: str = "checkpoint") -> dict[str, Any]:
    """Read what `save_tree` wrote.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load`.
    """
    header, tensors = _open(path)
    if header is None or header.get("kind") != kind:
        found = "someone else's file" if header is None else f"a {header.get('kind')}"
        raise ValueError(f"{path}: is {found}, expected a {kind} written by fastrnn")
    try:
        tree: dict[str, Any] = _restore(header["tree"], tensors)
    except _MALFORMED as error:
        raise ValueError(f"{path}: not whole ({_in_words(error)})") from error
    return tree
