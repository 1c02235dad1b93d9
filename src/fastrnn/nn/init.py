"""Initial values: arrays from a shape, and ways to put them into a layer.

Every function takes `dtype` and `seed` (None, int or NumPy Generator). Values are drawn in float64 and then
rounded, so one seed gives the same weights in both float types. Matrices are [out, in], as all weights are.

Examples
--------
>>> import fastrnn as fr
>>> layer = fr.Linear(3, 2)
>>> fr.init.apply(layer, "weight", fr.init.orthogonal, seed=0)
>>> (layer.params["weight"] @ layer.params["weight"].T).round(4)
array([[ 1., -0.],
       [-0.,  1.]], dtype=float32)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn.nn._layer import Layer
from fastrnn.nn._random import Seed, generator

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

Shape = tuple[int, ...]


def zeros(shape: Shape, *, dtype: DTypeLike = np.float32, seed: Seed = None) -> NDArray[Any]:
    """Zeros; `seed` is accepted because all initialisers do.

    Examples
    --------
    >>> import fastrnn as fr
    >>> fr.init.zeros((2, 3))
    array([[0., 0., 0.],
           [0., 0., 0.]], dtype=float32)
    """
    return np.zeros(_check.shape(shape), _check.float_dtype(dtype))


def normal(shape: Shape, std: float = 1.0, *, dtype: DTypeLike = np.float32, seed: Seed = None) -> NDArray[Any]:
    """Normal with mean 0 and standard deviation `std`.

    Examples
    --------
    >>> import fastrnn as fr
    >>> w = fr.init.normal((1000, 100), std=0.1, seed=0)
    >>> w.shape, round(float(w.std()), 3)
    ((1000, 100), 0.1)
    """
    std = _check.at_least_zero(std, "std")
    return (generator(seed).standard_normal(_check.shape(shape)) * std).astype(_check.float_dtype(dtype))


def uniform(shape: Shape, *, fan: int | None = None, dtype: DTypeLike = np.float32, seed: Seed = None) -> NDArray[Any]:
    """Uniform in ±1/√fan, PyTorch's default.

    `fan` is by default the fan-in of a matrix. PyTorch uses in_features for both parameters of a linear layer
    and hidden_size for all parameters of a recurrent one.

    Parameters
    ----------
    shape : tuple of int
    fan : int, optional
    dtype : dtype
        float32 or float64.
    seed : None, int or Generator

    Examples
    --------
    >>> import fastrnn as fr
    >>> w = fr.init.uniform((1000, 100), seed=0)
    >>> w.shape, round(float(abs(w).max()), 3)
    ((1000, 100), 0.1)
    """
    shape = _check.shape(shape, "uniform without fan" if fan is None else None)
    fan = _check.fans(shape)[0] if fan is None else _check.positive_int(fan, "fan")
    return _uniform(shape, 1 / math.sqrt(fan), dtype, seed)


def xavier_uniform(
    shape: Shape, *, gain: float = 1.0, dtype: DTypeLike = np.float32, seed: Seed = None
) -> NDArray[Any]:
    """Uniform in ±gain·√(6 / (fan_in + fan_out)).

    Parameters
    ----------
    shape : tuple of int
    gain : float
    dtype : dtype
        float32 or float64.
    seed : None, int or Generator

    References
    ----------
    Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks, 2010,
    equation 16.

    Examples
    --------
    >>> import fastrnn as fr
    >>> w = fr.init.xavier_uniform((200, 400), seed=0)
    >>> w.shape, round(float(abs(w).max()), 3)
    ((200, 400), 0.1)
    """
    shape = _check.shape(shape, "xavier_uniform")
    bound = math.sqrt(6 / sum(_check.fans(shape)))
    return _uniform(shape, _check.number(gain, "gain") * bound, dtype, seed)


def xavier_normal(shape: Shape, *, gain: float = 1.0, dtype: DTypeLike = np.float32, seed: Seed = None) -> NDArray[Any]:
    """Normal with σ = gain·√(2 / (fan_in + fan_out)), of the same variance as `xavier_uniform`.

    Parameters
    ----------
    shape : tuple of int
    gain : float
    dtype : dtype
        float32 or float64.
    seed : None, int or Generator

    Examples
    --------
    >>> import fastrnn as fr
    >>> w = fr.init.xavier_normal((50, 150), seed=0)
    >>> w.shape, round(float(w.std()), 2)
    ((50, 150), 0.1)
    """
    shape = _check.shape(shape, "xavier_normal")
    std = math.sqrt(2 / sum(_check.fans(shape)))
    return normal(shape, _check.number(gain, "gain") * std, dtype=dtype, seed=seed)


def he_uniform(
    shape: Shape, *, gain: float = math.sqrt(2), dtype: DTypeLike = np.float32, seed: Seed = None
) -> NDArray[Any]:
    """Uniform in ±gain·√(3 / fan_in), of the same variance as `he_normal`.

    Parameters
    ----------
    shape : tuple of int
    gain : float
    dtype : dtype
        float32 or float64.
    seed : None, int or Generator

    Examples
    --------
    >>> import fastrnn as fr
    >>> w = fr.init.he_uniform((100, 600), seed=0)
    >>> w.shape, round(float(abs(w).max()), 3)
    ((100, 600), 0.1)
    """
    shape = _check.shape(shape, "he_uniform")
    bound = math.sqrt(3 / _check.fans(shape)[0])
    return _uniform(shape, _check.number(gain, "gain") * bound, dtype, seed)


def he_normal(
    shape: Shape, *, gain: float = math.sqrt(2), dtype: DTypeLike = np.float32, seed: Seed = None
) -> NDArray[Any]:
    """Normal with σ = gain / √fan_in; the default gain, √2, is that of ReLU.

    Parameters
    ----------
    shape : tuple of int
    gain : float
    dtype : dtype
        float32 or float64.
    seed : None, int or Generator

    References
    ----------
    He et al.: Delving Deep into Rectifiers, 2015, equation 10.

    Examples
    --------
    >>> import fastrnn as fr
    >>> w = fr.init.he_normal((300, 200), seed=0)
    >>> w.shape, round(float(w.std()), 2)
    ((300, 200), 0.1)
    """
    shape = _check.shape(shape, "he_normal")
    std = math.sqrt(1 / _check.fans(shape)[0])
    return normal(shape, _check.number(gain, "gain") * std, dtype=dtype, seed=seed)


def orthogonal(shape: Shape, *, gain: float = 1.0, dtype: DTypeLike = np.float32, seed: Seed = None) -> NDArray[Any]:
    """A random matrix with orthonormal rows or columns, whichever are fewer, times `gain`.

    Drawn uniformly: the QR decomposition of a normal matrix, with the signs of R's diagonal moved into Q.

    Parameters
    ----------
    shape : tuple of int
    gain : float
    dtype : dtype
        float32 or float64.
    seed : None, int or Generator

    References
    ----------
    Saxe, McClelland, Ganguli: Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks, 2014. Mezzadri: How to generate random matrices from the classical compact groups, 2007.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> w = fr.init.orthogonal((3, 5), seed=0)
    >>> bool(np.allclose(w @ w.T, np.eye(3), atol=1e-6))
    True
    """
    shape = _check.shape(shape, "orthogonal")
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(generator(seed).standard_normal((max(rows, columns), min(rows, columns))))
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    q = q if rows >= columns else q.T
    return (_check.number(gain, "gain") * q).reshape(shape).astype(_check.float_dtype(dtype))


def apply(
    layer: Layer,
    pattern: str,
    initialiser: Callable[..., NDArray[Any]],
    *,
    gates: int = 1,
    seed: Seed = None,
    **options: Any,
) -> None:
    """Fill every parameter whose name matches, in place.

    Parameters
    ----------
    layer : Layer
    pattern : str
        As in file names: `"weight_hh*"`, `"*.bias"`.
    initialiser : callable
        One of this module, or a function of `(shape, *, dtype, seed)` that returns an array.
    gates : int
        Recurrent weights stack their gates, [gates·H, ...]: fill each block on its own (4 for an LSTM, 3 for
        a GRU), so that fans and orthogonality are those of one gate.
    seed : None, int or numpy.random.Generator
    **options
        Passed on to the initialiser.

    Raises
    ------
    ValueError
        No name matches, or a first axis is not a multiple of `gates`.

    Examples
    --------
    >>> import numpy as np, fastrnn as fr
    >>> lstm = fr.LSTM(3, 4, seed=0)
    >>> fr.init.apply(lstm, "weight_hh*", fr.init.orthogonal, gates=4, seed=0)
    >>> forget = lstm.params["weight_hh_l0"][4:8]
    >>> bool(np.allclose(forget @ forget.T, np.eye(4), atol=1e-6))
    True
    """
    params, rng = layer.params, generator(seed)
    names = [name for name in params if fnmatchcase(name, pattern)]
    if not names:
        raise _check.no_match(pattern, params)
    for name in names:
        _check.gates(gates, params[name].shape, name)
        for block in np.split(params[name], gates):
            block[...] = initialiser(block.shape, dtype=block.dtype, seed=rng, **options)


def lstm_forget_bias(layer: Layer, value: float = 1.0) -> None:
    """Set the forget gates' bias of every LSTM in `layer`, so that it starts out remembering.

    Of the two biases that are added, `bias_ih` gets `value` and `bias_hh` zero.

    Parameters
    ----------
    layer : Layer
        An LSTM, or a model that has some.
    value : float

    Raises
    ------
    ValueError
        There is no LSTM with biases.

    References
    ----------
    Jozefowicz, Zaremba, Sutskever: An Empirical Exploration of Recurrent Network Architectures, 2015.

    Examples
    --------
    >>> import fastrnn as fr
    >>> model = fr.Sequential(fr.LSTM(3, 2, seed=0), fr.Last(), fr.Linear(2, 1, seed=0))
    >>> fr.init.lstm_forget_bias(model)
    >>> model.params["0.bias_ih_l0"][2:4]
    array([1., 1.], dtype=float32)
    """
    value = _check.number(value, "value")
    found = False
    for _, part in layer._walk():
        size = getattr(part, "hidden_size", 0)
        for name, bias in part._params.items():
            # Gates are i, f, g, o; of our recurrent layers only an LSTM has four of them.
            if name.startswith(("bias_ih", "bias_hh")) and bias.shape == (4 * size,):
                bias[size : 2 * size] = value if name.startswith("bias_ih") else 0
                found = True
    if not found:
        raise _check.no_lstm(type(layer).__name__)


def _uniform(shape: Shape, bound: float, dtype: DTypeLike, seed: Seed) -> NDArray[Any]:
    return generator(seed).uniform(-bound, bound, shape).astype(_check.float_dtype(dtype))
