"""`Word2Vec.loss`: exact gradients of a batch, for `fr.fit`."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.models import Word2Vec
from tests.models.words import class_text, share_in_class


def small(**settings):
    model = Word2Vec({w: 20 - k for k, w in enumerate("abcdefgh")}, vector_size=5, min_count=1, seed=0, **settings)
    rng = np.random.default_rng(1)
    for name, array in model.params.items():
        model.params[name] = rng.standard_normal(array.shape)
    return model


BATCHES = {
    "skipgram": ({"sg": True}, ([0, 1, 1, 7], [1, 2, 2, 0])),
    "mean": ({}, ([[0, 1, 2], [3, 3, 3], [4, 5, 6]], [7, 6, 5], [3, 2, 1])),
    "sum": ({"cbow_mean": False}, ([[0, 1, 2], [3, 3, 3]], [7, 6, 5], None, [1.0, 0.5, 2.0])),
}


@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("targets", [{"negative": 3}, {"negative": 0, "hs": True}, {"negative": 2, "hs": True}])
def test_gradients_are_those_of_finite_differences(kind, targets):
    settings, batch = BATCHES[kind]
    model = small(**settings, **targets)
    loss = model.loss(batch, seed=4)
    assert loss == model.loss(batch, seed=4, train=False)
    checked = 0
    for name, array in model.params.items():
        grad = model.grads[name]
        for at in np.argwhere(np.ones(array.shape)):
            at, eps = tuple(at), 1e-2
            value = array[at]
            losses = []
            for step in (eps, -eps):
                array[at] = value + step
                losses.append(model.loss(batch, seed=4, train=False))
            array[at] = value
            # float32: rounding of the loss over 2·eps, and the third derivative times eps²
            assert abs((losses[0] - losses[1]) / (2 * eps) - grad[at]) < 5e-4
            checked += grad[at] != 0
    assert checked > 30
    touched = model.touched
    for name, grad in model.grads.items():
        assert set(np.flatnonzero(grad.any(1))) <= set(touched[name])
    model.zero_grads()
    assert not any(g.any() for g in model.grads.values())


def test_the_loss_is_that_of_the_mirror():
    from fastrnn import reference

    model = small(sg=True, negative=0, hs=True)
    tables = model.tables()
    steps = tables["steps"][tables["path"][2] : tables["path"][3]]
    targets = [("nodes", step >> 1, -1 if step & 1 else 1) for step in steps.tolist()]
    matrices = {"vectors": model.vectors, "nodes": model.params["nodes"]}
    assert model.loss(([1], [2])) == pytest.approx(reference.word2vec_loss(([1], targets), matrices)[0], rel=1e-6)


def test_fit_learns_with_any_optimiser():
    text = class_text(400)
    model = Word2Vec({w: 50 for s in text for w in s}, vector_size=16, sg=True, seed=0)
    numbers = [[model.index[w] for w in s] for s in text]
    pairs = np.array([(s[k], s[k + 1]) for s in numbers for k in range(9)])
    batches = [tuple(part.T) for part in np.array_split(pairs, 20)]
    fr.fit(model, batches, optimizer=fr.optim.Adam(model, lr=0.02), epochs=12, progress=False)
    assert share_in_class(model) > 0.95


@pytest.mark.parametrize(
    "settings, batch, match",
    [
        ({"sg": True}, ([0, 1], [1]), r"x: expected the numbers of words \[N\]"),
        ({"sg": True}, ([0], [8]), r"target: expected integers from 0 to 7 \(words=8\), got 8"),
        ({}, ([0, 1], [1, 2]), r"x: expected the numbers of words around, \[C, 2\], got shape \(2,\)"),
        ({}, ([[0, 1]], [1, 2], [2, 1]), "lengths: expected integers from 0 to T=1, got 2 in row 0"),
    ],
)
def test_bad_batches(settings, batch, match):
    with pytest.raises(ValueError, match=match):
        small(**settings).loss(batch)
