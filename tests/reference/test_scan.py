"""Gradients of the references of scans by finite differences."""

import numpy as np
import pytest

from fastrnn.reference import scan
from tests.reference.finite_differences import check_gradients

T, B, I, H = 4, 3, 3, 3
LENGTHS = {"full": None, "ragged": [4, 0, 2]}
# name: (function, shapes of the parameters, options, size of the state)
CASES = {
    "sru": (scan.sru_vjp, {"W": (3 * H, I), "v": (2 * H,), "b": (2 * H,)}, {"size": H, "scale": 1.3}, H),
    "sru_tanh": (scan.sru_vjp, {"W": (4 * 2, I), "v": (4,), "b": (4,)}, {"size": 2, "tanh": True}, 2),
    "qrnn": (scan.qrnn_vjp, {"W": (3 * H, I), "b": (3 * H,)}, {}, H),
    "mingru": (scan.min_gru_vjp, {"W": (2 * H, I), "b": (2 * H,)}, {}, H),
    "mingru_g": (scan.min_gru_vjp, {"W": (2 * H, I), "b": (2 * H,)}, {"positive": True}, H),
    "minlstm": (scan.min_lstm_vjp, {"W": (3 * H, I), "b": (3 * H,)}, {}, H),
    "minlstm_g": (scan.min_lstm_vjp, {"W": (3 * H, I), "b": (3 * H,)}, {"positive": True}, H),
    "lru": (
        scan.lru_vjp,
        {"nu": (2,), "theta": (2,), "gamma": (2,), "B": (4, I), "C": (H, 4), "D": (H, I), "b": (H,)},
        {},
        4,
    ),
    "indrnn_relu": (scan.ind_rnn_vjp, {"W": (H, I), "u": (H,), "b": (H,)}, {}, H),
    "indrnn_tanh": (scan.ind_rnn_vjp, {"W": (H, I), "u": (H,), "b": (H,)}, {"relu": False}, H),
}


def check(function, shapes, options, states):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((T, B, I))
    s_0 = tuple(rng.standard_normal((B, size)) for size in states)
    params = {name: 0.7 * rng.standard_normal(shape) for name, shape in shapes.items()}

    def forward():
        return function(x, s_0 if len(s_0) > 1 else s_0[0], *params.values(), **options)

    (y, _), pullback = forward()
    dy = rng.standard_normal(y.shape)
    ds_n = tuple(rng.standard_normal(s.shape) for s in s_0)
    ds_n = ds_n if len(s_0) > 1 else ds_n[0]
    dx, ds_0, *grads = pullback(dy, ds_n)
    starts = {f"s_{k}": s for k, s in enumerate(s_0)}
    dstarts = dict(zip(starts, ds_0 if len(s_0) > 1 else (ds_0,), strict=True))
    inputs, found = {"x": x, **starts, **params}, {"x": dx, **dstarts, **dict(zip(params, grads, strict=True))}
    check_gradients(lambda: forward()[0], inputs, (dy, ds_n), found)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("name", CASES)
def test_gradients(name, lengths, reverse):
    function, shapes, options, size = CASES[name]
    check(function, shapes, {**options, "lengths": lengths, "reverse": reverse}, (size,))


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_qrnn_with_a_window(lengths, reverse):
    shapes = {"W": (3 * H, 2 * I), "b": (3 * H,)}
    check(scan.qrnn_vjp, shapes, {"window": 2, "lengths": lengths, "reverse": reverse}, (H, I))


def test_a_row_ends_with_its_length():
    rng = np.random.default_rng(1)
    x, W = rng.standard_normal((T, B, I)), rng.standard_normal((2 * H, I))
    x[2:, 1] = np.nan
    (y, h_n), pullback = scan.min_gru_vjp(x, None, W, None, lengths=[4, 2, 0])
    assert not y[2:, 1].any() and not y[:, 2].any() and not h_n[2].any()
    assert np.array_equal(h_n[1], y[1, 1])
    dx, *_ = pullback(np.full_like(y, 1.0))
    assert not dx[2:, 1].any() and np.isfinite(dx).all()
