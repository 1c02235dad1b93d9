"""LSTM, GRU and RNN: every kind of bad input, with its message."""

import numpy as np
import pytest

import fastrnn as fr
from tests.nn.test_recurrent import F32, layers, make, problem


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fr.LSTM(0, 5), ValueError, "input_size: expected a positive integer, got 0"),
        (lambda: fr.LSTM(3, -1), ValueError, "hidden_size: expected a positive integer, got -1"),
        (lambda: fr.LSTM(3, 5, 0), ValueError, "num_layers: expected a positive integer, got 0"),
        (lambda: fr.LSTM(3.0, 5), TypeError, "input_size: expected an integer, got 3.0"),
        (lambda: fr.LSTM(3, True), TypeError, "hidden_size: expected an integer, got True"),
        (lambda: fr.LSTM(3, "5"), TypeError, "hidden_size: expected an integer, got '5'"),
        (lambda: fr.GRU(3, 5, dropout=1.0), ValueError, "dropout: expected 0 ≤ dropout < 1, got 1.0"),
        (lambda: fr.GRU(3, 5, dropout=-0.1), ValueError, "dropout: expected 0 ≤ dropout < 1, got -0.1"),
        (lambda: fr.GRU(3, 5, dropout=np.nan), ValueError, "dropout: expected a finite number, got nan"),
        (lambda: fr.GRU(3, 5, dropout="half"), TypeError, "dropout: expected a number, got 'half'"),
        (
            lambda: fr.LSTM(3, 5, proj_size=5),
            ValueError,
            "proj_size: expected 0 (none) up to hidden_size-1=4, got 5",
        ),
        (
            lambda: fr.LSTM(3, 5, proj_size=-1),
            ValueError,
            "proj_size: expected 0 (none) up to hidden_size-1=4",
        ),
        (lambda: fr.LSTM(3, 5, proj_size=1.5), TypeError, "proj_size: expected an integer, got 1.5"),
        (lambda: fr.GRU(3, 5, proj_size=2), TypeError, "proj_size"),
        (lambda: fr.LSTM(3, 5, dtype=np.float16), TypeError, "dtype: expected float32 or float64"),
        (lambda: fr.LSTM(3, 5, dtype=None), TypeError, "dtype: expected float32 or float64, got None"),
        (
            lambda: fr.LSTM(3, 5, seed=-1),
            ValueError,
            "seed: expected None, an int ≥ 0 or a numpy Generator, got -1",
        ),
        (lambda: fr.LSTM(3, 5, seed="x"), TypeError, "seed: expected None, an int ≥ 0 or a numpy Generator"),
        (
            lambda: fr.RNN(3, 5, nonlinearity="gelu"),
            ValueError,
            "nonlinearity: expected one of 'tanh', 'relu', 'sigmoid', 'leaky_relu', 'identity', got 'gelu'",
        ),
        (lambda: fr.RNN(3, 5, nonlinearity=None), ValueError, "nonlinearity: expected one of"),
        (lambda: fr.LSTM(3, 5, 1, True), TypeError, "positional"),
    ],
)
def test_constructor_refuses(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


T, B, H = 7, 4, 5
REFUSED = [
    ({"x": np.ones((T, B, 4), F32)}, ValueError, "x: expected [T, B, 3] (input_size=3), got shape (7, 4, 4)"),
    ({"x": np.ones((T, B, 3))}, TypeError, "x: expected float32, got float64; use x.astype(np.float32)"),
    ({"x": np.ones((T, B, 3))}, TypeError, "or make the layer with dtype=np.float64"),
    ({"x": np.ones((T, B, 3), int)}, TypeError, "x: expected float32, got int64; use x.astype(np.float32)"),
    ({"x": np.ones((T, B, 3), ">f4")}, TypeError, "x: expected float32, got >f4"),
    ({"x": None}, TypeError, "x: expected an array, got None"),
    ({"x": [["a"]]}, TypeError, "x: expected numbers"),
    ({"x": [[1.0], [1.0, 2.0]]}, ValueError, "x: could not be made into an array"),
    (
        {"x": np.ones(3, F32)},
        ValueError,
        "x: expected [T, B, 3] (input_size=3), or [T, 3] for one sequence, got shape (3,)",
    ),
    ({"x": np.ones((T, 4), F32)}, ValueError, "(input_size=3), or [T, 3] for one sequence, got shape (7, 4)"),
    ({"x": (np.ones((1, B, 3), F32),) * 2}, TypeError, "a recurrent layer returns (y, state), pass y alone"),
    ({"x": np.ones((T, B, 1, 3), F32)}, ValueError, "got shape (7, 4, 1, 3)"),
    ({"x": np.ones((0, B, 3), F32)}, ValueError, "x: expected at least one time step, got shape (0, 4, 3)"),
    ({"x": np.ones((0, 3), F32)}, ValueError, "x: expected at least one time step, got shape (0, 3)"),
    ({"state": np.ones((2, B, H), F32)}, TypeError, "state: expected a tuple (h, c) or None, got an array"),
    ({"state": (None,) * 3}, TypeError, "state: expected a tuple (h, c) or None, got a tuple of length 3"),
    (
        {"state": (np.ones((1, B, H), F32), None)},
        ValueError,
        "state[0]: expected shape (2, 4, 5), got (1, 4, 5)",
    ),
    (
        {"state": (None, np.ones((2, 3, H), F32))},
        ValueError,
        "state[1]: expected shape (2, 4, 5), got (2, 3, 5)",
    ),
    ({"state": (np.ones((2, B, H)), None)}, TypeError, "state[0]: expected float32, got float64"),
    ({"lengths": [7.0, 7.0, 7.0, 7.0]}, TypeError, "lengths: expected integers, got float64"),
    ({"lengths": [7, 7, 7]}, ValueError, "lengths: expected 4 integers, one for each row, got shape (3,)"),
    ({"lengths": 7}, ValueError, "lengths: expected 4 integers, one for each row, got shape ()"),
    (
        {"lengths": [[7, 7], [7, 7]]},
        ValueError,
        "lengths: expected 4 integers, one for each row, got shape (2, 2)",
    ),
    ({"lengths": [7, 8, 7, 7]}, ValueError, "lengths: expected integers from 0 to T=7, got 8 in row 1"),
    ({"lengths": [7, 7, 7, -1]}, ValueError, "lengths: expected integers from 0 to T=7, got -1 in row 3"),
    ({"lengths": [None] * 4}, TypeError, "lengths: expected integers, got object"),
]


@pytest.mark.parametrize(("change", "error", "message"), REFUSED, ids=[r[2][:60] for r in REFUSED])
def test_call_refuses(change, error, message):
    layer = fr.LSTM(3, H, bidirectional=True)
    for run in (layer, layer.vjp):
        with pytest.raises(error) as caught:
            run(**({"x": np.ones((T, B, 3), F32)} | change))
        assert message in str(caught.value)


@pytest.mark.parametrize("batch_first", [False, True])
def test_messages_know_the_layout(batch_first):
    layer = fr.GRU(3, H, batch_first=batch_first)
    with pytest.raises(ValueError, match=r"\[B, T, 3\]" if batch_first else r"\[T, B, 3\]"):
        layer(np.ones(3, F32))
    with pytest.raises(ValueError, match=r"\[B, T, 3\] \(" if batch_first else r"\[T, B, 3\] \("):
        layer(np.ones((T, B, 4), F32))
    shape = (B, 0, 3) if batch_first else (0, B, 3)
    with pytest.raises(ValueError, match="at least one time step"):
        layer(np.ones(shape, F32))
    state = np.ones((1, T, H), F32)
    with pytest.raises(ValueError, match=r"state: expected shape \(1, 4, 5\), got \(1, 7, 5\)"):
        layer(np.ones((B, T, 3) if batch_first else (T, B, 3), F32), state)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"checkpoint": 0}, ValueError, "checkpoint: expected a positive integer, got 0"),
        ({"checkpoint": 2.5}, TypeError, "checkpoint: expected an integer, got 2.5"),
        ({"checkpoint": True}, TypeError, "checkpoint: expected an integer, got True"),
        ({"seed": -1}, ValueError, "seed: expected None, an int ≥ 0 or a numpy Generator"),
        ({"seed": "x"}, TypeError, "seed: expected None, an int ≥ 0 or a numpy Generator"),
        ({"size": 3}, TypeError, "size"),
    ],
)
def test_training_refuses(options, error, message):
    layer = fr.LSTM(3, H, 2, dropout=0.5)
    with pytest.raises(error) as caught:
        layer.vjp(np.ones((T, B, 3), F32), **options)
    assert message in str(caught.value)


def test_pullback_refuses():
    layer = fr.LSTM(3, H, bidirectional=True)
    _, pullback = layer.vjp(np.ones((T, B, 3), F32))
    for arguments, error, message in [
        (
            (np.ones((T, B, H), F32),),
            ValueError,
            "dy: expected shape (7, 4, 10), that of the output, got (7, 4, 5)",
        ),
        ((np.ones((T, B, 2 * H)),), TypeError, "dy: expected float32, got float64"),
        ((None, np.ones((2, B, H), F32)), TypeError, "dstate: expected a tuple (h, c) or None"),
        (
            (None, (np.ones((1, B, H), F32), None)),
            ValueError,
            "dstate[0]: expected shape (2, 4, 5), got (1, 4, 5)",
        ),
        ((None, (None, np.ones((2, B, H)))), TypeError, "dstate[1]: expected float32, got float64"),
    ]:
        with pytest.raises(error) as caught:
            pullback(*arguments)
        assert message in str(caught.value)
    assert not any(grad.any() for grad in layer.grads.values())
    pullback()


def refusal(call, **arguments):
    """The explanation that a call gives, or all names if it returns."""
    try:
        call(**arguments)
    except (ValueError, TypeError) as error:
        return str(error)
    return "x state lengths checkpoint seed dy dstate"


@layers
def test_whatever_comes_in(name):
    """Any value in place of any argument: an explanation or a result."""
    layer = make(name)
    values = [
        None, 0, -1, 2.5, True, "", [], [[]], (), (None,), (None, None), {}, object(), b"x", print, range(3),
        np.float32(1), np.nan, np.ones(0), np.ones((0, 0)), np.ones((0, 0, 0), F32), np.ones((0, 0, 3), F32),
        np.ones(()), np.ones((1, 1, 1, 1)), np.ones((1, 3, 4), F32), np.array("x"), np.array(None), ...,
        np.ones((5, 3, 3), np.longdouble), np.ma.ones((5, 3, 3), F32), np.full((5, 3, 3), np.nan, F32),
        np.array([1 << 63] * 3, np.uint64), slice(None),
    ]  # fmt: skip
    x, _, _, _ = problem(layer)
    for argument in ("x", "state", "lengths", "checkpoint", "seed"):
        for value in values:
            for run in (layer, layer.vjp) if argument in ("x", "state", "lengths") else (layer.vjp,):
                message = refusal(run, **({"x": x} | {argument: value}))
                assert argument in message, (argument, value, message)
    for argument in ("dy", "dstate"):
        for value in values:
            message = refusal(layer.vjp(x)[1], **{argument: value})
            assert argument in message, (argument, value, message)


def test_too_many_steps():
    x = np.broadcast_to(F32(0), (1 << 16, 1 << 15, 1))
    with pytest.raises((ValueError, MemoryError)):
        fr.RNN(1, 1)(x)
