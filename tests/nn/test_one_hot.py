"""One-hot input of recurrent layers: `fr.one_hot`, the layer `fr.OneHot`, and what both refuse."""

import copy
import pickle

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import functional as F
from fastrnn import reference
from tests.core.cases import assert_same
from tests.reference.finite_differences import assert_close

F32, F64 = np.float32, np.float64
LAYERS = {
    "lstm": (fr.LSTM, {}),
    "lstm_projected": (fr.LSTM, {"proj_size": 3}),
    "gru": (fr.GRU, {}),
    "gru_before": (fr.GRU, {"reset_after": False}),
    "rnn": (fr.RNN, {}),
    "rnn_relu": (fr.RNN, {"nonlinearity": "relu", "bias": False}),
}
layers = pytest.mark.parametrize("kind", LAYERS)
dtypes = pytest.mark.parametrize("dtype", [F32, F64])
T, B, C, H = 9, 5, 13, 6


def make(kind, classes=C, **options):
    cls, own = LAYERS[kind]
    return cls(classes, H, seed=1, **own, **options)


def tokens(*shape, classes=C, seed=0):
    return np.random.default_rng(seed).integers(0, classes, shape)


def dense(indices, dtype, classes=C):
    return np.eye(classes, dtype=dtype)[indices]


def train(layer, x, *, backward=1, **options):
    """Everything that comes out of a step of training but dx, by name."""
    layer.zero_grads()
    (y, state), pullback = layer.vjp(x, seed=3, **options)
    rng = np.random.default_rng(2)
    dy = rng.standard_normal(y.shape).astype(layer.dtype)
    states = state if isinstance(state, tuple) else (state,)
    dstates = tuple(rng.standard_normal(s.shape).astype(layer.dtype) for s in states)
    for _ in range(backward):
        dx, dstate_0 = pullback(dy, dstates if isinstance(state, tuple) else dstates[0])
    found = {"y": y, **{f"state {k}": s for k, s in enumerate(states)}}
    found |= {f"dstate {k}": s for k, s in enumerate(dstate_0 if isinstance(state, tuple) else (dstate_0,))}
    return dx, found | {name: grad.copy() for name, grad in layer.grads.items()}


# ---- layers


@layers
@dtypes
@pytest.mark.parametrize("classes", [1, C, 300])
def test_layers_give_the_bits_of_dense_input(kind, dtype, classes):
    layer = make(kind, classes, num_layers=2, bidirectional=True, dropout=0.3, dtype=dtype)
    indices = tokens(T, B, classes=classes)
    lengths = [4, 9, 0, 9, 1]
    for options in ({}, {"lengths": lengths}, {"checkpoint": 3}, {"lengths": lengths, "retain": True, "backward": 2}):
        dx, found = train(layer, fr.one_hot(indices, classes), **options)
        assert dx is None
        assert_same(found, train(layer, dense(indices, dtype, classes), **options)[1], str(options))
    y, state = layer(fr.one_hot(indices, classes), lengths=lengths)
    right, right_state = layer(dense(indices, dtype, classes), lengths=lengths)
    np.testing.assert_array_equal(y, right)
    for a, b in zip(state, right_state, strict=True):  # h and c, or layers
        np.testing.assert_array_equal(a, b)


@layers
@pytest.mark.parametrize("classes", [C, 300])
def test_layouts(kind, classes):
    indices = tokens(B, T, classes=classes)
    layer = make(kind, classes, batch_first=True)
    wide = np.zeros((2 * B, 3 * T), np.int32)
    wide[::2, ::3] = indices
    for given in (indices, np.asfortranarray(indices), wide[::2, ::3], indices.tolist(), indices.astype(np.uint16)):
        _, found = train(layer, fr.one_hot(given, classes))
        assert_same(found, train(layer, dense(indices, F32, classes))[1])
    row = indices[0]
    _, found = train(layer, fr.one_hot(row, classes))
    assert found["y"].ndim == 2
    assert_same(found, train(layer, dense(row, F32, classes))[1])
    _, found = train(layer, fr.one_hot(row, classes), lengths=4)
    assert_same(found, train(layer, dense(row, F32, classes), lengths=4)[1])


def test_states_go_in():
    layer = make("lstm")
    x, state = tokens(T, B), tuple(np.random.default_rng(0).standard_normal((2, 1, B, H)).astype(F32))
    _, found = train(layer, fr.one_hot(x, C), state=state)
    assert_same(found, train(layer, dense(x, F32), state=state)[1])


def test_empty_batch():
    layer = make("gru")
    y, _ = layer(fr.one_hot(np.zeros((T, 0), int), C))
    assert y.shape == (T, 0, H)
    (y, _), pullback = layer.vjp(fr.one_hot(np.zeros((T, 0), int), C))
    assert pullback(y)[0] is None


def test_indices_may_change_afterwards():
    layer, indices = make("lstm"), tokens(T, B)
    x = fr.one_hot(indices, C)
    right = train(layer, x)[1]
    indices[...] = -1
    assert_same(train(layer, x)[1], right)
    with pytest.raises(ValueError, match="read-only"):
        x.indices[0, 0] = 1


# ---- functional and reference

WEIGHTS = {"lstm": 4, "gru": 3, "rnn": 1}


@pytest.mark.parametrize("cell", WEIGHTS)
@dtypes
@pytest.mark.parametrize("classes", [C, 300])
def test_functional_against_reference(cell, dtype, classes):
    rng, rows = np.random.default_rng(0), WEIGHTS[cell] * H
    weights = [rng.standard_normal(s).astype(dtype) / 3 for s in ((rows, classes), (rows, H), (rows,), (rows,))]
    x = fr.one_hot(tokens(B, T, classes=classes), classes)
    options = {"batch_first": True, "lengths": [9, 0, 3, 9, 5], "reverse": True}
    (y, state), pullback = getattr(F, f"{cell}_vjp")(x, None, *weights, **options)
    (right, right_state), right_pullback = getattr(reference, f"{cell}_vjp")(x, None, *weights, **options)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx, _, grads = pullback(dy)
    right_dx, _, right_grads = right_pullback(dy)
    assert dx is None and right_dx is None
    # what DESIGN promises: kernels in float64 1e-12, in float32 1e-5 forward and 1e-4 gradients
    forward, backward = (1e-12, 1e-12) if dtype == F64 else (1e-5, 1e-4)
    assert_close(y, right, forward, "y")
    for a, b in zip(np.atleast_3d(state), np.atleast_3d(right_state), strict=True):
        assert_close(a, b, forward, "state")
    for name, a, b in zip(grads._fields, grads, right_grads, strict=True):
        if b is not None:
            assert_close(a, b, backward, name)
    same = getattr(F, cell)(x, None, *weights, **options)[0]
    np.testing.assert_array_equal(same, y)
    (dense_y, _), pullback = getattr(F, f"{cell}_vjp")(np.asarray(x, dtype), None, *weights, **options)
    np.testing.assert_array_equal(y, dense_y)
    found, right = ({k: a for k, a in g._asdict().items() if a is not None} for g in (grads, pullback(dy)[2]))
    assert_same(found, right)


def test_reference_stack():
    layer = make("gru", num_layers=2, bidirectional=True, dtype=F64)
    x = fr.one_hot(tokens(T, B), C)
    (y, _), pullback = reference.stack_vjp("gru", x, None, layer.params, num_layers=2, bidirectional=True)
    dx, _, grads = pullback(np.ones_like(y))
    assert dx is None
    found, pullback = layer.vjp(x)
    pullback(np.ones_like(y))
    assert_close(found[0], y, 1e-12, "y")
    for name, grad in layer.grads.items():
        assert_close(grad, grads[name], 1e-12, name)


def test_functional_one_sequence_and_out():
    weight_ih, weight_hh = np.ones((H, C)), np.ones((H, H))
    out = np.empty((T, H))
    (y, _), pullback = F.rnn_vjp(fr.one_hot(tokens(T), C), None, weight_ih, weight_hh, out=out)
    np.testing.assert_array_equal(out, F.rnn(dense(tokens(T), F64), None, weight_ih, weight_hh)[0])
    with pytest.raises(ValueError, match=r"^out: expected None, for a one-hot x has no gradient$"):
        pullback(y, out=np.empty((T, C)))
    assert pullback(y)[0] is None  # the refusal has not used it up


# ---- the layer


def test_sequential_trains_on_tokens():
    rng = np.random.default_rng(0)
    model = fr.Sequential(fr.OneHot(C), fr.LSTM(C, 24, seed=0), fr.Linear(24, C, seed=1))
    optimizer = fr.optim.Adam(model, lr=0.02)
    losses = []
    for _ in range(60):  # the next token is this one plus one
        x = (rng.integers(0, C, (1, 8)) + np.arange(12)[:, None]) % C
        (logits, _), pullback = model.vjp(x)
        loss, dlogits = fr.losses.cross_entropy(logits, (x + 1) % C)
        losses.append(loss)
        model.zero_grads()
        assert pullback(dlogits)[0] is None
        optimizer.step()
    assert losses[-1] < 0.2 < 2 < losses[0]


def test_sequential_is_saved_and_rebuilt(tmp_path):
    model = fr.Sequential(fr.OneHot(C), fr.GRU(C, H, seed=0), fr.Last())
    fr.save(model, tmp_path / "model.safetensors")
    again = fr.load(tmp_path / "model.safetensors")
    x = tokens(T, B)
    np.testing.assert_array_equal(again(x, lengths=[1, 2, 3, 4, 9])[0], model(x, lengths=[1, 2, 3, 4, 9])[0])
    assert repr(again[0]) == f"OneHot(num_classes={C})"


def test_fit():
    x = tokens(12, 20)
    data = [fr.Batch(x, (x[-1] % 2).astype(int))]
    model = fr.Sequential(fr.OneHot(C), fr.RNN(C, H, seed=0), fr.Last(), fr.Linear(H, 2, seed=0))
    history = fr.fit(
        model, data, loss=fr.losses.cross_entropy, optimizer=fr.optim.Adam(model, lr=0.05), epochs=30, progress=False
    )
    assert history.epochs[-1]["loss"] < 0.1 * history.epochs[0]["loss"]


@dtypes
@pytest.mark.parametrize("batch", [1, 3])
def test_stream(dtype, batch):
    model = fr.Sequential(
        fr.OneHot(C), fr.LSTM(C, H, 2, dtype=dtype, seed=0), fr.Linear(H, C, dtype=dtype, seed=0), fr.Softmax()
    )
    x = tokens(40, batch)
    y, state = model(x)
    s = model.stream(batch)
    np.testing.assert_array_equal([s.step(x_t) for x_t in x], y)
    np.testing.assert_array_equal(s.state[0], state[0])
    s.reset()
    np.testing.assert_array_equal(s.run(x), y)
    with pytest.raises(ValueError, match=rf"^x: expected integers from 0 to {C - 1} \(num_classes={C}\), got {C}$"):
        s.step([C] * batch)
    model[1].params["weight_ih_l0"] = 0
    s.reset()
    s.refresh()
    np.testing.assert_array_equal(s.run(x), model(x)[0])


def test_other_layers_take_it_as_dense():
    x = tokens(T, B)
    linear = fr.Linear(C, 4, seed=0)
    np.testing.assert_array_equal(linear(fr.OneHot(C)(x)), linear(dense(x, F32)))


def test_stream_takes_integers_first():
    model = fr.Sequential(fr.GRU(4, 5), fr.OneHot(5))
    with pytest.raises(
        ValueError, match=r"^stream: OneHot at position 1 takes integers, so it must be the first layer$"
    ):
        model.stream()


# ---- the array


def test_array():
    x = fr.one_hot([[2, 0], [1, 1]], 3)
    assert (x.shape, x.ndim, x.num_classes, x.indices.dtype) == ((2, 2, 3), 3, 3, np.int64)
    right = np.eye(3)[[[2, 0], [1, 1]]]
    for dtype in (None, F32, F64, np.int8, bool):
        found = np.asarray(x, dtype)
        assert found.dtype == (dtype or F32)
        np.testing.assert_array_equal(found, right)
    assert repr(x) == "OneHotArray(indices of shape (2, 2), num_classes=3)"
    for again in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x), copy.copy(x)):
        np.testing.assert_array_equal(np.asarray(again), right)
        assert not again.indices.flags.writeable
    with pytest.raises(AttributeError):
        x.num_classes = 5
    with pytest.raises(AttributeError):
        x.more = 5
    with pytest.raises(ValueError, match=r"^copy: expected None or True"):
        x.__array__(copy=False)
    assert np.asarray(fr.one_hot(np.zeros((0, 2), int), 3)).shape == (0, 2, 3)
    assert np.asarray(fr.one_hot(1, 3)).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: fr.one_hot([0, 3], 3),
            ValueError,
            r"^indices: expected integers from 0 to 2 \(num_classes=3\), got 3$",
        ),
        (
            lambda: fr.one_hot([-1], 3),
            ValueError,
            r"^indices: expected integers from 0 to 2 \(num_classes=3\), got -1$",
        ),
        (lambda: fr.one_hot([0.0], 3), TypeError, r"^indices: expected integers, got float64; use "),
        (lambda: fr.one_hot([True], 3), TypeError, r"^indices: expected integers, got bool; use "),
        (lambda: fr.one_hot(None, 3), TypeError, r"^indices: expected integers, got object"),
        (lambda: fr.one_hot([0], 0), ValueError, r"^num_classes: expected a positive integer, got 0$"),
        (lambda: fr.one_hot([0], 2.5), TypeError, r"^num_classes: expected an integer, got 2.5$"),
        (lambda: fr.OneHot(0), ValueError, r"^num_classes: expected a positive integer, got 0$"),
        (lambda: fr.OneHot(3)([3]), ValueError, r"^x: expected integers from 0 to 2 \(num_classes=3\), got 3$"),
        (lambda: fr.OneHot(3)([0.5]), TypeError, r"^x: expected integers, got float64"),
        (lambda: fr.OneHot(3).vjp([-2]), ValueError, r"^x: expected integers from 0 to 2 \(num_classes=3\), got -2$"),
    ],
)
def test_refusals(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("shape", "classes", "batch_first", "message"),
    [
        ((T, B), 12, False, r".* got indices of shape \(9, 5\) and num_classes=12$"),
        ((T, B, 1), C, False, r".* got indices of shape \(9, 5, 1\) and num_classes=13$"),
        (
            (),
            C,
            False,
            r"expected one_hot\(indices, 13\) \(input_size=13\) with indices \[T, B\], or \[T\] for one sequence, ",
        ),
        ((), C, True, r".* with indices \[B, T\], .* got indices of shape \(\) and num_classes=13$"),
        ((0, B), C, False, r"expected at least one time step, got indices of shape \(0, 5\)$"),
        ((B, 0), C, True, r"expected at least one time step, got indices of shape \(5, 0\)$"),
        ((0,), C, True, r"expected at least one time step, got indices of shape \(0,\)$"),
    ],
)
def test_misfits(shape, classes, batch_first, message):
    layer, x = make("lstm", batch_first=batch_first), fr.one_hot(np.zeros(shape, int), classes)
    for call in (layer, layer.vjp):
        with pytest.raises(ValueError, match="^x: " + message):
            call(x)


def test_functional_misfits():
    weight_ih, weight_hh = np.ones((H, C)), np.ones((H, H))
    x = fr.one_hot(tokens(T, B), C)
    with pytest.raises(ValueError, match=r"^weight_ih: expected \[1·H, 13\], to fit x, got shape \(6, 12\)$"):
        F.rnn(x, None, weight_ih[:, :-1], weight_hh)
    with pytest.raises(TypeError, match=r"^weight_hh: expected float64, got float32"):
        F.rnn(x, None, weight_ih, weight_hh.astype(F32))
    with pytest.raises(TypeError, match=r"^weight_ih: expected float32 or float64, got int64"):
        F.rnn(x, None, weight_ih.astype(int), weight_hh)
    with pytest.raises(ValueError, match=r"^x: expected one_hot\(indices, F\) with indices \[T, B\]"):
        F.rnn(fr.one_hot(3, C), None, weight_ih, weight_hh)
    with pytest.raises(ValueError, match=r"^lengths: expected 5 integers"):
        F.rnn(x, None, weight_ih, weight_hh, lengths=[3])


@layers
def test_integers_alone_are_refused(kind):
    """What they mean must be said."""
    with pytest.raises(TypeError, match=r"^x: expected float32, got int64"):
        make(kind)(np.zeros((T, B, C), int))
