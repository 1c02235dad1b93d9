"""Every kind of bad input to layers, with its message."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import nn

F32, F64 = np.float32, np.float64


def refused(error, message, function, *args, **kwargs):
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Linear(0, 2), ValueError, "in_features: expected a positive integer, got 0"),
        (lambda: nn.Linear(2, -1), ValueError, "out_features: expected a positive integer, got -1"),
        (lambda: nn.Linear(2.0, 1), TypeError, "in_features: expected an integer, got 2.0"),
        (lambda: nn.Linear(True, 1), TypeError, "in_features: expected an integer, got True"),
        (lambda: nn.Linear(2, 1, dtype=np.float16), TypeError, "dtype: expected float32 or float64, got"),
        (lambda: nn.Linear(2, 1, dtype="wide"), TypeError, "dtype: expected float32 or float64, got 'wide'"),
        (lambda: nn.Linear(2, 1, dtype=None), TypeError, "dtype: expected float32 or float64, got None"),
        (lambda: nn.Linear(2, 1, seed=-1), ValueError, "int ≥ 0 or a numpy Generator, got -1"),
        (
            lambda: nn.Linear(2, 1, seed="a"),
            TypeError,
            "seed: expected None, an int ≥ 0 or a numpy Generator",
        ),
        (
            lambda: nn.Embedding(5, 2, padding_idx=5),
            ValueError,
            "padding_idx: expected an integer from 0 to 4, got 5",
        ),
        (lambda: nn.LayerNorm((2, 3)), TypeError, "normalized_shape: expected an integer, got (2, 3)"),
        (lambda: nn.LayerNorm(3, -1e-5), ValueError, "eps: expected a number ≥ 0, got -1e-05"),
        (lambda: nn.LayerNorm(3, "small"), TypeError, "eps: expected a number, got 'small'"),
        (lambda: nn.Dropout(1.0), ValueError, "p: expected 0 ≤ p < 1, got 1.0"),
        (lambda: nn.Dropout(-0.1), ValueError, "p: expected 0 ≤ p < 1, got -0.1"),
        (lambda: nn.Dropout(np.nan), ValueError, "p: expected a finite number, got nan"),
        (lambda: nn.LeakyReLU(np.inf), ValueError, "negative_slope: expected a finite number, got inf"),
        (lambda: nn.Swish(None), TypeError, "beta: expected a number, got None"),
        (lambda: nn.Sequential(), ValueError, "Sequential: expected at least one layer, got none"),
        (
            lambda: nn.Sequential(nn.Tanh(), np.tanh),
            TypeError,
            "Sequential: expected layers, got <ufunc 'tanh'> at position 1",
        ),
        (
            lambda: nn.Sequential([nn.Tanh()]),
            TypeError,
            "at position 0; pass layers one by one, Sequential(*layers)",
        ),
        (
            lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, dtype=F64)),
            ValueError,
            "Sequential: expected layers of one dtype, got float32 and float64",
        ),
        (
            lambda: nn.Sequential(nn.Sequential(nn.MaxPool(batch_first=True)), nn.MaxPool()),
            ValueError,
            "Sequential: expected all layers with batch_first=True or none, got both",
        ),
    ],
)
def test_constructors(make, error, message):
    refused(error, message, make)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (
            np.ones((4, 3), F64),
            TypeError,
            "use x.astype(np.float32), or make the layer with dtype=np.float64",
        ),
        (np.ones((4, 3), int), TypeError, "x: expected float32, got int64; use x.astype(np.float32)"),
        (np.ones((4, 3), complex), TypeError, "x: expected float32, got complex128"),
        (np.ones((4, 2), F32), ValueError, "x: expected [..., 3] (in_features=3), got shape (4, 2)"),
        (np.float32(1), ValueError, "x: expected [..., 3] (in_features=3), got shape ()"),
        ([[1, 2, 3], [4, 5]], ValueError, "x: could not be made into an array: "),
        ([None, 1, 2], TypeError, "x: expected numbers, got object"),
        (["1", "2", "3"], TypeError, "x: expected numbers, got <U1"),
        (None, TypeError, "x: expected an array, got None"),
        ("abc", TypeError, "x: expected float32, got <U3"),
    ],
)
def test_linear_input(x, error, message):
    layer = nn.Linear(3, 2)
    refused(error, message, layer, x)
    refused(error, message, layer.vjp, x)


def test_lists_are_converted():
    np.testing.assert_allclose(nn.Linear(3, 2, seed=0)([1, 2, 3]), nn.Linear(3, 2, seed=0)(np.array([1, 2, 3], F32)))
    layer = nn.Linear(3, 2, dtype=F64)
    y, pullback = layer.vjp([[1, 2, 3]])
    assert y.dtype == F64
    assert pullback([[1, 1]]).dtype == F64
    assert nn.Tanh()([0.5]).dtype == F32


def test_layers_without_parameters_take_both_float_types():
    for layer in (nn.Dropout(0.5), nn.Last(), nn.MeanPool(), nn.MaxPool(), nn.Tanh(), nn.Softmax()):
        for dtype in (F32, F64):
            x = np.ones((3, 2, 2), dtype)
            y, pullback = layer.vjp(x)
            assert y.dtype == pullback(np.ones_like(y)).dtype == layer(x).dtype == dtype
        refused(
            TypeError,
            "x: expected float32 or float64, got int64; use x.astype(np.float32)",
            layer,
            np.ones((3, 2, 2), int),
        )


def test_layer_norm_and_softmax_input():
    refused(
        ValueError,
        "x: expected [..., 4] (normalized_shape=4), got shape (3,)",
        nn.LayerNorm(4),
        np.ones(3, F32),
    )
    refused(ValueError, "x: expected [..., C] with C ≥ 1, got shape (3, 0)", nn.Softmax(), np.ones((3, 0)))
    refused(ValueError, "x: expected [..., C] with C ≥ 1, got shape ()", nn.Softmax(), 1.0)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([0, 5], ValueError, "x: expected integers from 0 to 4 (num_embeddings=5), got 5"),
        ([[0], [-1]], ValueError, "x: expected integers from 0 to 4 (num_embeddings=5), got -1"),
        (np.array([1.0]), TypeError, "x: expected integers, got float64; use x.astype(np.int64)"),
        (np.array([True]), TypeError, "x: expected integers, got bool"),
        (np.array([2**63], np.uint64), ValueError, "x: expected integers from 0 to 4"),
    ],
)
def test_embedding_input(x, error, message):
    layer = nn.Embedding(5, 2)
    refused(error, message, layer, x)
    refused(error, message, layer.vjp, x)


@pytest.mark.parametrize("kind", [nn.Last, nn.MeanPool, nn.MaxPool])
@pytest.mark.parametrize(
    ("shape", "lengths", "error", "message"),
    [
        ((4, 2), [1, 2], ValueError, "lengths: expected 1 integers, one for each row, got shape (2,)"),
        ((4, 2, 3), [1, 2, 3], ValueError, "lengths: expected 2 integers, one for each row, got shape (3,)"),
        ((4, 2, 3), [1, 5], ValueError, "lengths: expected integers from 0 to T=4, got 5 in row 1"),
        ((4, 2, 3), [-1, 5], ValueError, "lengths: expected integers from 0 to T=4, got -1 in row 0"),
        ((4, 2, 3), [1.0, 2.0], TypeError, "lengths: expected integers, got float64"),
        ((4,), None, ValueError, "x: expected [T, B, F], or [T, F] for one sequence, got shape (4,)"),
        ((0, 2, 3), None, ValueError, "x: expected at least one time step, got shape (0, 2, 3)"),
    ],
)
def test_pool_input(kind, shape, lengths, error, message):
    refused(error, message, kind(), np.ones(shape), lengths=lengths)
    refused(error, message, kind().vjp, np.ones(shape), lengths=lengths)


def test_pool_input_batch_first():
    refused(ValueError, "x: expected [B, T, F], or [T, F]", nn.Last(batch_first=True), np.ones(4))
    refused(
        ValueError,
        "x: expected at least one time step, got shape (2, 0, 3)",
        nn.Last(batch_first=True),
        np.ones((2, 0, 3)),
    )
    assert nn.Last(batch_first=True)(np.ones((0, 2, 3))).shape == (0, 3)


def test_the_outputs_of_a_recurrent_layer_are_not_stacked():
    """With T = 1 and B = num_layers·D, y and state have one shape, and NumPy would make one array of them."""
    outputs = nn.GRU(3, 3, seed=0)(np.ones((1, 1, 3), F32))
    message = "x: expected one array, got a tuple of length 2 that holds arrays; a recurrent layer returns (y, state)"
    for layer in (nn.Linear(3, 2), nn.LayerNorm(3), nn.Tanh(), nn.Softmax(), nn.Dropout(0.5), nn.Last(), nn.GRU(3, 2)):
        refused(TypeError, message, layer, outputs)
        refused(TypeError, message, layer.vjp, outputs)
    refused(TypeError, "a list of length 2 that holds arrays", nn.Tanh(), list(outputs))
    refused(TypeError, "prediction: expected one array, got a tuple", fr.losses.mse, outputs, np.ones((1, 1, 3), F32))
    refused(TypeError, "logits: expected one array, got a tuple", fr.losses.cross_entropy, outputs, [[0]])
    # numbers in lists are not arrays, even when NumPy made them
    np.testing.assert_array_equal(nn.ReLU()([np.float32(1), np.array(2.0)]), [1, 2])


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_cells_do_not_fit_into_sequential(cell):
    name = cell.__name__
    message = f"Sequential: {name} at position 1 takes one step and returns its state alone; use {name[:-4]}, which"
    refused(TypeError, message, nn.Sequential, nn.Linear(3, 3), cell(3, 3))


def test_only_layers_speak_of_layers():
    """A dtype that doesn't fit: only where a layer has one is making another layer a way out."""
    x = np.ones((2, 3))
    for call in (
        lambda: fr.losses.mse(x, x.astype(F32)),
        lambda: fr.losses.bce_with_logits(x, x.astype(F32)),
        lambda: fr.activations.softmax_jvp(x, x.astype(F32)),
        lambda: fr.functional.rnn(x, None, np.ones((4, 3), F32), np.ones((4, 4))),
        lambda: fr.functional.rnn(x, np.ones(4, F32), np.ones((4, 3)), np.ones((4, 4))),
    ):
        with pytest.raises(TypeError, match=r"expected float64, got float32; use \w+\.astype\(np\.float64\)$"):
            call()
