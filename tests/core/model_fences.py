"""Attention, decoders, searches, word vectors, steps of SGD on arrays that lie against pages without access.

Run as a script with "end" or "start".
"""

import sys

import numpy as np

from fastrnn import _core
from tests.core.cases import CELLS, ragged
from tests.core.fences import fenced

GATES = {_core.LSTM: 4, _core.GRU_AFTER: 3, _core.GRU_BEFORE: 3}
SIZES = ((1, 1, 1, 1, 1), (3, 2, 5, 15, 16), (4, 9, 3, 16, 17), (2, 5, 8, 33, 35))  # T, B, S, H, E


class Arrays:
    """Makes arrays against fences."""

    def __init__(self, dtype, at_end):
        self.dtype, self.at_end, self.rng = dtype, at_end, np.random.default_rng(0)

    def of(self, array):
        return fenced(np.ascontiguousarray(array), self.at_end)

    def new(self, *shape, scale=0.3):
        return self.of((self.rng.standard_normal(shape) * scale).astype(self.dtype))

    def zeros(self, *shape):
        return self.of(np.zeros(shape, self.dtype))


def attention(make, T, B, S, D, E):
    heads = 2
    lengths = make.of(np.array(ragged(S, B)))
    q, k, v = make.new(T, B, heads * D), make.new(S, B, heads * D), make.new(S, B, heads * E)
    for mask, causal in ((None, True), (make.new(B, heads, T, S), False)):
        options = (heads, lengths, causal, mask, 0.5, 0.1, 7)
        y, stats, weights = make.zeros(T, B, heads * E), make.zeros(B, heads, T, 2), make.zeros(T, B, heads, S)
        _core.dot_attention(q, k, v, *options, y, stats, weights)
        out = [make.zeros(*a.shape) for a in (q, k, v)]
        _core.dot_attention_backward(q, k, v, *options, y, stats, make.new(*y.shape), *out)
        assert all(np.isfinite(a).all() for a in (y, *out))
    q, k, v, x = make.new(T, B, D), make.new(S, B, D), make.new(D), make.new(S, B, E)
    y, weights = make.zeros(T, B, E), make.zeros(T, B, S)
    _core.additive_attention(q, k, v, x, lengths, y, weights)
    out = [make.zeros(*a.shape) for a in (q, k, v, x)]
    _core.additive_attention_backward(q, k, v, x, lengths, weights, make.new(T, B, E), *out)
    assert all(np.isfinite(a).all() for a in (y, *out))


def weights(make, code, E, A, H):
    """Of two layers, the lower one with input feeding."""
    n = GATES.get(code, 1) * H
    return tuple((make.new(n, I), make.new(n, H), make.new(n), make.new(n)) for I in (E + A, H))


def decoder(make, code, sizes, additive, sampling):
    T, B, S, H, E = sizes
    A, K, Q, V = H + 2, E, H + 1 if additive else H, 21
    layers = weights(make, code, E, A, H)
    U, v = (make.new(Q, H), make.new(Q)) if additive else (None, None)
    keys, values, C, b_c = make.new(S, B, Q), make.new(S, B, K), make.new(A, K + H), make.new(A)
    h_0, feed_0 = make.new(2, B, H), make.new(B, A)
    c_0 = make.new(2, B, H) if code == _core.LSTM else None
    lengths, sources = make.of(np.array(ragged(T, B))), make.of(np.array(ragged(S, B)))
    further = (make.new(V, E), make.new(V, A), make.new(V))
    drawn = (0.5, 3, *further, make.of(np.zeros((T, B), np.int64))) if sampling else None
    x = make.new(T, B, E)
    y, h_n, c_n, w, saved = _core.decoder_forward(
        code,
        x,
        layers,
        h_0,
        c_0,
        feed_0,
        lengths,
        keys,
        values,
        sources,
        U,
        v,
        0.7,
        C,
        b_c,
        True,
        False,
        True,
        True,
        drawn,
    )
    grads = tuple(tuple(make.zeros(*a.shape) for a in one) for one in layers)
    others = tuple(None if a is None else make.zeros(*a.shape) for a in (U, v, C, b_c))
    dkeys, dvalues, dc = make.zeros(*keys.shape), make.zeros(*values.shape), None if c_0 is None else make.new(2, B, H)
    found = saved.backward(make.new(T, B, A), make.new(2, B, H), dc, grads, others, True, dkeys, dvalues)
    results = (y, h_n, c_n, w, dkeys, dvalues, *found, *others, *(a for one in grads for a in one))
    assert all(np.isfinite(a).all() for a in results if a is not None)


def search(make, code, sizes, additive, mode):
    T, B, S, H, E = sizes
    A, Q, V, Z = H + 2, H + 1 if additive else H, 40, 2
    U, v = (make.new(Q, H), make.new(Q)) if additive else (None, None)
    c_0 = make.new(2, B, H) if code == _core.LSTM else None
    sampled = mode == _core.SEARCH_SAMPLE
    tokens, lengths, scores, w = _core.search(
        mode=mode, cell=code, batch=B, input_size=E + Z, layers=weights(make, code, E + Z, A, H), h_0=make.new(2, B, H),
        c_0=c_0, feed_0=make.new(B, A), keys=make.new(S, B, Q), values=make.new(S, B, E),
        source_lengths=make.of(np.array(ragged(S, B))), U=U, v=v, scale=0.7, C=make.new(A, E + H), b_c=make.new(A),
        feeding=True, batch_first=False, embedding=make.new(V, E), extra=make.new(B, Z), O=make.new(V, A, scale=2),
        b_o=make.new(V), banned=make.of((np.arange(V) % 7 == 3).astype(np.uint8)), bos=0, eos=1, width=3,
        n_best=3 if sampled else 2, most=T + 2, least=1, length_penalty=0.5, coverage_penalty=0.0 if sampled else 0.1,
        early=False, temperature=0.8, top_k=9, top_p=0.9, seed=5, weights=True,
    )  # fmt: skip
    assert np.isfinite(scores).all()
    assert np.isfinite(w).all()
    assert ((tokens >= 0) & (tokens % 7 != 3)).all()
    assert (lengths <= T + 2).all()


def words(make, cbow, tree):
    V, stride = 23, 32
    rng = make.rng
    ways = [[2 * k + int(k == w) for k in range(min(w, V - 2) + 1)] for w in range(V)]  # a tree like a list
    path, steps = np.cumsum([0, *(len(way) for way in ways)]), np.concatenate(ways).astype(np.int32)
    vectors, output, nodes = (make.of(rng.random((n, stride), np.float32)) for n in (V, V, V - 1))
    trainer = _core.Word2VecTrainer(
        vectors, None if tree else output, nodes if tree else None, path=make.of(path), steps=make.of(steps),
        keep=make.of(np.full(V, 3 << 30, np.uint32)), alias_share=make.of(rng.integers(0, 1 << 32, V, np.uint32)),
        alias=make.of(np.arange(V, dtype=np.int32)[::-1]), negative=5, window=3, shrink=True, cbow=cbow, seed=1,
    )  # fmt: skip
    text = make.of(rng.integers(0, V, 700).astype(np.int32))
    loss, pairs, _ = trainer.train(text, make.of(np.array([0, 1, 1, 400, 700])), 0.01, 0.005, 0, 1)
    assert pairs > 100
    assert np.isfinite(loss)
    assert np.isfinite(vectors).all()


def online(make, code, T, B, I, H, O):
    n, N = GATES.get(code, 1) * H, 3
    recurrent = (make.new(n, I), make.new(n, H), make.new(n), make.new(n))
    x, target = make.new(N, T, B, I), make.of(make.rng.integers(0, 2, (N, T, B, O)).astype(make.dtype))
    V, b_v, losses = make.new(O, H), make.new(O), make.of(np.zeros(N))
    before = V.copy()
    _core.online_sgd(code, x, target, recurrent, V, b_v, 0.1, losses)
    assert np.isfinite(losses).all()
    assert (losses > 0).all()
    assert not np.array_equal(before, V)


def main(side):
    at_end = side == "end"
    codes = sorted({code for code, _, _ in CELLS.values()})
    for isa in _core.isas():
        _core.select_isa(isa)
        for dtype in (np.float32, np.float64):
            make = Arrays(dtype, at_end)
            for sizes in SIZES:
                print(isa, dtype.__name__, "attention", sizes, flush=True)
                attention(make, *sizes)
                for k, code in enumerate(codes):
                    print(isa, dtype.__name__, "decoder, search, online", code, sizes, flush=True)
                    decoder(make, code, sizes, k % 2 == 0, k % 3 == 0)
                    search(make, code, sizes, k % 2 == 1, (_core.SEARCH_BEAM, _core.SEARCH_SAMPLE)[k // 2 % 2])
                    online(make, code, *sizes)
        for cbow in range(3):
            for tree in (False, True):
                print(isa, "words", cbow, tree, flush=True)
                words(Arrays(np.float32, at_end), cbow, tree)
    print("done")


if __name__ == "__main__":
    main(sys.argv[1])
