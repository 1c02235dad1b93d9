"""Models written as ONNX: whole by ONNX's checker, the same numbers from ONNX Runtime and from fastrnn's own reader.

ONNX Runtime computes in float32, with approximations of its own for σ and tanh: 1e-5.
"""

import itertools

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnxruntime
from onnx import checker, parser

import fastrnn as fr
from fastrnn.interop import onnx

T, B = 9, 5
LENGTHS = np.array([9, 4, 0, 7, 1])
TOLERANCE = 1e-5


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def flat(outputs):
    """The arrays of nested tuples, in order."""
    if isinstance(outputs, tuple | list):
        return [array for part in outputs for array in flat(part)]
    return [np.asarray(outputs)]


def check(model, x, path, *, state=None, lengths=None, **options):
    """The outputs of the model, of ONNX Runtime on the file, and of the file read back."""
    onnx.save(model, path, **options)
    checker.check_model(str(path), full_check=True)
    state = state or []
    expected = flat(model(x, *state, **({} if lengths is None else {"lengths": lengths})))
    runtime, loaded = session(path), onnx.load(path)
    feeds = {"x": x} | ({} if lengths is None else {"lengths": lengths})
    names = [port.name for port in loaded.inputs if port.name.endswith("_0")]
    feeds |= dict(zip(names, flat(state))) if state else {}
    for found in (runtime.run(None, feeds), loaded.run(None, feeds)):
        for a, b in zip(found, expected):
            assert a.shape == b.shape
            assert np.abs(a - b).max(initial=0) <= TOLERANCE * max(1, np.abs(b).max(initial=0))
    return loaded


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


CELLS = {
    "LSTM": (fr.LSTM, {}),
    "GRU": (fr.GRU, {}),
    "RNN": (fr.RNN, {}),
    "relu": (fr.RNN, {"nonlinearity": "relu"}),
    "sigmoid": (fr.RNN, {"nonlinearity": "sigmoid"}),
    "leaky_relu": (fr.RNN, {"nonlinearity": "leaky_relu"}),
    "identity": (fr.RNN, {"nonlinearity": "identity"}),
    "peephole": (fr.LSTM, {"peephole": True}),
    "coupled": (fr.LSTM, {"coupled": True}),
    "coupled peephole": (fr.LSTM, {"coupled": True, "peephole": True, "clip": 0.3}),
    "clip": (fr.LSTM, {"clip": 0.2}),
    "reset before": (fr.GRU, {"reset_after": False, "clip": 0.5}),
    "LSTM's activations": (fr.LSTM, {"activations": ("hard_sigmoid", "softsign", ("scaled_tanh", 1.7, 0.6))}),
    "GRU's activations": (fr.GRU, {"activations": (("hard_sigmoid", 0.3, 0.4), "softsign")}),
    "RNN's activation": (fr.RNN, {"activations": ("elu", 0.7)}),
    "dropout": (fr.GRU, {"dropout": 0.3, "recurrent_dropout": 0.1, "input_dropout": 0.2, "weight_dropout": 0.1}),
}
KINDS = list(itertools.product((1, 2, 3), (False, True), (False, True), (False, True)))


@pytest.mark.parametrize("name", CELLS)
def test_recurrent_layers(name, tmp_path):
    """Stacks, directions, biases, layouts; with and without lengths; states in and out."""
    make, options = CELLS[name]
    for seed, (layers, both, bias, batch_first) in enumerate(KINDS):
        sizes = {"bidirectional": both, "bias": bias, "batch_first": batch_first, "seed": seed}
        model = make(3, 7, layers, **sizes, **options)
        for name_, array in model.params.items():  # peepholes too
            array[...] = 0.6 * numbers(*array.shape, seed=len(name_))
        x = numbers(*((B, T) if batch_first else (T, B)), 3, seed=seed)
        shape = (layers * (1 + both), B, 7)
        h, c = numbers(*shape, seed=1), numbers(*shape, seed=2)
        state = [(h, c) if make is fr.LSTM else h]
        check(model, x, tmp_path / "m.onnx", lengths=LENGTHS, state=state, states=True)
        loaded = check(model, x, tmp_path / "m.onnx", lengths=LENGTHS)
        check(model, x, tmp_path / "m.onnx")  # lengths left out
        assert [port.name for port in loaded.inputs] == ["x", "lengths"]
        loaded = check(model, x, tmp_path / "m.onnx", **{"state": None})
    loaded = check(model, x, tmp_path / "m.onnx")
    other = numbers(*((2, 4) if batch_first else (4, 2)), 3)  # any T and B
    assert np.abs(loaded(other) - model(other)[0]).max() <= TOLERANCE


POOLS = {"last": fr.Last, "mean": fr.MeanPool, "max": fr.MaxPool}
MODELS = {
    "linear": lambda: fr.Sequential(fr.LSTM(3, 8, seed=0), fr.Dropout(0.5), fr.Linear(8, 4, seed=1), fr.Softmax()),
    "no bias": lambda: fr.Sequential(fr.GRU(3, 8, bias=False, seed=0), fr.Linear(8, 4, bias=False, seed=1)),
    "two": lambda: fr.Sequential(fr.GRU(3, 8, seed=0), fr.Tanh(), fr.LSTM(8, 5, bidirectional=True, seed=1)),
    "norm": lambda: fr.Sequential(fr.RNN(3, 8, seed=0), fr.LayerNorm(8), fr.ReLU(), fr.LeakyReLU(0.2), fr.Sigmoid()),
    "gelu": lambda: fr.Sequential(fr.GRU(3, 8, seed=0), fr.GELU(), fr.Swish(1.3), fr.Linear(8, 2, seed=0)),
    "residual": lambda: fr.Sequential(fr.Linear(3, 8, seed=1), fr.Residual(fr.LayerNorm(8), fr.GRU(8, 8, seed=0))),
    "parallel": lambda: fr.Parallel(fr.GRU(3, 8, seed=0), fr.Linear(3, 5, seed=1)),
    "sum": lambda: fr.Parallel(fr.GRU(3, 8, seed=0), fr.Linear(3, 8, seed=1), combine="sum"),
    "both": lambda: fr.Sequential(fr.GRU(3, 8, seed=0), fr.Parallel(fr.MeanPool(), fr.MaxPool()), fr.Linear(16, 2)),
    **{
        f"{name}{' batch_first' * batch_first}": lambda pool=pool, batch_first=batch_first: fr.Sequential(
            fr.GRU(3, 8, batch_first=batch_first, bidirectional=True, seed=0),
            pool(batch_first=batch_first),
            fr.Linear(16, 2, seed=0),
        )
        for name, pool in POOLS.items()
        for batch_first in (False, True)
    },
}


@pytest.mark.parametrize("opset", [13, 17, 18, 20, 22])
@pytest.mark.parametrize("name", MODELS)
def test_models(name, opset, tmp_path):
    model = MODELS[name]()
    if isinstance(model, fr.Sequential) and any(isinstance(layer, fr.LayerNorm) for layer in model):
        model.params["1.weight"][...] = numbers(*model.params["1.weight"].shape)
    x = numbers(*((B, T) if "batch_first" in name else (T, B)), 3)
    check(model, x, tmp_path / "m.onnx", lengths=LENGTHS, opset=opset)
    check(model, x, tmp_path / "m.onnx", opset=opset)
    check(model, x, tmp_path / "m.onnx", opset=opset, lengths=None)
    onnx.save(model, tmp_path / "m.onnx", lengths=False, opset=opset)
    (y,) = session(tmp_path / "m.onnx").run(None, {"x": x})
    assert np.abs(y - flat(model(x))[0]).max() <= TOLERANCE


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("pooling", ["last", "mean", "max", "both"])
def test_classifiers_and_regressors(cell, pooling, tmp_path):
    options = {"cell": cell, "pooling": pooling, "num_layers": 2, "bidirectional": True, "dropout": 0.1, "seed": 0}
    x, tokens = numbers(T, B, 3), np.random.default_rng(0).integers(0, 11, (T, B))
    classes, regressor = fr.models.SequenceClassifier, fr.models.SequenceRegressor
    for model, given in (
        (classes(3, 4, 8, **options), x),
        (classes(11, ["a", "b"], 8, embedding_dim=5, **options), tokens),
        (regressor(3, None, 8, **options), x),
        (regressor(3, 2, 8, **options), x),
    ):
        check(model, given, tmp_path / "m.onnx", lengths=LENGTHS)
        check(model, given, tmp_path / "m.onnx")


def test_tokens(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 11, (T, B))
    for model in (
        fr.models.LanguageModel(11, "gru", embedding_dim=5, hidden_size=8, num_layers=2, seed=0),
        fr.Sequential(fr.OneHot(11), fr.LSTM(11, 6, seed=0), fr.Linear(6, 11, seed=0)),
        fr.Sequential(fr.OneHot(11), fr.Softmax(), fr.GRU(11, 6, seed=0)),
        fr.Sequential(fr.OneHot(11), fr.Dropout(0.5), fr.LayerNorm(11), fr.GRU(11, 6, seed=0)),
        fr.Sequential(fr.OneHot(11), fr.Residual(fr.Linear(11, 11, seed=1)), fr.GRU(11, 6, seed=0)),
        fr.Sequential(fr.Embedding(11, 6, seed=0), fr.MeanPool(), fr.Linear(6, 2, seed=0)),
    ):
        loaded = check(model, tokens, tmp_path / "m.onnx", lengths=LENGTHS)
        assert loaded.inputs[0].dtype == np.int64 and loaded.inputs[0].shape == ("T", "B")


def test_without_time(tmp_path):
    model = fr.Sequential(fr.Linear(3, 4, seed=0), fr.ReLU(), fr.Linear(4, 2, seed=1))
    loaded = check(model, numbers(B, 3), tmp_path / "m.onnx")
    assert [str(port) for port in loaded.inputs] == ["x float32[B, 3]"]


def test_states_of_several_layers(tmp_path):
    """They have the names of their places; what goes on from a state is what the whole would have been."""
    model = fr.Sequential(fr.GRU(3, 4, 2, seed=0), fr.LSTM(4, 5, seed=1))
    onnx.save(model, tmp_path / "m.onnx", states=True)
    runtime = session(tmp_path / "m.onnx")
    names = [output.name for output in runtime.get_outputs()]
    assert names == ["y", "0.h_n", "1.h_n", "1.c_n"]
    x = numbers(T, B, 3)
    first = dict(zip(names, runtime.run(None, {"x": x[:4]})))
    feeds = {name.replace("_n", "_0"): value for name, value in first.items() if name != "y"}
    assert feeds.keys() == {"0.h_0", "1.h_0", "1.c_0"}
    (y, *_) = runtime.run(None, {"x": x[4:], **feeds})
    assert np.abs(y - model(x)[0][4:]).max() <= TOLERANCE


def test_required_inputs(tmp_path):
    onnx.save(fr.GRU(3, 4, seed=0), tmp_path / "m.onnx", states=True, optional=False)
    runtime = session(tmp_path / "m.onnx")
    assert [given.name for given in runtime.get_inputs()] == ["x", "lengths", "h_0"]
    loaded = onnx.load(tmp_path / "m.onnx")
    assert not any(port.optional for port in loaded.inputs)
    with pytest.raises(ValueError, match=r"^lengths: this input is missing; there are x float32\[T, B, 3\], lengths"):
        loaded(numbers(T, B, 3))
    onnx.save(fr.GRU(3, 4, seed=0), tmp_path / "m.onnx")
    assert [given.name for given in session(tmp_path / "m.onnx").get_inputs()] == ["x"]


def test_float64(tmp_path):
    """ONNX's LSTM takes doubles, ONNX Runtime's does not; `dtype` makes single ones of them."""
    model, x = fr.LSTM(3, 4, dtype=np.float64, seed=0), numbers(T, B, 3)
    onnx.save(model, tmp_path / "m.onnx")
    loaded = onnx.load(tmp_path / "m.onnx")
    assert np.abs(loaded(x.astype(np.float64)) - model(x.astype(np.float64))[0]).max() <= 1e-14
    onnx.save(model, tmp_path / "m.onnx", dtype=np.float32)
    (y,) = session(tmp_path / "m.onnx").run(None, {"x": x})
    assert y.dtype == np.float32 and np.abs(y - model(x.astype(np.float64))[0]).max() <= TOLERANCE


class Mine(fr.GRU):
    def __call__(self, x, state=None, **options):
        return super().__call__(2 * x, state, **options)


class Composed(fr.Model):
    def __init__(self):
        super().__init__()
        self.rnn = fr.GRU(3, 4)

    def forward(self, x):
        return self.rnn(x)[0]


@pytest.mark.parametrize(
    "model, message",
    [
        (fr.LSTM(3, 4, proj_size=2), "LSTM: ONNX's LSTM has no projection, proj_size=2"),
        (fr.Sequential(fr.Linear(3, 3), fr.GRU(3, 4, layer_norm=True)), "GRU at '1': ONNX's GRU has no layer_norm"),
        (fr.LSTM(3, 4, zoneout=(0.0, 0.1)), "LSTM: ONNX's LSTM has no zoneout"),
        (fr.Sequential(fr.Sequential(fr.SRU(3, 3))), "SRU at '0.0': it can't be written as ONNX; these can: Dropout,"),
        (Mine(3, 4), "Mine: it can't be written"),
        (Composed(), "Composed: it can't be written"),
        (fr.Sequential(fr.GRU(3, 4), fr.Last(), fr.GRU(4, 4)), "GRU at '2': expected after layers that keep"),
        (fr.Tanh(), r"Tanh: expected a layer that says how many values x has"),
        (fr.models.SequenceClassifier(3, 2, 4, cell="sru"), "SRU at 'rnn': it can't be written"),
    ],
)
def test_what_cannot_be_written(model, message, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match=f"^{message}"):
        onnx.save(model, path)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_bad_arguments(tmp_path):
    with pytest.raises(TypeError, match=r"^model: expected a layer or model, got str$"):
        onnx.save("model", tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"^opset: expected 13 to \d+, got 7$"):
        onnx.save(fr.GRU(3, 4), tmp_path / "m.onnx", opset=7)
    with pytest.raises(ValueError, match=r"^Linear: states=True: it has no recurrent layer$"):
        onnx.save(fr.Linear(3, 4), tmp_path / "m.onnx", states=True)


def test_the_same_model_makes_the_same_file(tmp_path):
    for name in "ab":
        onnx.save(fr.Sequential(fr.GRU(3, 4, seed=0), fr.Last()), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_there_and_back(tmp_path):
    """A loaded graph through a file of fastrnn's, as ONNX again: graphs inside it, constants of every kind."""
    text = """<ir_version: 8, opset_import: ["": 17]>
    inside (float[N] x, int64 n, bool more) => (float[N] y, int64[M] counts)
    <float[2] w = {2, 3}, int64[1] one = {1}, float[1] nan = {nan}>
    {
        half = Constant <value_float = 0.5> ()
        big = Constant <value_floats = [1., 2., 3., 4., 5., 6., 7., 8., 9., 1., 1., 1., 1., 1., 1., 1., 1.]> ()
        z = Mul(x, half)
        total = ReduceSum <keepdims = 0> (big)
        first = Gather(w, one)
        y, counts = Loop (n, more, z) <
        body = round (int64 k, bool go, float[N] v) => (bool stay, float[N] u, int64 k2) {
            stay = Identity(go)
            s = Add(v, total)
            u = Mul(s, first)
            k2 = Identity(k)
        }>
    }"""
    model = onnx.load(parser.parse_model(text))
    assert set(model.params) == {"w", "nan", "big"}
    fr.save(model, tmp_path / "m.safetensors")
    again = fr.load(tmp_path / "m.safetensors")
    onnx.save(again, tmp_path / "m.onnx")
    feeds = {"x": numbers(3), "n": np.array(3), "more": np.array(True)}
    expected = session(tmp_path / "m.onnx").run(None, feeds)
    for one in (model, again, onnx.load(tmp_path / "m.onnx")):
        for found, value in zip(one.run(None, feeds), expected):
            assert found.dtype == value.dtype
            np.testing.assert_allclose(found, value, rtol=1e-5)
    onnx.save(model, tmp_path / "n.onnx")
    assert (tmp_path / "n.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()
