"""Model, value_and_grad, ops and the tape: gradients are right, and nothing is lost in silence."""

import copy
import pickle
import threading

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import ops

RNG = np.random.default_rng(0)


def numeric(f, x, eps=1e-6):
    """Central differences of a scalar function of one array, written in place."""
    found = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        old = x[index]
        x[index] = old + eps
        above = f()
        x[index] = old - eps
        below = f()
        x[index] = old
        found[index] = (above - below) / (2 * eps)
    return found


def assert_gradients(loss, model, *args):
    """The gradients of `value_and_grad` are those of finite differences, for every parameter."""
    value, grads = fr.value_and_grad(loss, model)(*args)
    grads = {name: grad.copy() for name, grad in grads.items()}

    def again():
        plain = loss(*args)
        return float(plain[0] if isinstance(plain, tuple) else plain)

    assert value == pytest.approx(again(), rel=1e-12)
    for name, param in model.params.items():
        expected = numeric(again, param)
        scale = max(np.abs(expected).max(), 1e-3)
        assert np.abs(grads[name] - expected).max() / scale < 1e-6, name


class One(fr.Model):
    """A function of one parameter."""

    def __init__(self, value, function):
        self.p = fr.Parameter(np.asarray(value, np.float64))
        self.function = function

    def forward(self):
        return self.function(self.p())


A = RNG.uniform(0.3, 2.0, (3, 4))
B = RNG.uniform(0.3, 2.0, (4,))
OPERATIONS = {
    "add": lambda p: p + B + 1,
    "radd": lambda p: B + p,
    "sub": lambda p: (2 - p) - B,
    "mul": lambda p: p * B * 2.0,
    "div": lambda p: p / B + B / p + 1 / p,
    "pow": lambda p: p**3 + p**0.5,
    "broadcast": lambda p: p[:, :1] * p[1],
    "matmul": lambda p: p @ p.T,
    "matmul batch": lambda p: ops.reshape(p, (3, 2, 2)) @ np.ones((2, 5)) * 1.5,
    "neg abs": lambda p: ops.absolute(-p) + abs(p - 1) + 2**p,
    "exp log sqrt square": lambda p: ops.log(ops.exp(p) + ops.sqrt(p) + ops.square(p)),
    "tanh sigmoid": lambda p: ops.tanh(p) * ops.sigmoid(p),
    "numpy names": lambda p: np.tanh(p) + np.exp(-p) + np.maximum(p, 1.0) + np.multiply(B, p),
    "relu softplus": lambda p: ops.relu(p - 1) + ops.softplus(p),
    "maximum": lambda p: ops.maximum(p, B) + ops.minimum(p, 1.1),
    "getitem": lambda p: p[1] + p[2:, 1:2] + p[..., None, 0].sum(),
    "gather": lambda p: p[[0, 2, 2, 0]] * np.arange(1.0, 5.0)[:, None],
    "mask": lambda p: p[A > 1.0],
    "reshape transpose": lambda p: p.reshape(2, 6).T.reshape(-1) * np.arange(12.0),
    "transpose axes": lambda p: ops.transpose(ops.reshape(p, (3, 2, 2)), (2, 0, 1)) * np.arange(12.0).reshape(2, 3, 2),
    "swapaxes expand squeeze": lambda p: ops.squeeze(ops.expand_dims(ops.swapaxes(p, 0, 1), 1), 1) * A.T,
    "broadcast_to flip": lambda p: ops.flip(ops.broadcast_to(p[0], (5, 4)), 0) * np.arange(20.0).reshape(5, 4),
    "concat": lambda p: fr.concat([p, A, p * 2], 0) * np.arange(36.0).reshape(9, 4),
    "stack": lambda p: fr.stack([p, A], 1) * np.arange(24.0).reshape(3, 2, 4),
    "np.concatenate": lambda p: np.concatenate([p, p], -1) * np.arange(24.0).reshape(3, 8),
    "split": lambda p: ops.split(p, 2, 1)[1] * ops.split(p, [1, 3], 1)[1],
    "sum mean": lambda p: p.sum(0) * p.mean(0, keepdims=True) + p.mean() + ops.sum(p, (0, 1)),
    "max": lambda p: p.max(1) + ops.max(p) + ops.max(p, 0, keepdims=True).sum(),
    "min": lambda p: p.min(1) + p.min() + p.min(0, keepdims=True).sum(),
    "methods": lambda p: (p[None].squeeze(0) * 2).swapaxes(0, 1).flatten() * np.arange(12.0),
    "where clip": lambda p: ops.where(A > 1, p, 2 * p) + ops.clip(p, 0.5, 1.5),
    "softmax": lambda p: ops.softmax(p) * A + ops.softmax(p, 0) * A,
    "log_softmax": lambda p: ops.log_softmax(p) * A + ops.log_softmax(p, 0) * A,
    "iterate": lambda p: sum(row * (k + 1) for k, row in enumerate(p)),
    "twice": lambda p: (q := p * 2) * q + q,
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_have_the_gradients_of_finite_differences(name):
    model = One(A.copy(), OPERATIONS[name])
    weight = np.random.default_rng(1).uniform(0.5, 1.5, np.shape(model()))
    assert_gradients(lambda: ops.sum(model() * weight), model)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_on_variables_compute_what_plain_ones_do(name):
    model = One(A.copy(), OPERATIONS[name])
    traced, _ = model.vjp()
    np.testing.assert_array_equal(traced, model())


def test_float32_stays_float32():
    refused = []
    for name, operation in OPERATIONS.items():
        model = fr.Model.__new__(One)
        One.__init__(model, A, operation)
        model.p = fr.Parameter(A.astype(np.float32))
        if name in {"matmul batch", "mask"}:
            continue
        try:
            y, pullback = model.vjp()
        except TypeError:  # a float64 array beside it, which is refused
            refused.append(name)
            continue
        assert y.dtype == np.float32, name
        pullback(np.ones_like(y))
    assert len(refused) < len(OPERATIONS) // 2 + 3


class Tagger(fr.Model):
    def __init__(self, dtype="float64", dropout=0.0):
        self.embedding = fr.Embedding(12, 5, dtype=dtype, seed=1)
        self.encoder = fr.LSTM(5, 4, bidirectional=True, dtype=dtype, seed=2)
        self.decoders = [fr.GRU(8, 4, dtype=dtype, seed=3), fr.RNN(4, 4, dtype=dtype, seed=4)]
        self.heads = {"word": fr.Linear(4, 3, dtype=dtype, seed=5), "row": fr.Linear(8, 2, dtype=dtype, seed=6)}
        self.start = fr.Parameter(np.full((1, 1, 4), 0.1), dtype)
        self.dropout = fr.Dropout(dropout)

    def forward(self, x, *, lengths=None):
        y, (h, _) = self.encoder(self.dropout(self.embedding(x)), lengths=lengths)
        state = ops.broadcast_to(self.start(), (1, x.shape[1], 4))
        z, final = self.decoders[0](y, state, lengths=lengths)
        z, _ = self.decoders[1](z, ops.tanh(final))
        return self.heads["word"](z), self.heads["row"](fr.concat([h[0], h[1]], -1))


X = RNG.integers(0, 12, (6, 3))


def whole_loss(model, lengths=None):
    word, row = model(X, lengths=lengths)
    first = fr.losses.cross_entropy(word, X % 3, lengths=lengths)[0]
    return first + 0.5 * fr.losses.cross_entropy(row, X[0] % 2)[0]


@pytest.mark.parametrize("lengths", [None, [6, 2, 4]])
def test_a_model_of_many_layers(lengths):
    model = Tagger()
    assert_gradients(lambda: whole_loss(model, lengths), model)
    names = list(model.params)
    assert names[0] == "embedding.weight"
    assert "decoders.1.weight_hh_l0" in names
    assert "heads.row.bias" in names
    assert "start.value" in names


def test_vjp_and_value_and_grad_agree():
    model = Tagger()
    (word, row), pullback = model.vjp(X)
    a, dword = fr.losses.cross_entropy(word, X % 3)
    b, drow = fr.losses.cross_entropy(row, X[0] % 2)
    pullback(dword, drow * 0.5)
    by_vjp = {name: grad.copy() for name, grad in model.grads.items()}
    value, grads = fr.value_and_grad(whole_loss, model)()
    assert value == pytest.approx(a + 0.5 * b)
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, by_vjp[name], atol=1e-14)
    twice = {name: 2 * grad for name, grad in grads.items()}
    fr.value_and_grad(whole_loss, model)(accumulate=True)
    for name, grad in model.grads.items():
        np.testing.assert_allclose(grad, twice[name], atol=1e-14)


def test_gradients_of_inputs():
    class Sum(fr.Model):
        def __init__(self):
            self.layer = fr.Linear(3, 2, dtype=np.float64, seed=0)

        def forward(self, a, state, n):
            return self.layer(a) * n + state[0] * state[1]

    model = Sum()
    a, h, c = RNG.random((4, 3)), RNG.random((4, 2)), RNG.random((4, 2))
    y, pullback = model.vjp(a, (h, c), 3)
    dy = RNG.random(y.shape)
    da, (dh, dc), dn = pullback(dy)
    np.testing.assert_allclose(da, 3 * dy @ model.params["layer.weight"])
    np.testing.assert_allclose(dh, dy * c)
    np.testing.assert_allclose(dc, dy * h)
    assert dn is None
    y, pullback = model.vjp(a, (h, c), 3, input_grad=False)
    assert pullback(dy) == (None, (None, None), None)


def test_pullbacks_run_once_unless_retained():
    model = Tagger()
    _, pullback = model.vjp(X)
    with pytest.raises(TypeError, match="2 outputs, got 3"):
        pullback(None, None, None)
    pullback(np.ones((6, 3, 3)))
    with pytest.raises(RuntimeError, match="Tagger: this pullback has already run"):
        pullback(np.ones((6, 3, 3)))
    _, pullback = model.vjp(X, retain=True)
    model.zero_grads()
    pullback(np.ones((6, 3, 3)), np.ones((3, 2)))
    once = {name: grad.copy() for name, grad in model.grads.items()}
    pullback(np.ones((6, 3, 3)), np.ones((3, 2)))
    for name, grad in model.grads.items():
        np.testing.assert_allclose(grad, 2 * once[name], rtol=1e-12)
    _, pullback = model.vjp(X)
    with pytest.raises(ValueError, match=r"dy.*shape"):
        pullback(np.ones((6, 3, 4)))


def test_dropout_belongs_to_training_and_follows_the_seed():
    model = Tagger(dropout=0.5)
    (a, _), _ = model.vjp(X, seed=3)
    (b, _), _ = model.vjp(X, seed=3)
    (c, _), _ = model.vjp(X, seed=4)
    (d, _), _ = model.vjp(X, dropout=False)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    np.testing.assert_array_equal(d, model(X)[0])
    assert not np.array_equal(model(X, dropout=True)[0], d)


def test_a_shared_layer_counts_once():
    class Tied(fr.Model):
        def __init__(self):
            self.a = fr.Linear(3, 3, dtype=np.float64, seed=0)
            self.b = [self.a]

        def forward(self, x):
            return self.b[0](ops.tanh(self.a(x)))

    model, x = Tied(), RNG.random((2, 3))
    assert list(model.params) == ["a.weight", "a.bias"]
    assert_gradients(lambda: fr.losses.mse(model(x), np.zeros((2, 3)))[0], model)


def test_models_nest_and_stand_in_a_sequential():
    class Block(fr.Model):
        def __init__(self, size):
            self.inner = fr.Residual(fr.LayerNorm(size, dtype=np.float64), fr.GRU(size, size, dtype=np.float64, seed=0))

        def forward(self, x, state=None, *, lengths=None):
            y, _ = self.inner(x, state, lengths=lengths)
            return ops.relu(y)

    block = Block(4)
    x = RNG.random((5, 2, 4))
    both = fr.Parallel(fr.MeanPool(), fr.MaxPool())
    model = fr.Sequential(block, both, fr.Linear(8, 2, dtype=np.float64, seed=1))
    y, pullback = model.vjp(x, lengths=[5, 3])
    np.testing.assert_array_equal(y, model(x, lengths=[5, 3]))
    dx = pullback(np.ones_like(y))
    expected = numeric(lambda: model(x, lengths=[5, 3]).sum(), x)
    np.testing.assert_allclose(dx, expected, atol=1e-8)
    added = fr.Parallel(
        fr.Linear(4, 3, dtype=np.float64, seed=0), fr.Linear(4, 3, dtype=np.float64, seed=1), combine="sum"
    )
    np.testing.assert_allclose(added(x), sum(layer(x) for layer in added.layers))
    with pytest.raises(ValueError, match="combine"):
        fr.Parallel(both, combine="max")
    with pytest.raises(ValueError, match="time axis"):
        fr.Parallel(fr.MeanPool(), fr.LayerNorm(4))
    with pytest.raises(ValueError, match="output of x's shape"):
        fr.Residual(fr.Linear(4, 3, dtype=np.float64))(x)


def test_what_has_no_gradient_is_refused_by_name():
    layer = fr.Linear(3, 2, seed=0)
    x = np.ones((4, 3), np.float32)

    def run(function):
        return fr.value_and_grad(lambda: ops.sum(function(layer(x))), layer)()

    for name, function in {
        r"np\.cumsum": np.cumsum,
        r"np\.sin": np.sin,
        r"np\.linalg\.norm": np.linalg.norm,
        r"np\.add\.reduce": np.add.reduce,
        r"\.cumsum": lambda v: v.cumsum(),
        "an array made from it": np.asarray,
        "can't be written into": lambda v: v.__setitem__(0, 1),
        "one dtype": lambda v: v * np.ones((4, 2)),
    }.items():
        with pytest.raises(TypeError, match=name):
            run(function)
    assert run(lambda v: v * (v > 0))[0] == pytest.approx(np.maximum(layer(x), 0).sum(), rel=1e-6)
    with pytest.raises(TypeError, match="computed from plain arrays"):
        fr.value_and_grad(lambda: float(layer(x).sum()), layer)()
    with pytest.raises(ValueError, match=r"one number, got shape \(4, 2\)"):
        fr.value_and_grad(lambda: layer(x), layer)()
    with pytest.raises(TypeError, match="loss: expected a function"):
        fr.value_and_grad(1, layer)
    with pytest.raises(TypeError, match="model: expected"):
        fr.value_and_grad(run, 1)


@pytest.mark.parametrize("kind", [list, lambda parts: dict(enumerate(parts))])
def test_forward_returns_arrays_or_tuples(kind):
    class Both(fr.Model):
        def __init__(self):
            self.layer = fr.Linear(3, 2, seed=0)

        def forward(self, x):
            return kind([self.layer(x), x])

    with pytest.raises(TypeError, match=r"forward: expected to return arrays or tuples of them, got a (list|dict)"):
        Both().vjp(np.ones((4, 3), np.float32))


def test_stop_gradient():
    model = One(A.copy(), lambda p: p * ops.stop_gradient(p))
    y, pullback = model.vjp()
    pullback(np.ones_like(y))
    np.testing.assert_array_equal(model.grads["p.value"], A)


def test_an_error_in_forward_leaves_no_tape_behind():
    layer = fr.Linear(3, 2, seed=0)
    x = np.ones((4, 3), np.float32)
    with pytest.raises(ZeroDivisionError):
        fr.value_and_grad(lambda: layer(x) / (1 // 0), layer)()
    assert isinstance(layer(x), np.ndarray)


def test_threads_have_tapes_of_their_own():
    model = Tagger()
    plain, wrong = model(X)[0], []
    stop = threading.Event()

    def infer():
        while not stop.is_set():
            if not np.array_equal(model(X)[0], plain):
                wrong.append(1)

    thread = threading.Thread(target=infer)
    thread.start()
    for _ in range(50):
        fr.value_and_grad(whole_loss, model)()
    stop.set()
    thread.join()
    assert not wrong


def test_files_copies_and_pickles(tmp_path):
    model = Tagger("float32")
    fr.save(model, tmp_path / "m.safetensors")
    for other in (fr.load(tmp_path / "m.safetensors"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other(X)[0], model(X)[0])
        assert type(other) is Tagger
