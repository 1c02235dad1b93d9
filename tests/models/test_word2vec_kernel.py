"""The kernel of word2vec against its NumPy mirror, which finite differences prove."""

import functools
import math

import numpy as np
import pytest

from fastrnn import _core, reference
from fastrnn.models._word_tables import alias_table, huffman, keep_shares
from tests.models.words import as_piece, kernel_case, run_kernel


@pytest.fixture(params=_core.isas())
def isa(request):
    before = _core.isa()
    _core.select_isa(request.param)
    yield request.param
    _core.select_isa(before)


# ---- the mirror


def test_gradients_of_the_loss_are_those_of_finite_differences():
    rng = np.random.default_rng(3)
    matrices = {name: rng.standard_normal((6, 5)) for name in ("vectors", "output", "nodes")}
    targets = [("output", 1, 1), ("output", 2, -1), ("nodes", 0, -1), ("nodes", 4, 1)]
    for inputs, mean in (([3], True), ([0, 2, 5], True), ([0, 2, 5], False)):
        prediction = (inputs, targets)

        def loss(prediction=prediction, mean=mean):
            return reference.word2vec_loss(prediction, matrices, mean=mean)[0]

        _, dh, du = reference.word2vec_loss(prediction, matrices, mean=mean)
        share = 1 / len(inputs) if mean else 1.0
        wanted = [(name, row, d) for (name, row, _), d in zip(targets, du)]
        wanted += [("vectors", row, share * dh) for row in inputs]
        for name, row, gradient in wanted:
            for d in range(5):
                at, eps = matrices[name][row, d], 1e-6
                matrices[name][row, d] = at + eps
                above = loss()
                matrices[name][row, d] = at - eps
                below = loss()
                matrices[name][row, d] = at
                assert abs((above - below) / (2 * eps) - gradient[d]) < 1e-8


@pytest.mark.parametrize("cbow", [0, 1, 2])
def test_a_small_step_of_the_mirror_goes_down_the_gradient(cbow):
    """One prediction: what changes is -lr times the gradient, for CBOW's mean times the number of its words."""
    matrices, tables, _ = kernel_case(V=9, D=6, hs=True)
    matrices = {name: a.astype(np.float64) for name, a in matrices.items()}
    before = {name: a.copy() for name, a in matrices.items()}
    sentence, lr = [[0, 1, 2]], 1e-7
    options = {"negative": 3, "window": 2, "shrink": False}
    random = reference.word2vec_draws(5, 0)
    _, predictions = reference.word2vec_predictions(sentence[0], random, tables, sg=cbow == 0, **options)
    reference.word2vec(matrices, sentence, tables, lr=(lr, lr), seed=5, cbow=cbow, **options)
    expected = {name: np.zeros_like(a) for name, a in matrices.items()}
    for prediction in predictions:
        _, dh, du = reference.word2vec_loss(prediction, before, mean=cbow == 2)
        for (name, row, _), d in zip(prediction[1], du):
            expected[name][row] -= lr * d
        for row in prediction[0]:
            expected["vectors"][row] -= lr * dh
    for name, a in matrices.items():
        np.testing.assert_allclose(a - before[name], expected[name], atol=1e-6 * lr)


# ---- the kernel


CASES = [
    {"negative": 5},
    {"negative": 1, "D": 16},
    {"negative": 20, "D": 100, "window": 2},  # three groups of targets
    {"negative": 7, "D": 33, "sample": 1e-2},  # a full group
    {"negative": 0, "hs": True},
    {"negative": 5, "hs": True, "shrink": False},
    {"negative": 3, "V": 2, "D": 1, "window": 1},
    {"negative": 5, "V": 1},  # nothing but the word itself
    {"negative": 0, "hs": True, "V": 1},
    {"negative": 5, "window": 5000, "sizes": (300, 40), "lr": 5e-4},
    {"negative": 400, "V": 300, "window": 3, "sizes": (90,), "lr": 0.001},  # more than the list usually holds
]


def prepare(number, cbow):
    """The arguments of a case of CASES."""
    case = dict(CASES[number])
    options = {"window": case.pop("window", 4), "shrink": case.pop("shrink", True), "negative": case["negative"]}
    lr = case.pop("lr", 0.05)
    return kernel_case(**case), {"lr": (lr, lr / 5), "seed": 11, "first_block": 3, "cbow": cbow, **options}


@functools.cache
def mirrored(number, cbow):
    """What the mirror makes of a case, in float64; it takes a second."""
    (matrices, tables, sentences), options = prepare(number, cbow)
    exact = {name: a.astype(np.float64) for name, a in matrices.items()}
    return exact, reference.word2vec(exact, sentences, tables, **options)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda k: str(CASES[k]))
@pytest.mark.parametrize("cbow", [0, 1, 2], ids=["skipgram", "sum", "mean"])
def test_kernel_does_what_the_mirror_does(isa, cbow, number):
    (matrices, tables, sentences), options = prepare(number, cbow)
    before = {name: a.copy() for name, a in matrices.items()}
    loss, predictions, kept = run_kernel(matrices, tables, sentences, **options)
    exact, expected = mirrored(number, cbow)
    assert (predictions, kept) == expected[1:]
    assert math.isclose(loss, expected[0], rel_tol=1e-4, abs_tol=1e-6)  # the kernels' promise for gradients in float32
    for name, a in matrices.items():
        if a.size:
            assert np.abs(a - exact[name]).max() <= 1e-4 * np.abs(exact[name]).max(), name
            assert not a[:, CASES[number].get("D", 20) :].any(), "padding stays zero"
    if predictions and CASES[number].get("V", 50) > 1:
        assert (matrices["vectors"] != before["vectors"]).any()


def test_one_thread_gives_the_same_bits_and_several_the_same_loss(isa):
    results = {}
    for run, threads in (("a", 1), ("b", 1), ("c", 4)):
        matrices, tables, sentences = kernel_case(V=400, D=40, sizes=(500,) * 40)
        options = {"negative": 5, "window": 5, "shrink": True, "cbow": 0, "threads": threads}
        loss, predictions, kept = run_kernel(matrices, tables, sentences, lr=(0.02, 0.02), seed=1, **options)
        results[run] = (loss, predictions, kept, {name: a.tobytes() for name, a in matrices.items()})
    assert results["a"] == results["b"]
    assert results["a"][1:3] == results["c"][1:3], "draws belong to blocks, not to threads"
    assert math.isclose(results["a"][0], results["c"][0], rel_tol=0.05)


def test_text_in_two_pieces_is_the_same_text():
    """Blocks are whole sentences, and each has random numbers of its own."""
    options = {"negative": 5, "window": 3, "shrink": True, "cbow": 2}
    matrices, tables, sentences = kernel_case(sizes=(1024,) * 6)
    whole = {name: a.copy() for name, a in matrices.items()}
    one = run_kernel(whole, tables, sentences, lr=(0.02, 0.02), seed=1, **options)
    run_kernel(matrices, tables, sentences[:2], lr=(0.02, 0.02), seed=1, **options)
    run_kernel(matrices, tables, sentences[2:], lr=(0.02, 0.02), seed=1, first_block=1, **options)
    assert one[1] > 0
    for name, a in matrices.items():
        np.testing.assert_array_equal(a, whole[name])


def test_very_sure_vectors_stay_finite(isa):
    matrices, tables, sentences = kernel_case()
    for a in matrices.values():
        a *= 1e3
    loss, *_ = run_kernel(matrices, tables, sentences, lr=(1e-6, 0), seed=1, negative=5, window=3, shrink=True, cbow=0)
    assert math.isfinite(loss) and loss > 0
    assert all(np.isfinite(a).all() for a in matrices.values())


def test_binding_refuses_what_would_read_out_of_bounds():
    matrices, tables, sentences = kernel_case()
    tokens, begin = as_piece(sentences)
    options = {"negative": 5, "window": 3, "shrink": True, "cbow": 0, "seed": 0, **tables}
    trainer = _core.Word2VecTrainer(matrices["vectors"], matrices["output"], None, **options)
    for bad_tokens, bad_begin in (
        (np.where(tokens == 0, 50, tokens).astype(np.int32), begin),
        (np.where(tokens == 0, -1, tokens).astype(np.int32), begin),
        (tokens, begin[:-1]),
        (tokens, begin[::-1].copy()),
        (tokens.astype(np.int64), begin),
    ):
        with pytest.raises(ValueError, match=r"^(tokens|begin): expected"):
            trainer.train(bad_tokens, bad_begin, 0.1, 0.1, 0, 1)
    with pytest.raises(ValueError, match="vectors: expected rows of a multiple of 16"):
        _core.Word2VecTrainer(np.zeros((50, 20), np.float32), matrices["output"], None, **options)
    bad = {**options, "alias": np.full(50, 50, np.int32)}
    with pytest.raises(ValueError, match="alias: expected words from 0 to 49, got 50"):
        _core.Word2VecTrainer(matrices["vectors"], matrices["output"], None, **bad)


# ---- tables


def test_alias_table_is_the_distribution():
    weights = np.random.default_rng(0).random(1000) ** 4
    share, alias = alias_table(weights)
    mass = np.bincount(np.arange(1000), share / 2**32, 1000) + np.bincount(alias, 1 - share / 2**32, 1000)
    np.testing.assert_allclose(mass / 1000, weights / weights.sum(), atol=1e-9)


def test_huffman_tree_is_the_shortest_and_is_a_tree():
    import heapq

    counts = np.random.default_rng(1).integers(1, 1000, 200)
    path, steps = huffman(counts)
    heap, best = sorted(counts.tolist()), 0
    while len(heap) > 1:  # the total length of the best code is the sum of all merged weights
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        best += merged
        heapq.heappush(heap, merged)
    assert (counts * np.diff(path)).sum() == best
    ways = [tuple(steps[path[w] : path[w + 1]].tolist()) for w in range(200)]
    codes = ["".join(str(step & 1) for step in way) for way in ways]
    assert len(set(codes)) == 200
    assert sum(2.0 ** -len(code) for code in codes) == 1.0  # Kraft: whole
    assert all(not b.startswith(a) for a in codes for b in codes if a != b)
    assert {way[0] >> 1 for way in ways} == {198} and {step >> 1 for way in ways for step in way} == set(range(199))
    for way in ways:  # a node is reached by one prefix of codes
        for k, step in enumerate(way):
            seen = {tuple(s & 1 for s in other[:k]) for other in ways for s in other[k : k + 1] if s >> 1 == step >> 1}
            assert len(seen) == 1
        break
    assert huffman(np.array([7]))[0].tolist() == [0, 0]


def test_subsampling_keeps_the_share_that_it_should():
    """Frequencies in a long text, within five standard deviations."""
    V = 40
    matrices, _, _ = kernel_case(V=V)
    tokens = np.random.default_rng(0).choice(V, 200_000, p=1 / np.arange(1, V + 1) / (1 / np.arange(1, V + 1)).sum())
    counts = np.bincount(tokens, minlength=V)
    keep = keep_shares(counts, 1e-2)
    f = counts / counts.sum()
    wanted = np.minimum(np.sqrt(1e-2 / f) + 1e-2 / f, 1)
    np.testing.assert_allclose((keep.astype(float) + 1) / 2**32, wanted, atol=1e-9)
    _, tables, _ = kernel_case(V=V)
    tables["keep"] = keep
    for word in (0, 1, 5, 39):
        text = [[word] * 1000] * 20
        _, _, kept = run_kernel(matrices, tables, text, lr=(0, 0), seed=word, negative=1, window=1, shrink=True, cbow=2)
        p = wanted[word]
        assert abs(kept - 20_000 * p) <= 5 * math.sqrt(20_000 * p * (1 - p)) + 1e-9
    assert keep_shares(counts, 0) is None
