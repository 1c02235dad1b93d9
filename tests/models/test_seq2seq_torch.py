"""Seq2Seq against the same model written in PyTorch: logits, loss and the gradient of every weight."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.models._seq2seq_encoder import reversed_rows

torch = pytest.importorskip("torch")

V, W, SIZE, HIDDEN = 13, 11, 6, 8
LENGTHS = np.array([[5, 2, 4], [3, 6, 1]])
KINDS = {
    "attention, two directions": {"bidirectional": True, "num_layers": 2},
    "gru, additive, no feeding": {"cell": "gru", "attention": "additive", "input_feeding": False},
    "scaled dot product, peeky, tied": {"attention": "scaled_dot", "peeky": True, "tied": "output"},
    "none, reversed": {"attention": None, "reverse_source": True, "num_layers": 2},
    "none, learned bridge": {"attention": None, "bidirectional": True, "bridge": "linear", "cell": "gru"},
    "peeky alone": {"attention": None, "peeky": True, "cell": "rnn"},
}


class Theirs:
    """The equations of docs/models/seq2seq.md, a row and a step at a time."""

    def __init__(self, model):
        self.model = model
        self.given = {"num_layers": 1, "cell": "lstm", "bidirectional": False, **model.config()}
        self.p = {name: torch.tensor(array, requires_grad=True) for name, array in model.params.items()}

    def cell(self, prefix, kind, sizes):
        made = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell, "rnn": torch.nn.RNNCell}[kind](*sizes)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            delattr(made, name)
            setattr(made, name, self.p[prefix.format(name)])
        return made

    def read(self, tokens):
        """One source: outputs [S, K], and a state for each layer and direction."""
        given, x = self.given, self.p["encoder.embedding.weight"][tokens]
        states = []
        for layer in range(given["num_layers"]):
            found = []
            for suffix in ("", "_reverse") if given["bidirectional"] else ("",):
                cell = self.cell(f"encoder.rnn.{{}}_l{layer}{suffix}", given["cell"], (x.shape[1], HIDDEN))
                steps, state, ys = range(len(x)), None, [None] * len(x)
                for t in reversed(steps) if suffix else steps:
                    state = cell(x[t : t + 1], state)
                    ys[t] = (state[0] if isinstance(state, tuple) else state)[0]
                found.append(torch.stack(ys))
                states.append(state if isinstance(state, tuple) else (state,))
            x = torch.cat(found, -1)
        return x, states

    def bridge(self, states):
        """A state for each layer of the decoder."""
        if self.given["bridge"] == "linear":
            found = []
            for part, name in zip(zip(*states, strict=True), ("to_h", "to_c"), strict=False):
                weight, bias = (self.p[f"encoder.{name}.{k}"] for k in ("weight", "bias"))
                found.append((torch.cat(part, -1) @ weight.T + bias).reshape(-1, 1, HIDDEN))
            found[0] = torch.tanh(found[0])
            return list(zip(*found, strict=True))
        if self.given["bidirectional"]:
            return [tuple(a + b for a, b in zip(*states[k : k + 2], strict=True)) for k in range(0, len(states), 2)]
        return states

    def scores(self, h, s):
        kind = self.given["attention"]
        if kind == "additive":
            q = self.p["decoder.rnn.weight_query"] @ h
            return torch.tanh(q + s @ self.p["decoder.rnn.weight_key"].T) @ self.p["decoder.rnn.v"]
        if kind == "general":
            return (s @ self.p["decoder.rnn.weight_key"].T) @ h
        return s @ h / HIDDEN**0.5

    def logits(self, source, target):
        """Of one pair, [T + 1, W]."""
        given, table = self.given, self.p.get("decoder.embedding.weight", self.p.get("embedding.weight"))
        s, states = self.read(torch.tensor(source))
        states = self.bridge(states)
        z, feed, found = states[-1][0], torch.zeros(1, SIZE if given["tied"] else HIDDEN, dtype=s.dtype), []
        for token in (1, *target):
            x = torch.cat([table[token : token + 1], *([z] if given["peeky"] else [])], -1)
            if given["attention"] and given["input_feeding"]:
                x = torch.cat([x, feed], -1)
            for layer in range(given["num_layers"]):
                cell = self.cell(f"decoder.rnn.{{}}_l{layer}", given["cell"], (x.shape[1], HIDDEN))
                state = cell(x, states[layer] if given["cell"] == "lstm" else states[layer][0])
                states[layer] = state if isinstance(state, tuple) else (state,)
                x = states[layer][0]
            y = x
            if given["attention"] or given["peeky"]:
                context = torch.softmax(self.scores(x[0], s), 0) @ s if given["attention"] else z[0]
                both = torch.cat([context, x[0]])[None]
                y = torch.tanh(both @ self.p["decoder.rnn.weight_c"].T + self.p["decoder.rnn.bias_c"])
            feed = y
            weight = table if given["tied"] else self.p["decoder.output.weight"]
            found.append((y @ weight.T + self.p["decoder.output.bias"])[0])
        return torch.stack(found)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("kind", KINDS)
def test_is_the_model_written_in_pytorch(kind, dtype, tolerance):
    model = fr.models.Seq2Seq(V, W, embedding_dim=SIZE, hidden_size=HIDDEN, dtype=dtype, seed=0, **KINDS[kind])
    rng = np.random.default_rng(1)
    source, target = rng.integers(4, V, (5, 3)), rng.integers(4, W, (6, 3))
    ours = model(source, target, source_lengths=LENGTHS[0], lengths=LENGTHS[1])
    loss, grads = fr.value_and_grad(model.loss, model)((source, target, LENGTHS))
    theirs = Theirs(model)
    if theirs.given["reverse_source"]:
        source = reversed_rows(source, LENGTHS[0])
    nats, count = 0.0, 0
    for row, (first, last) in enumerate(LENGTHS.T):
        logits = theirs.logits(source[:first, row], target[:last, row].tolist())
        near(ours[: last + 1, row], logits.detach().numpy(), tolerance, "logits")
        expected = torch.tensor([*target[:last, row], 2])
        nats, count = nats + torch.nn.functional.cross_entropy(logits, expected, reduction="sum"), count + last + 1
    mean = nats / count
    mean.backward()
    assert float(loss) == pytest.approx(mean.item(), rel=tolerance)
    assert set(grads) == set(theirs.p)
    for name, tensor in theirs.p.items():
        near(grads[name], tensor.grad.numpy(), tolerance, name)


def near(found, expected, tolerance, name):
    """By the largest difference over the largest magnitude."""
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max(), name
