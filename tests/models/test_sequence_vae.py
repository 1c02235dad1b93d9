"""SequenceVAE: gradients, the bound, word dropout, annealing, writing, files."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.models._annealing import Annealing
from fastrnn.models.sequence_vae import HideTokens
from tests.models.helpers import check_loss, same_after_files

TEXTS = ["abc", "abcabc", "xyz", "xyzxyz", "", "ab"]


def small(vocabulary=7, cell="lstm", **options):
    sizes = {"embedding_dim": 3, "hidden_size": 5, "annealing": 0, "word_dropout": 0.0, "seed": 0}
    return fr.models.SequenceVAE(vocabulary, 2, cell, **{**sizes, "dtype": np.float64, **options})


def ragged():
    return fr.Batch(np.random.default_rng(0).integers(0, 7, (5, 4)), None, [5, 2, 0, 3])


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize(
    "options, weight",
    [({}, None), ({"bidirectional": True, "num_layers": 2, "word_dropout": 0.4, "dropout": 0.3}, [1, 2, 0.5, 0])],
)
def test_gradients_by_finite_differences(cell, options, weight):
    model = small(cell=cell, **options)
    for name, array in model.params.items():  # so that the encoder's gradients stand out from rounding
        array *= 3 if name.startswith(("encoder", "to_")) else 1
    check_loss(model, ragged()._replace(weight=weight), skip=["kl_weight.step"])


def test_the_loss_is_the_bound_per_token():
    model, batch = small(), ragged()
    mean, log_var = model.encode(batch.x, batch.lengths)
    rows = []
    for row, length in enumerate(batch.lengths):
        tokens = batch.x[:length, row]
        logits = model._logits(tokens[:, None], np.array([length]), mean[row : row + 1])[:, 0]
        log_p = fr.ops.log_softmax(logits)[np.arange(length + 1), [*tokens, 7]].sum()
        rows.append(-log_p)
    reconstruction, kl = model._terms(*model._batch(batch.x, batch.lengths), None, [None, None])
    expected = 0.5 * (np.exp(log_var) + mean**2 - 1 - log_var).sum() / 14  # tokens and ends
    assert kl == pytest.approx(expected)
    model.to_latent.params["weight"][2:], model.to_latent.params["bias"][2:] = 0, -60  # σ of nothing: z = μ
    reconstruction, _ = model._terms(*model._batch(batch.x, batch.lengths), None, [0, None])
    assert reconstruction == pytest.approx(sum(rows) / 14)
    bound = model.elbo(batch.x, batch.lengths)
    assert bound.reconstruction == pytest.approx(sum(rows) / 4)
    assert bound.elbo == pytest.approx(-bound.reconstruction - bound.kl)
    assert model.loss(batch, train=False) * 14 == pytest.approx(-bound.elbo * 4)


def test_padding_is_not_read():
    model, batch = small(), ragged()
    spoiled = batch.x.copy()
    for row, length in enumerate(batch.lengths):
        spoiled[length:, row] = -100
    assert model.loss(batch._replace(x=spoiled), seed=1) == model.loss(batch, seed=1)
    for row, length in enumerate(batch.lengths[:2]):
        alone, _ = model.encode([batch.x[:length, row]])
        np.testing.assert_array_equal(alone[0], model.encode(batch.x, batch.lengths)[0][row])


def test_word_dropout_hides_that_share_in_training():
    layer, x = HideTokens(0.3, 9), np.zeros((100, 100), int)
    assert layer(x) is x
    hidden = layer.vjp(x, seed=0)[0]
    assert set(np.unique(hidden)) == {0, 9} and (hidden == 9).mean() == pytest.approx(0.3, abs=0.02)
    np.testing.assert_array_equal(layer.vjp(x, seed=0)[0], hidden)
    model = small(word_dropout=0.5)
    run = fr.value_and_grad(model.loss, model)
    assert run(ragged(), seed=1)[0] != model.loss(ragged(), seed=1)


@pytest.mark.parametrize("shape", ["linear", "sigmoid"])
def test_annealing_rises_and_is_saved(shape, tmp_path):
    model = small(annealing=4, annealing_shape=shape)
    run = fr.value_and_grad(lambda b: model.loss(b, seed=4), model)
    weights, losses = [], []
    for _ in range(6):
        weights.append(float(model.kl_weight()))
        losses.append(run(ragged(), seed=0)[0])
    expected = [0, 0.25, 0.5, 0.75, 1, 1] if shape == "linear" else [0, 0.070, 0.5, 0.930, 1, 1]
    np.testing.assert_allclose(weights, expected, atol=5e-4)
    reconstruction, kl = model._terms(*model._batch(ragged().x, ragged().lengths), None, fr.nn._random.split(4, 2))
    np.testing.assert_allclose(losses, reconstruction + np.array(weights) * kl, rtol=1e-12)
    assert model.loss(ragged(), seed=4, train=False) == pytest.approx(losses[-1])
    assert float(same_after_files(model, tmp_path / "m.safetensors").kl_weight()) == 1
    fr.optim.AdamW(model, weight_decay=0.5).step()
    assert model.params["kl_weight.step"] == 6
    with pytest.raises(ValueError, match="annealing: expected a number of steps ≥ 0, got -1"):
        Annealing(-1)


@pytest.fixture(scope="module")
def learned():
    vocabulary = fr.text.CharVocabulary.from_text("".join(TEXTS))
    model = fr.models.SequenceVAE(
        vocabulary, 4, "gru", embedding_dim=8, hidden_size=32, annealing=600, word_dropout=0.5, seed=0
    )
    data = fr.SequenceBatches([vocabulary.encode(text) for text in TEXTS], batch_size=6)
    history = fr.fit(model, data, None, fr.optim.Adam(model, lr=0.01), epochs=1000, validation=data, progress=False)
    return model, history


def test_it_writes_what_it_read(learned, tmp_path):
    model, history = learned
    assert model.reconstruct(TEXTS) == TEXTS
    assert history.validations[-1]["loss"] < history.validations[0]["loss"] / 2
    assert model.elbo(TEXTS, samples=4).kl > 1  # z is used: log 6 = 1.8 nats would tell the texts apart
    path = model.interpolate("abc", "xyzxyz", steps=9)
    assert path[0] == "abc" and path[-1] == "xyzxyz" and len(path) == 9
    samples = model.sample(200, temperature=0.0, seed=0)
    assert samples == model.sample(200, temperature=0.0, seed=0) != model.sample(200, temperature=0.0, seed=1)
    assert {"abc", "abcabc", "xyz", "xyzxyz"} <= set(samples)
    again = same_after_files(model, tmp_path / "m.safetensors")
    assert again.reconstruct(TEXTS) == TEXTS


def test_writing_follows_the_logits_of_the_call(learned):
    """Step by step as by the whole sequence at once."""
    model, _ = learned
    mean, _ = model.encode(TEXTS)
    written = model.decode(mean)
    logits = model._logits(*model._batch(written, None), mean)
    for row, text in enumerate(written):
        np.testing.assert_array_equal(
            logits[: len(text) + 1, row].argmax(-1), [*model.vocabulary.encode(text), model.vocab_size]
        )
    mean, _ = model.encode(TEXTS[:4])
    assert model.decode(mean, max_length=2) == [text[:2] for text in TEXTS[:4]]
    assert model.decode(mean[:0]) == []
    assert model.decode(mean, max_length=0) == [""] * 4
    assert model.decode(mean, temperature=1.0, seed=3) == model.decode(mean, temperature=1.0, seed=3)


def test_integers_without_a_vocabulary():
    model = small()
    found = model.reconstruct([[1, 2, 3], [4]], max_length=6)
    assert len(found) == 2 and all(row.dtype == np.int64 and len(row) <= 6 for row in found)
    assert model(np.array([[1], [2]])).shape == (3, 1, 8)
    (logits, pullback) = model.vjp(np.array([[1], [2]]), seed=0)
    pullback(np.ones_like(logits))
    assert model.grads["to_state.weight"].any()


def test_no_sequences_are_fine():
    model = small()
    assert model.encode([])[0].shape == (0, 2) and model.reconstruct([]) == []
    assert model.elbo([]) == (0, 0, 0) and model.loss(([],), train=False) == 0


def test_a_resumed_run_is_the_run(tmp_path):
    def run(epochs, **options):
        model = small(annealing=30, word_dropout=0.3, dropout=0.2, dtype=np.float32)
        data = fr.SequenceBatches([[1, 2, 3], [4, 5], [6], [0, 1, 2, 3]] * 5, batch_size=4)
        return model, fr.fit(model, data, epochs=epochs, progress=False, **options)

    model, history = run(8)
    run(3, checkpoint=tmp_path / "run")
    again, resumed = run(8, checkpoint=tmp_path / "run", resume=True)
    assert history.steps["loss"] == resumed.steps["loss"]
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, again.params[name])


@pytest.mark.parametrize(
    "use, error, message",
    [
        (lambda m: small(cell="tcn"), ValueError, "cell: expected one of lstm, gru, rnn, .*, got 'tcn'"),
        (lambda m: small(word_dropout=1), ValueError, "word_dropout: expected 0 ≤ word_dropout < 1, got 1"),
        (lambda m: small(annealing_shape="step"), ValueError, "annealing_shape: expected one of 'linear', 'sigmoid'"),
        (lambda m: small("abc"), TypeError, "vocabulary: expected a number of tokens or a CharVocabulary"),
        (lambda m: m.encode("abc"), TypeError, "x: this model has no vocabulary; pass integers, not text"),
        (lambda m: m.encode([[0.5]]), TypeError, "x: expected integers, got float64"),
        (lambda m: m.encode(np.zeros(3, int)), ValueError, r"x: expected integers \[T, B\]"),
        (lambda m: m.encode([[9]]), ValueError, r"x: expected integers from 0 to 7 \(with the end token=8\), got 9"),
        (lambda m: m.encode(np.zeros((3, 2), int), [4, 1]), ValueError, "lengths: expected integers from 0 to T=3"),
        (lambda m: m.decode(np.zeros((1, 3))), ValueError, r"z: expected \[..., 2\] \(latent_size=2\)"),
        (lambda m: m.decode(np.zeros((1, 2)), temperature=-1), ValueError, "temperature: expected a finite number"),
        (lambda m: m.sample(0), ValueError, "count: expected a positive integer, got 0"),
        (lambda m: m.interpolate([1], [2], steps=0), ValueError, "steps: expected a positive integer, got 0"),
    ],
)
def test_bad_arguments_are_named(use, error, message):
    with pytest.raises(error, match=message):
        use(small())
