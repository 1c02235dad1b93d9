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


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_what_each_is_alone(kind):
    """Bitwise, whatever lies past the lengths."""
    model = make(**KINDS[kind])
    source, target, (source_ends, ends), _ = ragged()
    logits = model(source, target, source_lengths=source_ends, lengths=ends)
    assert logits.shape == (5, 4, W)
    for b in range(4):
        alone = model(source[: source_ends[b], b : b + 1], [list(target[: ends[b], b])])
        np.testing.assert_array_equal(logits[: ends[b] + 1, b], alone[: ends[b] + 1, 0])
    junk = (np.where(np.arange(len(x))[:, None] < n, x, 7) for x, n in ((source, source_ends), (target, ends)))
    again = model(*junk, source_lengths=source_ends, lengths=ends)
    np.testing.assert_array_equal(again, logits)


def test_loss_is_the_cross_entropy_of_the_logits():
    model, (source, target, lengths, weight) = make(), ragged()
    logits = model(source, target, source_lengths=lengths[0], lengths=lengths[1]).astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    total = counted = 0.0
    each = []
    for b, n in enumerate(lengths[1]):
        nats = -sum(log_p[t, b, token] for t, token in enumerate([*target[:n, b], 2]))
        each.append(-nats)
        total, counted = total + weight[b] * nats, counted + weight[b] * (n + 1)
    loss = model.loss((source, target, lengths, weight), train=False)
    assert loss == pytest.approx(total / counted, rel=1e-5)
    pairs = [(source[:s, b], target[:t, b]) for b, (s, t) in enumerate(lengths.T)]
    np.testing.assert_allclose(model.score(pairs, batch_size=3), each, rtol=1e-5)
    unweighted = -sum(each) / (lengths[1] + 1).sum()
    assert model.perplexity(pairs, batch_size=3) == pytest.approx(np.exp(unweighted), rel=1e-5)


def test_vjp_is_training():
    model, (source, target, lengths, _) = make(dtype=np.float64), ragged()
    given = {"source_lengths": lengths[0], "lengths": lengths[1]}
    logits, pullback = model.vjp(source, target, **given)
    np.testing.assert_allclose(logits, model(source, target, **given), rtol=1e-12)
    real = np.arange(len(target) + 1)[:, None] <= lengths[1]
    expected = model._expected(target, lengths[1])
    _, dlogits = fr.losses.cross_entropy(logits, expected, lengths=lengths[1] + 1)
    assert not dlogits[~real].any()
    pullback(dlogits)
    grads = {name: grad.copy() for name, grad in model.grads.items()}
    fr.value_and_grad(lambda: model.loss((source, target, lengths)), model)()
    for name, grad in model.grads.items():
        np.testing.assert_allclose(grads[name], grad, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("attention", ["general", None])
def test_scheduled_sampling(attention):
    """The same seed gives the same; p = 1 reads what the greedy search writes; the schedule counts steps."""
    model, (source, target, lengths, _) = make(attention=attention, sampling=1.0), ragged()
    batch = (source, target, lengths)
    run = fr.value_and_grad(lambda **options: model.loss(batch, **options), model)
    first, grads = run(seed=3)
    grads = {name: grad.copy() for name, grad in grads.items()}
    again, _ = run(seed=3)
    assert first == again
    for name, grad in model.grads.items():
        np.testing.assert_array_equal(grads[name], grad)
    forced = model.loss(batch, train=False)
    assert float(forced) != first
    model.sampling = 0.5
    assert len({run(seed=k)[0] for k in range(6)}) > 3

    # by hand: with p = 1 each step reads the most probable token of the step before
    model.sampling = 1.0
    whole = (source, target, np.array([[5, 3, 1, 4], [4, 4, 4, 4]]))
    tokens = target.copy()
    for t in range(4):
        tokens[t] = model(source, tokens, source_lengths=whole[2][0])[t].argmax(-1)
    logits = model(source, tokens, source_lengths=whole[2][0])
    expected, _ = fr.losses.cross_entropy(logits, np.concatenate([target, np.full((1, 4), 2)]))
    loss, _ = fr.value_and_grad(lambda: model.loss(whole), model)(seed=1)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_sampling_schedules():
    for shape, k, values in (
        ("linear", 4, [0, 0.25, 0.5, 0.75, 1, 1]),
        ("exponential", 0.5, [0, 0.5, 0.75, 0.875]),
        ("inverse_sigmoid", 3, [1 - 3 / (3 + np.exp(i / 3)) for i in range(9)]),
    ):
        schedule = fr.models.ScheduledSampling(shape, k)
        for value in values:
            assert schedule() == pytest.approx(value, abs=1e-12)
            schedule.count()
    late = fr.models.ScheduledSampling("inverse_sigmoid", 2, most=0.7)
    late.params["step"][:] = 1e9
    assert late() == 0.7
    model = make(sampling=fr.models.ScheduledSampling("linear", 10))
    fr.fit(model, [ragged()], epochs=3, progress=False)
    assert model.params["sampling.step"] == 3
    model.loss(ragged(), train=False)
    assert model.params["sampling.step"] == 3


def test_logits_are_made_once_and_only_for_real_steps(monkeypatch):
    """The gradient takes the logits' place, and padding has none: memory is about Σ lengths · V floats."""
    words, steps, rows = 5000, 20, 16
    model = fr.models.Seq2Seq(words, embedding_dim=4, hidden_size=4, seed=0)
    rng = np.random.default_rng(0)
    ends = np.array([[steps] * rows, [steps] + [1] * (rows - 1)])
    batch = (rng.integers(4, words, (steps, rows)), rng.integers(4, words, (steps, rows)), ends)
    shapes = []
    call = fr.losses.cross_entropy

    def watched(logits, target, *, out, **options):
        shapes.append((logits.shape, out is fr.ops.stop_gradient(logits)))
        return call(logits, target, out=out, **options)

    monkeypatch.setattr(fr.losses, "cross_entropy", watched)
    fr.value_and_grad(lambda: model.loss(batch), model)()
    assert shapes == [((steps + 1 + 2 * (rows - 1), words), True)]
