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


@pytest.mark.parametrize("pool", [fr.Last, fr.MeanPool, fr.MaxPool])
def test_pools(pool, tmp_path):
    """Without lengths; with them they are many nodes, none of which is a layer."""
    model = fr.Sequential(fr.Embedding(9, 3, seed=0), fr.GRU(3, 4, seed=1), pool(), fr.Linear(4, 2, seed=2))
    tokens = np.random.default_rng(0).integers(0, 9, (6, 3))
    onnx.save(model, tmp_path / "m.onnx", lengths=False)
    again = onnx.load(tmp_path / "m.onnx", layers=True)
    assert [type(layer) for layer in again] == [type(layer) for layer in model]
    assert np.abs(again(tokens)[0] - model(tokens)[0]).max() <= 1e-6
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"it (is no layer|doesn't go on).*call load without layers=True"):
        onnx.load(tmp_path / "m.onnx", layers=True)


def numbers(count):
    return ", ".join(["0.5"] * count)


WEIGHTS = f"<float[1,12,3] W = {{{numbers(36)}}}, float[1,12,4] R = {{{numbers(48)}}}, float[2] b = {{1, 2}}>"


@pytest.mark.parametrize(
    "nodes, message",
    [
        ("y, h = GRU(x, W, R)", "y: this output is not made by a chain of layers in the layout of the input"),
        ("y = Transpose <perm = [0, 1, 5]> (x)", "Transpose .*: it is not whole"),
        ("y = Sin(x)", "Sin .* of the node that makes 'y': it is no layer; these are: Add, Dropout, GRU"),
        ("y = Add(x, b)", "Add .*: expected the bias of a MatMul before it"),
        ("z = Relu(x) y = Add(x, z)", "Add .*: it doesn't go on from 'z' alone"),
        ('y, h = GRU <direction = "reverse"> (x, W, R)', "GRU .*: there is no layer of the reverse direction alone"),
        ("y = Softmax <axis = 0> (x)", "Softmax .*: expected along the features"),
        ("y = ReduceMean <axes = [0], keepdims = 0> (x)", "ReduceMean .*: expected over time, after a recurrent layer"),
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
