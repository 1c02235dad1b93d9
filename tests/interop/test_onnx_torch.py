"""Models that PyTorch has exported: the same numbers, at other sizes too, and as layers that can be trained."""

import io
import itertools
import logging
import warnings

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("torch")

import torch
from torch import nn

import fastrnn as fr
from fastrnn.interop import onnx

TOLERANCE = 1e-5


class Tagger(nn.Module):
    """Embedding, recurrent layers, a head of some kind."""

    def __init__(self, cell, layers, both, batch_first, head, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        more = {"dropout": 0.1} if layers > 1 else {}
        more |= {"nonlinearity": "relu"} if cell == "RNN" and layers > 1 else {}
        self.embedding = nn.Embedding(20, 8)
        self.rnn = getattr(nn, cell)(8, 12, layers, bidirectional=both, batch_first=batch_first, **more)
        self.norm = nn.LayerNorm(12 * (1 + both))
        self.linear = nn.Linear(12 * (1 + both), 5)
        self.head, self.time = head, int(batch_first)

    def forward(self, x):
        y, state = self.rnn(self.embedding(x))
        if self.head == "last":
            y = y[:, -1] if self.time else y[-1]
        elif self.head == "mean":
            y = y.mean(self.time)
        elif self.head == "state":
            h = state[0] if isinstance(state, tuple) else state
            y = torch.cat([h[-2], h[-1]], -1) if self.rnn.bidirectional else h[-1]
        elif self.head == "softmax":
            return torch.softmax(self.linear(torch.relu(self.norm(y))), -1)
        return self.linear(y)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.query, self.out = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 8), nn.Linear(16, 3)

    def forward(self, x):
        y, h = self.rnn(x)
        weights = torch.softmax(self.query(h[-1]).unsqueeze(1) @ y.transpose(1, 2) / 8**0.5, -1)
        return self.out(torch.cat([(weights @ y).squeeze(1), h[-1]], -1)), weights


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(6, 8, 2, bidirectional=True, batch_first=True), nn.Linear(16, 3)

    def forward(self, x, n):
        packed = nn.utils.rnn.pack_padded_sequence(x, n, batch_first=True, enforce_sorted=False)
        y, (h, _) = self.rnn(packed)
        return self.out(nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0]), h


class Stateful(nn.Module):
    """The state goes in and out; an LSTM with a cell of its own between two layers."""

    def __init__(self):
        super().__init__()
        self.rnn, self.cell, self.norm = nn.LSTM(6, 8), nn.GRUCell(8, 8), nn.LayerNorm(8)

    def forward(self, x, h, c):
        y, (h, c) = self.rnn(x, (h, c))
        return nn.functional.gelu(self.norm(self.cell(y[-1], h[0]))).clamp(-1, 1), h, c


def export(model, args, dynamo):
    """The model as bytes; the old exporter with both first axes of x free."""
    model.eval()
    file = io.BytesIO()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's own, about its exporters
            if dynamo:
                pytest.importorskip("onnxscript")
                torch.onnx.export(model, args, dynamo=True, verbose=False).save(file)
            else:
                names = ["x", "second", "third"][: len(args)]
                free = {"x": {0: "A", 1: "B"}, "second": {len(args) - 2: "A"}, "third": {1: "A"}}
                axes = {name: free[name] for name in names}
                torch.onnx.export(model, args, file, dynamo=False, input_names=names, dynamic_axes=axes)
    finally:
        logging.disable(logging.NOTSET)
    return file.getvalue()


def compare(model, loaded, args):
    with torch.no_grad():
        expected = model(*args)
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = loaded.run(None, {port.name: a.numpy() for port, a in zip(loaded.inputs, args)})
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        assert a.shape == b.shape and np.abs(a - b.numpy()).max() <= TOLERANCE


KINDS = list(itertools.product(("LSTM", "GRU", "RNN"), (1, 2), (False, True), (False, True)))


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("head", ["all", "last", "mean", "state", "softmax"])
def test_recurrent_models(head, dynamo):
    for seed, kind in enumerate(KINDS if not dynamo else KINDS[::5]):
        model = Tagger(*kind, head, seed)
        x = torch.randint(0, 20, (3, 7))
        loaded = onnx.load(export(model, (x,), dynamo))
        compare(model, loaded, (x,))
        if not dynamo:
            compare(model, loaded, (torch.randint(0, 20, (5, 2)),))


@pytest.mark.parametrize("dynamo", [False, True])
def test_attention_and_states(dynamo):
    torch.manual_seed(0)
    x = torch.randn(3, 7, 6)
    model = Attention()
    compare(model, onnx.load(export(model, (x,), dynamo)), (x,))
    model, args = Stateful(), (x, torch.randn(1, 7, 8), torch.randn(1, 7, 8))
    compare(model, onnx.load(export(model, args, dynamo)), args)


def test_packed_sequences():
    """Of the old exporter; the new one can't."""
    torch.manual_seed(0)
    model, x, n = Packed(), torch.randn(3, 7, 6), torch.tensor([7, 2, 5])
    loaded = onnx.load(export(model, (x, n), False))
    compare(model, loaded, (x, n))
    compare(model, loaded, (torch.randn(2, 4, 6), torch.tensor([1, 4])))


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("head", ["all", "last", "mean", "softmax"])
def test_layers(head, dynamo):
    """What is loaded as layers gives the same, and trains. Of RNN the new exporter writes every step."""
    for seed, kind in enumerate(KINDS if not dynamo else [kind for kind in KINDS[::5] if kind[0] != "RNN"]):
        model = Tagger(*kind, head, seed)
        x = torch.randint(0, 20, (3, 7))
        layers = onnx.load(export(model, (x,), dynamo), layers=True)
        with torch.no_grad():
            expected = model(x).numpy()
        y = layers(x.numpy())
        y = y[0] if isinstance(y, tuple) else y
        assert np.abs(y - expected).max() <= TOLERANCE
        batch_first = {layer.batch_first for layer in layers if hasattr(layer, "batch_first")}
        assert batch_first == {kind[3]}
    before = layers.params["0.weight"].copy()
    classes = np.zeros(y.shape[:-1], int)
    fr.fit(layers, [(x.numpy(), classes)], loss=fr.losses.cross_entropy, epochs=2, progress=False)
    assert not np.array_equal(layers.params["0.weight"], before)


def test_graphs_that_are_no_chain():
    x = torch.randint(0, 20, (3, 7))
    with pytest.raises(ValueError, match=r"expected the last step; call load without layers=True"):
        onnx.load(export(Tagger("GRU", 1, True, True, "state"), (x,), False), layers=True)
    with pytest.raises(ValueError, match=r"^expected an input and one output, the graph has OnnxModel"):
        onnx.load(export(Attention(), (torch.randn(3, 7, 6),), False), layers=True)
