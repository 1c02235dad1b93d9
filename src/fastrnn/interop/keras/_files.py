"""Keras's files: `.keras` (an archive), `.weights.h5`, and the whole models in `.h5` of Keras 2.

Nothing in them is executed or unpickled, and no other file is opened: HDF5's links to other files are refused.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from fastrnn.interop.keras._config import Counter, Node

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST_CONFIG = 64 << 20  # bytes
_LITTLE, _LARGEST_RATIO = (
    16 << 20,
    100,
)  # weights are hardly compressed: what is must be small, or is meant to fill memory


class File:
    """An open file.

    Attributes
    ----------
    config : dict or None
        The model's description; None in a file of weights alone.
    keras_2 : bool
    """

    def __init__(self, path: str, h5: Any, config: dict[str, Any] | None, keras_2: bool, by_name: bool) -> None:
        self.path, self.config, self.keras_2 = path, config, keras_2
        self._h5, self._by_name = h5, by_name

    def arrays_of(self, node: Node) -> list[NDArray[Any]]:
        """A layer's weights, as `get_weights()` orders them."""
        if self._by_name:
            return self._named(node)
        path = node.path
        if path.startswith("layers") and "layers" not in self._h5:  # Keras 2.12 to 2.15
            path = path.replace("layers/", "_layer_checkpoint_dependencies/")
        found: list[NDArray[Any]] = []
        for part in _parts(node):
            group = _below(self._h5, f"{path}/{part}vars")
            if group is not None:
                found += [_array(group, str(k), self.path) for k in range(len(group))]
        return found

    def _named(self, node: Node) -> list[NDArray[Any]]:
        """Keras 2's: an attribute lists the names of a layer's weights."""
        if node.path.count("layers/") > 1:
            raise ValueError(f"{node.where}: in a model inside the model, which is read from .keras files only")
        group = _below(self._h5.get("model_weights", self._h5), node.name)
        if group is None:
            return []
        names = group.attrs.get("weight_names", ())
        return [_array(group, name.decode() if isinstance(name, bytes) else str(name), self.path) for name in names]

    def matched(self, nodes: Sequence[Node]) -> list[list[NDArray[Any]]]:
        """Weights for layers, in order: of a description's layers, or of groups called after the layers' kinds.

        Such a group says which of its kind a layer is, but not whether one kind comes before another.
        """
        if self._by_name:
            names = self._h5.get("model_weights", self._h5)
            listed = [name.decode() if isinstance(name, bytes) else str(name) for name in names.attrs["layer_names"]]
            found = [self._named(Node("", {}, name)) for name in listed]
            return self._counted([arrays for arrays in found if arrays], nodes)
        groups = self._groups()
        wrapped = [name for name in groups if name.startswith("time_distributed")]
        dense = [node for node in nodes if node.kind == "Dense"]
        renamed: dict[int, Node] = {}
        if wrapped and not any(name.startswith("dense") for name in groups) and len(wrapped) == len(dense):
            count = Counter()
            renamed = {
                id(node): Node("TimeDistributed", {}, "", f"layers/{count('TimeDistributed')}") for node in dense
            }
        used = [renamed.get(id(node), node) for node in nodes]
        missing = [node.path for node in used if node.path.partition("/")[2] not in groups]
        left = set(groups) - {node.path.partition("/")[2] for node in used}
        if missing or left:
            expected = ", ".join(node.path for node in used)
            raise ValueError(
                f"expected weights of {expected}; the file has {', '.join(map('layers/'.__add__, groups))}"
            )
        return [self.arrays_of(node) for node in used]

    def _counted(self, found: list[list[NDArray[Any]]], nodes: Sequence[Node]) -> list[list[NDArray[Any]]]:
        if len(found) != len(nodes):
            raise ValueError(f"has {len(found)} layers with weights, the model of fastrnn {len(nodes)}")
        return found

    def _groups(self) -> list[str]:
        """Layers that have weights, by the names of their groups."""
        found: list[str] = []
        root = next((root for root in ("layers", "_layer_checkpoint_dependencies") if root in self._h5), None)
        if root is not None:
            layers = _below(self._h5, root)
            layers.visititems(lambda name, thing: found.append(name) if isinstance(thing, h5py.Dataset) else None)
        return list(dict.fromkeys(re.sub(r"/.*", "", name) for name in found if "seed_generator" not in name))


def _parts(node: Node) -> tuple[str, ...]:
    if node.kind == "Bidirectional":
        return "forward_layer/cell/", "backward_layer/cell/"
    if node.kind == "TimeDistributed":
        return ("layer/",)
    return ("cell/",) if node.kind in ("SimpleRNN", "LSTM", "GRU") else ("",)


def _below(group: Any, path: str) -> Any:
    """What lies under a path, by links inside the file; None for nothing."""
    for name in path.split("/"):
        link = group.get(name, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{name!r} is a link to elsewhere, which isn't followed")
        group = group[name]
    return group


def _array(group: Any, name: str, path: str) -> NDArray[Any]:
    data = _below(group, name)
    if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual:
        raise ValueError(f"{path}: {group.name}/{name}: expected an array in the file itself")
    if data.dtype.kind not in "fiu" or data.dtype.itemsize > 8 or data.attrs.get("dtype") == "bfloat16":
        raise ValueError(
            f"{path}: {group.name}/{name}: expected numbers in single or double precision, got {data.dtype}"
        )
    if data.nbytes > max(_LITTLE, _LARGEST_RATIO * data.id.get_storage_size()):
        raise ValueError(
            f"{path}: {group.name}/{name}: expected a layer's weights, got {data.shape} numbers of nothing"
        )
    return np.asarray(data[()])


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[File]:
    """Open a file of Keras, whatever its kind.

    Raises
    ------
    FileNotFoundError
    ValueError
        It isn't one, or is damaged.
    """
    name = os.fspath(path)
    if not os.path.isfile(name):
        raise FileNotFoundError(f"{name}: {'not a file' if os.path.exists(name) else 'no such file'}")
    try:
        if zipfile.is_zipfile(name):
            with _archive(name) as file:
                yield file
        elif h5py.is_hdf5(name):
            with h5py.File(name, "r") as h5:
                yield _legacy(name, h5)
        else:
            raise ValueError(f"{name}: neither a .keras archive nor an HDF5 file")
    except (zipfile.BadZipFile, json.JSONDecodeError, UnicodeDecodeError, OSError, RuntimeError, EOFError) as error:
        if isinstance(error, RecursionError | NotImplementedError):
            raise ValueError(f"{name}: not a file of Keras ({error})") from error
        raise ValueError(f"{name}: damaged, or not a file of Keras ({error})") from error


@contextmanager
def _archive(name: str) -> Iterator[File]:
    with zipfile.ZipFile(name) as archive:
        names = archive.namelist()
        if "config.json" not in names or "model.weights.h5" not in names:
            raise ValueError(f"{name}: expected config.json and model.weights.h5 in the archive, got {names[:10]}")
        if archive.getinfo("config.json").file_size > _LARGEST_CONFIG:
            raise ValueError(f"{name}: config.json has more than {_LARGEST_CONFIG >> 20} MiB")
        entry = archive.getinfo("model.weights.h5")
        if entry.file_size > max(_LITTLE, _LARGEST_RATIO * entry.compress_size):
            raise ValueError(
                f"{name}: model.weights.h5 says it has {entry.file_size} bytes, packed in {entry.compress_size}"
            )
        config = json.loads(archive.read("config.json"))
        metadata = json.loads(archive.read("metadata.json")) if "metadata.json" in names else {}
        weights = archive.read("model.weights.h5")
    version = str(metadata.get("keras_version", "3")) if isinstance(metadata, Mapping) else "3"
    with h5py.File(io.BytesIO(weights), "r") as h5:
        yield File(name, h5, config, version.startswith("2"), False)


def _legacy(name: str, h5: Any) -> File:
    """An HDF5 file: a whole model of Keras 2, or weights of Keras 2 or 3."""
    text, version = h5.attrs.get("model_config"), h5.attrs.get("keras_version", "3")
    config = None if text is None else json.loads(text)
    version = version.decode() if isinstance(version, bytes) else str(version)
    by_name = text is not None or "layer_names" in h5.attrs
    return File(name, h5, config, not version.startswith("3"), by_name)
