"""fastrnn's models written as ONNX and read as layers again."""

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import parser

import fastrnn as fr
from fastrnn.interop import onnx

LENGTHS = np.array([6, 2, 4])
MODELS = {
    "LSTM": lambda: fr.LSTM(3, 4, seed=0),
    "peephole": lambda: fr.LSTM(3, 4, peephole=True, coupled=True, clip=0.7, seed=0),
    "functions": lambda: fr.GRU(3, 4, activations=("hard_sigmoid", ("elu", 0.7)), reset_after=False, seed=0),
    "stack": lambda: fr.GRU(3, 4, 3, bidirectional=True, batch_first=True, seed=0),
    "relu": lambda: fr.RNN(3, 4, nonlinearity="relu", bias=False, seed=0),
    "tagger": lambda: fr.Sequential(
        fr.LayerNorm(3), fr.LSTM(3, 4, seed=0), fr.LeakyReLU(0.1), fr.Linear(4, 2, bias=False, seed=1), fr.Softmax()
    ),
}


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_there_and_back(name, lengths, tmp_path):
    model = MODELS[name]()
    onnx.save(model, tmp_path / "m.onnx", lengths=lengths)
    again = onnx.load(tmp_path / "m.onnx", layers=True)
    assert sum(a.size for a in again.params.values()) == model.num_params
    x = np.random.default_rng(0).standard_normal((3, 6, 3) if name == "stack" else (6, 3, 3)).astype(np.float32)
    options = {"lengths": LENGTHS} if lengths else {}
    assert np.abs(again(x, **options)[0] - model(x, **options)[0]).max() <= 1e-6
    (y, _), pullback = again.vjp(x, **options)
    pullback(np.ones_like(y))
    assert all(a.any() for a in again.grads.values())


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("pool", [fr.Last, fr.MeanPool, fr.MaxPool])
@pytest.mark.parametrize("opset", [13, 17, 18])
def test_pools(pool, batch_first, lengths, opset, tmp_path):
    gru = fr.GRU(3, 4, 2, bidirectional=True, batch_first=batch_first, seed=1)
    pooled = pool(batch_first=batch_first)
    x = np.random.default_rng(0).integers(0, 9, (3, 6) if batch_first else (6, 3))
    for first in (fr.Embedding(9, 3, seed=0), fr.OneHot(9)):
        if isinstance(first, fr.OneHot):
            gru = fr.GRU(9, 4, bidirectional=True, batch_first=batch_first, seed=1)
        for model in (
            fr.Sequential(first, gru, pooled, fr.Linear(8, 2, seed=2)),
            fr.Sequential(first, pooled, fr.Tanh()),
        ):
            onnx.save(model, tmp_path / "m.onnx", lengths=lengths, opset=opset)
            again = onnx.load(tmp_path / "m.onnx", layers=True)
            assert isinstance(again[-2], pool) and again[-2].batch_first == batch_first
            for given in ({}, {"lengths": [6, 0, 4]}):
                found, right = (one(x, **given) for one in (again, model))
                found, right = (one[0] if isinstance(one, tuple) else one for one in (found, right))
                assert np.abs(found - right).max() <= 1e-6


@pytest.mark.parametrize("bidirectional", [False, True])
def test_final_states(bidirectional, tmp_path):
    """A model that reads the state at each row's end is layers that take that step."""
    model = fr.models.SequenceRegressor(
        3, 2, cell="gru", hidden_size=4, bidirectional=bidirectional, pooling="last", seed=0
    )
    onnx.save(model, tmp_path / "m.onnx")
    again = onnx.load(tmp_path / "m.onnx", layers=True)
    assert [type(layer).__name__ for layer in again] == ["GRU", "Ends" if bidirectional else "Last", "Linear"]
    x = np.random.default_rng(0).standard_normal((6, 3, 3)).astype(np.float32)
    assert np.abs(again(x, lengths=LENGTHS)[0] - model(x, lengths=LENGTHS)).max() <= 1e-6


@pytest.mark.parametrize(
    "nodes",
    [
        "a, h = GRU(x, W, R, , n) s = Squeeze(a, one) y = Gather <axis = 0> (s, last)",
        "a, h = GRU(x, W, R, , n) s = Squeeze(a, one) y = ReduceMean <axes = [0], keepdims = 0> (s)",
        "a, h = GRU(x, W, R, , n) s = Squeeze(a, one) y = ReduceMax <axes = [0], keepdims = 0> (s)",
        "m = Sub(n, unit) y, h = GRU(x, W, R, , m)",
    ],
)
def test_other_lengths_than_the_layers(nodes):
    """The last of all steps is another one than each row's last; layers would give that."""
    numbers_ = f"{WEIGHTS[:-1]}, int64[1] one = {{1}}, int64 last = {{-1}}, int32[1] unit = {{1}}>"
    text = (
        '<ir_version: 8, opset_import: ["": 17]> f (float[T, B, 3] x, int32[B] n) => (float[A, C] y) '
        f"{numbers_} {{ {nodes} }}"
    )
    with pytest.raises(ValueError, match=r"it is not aware of lengths|expected lengths as an input of the graph, not"):
        onnx.to_layers(onnx.load(parser.parse_model(text)))


def numbers(count):
    return ", ".join(["0.5"] * count)


WEIGHTS = f"<float[1,12,3] W = {{{numbers(36)}}}, float[1,12,4] R = {{{numbers(48)}}}, float[2] b = {{1, 2}}>"


@pytest.mark.parametrize(
    "nodes, message",
    [
        ("y, h = GRU(x, W, R)", "y: this output is not made by a chain of layers in the layout of the input"),
        ("y = Transpose <perm = [0, 1, 5]> (x)", "Transpose .*: it is not whole"),
        ("y = Sin(x)", "Sin .* of the node that makes 'y': it is no layer; these are: Add, Div, Dropout, GRU"),
        ("y = Add(x, b)", "Add .*: expected the bias of a MatMul before it"),
        ("z = Relu(x) y = Add(x, z)", "Add .*: it doesn't go on from 'z' alone"),
        ('y, h = GRU <direction = "reverse"> (x, W, R)', "GRU .*: there is no layer of the reverse direction alone"),
        ("y = Softmax <axis = 0> (x)", "Softmax .*: expected along the features"),
        ("y = ReduceMean <axes = [2], keepdims = 0> (x)", "ReduceMean .*: expected over time"),
        ("z = Transpose <perm = [2, 0, 1]> (x) y, h = GRU(z, W, R)", r"GRU .*: expected \[T, B, F\]"),
        (
            "n = Constant <value_ints = [1]> () l = Cast <to = 6> (n) y, h = GRU(x, W, R, , l)",
            "GRU .*: expected lengths as",
        ),
        ("y = Identity(x)", "expected at least one layer in the graph"),
    ],
)
def test_what_is_no_chain(nodes, message):
    text = f'<ir_version: 8, opset_import: ["": 17]> f (float[T, B, 3] x) => (float[A, C, D] y) {WEIGHTS} {{ {nodes} }}'
    model = onnx.load(parser.parse_model(text))
    with pytest.raises(ValueError, match=f"^{message}"):
        onnx.to_layers(model)
