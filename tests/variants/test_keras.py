"""Recurrent dropout beside Keras's cells: what the mask multiplies, in LSTM, SimpleRNN and both kinds of GRU.

Keras draws a mask for each gate; given the same one for all gates it must compute what the reference does.
"""

import numpy as np
import pytest

from fastrnn import reference
from tests.reference.finite_differences import assert_close
from tests.variants.cases import B, Case, H, I, T

keras = pytest.importorskip("keras")

ORDERS = {"lstm": ("ifgo", "ifgo"), "gru": ("rzn", "zrn"), "rnn": ("h", "h")}  # ours, Keras's


def kernel(cell, a):
    return reference.reorder_gates(a, *ORDERS[cell])


@pytest.mark.parametrize("cell, reset_after", [("lstm", None), ("gru", True), ("gru", False), ("rnn", None)])
def test_recurrent_mask(cell, reset_after):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("with other backends Keras's cells lose digits of float64: 1e-7 was measured")
    case = Case(cell, seed=11)
    settings = {"recurrent_dropout": 0.5, "dtype": "float64"}
    if cell == "gru":
        settings["reset_after"] = reset_after
        case.options["reset_after"] = reset_after
    theirs = {"lstm": keras.layers.LSTMCell, "gru": keras.layers.GRUCell, "rnn": keras.layers.SimpleRNNCell}[cell]
    if cell == "lstm":
        settings["unit_forget_bias"] = False
    theirs = theirs(H, **settings)
    theirs.build((B, I))
    biases = np.stack([kernel(cell, case.weights[name]) for name in ("bias_ih", "bias_hh")])
    one_bias = not (cell == "gru" and reset_after)
    theirs.set_weights(
        [
            kernel(cell, case.weights["weight_ih"]).T,
            kernel(cell, case.weights["weight_hh"]).T,
            biases.sum(axis=0) if one_bias else biases,
        ]
    )
    mask = 2.0 * (case.random(B, H) < 0.3)
    given = keras.ops.convert_to_tensor(mask, dtype="float64")
    theirs._recurrent_dropout_mask = given if cell == "rnn" else [given] * len(ORDERS[cell][0])
    state = [keras.ops.convert_to_tensor(s, dtype="float64") for s in case.states]
    expected = []
    for t in range(T):
        y, state = theirs(keras.ops.convert_to_tensor(case.x[t], dtype="float64"), state, training=True)
        expected.append(keras.ops.convert_to_numpy(y))
    (actual, _, _), _ = case.vjp(recurrent_mask=mask)
    assert_close(actual, np.stack(expected), 1e-12)
    assert abs(actual - case.vjp()[0][0]).max() > 0.01
