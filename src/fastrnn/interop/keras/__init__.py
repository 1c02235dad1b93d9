"""Keras: its layers, models and files as ours, and ours as Keras's.

Files are read and written without Keras, with `h5py` alone; Keras 3 layers and models themselves are taken as they are.
Layers come with `batch_first=True`, so that arrays stay as they were, [B, T, F].
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastrnn import _check
from fastrnn.interop import needed
from fastrnn.io import write_atomic
from fastrnn.nn import Layer, lengths_from_mask

needed("h5py", "h5py", "h5py")

from fastrnn.interop.keras import _objects, _write  # noqa: E402  after the message that says what to install
from fastrnn.interop.keras._config import Node, chain, explained, node_of  # noqa: E402
from fastrnn.interop.keras._files import opened  # noqa: E402
from fastrnn.interop.keras._read import as_model, build  # noqa: E402
from fastrnn.interop.keras._weights import put_all  # noqa: E402

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["lengths_from_mask", "load", "load_weights", "save", "set_weights", "to_keras"]

Path = str | os.PathLike[str]


def load(source: Any, *, dtype: DTypeLike | None = None, ignore: Sequence[str] = ()) -> Layer:
    """A layer or model of Keras, with its weights, as one of fastrnn.

    Parameters
    ----------
    source : path, or a Keras layer or model
        A `.keras` file, a whole model in `.h5` (Keras 2 and 3), a layer, or a model whose layers come one after
        another: a `Sequential`, or a functional one that is a chain.
    dtype : dtype, optional
        float32 or float64, instead of what Keras computes in.
    ignore : sequence of str
        Options that Keras's layers may have though fastrnn's haven't: `ignore=["stateful"]`.

    Returns
    -------
    Layer
        What Keras has as one layer is one layer; else a `Sequential`, or a `fr.nn.Masked`, which makes `lengths` from
        its input as Keras makes its mask, with Masking or Embedding(mask_zero=True). `return_sequences=False` becomes
        `fr.Last`, or `fr.nn.Ends` of two directions, and `go_backwards=True` a `fr.nn.Reverse` in front.

    Raises
    ------
    FileNotFoundError
    ValueError
        A file that is damaged, or holds weights alone; a layer or an option that fastrnn hasn't, which it names.

    Warns
    -----
    UserWarning
        Regularizers and constraints, which say how Keras trains, are left behind.

    Examples
    --------
    >>> import os, tempfile, numpy as np, fastrnn as fr
    >>> from fastrnn.interop import keras
    >>> file = os.path.join(tempfile.mkdtemp(), "model.keras")
    >>> gru, last = fr.GRU(3, 4, batch_first=True, seed=0), fr.Last(batch_first=True)
    >>> keras.save(fr.Sequential(gru, last, fr.Linear(4, 2, seed=1)), file)
    >>> model = keras.load(file)
    >>> y, state = model(np.ones((5, 7, 3), np.float32))  # [B, T, F]
    >>> y.shape
    (5, 2)
    """
    if dtype is not None:
        dtype = _check.float_dtype(dtype)
    if isinstance(ignore, str):
        raise TypeError(f"ignore: expected a list of names, got the string {ignore!r}")
    ignored = tuple(ignore)
    if isinstance(source, (str, os.PathLike)):
        with opened(source) as file, explained(file.path):
            if file.config is None:
                raise ValueError(
                    "holds weights alone, without the layers they are for: build the model with fastrnn, then "
                    "load_weights(model, file)"
                )
            nodes = _of_spec(file.config, file.keras_2, dtype, ignored)
            return as_model(build(nodes, file.arrays_of), False)
    _objects.checked(source)
    with explained(f"{type(source).__name__} {source.name!r}"):
        return _objects.load(source, dtype, ignored)


def _of_spec(spec: Any, keras_2: bool, dtype: Any, ignore: tuple[str, ...]) -> list[Node]:
    return list(chain(spec, lambda inner: node_of(inner, keras_2, dtype, ignore)))


def load_weights(model: Layer, source: Any) -> None:
    """Copy weights of Keras into a model whose layers match.

    Parameters
    ----------
    model : Layer
        A layer or `Sequential`; a stack (`num_layers=2`) stands for as many of Keras's layers.
    source : path, or a Keras layer or model
        A `.weights.h5` file, the weights in a `.keras` or `.h5` file, a layer or a model.

    Raises
    ------
    FileNotFoundError
    ValueError
        A file that is damaged; layers that don't match; nothing is copied then.

    Examples
    --------
    >>> import os, tempfile, fastrnn as fr
    >>> from fastrnn.interop import keras
    >>> file = os.path.join(tempfile.mkdtemp(), "gru.weights.h5")
    >>> first, second = fr.GRU(3, 4, seed=0), fr.GRU(3, 4, seed=1)
    >>> keras.save(first, file)
    >>> keras.load_weights(second, file)
    >>> bool((second.params["weight_ih_l0"] == first.params["weight_ih_l0"]).all())
    True
    """
    found = [part for part in _write.parts(model) if part.layer is not None]
    if not isinstance(source, (str, os.PathLike)):
        _objects.checked(source)
        with explained(f"{type(source).__name__} {source.name!r}"):
            _objects.read_into(found, source)
        return
    with opened(source) as file, explained(file.path):
        arrays = file.matched([part.node for part in found])
        put_all(found, arrays)


def save(model: Layer, file: Path) -> None:
    """Write a layer or `Sequential` as a file of Keras 3.

    Parameters
    ----------
    model : Layer
        Its arrays are [B, T, F] in Keras, whatever its `batch_first`.
    file : path
        `NAME.keras`, a model for `keras.models.load_model`, or `NAME.weights.h5` for `load_weights` of a Keras model
        whose layers match. Written atomically.

    Raises
    ------
    ValueError
        A layer or option that Keras hasn't, which it names.

    Examples
    --------
    >>> import os, tempfile, fastrnn as fr
    >>> from fastrnn.interop import keras
    >>> file = os.path.join(tempfile.mkdtemp(), "tagger.keras")
    >>> keras.save(fr.Sequential(fr.LSTM(3, 4, bidirectional=True), fr.Linear(8, 2), fr.Softmax()), file)
    """
    kind = _write.kind_of(file)
    found = _write.parts(model)
    write_atomic(file, _write.write_h5(found) if kind == ".weights.h5" else _write.write_archive(found, model))


def to_keras(model: Layer) -> Any:
    """A Keras `Sequential` that computes what a layer or `Sequential` of fastrnn does. Needs Keras 3.

    Parameters
    ----------
    model : Layer
        Its arrays are [B, T, F] in Keras, whatever its `batch_first`.

    Returns
    -------
    keras.Sequential
        With copies of the weights.
    """
    needed("keras", "Keras", "keras")
    import keras

    found = _write.parts(model)
    theirs = keras.Sequential.from_config(_write.config_of(found, model))
    theirs.set_weights([array for part in found for array in part.arrays()])
    return theirs


def set_weights(keras_layer: Any, layer: Layer) -> None:
    """Copy weights into a layer or model of Keras that matches.

    Parameters
    ----------
    keras_layer : keras.Layer or keras.Model
        Is built if it hasn't been.
    layer : Layer
        A layer or `Sequential` of fastrnn.

    Raises
    ------
    ValueError
        Weights of other shapes.
    """
    _objects.set_weights(keras_layer, layer)
