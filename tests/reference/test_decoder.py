"""The reference of the decoder by finite differences; that of searches by hand."""

import numpy as np
import pytest

from fastrnn import reference
from tests.reference.finite_differences import check_gradients


@pytest.mark.parametrize("score", ["dot", "general", "additive"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("input_feeding", [True, False])
def test_gradients(cell, score, input_feeding):
    rng = np.random.default_rng(0)
    T, B, S, E, H, A, L = 3, 3, 4, 2, 5, 4, 2
    K, Q, G = (H if score == "dot" else 3), 6, {"lstm": 4, "gru": 3, "rnn": 1}[cell]
    params = {}
    for l in range(L):
        params[f"weight_ih_l{l}"] = rng.standard_normal((G * H, H if l else E + A * input_feeding))
        params[f"weight_hh_l{l}"] = rng.standard_normal((G * H, H)) / 3
        params[f"bias_ih_l{l}"], params[f"bias_hh_l{l}"] = rng.standard_normal((2, G * H))
    if score == "general":
        params["weight_key"] = rng.standard_normal((H, K))
    if score == "additive":
        params |= {"weight_query": rng.standard_normal((Q, H)), "weight_key": rng.standard_normal((Q, K))}
        params["v"] = rng.standard_normal(Q)
    params |= {"weight_c": rng.standard_normal((A, K + H)), "bias_c": rng.standard_normal(A)}
    x, source, feed = rng.standard_normal((T, B, E)), rng.standard_normal((S, B, K)), rng.standard_normal((B, A))
    states = [rng.standard_normal((L, B, H)) for _ in range(2 if cell == "lstm" else 1)]
    state = tuple(states) if cell == "lstm" else states[0]
    options = {
        "cell": cell, "input_feeding": input_feeding, "feed": feed, "lengths": [3, 0, 2], "source_lengths": [4, 3, 0],
        "scale": 0.7,
    }  # fmt: skip
    (y, _, _), pullback = reference.decoder_vjp(x, source, state, params, **options)
    dy = rng.standard_normal(y.shape)
    dstates = [rng.standard_normal((L, B, H)) for _ in states]
    dstate = tuple(dstates) if cell == "lstm" else dstates[0]
    dx, dsource, dstate_0, dfeed, grads = pullback(dy, dstate)
    before = dict(enumerate(dstate_0 if cell == "lstm" else [dstate_0]))
    inputs = {"x": x, "source": source, "feed": feed, **params, **dict(enumerate(states))}
    gradients = {"x": dx, "source": dsource, "feed": dfeed, **grads, **before}
    check_gradients(lambda: reference.decoder(x, source, state, params, **options)[:2], inputs, (dy, dstate), gradients)


def test_beam_search_by_hand():
    table = {(): [0.1, 0.5, 0.4], (1,): [0.2, 0.4, 0.4], (2,): [0.9, 0.05, 0.05]}  # token 0 ends
    ask = lambda tokens: (np.log(table.get(tuple(tokens), [1 / 3] * 3)), None)  # noqa: E731
    narrow = reference.beam_search(ask, eos=0, max_length=2, beam_size=1)
    wide = reference.beam_search(ask, eos=0, max_length=2, beam_size=2, n_best=2)
    assert narrow == [(pytest.approx(np.log(0.2)), [1, 1])]  # the first step decided
    assert wide[0] == (pytest.approx(np.log(0.36)), [2])
    longer = reference.beam_search(ask, eos=0, max_length=2, beam_size=2, min_length=2)
    assert longer[0][1] == [1, 1]


def test_draws_have_their_shares():
    z = np.log([0.5, 0.3, 0.2])
    assert [reference.draw(z, u, 1.0) for u in (0.0, 0.49, 0.51, 0.79, 0.81, 0.999)] == [0, 0, 1, 1, 2, 2]
    assert {reference.draw(z, u / 50, 1.0, top_k=2) for u in range(50)} == {0, 1}
    assert {reference.draw(z, u / 50, 1.0, top_p=0.5) for u in range(50)} == {0}
    assert {reference.draw(z, u / 50, 1.0, top_p=0.51) for u in range(50)} == {0, 1}
    numbers = np.array([reference.uniform(3, n) for n in range(20_000)])
    assert abs(numbers.mean() - 0.5) < 0.01 and abs(numbers.var() - 1 / 12) < 0.002
