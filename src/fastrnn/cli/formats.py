"""Kinds of files that ``fastrnn convert`` reads and writes. Other libraries are imported when they are needed."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastrnn
from fastrnn.cli._parse import CliError, closest
from fastrnn.nn._layer import from_spec, to_spec

__all__ = ["FORMATS", "Format", "Options", "format_of"]


class Options(NamedTuple):
    """What reading may need: a model of the kind for files that hold weights alone, cells of the user's, and whether
    graphs are to become layers."""

    like: Any = None
    cells: dict[str, Any] = {}  # noqa: RUF012  never changed
    layers: bool = False


class Format(NamedTuple):
    """How to read and write one kind of file.

    Attributes
    ----------
    name : str
        For people.
    suffixes : tuple of str
    read : function
        (path, options) → model.
    write : function
        (model, path).
    weights_only : bool
        Whether its files never tell the model.
    likeable : bool
        Whether `options.like` is heeded.
    exact : bool
        Whether each weight comes back with its bits; other formats add biases up, or have other names.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, Options], Any]
    write: Callable[[Any, Path], None]
    weights_only: bool = False
    likeable: bool = False
    exact: bool = False


def format_of(path: Path, what: str) -> Format:
    """The kind of a file, by the end of its name."""
    for kind in FORMATS:
        if path.name.lower().endswith(kind.suffixes):
            return kind
    known = [suffix for kind in FORMATS for suffix in kind.suffixes]
    near = closest(path.suffix.lower(), known)
    raise CliError(f"{what}: expected a name that ends in {', '.join(known)}, got {str(path)!r}{near}")


def interop(name: str) -> Any:
    """A module of `fastrnn.interop`; ImportError says what to install."""
    try:
        return importlib.import_module(f"fastrnn.interop.{name}")
    except ModuleNotFoundError as error:
        if error.name == f"fastrnn.interop.{name}":
            raise ImportError(f"this fastrnn has no fastrnn.interop.{name}") from None
        raise


def fresh(like: Any) -> Any:
    """A new model as `like` is."""
    return from_spec(to_spec(like))


def _filled(like: Any, state: dict[str, np.ndarray]) -> Any:
    model = fresh(like)
    model.load_state_dict(state)
    return model


def _read_fastrnn(path: Path, options: Options) -> Any:
    if options.like is None:
        try:
            return fastrnn.load(path, cells=options.cells)
        except ValueError as error:
            hint = "; or name a file with such a model: --like" if "without fastrnn's description" in str(error) else ""
            raise ValueError(f"{error}{hint}") from error
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return _filled(options.like, load_file(path))
    except SafetensorError as error:
        raise ValueError(f"not a complete safetensors file ({error})") from None


def _read_onnx(path: Path, options: Options) -> Any:
    return interop("onnx").load(str(path), **({"layers": True} if options.layers else {}))


def _write_onnx(model: Any, path: Path) -> None:
    interop("onnx").save(model, str(path))


def _read_keras(path: Path, options: Options) -> Any:
    return interop("keras").load(str(path))


def _read_keras_weights(path: Path, options: Options) -> Any:
    model = fresh(options.like)
    interop("keras").load_weights(model, str(path))
    return model


def _write_keras(model: Any, path: Path) -> None:
    interop("keras").save(model, str(path))


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ModuleNotFoundError:
        raise ImportError("PyTorch is not installed, which .pt and .pth need: pip install torch") from None


def _read_torch(path: Path, options: Options) -> Any:
    torch = _torch()
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        first = " ".join(str(error).split()).partition(". ")[0][:200]
        raise ValueError(f"holds more than tensors; torch.save(model.state_dict(), path) doesn't ({first})") from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):  # such as Lightning's
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ValueError(f"expected a state dict, names and tensors, got {type(found).__name__}")
    return _filled(options.like, {name: _array(torch, tensor) for name, tensor in found.items()})


def _array(torch: Any, tensor: Any) -> Any:
    """NumPy has no bfloat16."""
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()


def _write_torch(model: Any, path: Path) -> None:
    torch = _torch()
    torch.save({name: torch.from_numpy(array) for name, array in model.state_dict().items()}, path)


FORMATS = (
    Format("fastrnn", (".safetensors",), _read_fastrnn, fastrnn.save, likeable=True, exact=True),
    Format("ONNX", (".onnx",), _read_onnx, _write_onnx),
    Format("weights of Keras", (".weights.h5",), _read_keras_weights, _write_keras, weights_only=True, likeable=True),
    Format("Keras", (".keras", ".h5"), _read_keras, _write_keras),
    Format(
        "weights of PyTorch", (".pt", ".pth"), _read_torch, _write_torch, weights_only=True, likeable=True, exact=True
    ),
)
