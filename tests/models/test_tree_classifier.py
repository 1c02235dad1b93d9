"""TreeClassifier: shapes, gradients, training by fit, files; TreeBatches."""

import numpy as np
import pytest

import fastrnn as fr
from tests.reference.finite_differences import check_gradients

TREES = fr.Trees.from_nested([((0, 1), (2, 3)), (1, 0), 2, (3, (2, (1, 0)))])
KINDS = ["recursive", "binary", "child_sum", 3]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nodes", ["roots", "all"])
def test_gradients(kind, nodes):
    model = fr.models.TreeClassifier(4, 3, kind, hidden_size=5, nodes=nodes, dtype=np.float64, seed=0)
    logits, pullback = model.vjp(TREES)
    assert logits.shape == (4 if nodes == "roots" else TREES.num_nodes, 3)
    np.testing.assert_array_equal(logits, model(TREES))
    dy = np.random.default_rng(0).standard_normal(logits.shape)
    assert pullback(dy) is None
    check_gradients(lambda: model(TREES), model.params, dy, {n: g.copy() for n, g in model.grads.items()})


def sums(rng, count):
    """Trees of digits, labelled with the parity of the leaves below each node; and the parities at the roots."""
    trees = []
    for _ in range(count):
        parts = list(rng.integers(0, 4, rng.integers(1, 7)).tolist())
        while len(parts) > 1:
            k = rng.integers(len(parts) - 1)
            parts[k : k + 2] = [(parts[k], parts[k + 1])]
        trees.append(parts[0])
    found = fr.Trees.from_nested(trees)
    below = np.zeros(found.num_nodes, int)
    below[found.leaves] = found.values
    for n in np.argsort(found.heights, kind="stable"):
        if found.parents[n] >= 0:
            below[found.parents[n]] += below[n]
    found.labels = below % 2
    return found


@pytest.mark.parametrize("kind", KINDS[:3])
def test_learns_parity(kind):
    """What no bag with a linear map can: each node's parity depends on both children's."""
    train, test = sums(np.random.default_rng(0), 300), sums(np.random.default_rng(1), 100)
    model = fr.models.TreeClassifier(4, 2, kind, hidden_size=16, nodes="all", seed=0)
    optimizer = fr.optim.Adam(model, lr=0.01)
    data = fr.TreeBatches(train, batch_size=30)
    history = fr.fit(model, data, optimizer=optimizer, epochs=25, validation=[fr.Batch(test)], progress=False)
    assert (model(test).argmax(-1) == test.labels).mean() > 0.97
    assert history.validations[-1]["loss"] < 0.15 < history.validations[0]["loss"]


def test_loss():
    model = fr.models.TreeClassifier(4, 2, hidden_size=6, dropout=0.5, seed=0)
    trees = TREES[[0, 1]]
    target = np.array([1, -1])  # −1 doesn't count
    loss = model.loss(fr.Batch(trees, target), train=False)
    assert loss == pytest.approx(fr.losses.cross_entropy(model(trees)[:1], [1])[0], rel=1e-6)
    assert not any(g.any() for g in model.grads.values())
    values = [model.loss(fr.Batch(trees, target), seed=seed) for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]
    assert model.grads["output.bias"].any()
    with pytest.raises(ValueError, match=r"^target: expected a batch with targets, or trees with labels"):
        model.loss(fr.Batch(trees))
    trees.labels = np.arange(trees.num_nodes) % 2
    at_roots = trees.labels[trees.roots]
    assert model.loss(fr.Batch(trees), train=False) == model.loss(fr.Batch(trees, at_roots), train=False)


def test_files(tmp_path):
    for kind in KINDS:
        model = fr.models.TreeClassifier(4, 3, kind, hidden_size=6, nodes="all", dropout=0.1, dtype=np.float64, seed=0)
        fr.save(model, tmp_path / "m.safetensors")
        again = fr.load(tmp_path / "m.safetensors")
        assert again.config() == model.config()
        np.testing.assert_array_equal(again(TREES), model(TREES))


@pytest.mark.parametrize("call, error, message", [
    (lambda: fr.models.TreeClassifier(4, 2, "ternary"), ValueError, "^kind: expected one of"),
    (lambda: fr.models.TreeClassifier(4, 2, nodes="leaves"), ValueError, "^nodes: expected one of 'roots', 'all'"),
    (lambda: fr.models.TreeClassifier(4, 2, "recursive", hidden_size=8, embedding_dim=4), ValueError,
     "^embedding_dim: expected 8, that of hidden_size"),
    (lambda: fr.models.TreeClassifier(4, 2)(fr.Trees.from_nested([("a", "b")])), TypeError,
     r"^trees: expected values that are integers, .* got <U1 .*trees.map"),
    (lambda: fr.models.TreeClassifier(4, 2)(fr.Trees([[-1]])), ValueError, "^trees: expected trees with values"),
    (lambda: fr.models.TreeClassifier(4, 2)([(0, 1)]), TypeError, "^trees: expected fr.Trees, got a list"),
    (lambda: fr.models.TreeClassifier(4, 2).loss(([(0, 1)], [0])), TypeError, "^trees: expected fr.Trees, got a list"),
    (lambda: fr.models.TreeClassifier(3, 2)(TREES), ValueError, r"from 0 to 2 \(num_embeddings=3\), got 3$"),
])  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- batches


def test_batches():
    targets = np.arange(4)
    data = fr.TreeBatches(TREES, targets, batch_size=3, seed=1)
    assert len(data) == 2
    for _ in range(2):
        batches = list(data)
        assert [len(b.x) for b in batches] == [3, 1]
        assert sorted(np.concatenate([b.target for b in batches])) == [0, 1, 2, 3]
        for b in batches:
            assert [len(b.x[k].values) for k in range(len(b.x))] == [[4, 2, 1, 4][t] for t in b.target]
    whole = fr.TreeBatches(TREES, np.arange(TREES.num_nodes), batch_size=3, shuffle=False)
    assert np.concatenate([b.target for b in whole]).tolist() == list(range(TREES.num_nodes))
    assert next(iter(fr.TreeBatches(TREES, batch_size=2))).target is None


@pytest.mark.parametrize("nodes", ["roots", "all"])
def test_predictions(nodes):
    model = fr.models.TreeClassifier(4, 3, hidden_size=5, nodes=nodes, dtype=np.float64, seed=0)
    logits = model(TREES)
    for size in (1, 3, 100):
        np.testing.assert_allclose(model.decision_function(TREES, batch_size=size), logits, rtol=1e-12)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(TREES), shares, rtol=1e-12)
    best = logits.argmax(-1)
    np.testing.assert_array_equal(model.predict(TREES, batch_size=2), best)
    wrong = best.copy()
    wrong[0] = (best[0] + 1) % 3
    assert model.score(TREES, best) == 1 and model.score(TREES, wrong) == 1 - 1 / len(best)
    wrong[0] = -1
    assert model.score(TREES, wrong) == 1
    labelled = TREES.map(lambda value: value)
    labelled.labels = np.zeros(TREES.num_nodes, int)
    assert model.score(labelled) == np.mean(best == 0)


@pytest.mark.parametrize("call, error, message", [
    (lambda m: m.predict([1]), TypeError, "^trees: expected fr.Trees"),
    (lambda m: m.predict(TREES, batch_size=0), ValueError, "^batch_size: expected a positive integer, got 0$"),
    (lambda m: m.score(TREES), ValueError, "^target: expected .* trees with labels"),
    (lambda m: m.score(TREES, [1, 2]), ValueError, "^y: expected shape"),
    (lambda m: m.score(TREES, [0.5] * 4), TypeError, "^y: expected integers"),
    (lambda m: m.score(TREES, [-1] * 4), ValueError, "^y: expected classes, got none but −1"),
])  # fmt: skip
def test_bad_questions(call, error, message):
    with pytest.raises(error, match=message):
        call(fr.models.TreeClassifier(4, 3, hidden_size=5, seed=0))


def test_batches_go_on_in_the_middle():
    def epochs(data, count):
        return [b.target.tolist() for _ in range(count) for b in data]

    data = fr.TreeBatches(TREES, np.arange(4), batch_size=1, seed=3)
    expected = epochs(data, 2)
    data = fr.TreeBatches(TREES, np.arange(4), batch_size=1, seed=3)
    seen = []
    for b in data:
        seen.append(b.target.tolist())
        if len(seen) == 2:
            break
    again = fr.TreeBatches(TREES, np.arange(4), batch_size=1, seed=99)
    again.load_state_dict(data.state_dict())
    assert seen + epochs(again, 2) == expected


@pytest.mark.parametrize("make, error, message", [
    (lambda: fr.TreeBatches([1], batch_size=1), TypeError, "^trees: expected fr.Trees"),
    (lambda: fr.TreeBatches(TREES, [1, 2], batch_size=1), ValueError, "^targets: expected one for each of the 4 trees"),
    (lambda: fr.TreeBatches(TREES, batch_size=0), ValueError, "^batch_size: expected a positive integer, got 0$"),
])  # fmt: skip
def test_bad_batches(make, error, message):
    with pytest.raises(error, match=message):
        make()
