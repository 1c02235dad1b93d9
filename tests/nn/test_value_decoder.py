"""ValueDecoder: reading its own values is what a loop over steps does, and so are the gradients."""

import numpy as np
import pytest

import fastrnn as fr
from tests.reference.finite_differences import assert_close, numerical_gradient

T, B, O, C, H = 6, 3, 2, 1, 5
KINDS = ["lstm", "gru", "rnn", "general", "additive", "dot without feeding", "lstm projected"]
OWN = {"given": "000000", "free": "011111", "mixed": "001101", "one": "000100", "last": "000001"}


def make(kind, layers=1, **options):
    if kind in ("lstm", "gru", "rnn", "lstm projected"):
        more = {"proj_size": 4} if kind == "lstm projected" else {}
        cell = {"gru": fr.GRU, "rnn": fr.RNN}.get(kind, fr.LSTM)
        rnn, size = cell(O + C, H, layers, dtype=np.float64, seed=0, **more), 4 if more else H
    else:
        attention, feeding = kind.split(" ")[0], "without" not in kind
        rnn, size = fr.nn.AttentionDecoder(O + C, H, H, layers, cell="gru", attention=attention, output_size=4,
                                           input_feeding=feeding, dtype=np.float64, seed=0), 4  # fmt: skip
    return fr.nn.ValueDecoder(rnn, fr.Linear(size, O, dtype=np.float64, seed=1), **options)


def arguments(layer, layers=1, seed=0):
    rng = np.random.default_rng(seed)
    h = rng.standard_normal((layers, B, getattr(layer.rnn, "proj_size", 0) or H))
    c = rng.standard_normal((layers, B, H))
    source = rng.standard_normal((4, B, H)) if layer.attends else None
    return [rng.standard_normal((T, B, O + C)), (h, c) if isinstance(layer.rnn, fr.LSTM) else h, source]


def steps(own):
    return np.array([s == "1" for s in OWN[own]])


def pair(state):
    return state if isinstance(state, tuple) else (state,)


def loop(layer, x, state, source, own, lengths):
    """One step a call."""
    x, values, feed = x.copy(), [], None
    for t in range(T):
        if own[t]:
            x[t, :, :O] = values[-1]
        ends = None if lengths is None else np.clip(np.array(lengths) - t, 0, 1)
        if layer.attends:
            y, state = layer.rnn(x[t : t + 1], source, state, feed, lengths=ends)
            feed = y[0]
        else:
            y, state = layer.rnn(x[t : t + 1], state, lengths=ends)
        values.append(layer.output(y)[0])
    values = np.array(values)
    if lengths is not None:
        values[np.arange(T)[:, None] >= np.array(lengths)] = 0
    return values, state


@pytest.mark.parametrize("lengths", [None, [6, 3, 0]])
@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_a_loop_and_gradients_its_differences(kind, layers, own, lengths):
    layer = make(kind, layers)
    args, own = arguments(layer, layers), steps(own)
    expected, state = loop(layer, *args, own, lengths)
    options = {"own": own, "lengths": lengths}
    (v, state_n), pullback = layer.vjp(*args, **options)
    for found, end in ((v, state_n), layer(*args, **options)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)  # other roundings: O is folded into weights
        for one, other in zip(pair(end), pair(state), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-14)
    rng = np.random.default_rng(1)
    dv, dstate = rng.standard_normal(v.shape), tuple(rng.standard_normal(s.shape) for s in pair(state_n))
    dx, dstate_0, dsource = pullback(dv, dstate if isinstance(state_n, tuple) else dstate[0])

    def value():
        v, end = layer(*args, **options)
        return float((v * dv).sum() + sum((s * d).sum() for s, d in zip(pair(end), dstate, strict=True)))

    arrays = [(layer.params[name], grad, name) for name, grad in layer.grads.items()] + [(args[0], dx, "x")]
    arrays += [(args[2], dsource, "source")] if layer.attends else []
    states = zip(pair(args[1]), pair(dstate_0), strict=True)
    for array, grad, name in [*arrays, *((a, g, "state") for a, g in states)]:
        chosen = rng.permutation(array.size)[:8]
        part = array.reshape(-1)[chosen]

        def at(part=part, chosen=chosen, array=array):
            array.reshape(-1)[chosen] = part
            return value()

        assert_close(grad.reshape(-1)[chosen], numerical_gradient(at, part), what=name)
        at()
    assert not dx[own, :, :O].any()


@pytest.mark.parametrize("kind", ["lstm", "gru", "general"])
def test_without_feedback_gradients_are_those_of_given_values(kind):
    layer, again = make(kind, feedback_grad=False), make(kind)
    args, own = arguments(layer), steps("mixed")
    (v, _), pullback = layer.vjp(*args, own=own)
    given = args[0].copy()
    given[1:, :, :O][own[1:]] = v[:-1][own[1:]]
    (w, _), expected = again.vjp(given, *args[1:])
    np.testing.assert_allclose(v, w, rtol=0, atol=1e-14)
    dx = pullback(np.ones_like(v))[0]
    expected_dx = expected(np.ones_like(v))[0]
    expected_dx[own, :, :O] = 0
    np.testing.assert_allclose(dx, expected_dx, rtol=0, atol=1e-13)
    for name, grad in again.grads.items():
        np.testing.assert_allclose(layer.grads[name], grad, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("kind", ["lstm", "gru", "additive"])
def test_retain_and_arguments_stay(kind):
    layer = make(kind)
    args = arguments(layer)
    before = args[0].copy()
    (v, _), pullback = layer.vjp(*args, own=steps("mixed"), retain=True)
    found = pullback(np.ones_like(v))[0]
    grads = {name: grad.copy() for name, grad in layer.grads.items()}
    np.testing.assert_array_equal(pullback(np.ones_like(v))[0], found)
    for name, grad in layer.grads.items():
        np.testing.assert_allclose(grad, 2 * grads[name], rtol=1e-13)
    np.testing.assert_array_equal(args[0], before)
    again = fr.nn.from_spec(fr.nn.to_spec(layer))
    again.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(again(*args)[0], layer(*args)[0])


def test_bad_arguments_are_named():
    layer, linear = make("lstm"), fr.Linear(H, O, dtype=np.float64)
    args = arguments(layer)
    for options, text in (
        ({"own": [True] * T}, "own: expected False at the first step"),
        ({"own": [False] * 2}, "own: expected 6 bools, one for each step, got bool of shape"),
        ({"own": [0] * T}, "own: expected 6 bools, one for each step, got int64"),
        ({"source_lengths": [1] * B}, "source_lengths: expected None, because LSTM has no attention"),
        ({"lengths": [7, 0, 0]}, "lengths: expected integers from 0 to T=6, got 7"),
    ):
        with pytest.raises(ValueError, match=text):
            layer(*args, **options)
    for parts, error, text in (
        ((linear, linear), TypeError, "rnn: expected an RNN, LSTM, GRU or AttentionDecoder, got"),
        ((fr.LSTM(2, H, bidirectional=True), linear), ValueError, "rnn: expected one direction"),
        ((fr.LSTM(2, H, 2, dropout=0.5), linear), ValueError, "rnn: expected no dropout between layers, got 0.5"),
        ((fr.LSTM(2, H), fr.LSTM(2, H)), TypeError, "output: expected a Linear, got"),
        ((fr.LSTM(2, H), linear), TypeError, "output: expected float32, the dtype of rnn, got float64"),
        ((fr.LSTM(2, 4, dtype=np.float64), linear), ValueError, "output: expected in_features=4"),
        ((fr.LSTM(1, H, dtype=np.float64), linear), ValueError, "output: expected out_features up to 1"),
    ):
        with pytest.raises(error, match=text):
            fr.nn.ValueDecoder(*parts)
