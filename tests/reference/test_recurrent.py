"""LSTM, GRU and RNN: gradients by finite differences, lengths, directions and layouts by their definitions."""

import numpy as np
import pytest

from fastrnn import reference

from .finite_differences import assert_close, check_gradients

T, B, I, H, P = 4, 3, 2, 3, 2
RAGGED = [2, 0, 4]
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
CELLS = {  # name: (function, its options, gates)
    "lstm": ("lstm", {}, 4),
    "lstm_projected": ("lstm", {}, 4),
    "gru": ("gru", {}, 3),
    "gru_reset_before": ("gru", {"reset_after": False}, 3),
    "rnn_tanh": ("rnn", {"nonlinearity": "tanh"}, 1),
    "rnn_relu": ("rnn", {"nonlinearity": "relu"}, 1),
    "rnn_sigmoid": ("rnn", {"nonlinearity": "sigmoid"}, 1),
    "rnn_leaky_relu": ("rnn", {"nonlinearity": "leaky_relu"}, 1),
    "rnn_identity": ("rnn", {"nonlinearity": "identity"}, 1),
}
every_cell = pytest.mark.parametrize("name", CELLS)
both_directions = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


class Case:
    """Random arrays for one cell, and calls of its functions."""

    def __init__(self, name, *, bias=True, dtype=np.float64, seed=0):
        rng = np.random.default_rng([seed, list(CELLS).index(name)])
        function, self.options, gates = CELLS[name]
        self.forward_function = getattr(reference, function)
        self.vjp_function = getattr(reference, function + "_vjp")
        self.is_lstm = function == "lstm"
        self.output_size = P if name == "lstm_projected" else H
        sizes = (self.output_size, H) if self.is_lstm else (H,)

        def random(*shape):
            return rng.standard_normal(shape).astype(dtype)

        self.x, self.dy = random(T, B, I), random(T, B, self.output_size)
        self.states = tuple(random(B, size) for size in sizes)
        self.dstates = tuple(random(B, size) for size in sizes)
        self.weights = {"weight_ih": random(gates * H, I), "weight_hh": random(gates * H, self.output_size)}
        if bias:
            self.weights |= {"bias_ih": random(gates * H), "bias_hh": random(gates * H)}
        if name == "lstm_projected":
            self.weights["weight_hr"] = random(P, H)

    def packed(self, states):
        """States as the functions take them: a tuple for the LSTM, one array for the others."""
        return tuple(states) if self.is_lstm else states[0]

    def unpacked(self, state):
        return tuple(state) if self.is_lstm else (state,)

    def forward(self, x=None, states=None, **options):
        x = self.x if x is None else x
        state = self.packed(self.states if states is None else states)
        y, state_n = self.forward_function(x, state, **self.weights, **self.options, **options)
        return y, self.unpacked(state_n)

    def vjp(self, x=None, states=None, dy=None, dstates=None, **options):
        """Outputs and all gradients."""
        x = self.x if x is None else x
        state = self.packed(self.states if states is None else states)
        (y, state_n), pullback = self.vjp_function(x, state, **self.weights, **self.options, **options)
        dx, dstate_0, grads = pullback(
            self.dy if dy is None else dy, self.packed(self.dstates if dstates is None else dstates)
        )
        return y, self.unpacked(state_n), dx, self.unpacked(dstate_0), grads


def assert_same(actual, expected):
    """Assert equality up to the rounding of matrix products of other shapes."""
    assert_close(actual, expected, 1e-14)


@every_cell
@both_directions
@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["full", "ragged"])
def test_gradients(name, reverse, lengths):
    case = Case(name)
    _, _, dx, dstates_0, grads = case.vjp(lengths=lengths, reverse=reverse)
    states = {f"state {k}": s for k, s in enumerate(case.states)}
    check_gradients(
        lambda: case.forward(lengths=lengths, reverse=reverse),
        {"x": case.x, **states, **case.weights},
        (case.dy, case.dstates),
        {
            "x": dx,
            **dict(zip(states, dstates_0)),
            **{n: g for n, g in grads._asdict().items() if g is not None},
        },
    )


@every_cell
def test_gradients_without_bias_and_state(name):
    case = Case(name, bias=False, seed=1)
    call = (case.x, None)
    (y, state_n), pullback = case.vjp_function(*call, **case.weights, **case.options)
    dx, dstate_0, grads = pullback(case.dy)
    assert grads.bias_ih is None and grads.bias_hh is None
    check_gradients(
        lambda: case.forward_function(*call, **case.weights, **case.options)[0],
        {"x": case.x, **case.weights},
        case.dy,
        {"x": dx, **{n: g for n, g in grads._asdict().items() if g is not None}},
    )
    zeros = [np.zeros_like(s) for s in case.states]
    expected_y, expected_state_n = case.forward(states=zeros)
    np.testing.assert_array_equal(y, expected_y)
    for actual, expected in zip(case.unpacked(state_n), expected_state_n):
        np.testing.assert_array_equal(actual, expected)
    expected_dstates_0 = case.vjp(states=zeros, dstates=zeros)[3]
    for actual, expected in zip(case.unpacked(dstate_0), expected_dstates_0):
        np.testing.assert_array_equal(actual, expected)


@every_cell
@pytest.mark.parametrize("bias", ["bias_ih", "bias_hh"])
def test_either_bias_alone(name, bias):
    case, other = Case(name), {"bias_ih": "bias_hh", "bias_hh": "bias_ih"}[bias]
    del case.weights[other]
    grads = case.vjp()[-1]
    assert getattr(grads, other) is None
    gradient = getattr(grads, bias)
    check_gradients(case.forward, {bias: case.weights[bias]}, (case.dy, case.dstates), {bias: gradient})
    y = case.forward()[0]
    case.weights[other] = np.zeros_like(case.weights[bias])
    assert_same(y, case.forward()[0])


@every_cell
def test_pullback_is_linear_in_its_parts(name):
    """None stands for zeros, a second call gives the same, and dy and dstate add up."""
    case = Case(name)
    _, pullback = case.vjp_function(case.x, case.packed(case.states), **case.weights, **case.options)
    dstate = case.packed(case.dstates)
    whole, from_y, from_state = pullback(case.dy, dstate), pullback(dy=case.dy), pullback(dstate=dstate)
    again, nothing = pullback(case.dy, dstate), pullback()
    for w, y, s, a, n in zip(*(flat(r) for r in (whole, from_y, from_state, again, nothing))):
        assert_close(y + s, w, 1e-13)
        np.testing.assert_array_equal(a, w)
        np.testing.assert_array_equal(n, np.zeros_like(w))
    if case.is_lstm:
        parts = pullback(dstate=(dstate[0], None)), pullback(dstate=(None, dstate[1]))
        for h, c, s in zip(flat(parts[0]), flat(parts[1]), flat(from_state)):
            assert_close(h + c, s, 1e-13)


def flat(result):
    """All arrays in a nest of tuples."""
    if isinstance(result, tuple):
        return [array for part in result for array in flat(part)]
    return [] if result is None else [result]


@every_cell
def test_shapes_names_and_dtype(name):
    for dtype in (np.float32, np.float64):
        case = Case(name, dtype=dtype)
        y, states_n, dx, dstates_0, grads = case.vjp(lengths=RAGGED)
        assert y.shape == (T, B, case.output_size) and dx.shape == case.x.shape
        assert [s.shape for s in states_n] == [s.shape for s in dstates_0] == [s.shape for s in case.states]
        assert type(grads).__name__ == {"l": "LSTM", "g": "GRU", "r": "RNN"}[name[0]] + "Grads"
        assert grads._fields[: 5 if case.is_lstm else 4] == WEIGHTS[: 5 if case.is_lstm else 4]
        assert {n: g.shape for n, g in grads._asdict().items() if g is not None} == {
            n: w.shape for n, w in case.weights.items()
        }
        assert {a.dtype for a in flat((y, states_n, dx, dstates_0, grads))} == {np.dtype(dtype)}


@every_cell
def test_float32_agrees_with_float64(name):
    wide, narrow = Case(name), Case(name, dtype=np.float32)
    for actual, expected in zip(flat(narrow.vjp(lengths=RAGGED)), flat(wide.vjp(lengths=RAGGED))):
        assert_close(actual, expected, 2e-6)  # 2⁻²⁴ = 6e-8, over four steps


@every_cell
@both_directions
def test_rows_of_a_ragged_batch_are_the_sequences_alone(name, reverse):
    case = Case(name)
    y, states_n, dx, dstates_0, grads = case.vjp(lengths=RAGGED, reverse=reverse)
    total = [np.zeros_like(g) for g in flat(grads)]
    for b, n in enumerate(RAGGED):
        assert not y[n:, b].any() and not dx[n:, b].any()
        if n == 0:
            for s_n, s_0, ds_0, ds_n in zip(states_n, case.states, dstates_0, case.dstates):
                np.testing.assert_array_equal(s_n[b], s_0[b])
                np.testing.assert_array_equal(ds_0[b], ds_n[b])
            continue
        alone = case.vjp(
            case.x[:n, b],
            [s[b] for s in case.states],
            case.dy[:n, b],
            [d[b] for d in case.dstates],
            reverse=reverse,
        )
        assert_same(y[:n, b], alone[0])
        assert_same(dx[:n, b], alone[2])
        for k in range(len(case.states)):
            assert_same(states_n[k][b], alone[1][k])
            assert_same(dstates_0[k][b], alone[3][k])
        total = [t + g for t, g in zip(total, flat(alone[4]))]
    for actual, expected in zip(flat(grads), total):
        assert_close(actual, expected, 1e-13)


@every_cell
def test_reverse_reads_the_flipped_sequence(name):
    case = Case(name)
    y, states_n, dx, dstates_0, grads = case.vjp(reverse=True)
    flipped = case.vjp(case.x[::-1], dy=case.dy[::-1])
    np.testing.assert_array_equal(y, flipped[0][::-1])
    np.testing.assert_array_equal(dx, flipped[2][::-1])
    for actual, expected in zip(flat((states_n, dstates_0, grads)), flat((flipped[1], flipped[3], flipped[4]))):
        np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(y[0], states_n[0])


@every_cell
@both_directions
def test_padding_is_never_read(name, reverse):
    case = Case(name)
    clean = flat(case.vjp(lengths=RAGGED, reverse=reverse))
    x, dy = case.x.copy(), case.dy.copy()
    for garbage in (np.nan, np.inf, 1e300):
        for b, n in enumerate(RAGGED):
            x[n:, b] = dy[n:, b] = garbage
        for actual, expected in zip(flat(case.vjp(x, dy=dy, lengths=RAGGED, reverse=reverse)), clean):
            np.testing.assert_array_equal(actual, expected)


@every_cell
@both_directions
def test_nan_stays_in_its_row(name, reverse):
    case = Case(name)
    lengths = [2, 3, 4]
    y, states_n, dx, dstates_0, _ = case.vjp(lengths=lengths, reverse=reverse)
    x = case.x.copy()
    x[1, 0] = np.nan
    bad_y, bad_states_n, bad_dx, bad_dstates_0, _ = case.vjp(x, lengths=lengths, reverse=reverse)
    assert np.isnan(bad_y[0 if reverse else 1, 0]).all()
    for actual, expected in ((bad_y, y), (bad_dx, dx)):
        np.testing.assert_array_equal(actual[:, 1:], expected[:, 1:])
    for actual, expected in zip(bad_states_n + bad_dstates_0, states_n + dstates_0):
        np.testing.assert_array_equal(actual[1:], expected[1:])


@every_cell
def test_batch_first_and_strided_input(name):
    case = Case(name)
    expected = case.vjp(lengths=RAGGED)
    batch_first = case.vjp(
        case.x.swapaxes(0, 1).copy(), dy=case.dy.swapaxes(0, 1).copy(), lengths=RAGGED, batch_first=True
    )
    np.testing.assert_array_equal(batch_first[0].swapaxes(0, 1), expected[0])
    np.testing.assert_array_equal(batch_first[2].swapaxes(0, 1), expected[2])
    for a, e in zip(flat(batch_first[3:]), flat(expected[3:])):
        np.testing.assert_array_equal(a, e)
    padded = np.zeros((T, 2 * B, 3 * I))
    padded[:, ::2, 1::3] = case.x
    case.weights = {n: np.asfortranarray(w) for n, w in case.weights.items()}
    for a, e in zip(flat(case.vjp(padded[:, ::2, 1::3], lengths=RAGGED)), flat(expected)):
        assert_same(a, e)


@every_cell
def test_empty_batch(name):
    case = Case(name)
    y, states_n, dx, dstates_0, grads = case.vjp(
        case.x[:, :0], [s[:0] for s in case.states], case.dy[:, :0], [d[:0] for d in case.dstates], lengths=[]
    )
    assert y.shape == (T, 0, case.output_size) and dx.shape == (T, 0, I)
    assert all(s.shape[0] == 0 for s in states_n + dstates_0)
    assert not any(g.any() for g in flat(grads))


@every_cell
def test_inputs_are_not_changed_and_outputs_are_their_own(name):
    case = Case(name)
    arrays = [case.x, case.dy, *case.states, *case.dstates, *case.weights.values()]
    copies = [a.copy() for a in arrays]
    for a in arrays:
        a.setflags(write=False)
    results = flat(case.vjp(lengths=RAGGED))
    for a, c in zip(arrays, copies):
        np.testing.assert_array_equal(a, c)
    assert not any(np.shares_memory(r, a) for r in results for a in arrays)
    assert not any(np.shares_memory(r, s) for k, r in enumerate(results) for s in results[:k])


@every_cell
def test_options_that_change_no_result(name):
    case = Case(name)
    expected = case.vjp()
    for actual, e in zip(flat(case.vjp(checkpoint=2)), flat(expected)):
        np.testing.assert_array_equal(actual, e)
    y, states_n, dx, dstates_0, grads = case.vjp(input_grad=False)
    assert dx is None
    for actual, e in zip(flat((y, states_n, dstates_0, grads)), flat((*expected[:2], *expected[3:]))):
        np.testing.assert_array_equal(actual, e)


def test_lists_are_converted():
    y, h_n = reference.rnn([[1.0], [2.0]], [0.5], [[1.0]], [[1.0]], nonlinearity="relu")
    assert y.tolist() == [[1.5], [3.5]] and h_n.tolist() == [3.5]


def test_reset_gate_before_and_after_differ_only_where_they_should():
    """Without the recurrent product of n there is nothing to reset, and the two kinds are one."""
    case = Case("gru")
    call = (case.x, case.states[0])
    after = reference.gru(*call, **case.weights)[0]
    assert abs(after - reference.gru(*call, **case.weights, reset_after=False)[0]).max() > 0.01
    case.weights["weight_hh"][2 * H :] = 0
    case.weights["bias_hh"][2 * H :] = 0
    np.testing.assert_array_equal(
        reference.gru(*call, **case.weights)[0], reference.gru(*call, **case.weights, reset_after=False)[0]
    )


BAD = {
    "no steps": ({"x": np.zeros((0, B, I))}, ValueError, "T = 0"),
    "axes": ({"x": np.zeros(I)}, ValueError, r"x: expected .* got shape \(2,\)"),
    "input size": ({"x": np.zeros((T, B, I + 1))}, ValueError, r"weight_ih: expected \[12, 3\]"),
    "other dtype": ({"x": np.zeros((T, B, I), np.float32)}, TypeError, "x float32"),
    "integers": ({"x": np.zeros((T, B, I), int)}, TypeError, "x int64"),
    "state shape": ({"states": (np.zeros((1, H)), np.zeros((B, H)))}, ValueError, "state: expected shape"),
    "state dtype": ({"states": (np.zeros((B, H), np.float32), None)}, TypeError, "state: expected float64"),
    "one state": ({"states": (np.zeros((B, H)),)}, ValueError, "state: expected 2 arrays, got 1"),
    "dy shape": ({"dy": np.zeros((T, 1, H))}, ValueError, "dy: expected shape"),
    "number of lengths": ({"lengths": [1, 2]}, ValueError, r"lengths: expected \[3\]"),
    "long": ({"lengths": [1, T + 1, 2]}, ValueError, "lengths: expected 0 to T=4, got 1 to 5"),
    "negative": ({"lengths": [1, -1, 2]}, ValueError, "lengths: expected 0 to T=4, got -1 to 2"),
    "fractions": ({"lengths": [1.0, 2.0, 3.0]}, TypeError, "lengths: expected integers, got float64"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input(bad):
    options, error, message = BAD[bad]
    with pytest.raises(error, match=message):
        Case("lstm").vjp(**options)


@pytest.mark.parametrize("name", ["lstm", "lstm_projected", "gru", "rnn_tanh"])
def test_misshapen_weights(name):
    for weight in Case(name).weights:
        case = Case(name)
        case.weights[weight] = case.weights[weight][:1]  # would be broadcast by NumPy
        with pytest.raises(ValueError, match=r"weight_.*expected|bias_.*expected"):
            case.forward()


def test_unknown_nonlinearity():
    with pytest.raises(
        ValueError, match="nonlinearity: expected one of tanh, relu, sigmoid, leaky_relu, identity, got 'swish'"
    ):
        reference.rnn(np.zeros((1, 1)), None, np.zeros((1, 1)), np.zeros((1, 1)), nonlinearity="swish")
