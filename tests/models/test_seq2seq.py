"""Seq2Seq: gradients of every kind, rows of a batch as each alone, learning, files, errors."""

import numpy as np
import pytest

import fastrnn as fr
from tests.models.helpers import check_loss

V, W = 9, 8  # words of source and target
KINDS = {
    "attention": {},
    "additive, feeding off, gru": {"attention": "additive", "input_feeding": False, "cell": "gru"},
    "dot, two layers": {"attention": "dot", "num_layers": 2},
    "none": {"attention": None},
    "none, rnn": {"attention": None, "cell": "rnn", "num_layers": 2},
    "peeky": {"attention": None, "peeky": True},
    "peeky with attention": {"peeky": True, "cell": "gru"},
    "reversed": {"attention": None, "reverse_source": True},
    "bidirectional": {"bidirectional": True, "num_layers": 2},
    "bidirectional, learned bridge": {"bidirectional": True, "bridge": "linear", "attention": None},
    "other sizes": {"decoder_hidden": 6, "decoder_layers": 2, "cell": "gru"},
    "tied": {"tied": "output", "embedding_dim": 3},
    "tied without attention": {"tied": "output", "attention": None, "embedding_dim": 5},
    "smoothed": {"label_smoothing": 0.1, "bidirectional": True, "reverse_source": True},
}


def make(**options):
    return fr.models.Seq2Seq(V, W, **{"embedding_dim": 4, "hidden_size": 5, "seed": 0, **options})


def lively(model):
    """With larger weights, or gradients of the attention would be as small as rounding errors of the loss."""
    for name, array in model.params.items():
        array *= 1 if "embedding" in name else 3
    return model


def ragged(dtype=np.int64):
    rng = np.random.default_rng(1)
    source, target = rng.integers(4, V, (5, 4)).astype(dtype), rng.integers(4, W, (4, 4)).astype(dtype)
    return fr.Batch(source, target, np.array([[5, 3, 1, 4], [2, 4, 0, 3]]), np.array([1.0, 0.5, 2.0, 1.0]))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind):
    model = make(**KINDS[kind], dtype=np.float64)
    check_loss(lively(model), ragged(), most=15)


def test_gradients_of_one_vocabulary_tied_throughout():
    model = fr.models.Seq2Seq(W, embedding_dim=5, hidden_size=5, tied="all", dtype=np.float64, seed=0)
    source, target, lengths, weight = ragged()
    check_loss(lively(model), fr.Batch(np.minimum(source, W - 1), target, lengths, weight))
    assert sum("embedding" in name or name == "output.weight" for name in model.params) == 1
