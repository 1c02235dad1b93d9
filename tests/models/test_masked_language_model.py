"""The masked language model: what it hides, gradients, what it learns, questions, files."""

import math

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.models import MaskedLanguageModel
from fastrnn.text import CharVocabulary, Vocabulary
from tests.models.helpers import check_loss, same_after_files


def small(vocabulary=9, cell="lstm", **options):
    options = {"embedding_dim": 3, "hidden_size": 4, "seed": 0, "dtype": np.float64, **options}
    return MaskedLanguageModel(vocabulary, cell, **options)


def batch_of(rng, steps=7, rows=3, size=9):
    return rng.integers(0, size, (steps, rows)), None, np.array([steps, 2, steps - 2])[:rows]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("weight", [None, [1.0, 0.5, 2.0]])
def test_gradients_by_finite_differences(cell, weight):
    model = small(cell=cell, num_layers=2, dropout=0.2, hidden_share=0.5)
    check_loss(model, (*batch_of(np.random.default_rng(1)), weight))


def test_the_loss_is_that_of_the_hidden_words():
    """Against the equation: logits of the call, at the places that were hidden."""
    model = small(hidden_share=0.4)
    x, _, lengths = batch_of(np.random.default_rng(2))
    padded = np.where(np.arange(len(x))[:, None] < lengths, x, model.hidden_token)
    from fastrnn.nn._random import generator, split

    seen, places = model._hide(padded, generator(split(5, 1)[0]), (1.0, 0.0, 0.0))
    logits = model(seen, lengths=lengths).reshape(-1, 9)[places]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(p[np.arange(len(places)), x.reshape(-1)[places]]).mean()
    assert float(model.loss((x, None, lengths), seed=5, train=False)) == pytest.approx(expected, rel=1e-12)
    assert (seen.reshape(-1)[places] == model.hidden_token).all()


def test_padding_changes_nothing():
    model = small(hidden_share=0.5)
    x, _, lengths = batch_of(np.random.default_rng(3))
    other = np.where(np.arange(len(x))[:, None] < lengths, x, 0)
    values = [float(model.loss((data, None, lengths), seed=1, train=False)) for data in (x, other)]
    assert values[0] == values[1]


def test_shares_of_what_is_hidden():
    vocabulary = Vocabulary([f"w{k}" for k in range(46)])
    model = small(vocabulary, hidden_share=0.2, replace=(0.5, 0.3, 0.2))
    x = np.random.default_rng(0).integers(0, 50, (1000, 50))
    seen, places = model._hide(x, np.random.default_rng(1), model.replace)
    flat, out = x.reshape(-1), seen.reshape(-1)
    assert flat[places].min() >= 4  # special tokens and the unknown one are never asked for
    assert len(places) / (flat >= 4).sum() == pytest.approx(0.2, abs=0.01)
    untouched = np.setdiff1d(np.arange(x.size), places)
    np.testing.assert_array_equal(flat[untouched], out[untouched])
    now, before = out[places], flat[places]
    assert (now == model.hidden_token).mean() == pytest.approx(0.5, abs=0.02)
    # one in 46 of the words at random is the word itself
    assert (now == before).mean() == pytest.approx(0.2 + 0.3 / 46, abs=0.02)
    drawn = now[(now != before) & (now != model.hidden_token)]
    assert set(drawn.tolist()) == set(range(4, 50))


def test_one_word_at_least_is_hidden():
    model = small(hidden_share=1e-9)
    for seed in range(20):
        _, places = model._hide(np.zeros((3, 1), np.int64), np.random.default_rng(seed), (1.0, 0.0, 0.0))
        assert len(places) == 1
    assert math.isfinite(float(model.loss((np.zeros((3, 1), int),), seed=0)))


def test_seeds():
    model = small(hidden_share=0.5)
    batch = batch_of(np.random.default_rng(2))
    loss = [float(model.loss(batch, seed=seed)) for seed in (1, 1, 2)]
    assert loss[0] == loss[1] != loss[2]
    assert float(model.loss(batch, train=False)) == float(model.loss(batch, train=False))


def grammar(rng, count):
    """Texts in which the words on both sides decide the one between: left.a middle.ab right.b."""
    texts = []
    for a, b in rng.integers(0, 3, (count, 2)):
        texts.append(f"start left{a} middle{a}{b} right{b} stop")
    return texts


@pytest.fixture(scope="module")
def trained():
    texts = grammar(np.random.default_rng(0), 300)
    vocabulary = Vocabulary.from_texts(texts)
    model = MaskedLanguageModel(vocabulary, hidden_size=32, embedding_dim=16, seed=0)
    data = fr.SequenceBatches([vocabulary.encode(text) for text in texts], batch_size=50)
    history = fr.fit(model, data, None, fr.optim.Adam(model, lr=0.01), epochs=40, seed=0, progress=False)
    return model, history


def test_both_sides_are_read(trained):
    model, history = trained
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"] / 2
    for a in range(3):
        for b in range(3):
            (word, p), (_, other) = model.predict(f"start left{a} <mask> right{b} stop", 2)
            assert word == f"middle{a}{b}" and p > 0.8 > other
    # one of three is left open here
    first = model.predict("start left1 <mask> ? stop".replace("?", "<mask>"), 3)
    assert [word for word, _ in first[0]] != [word for word, _ in first[1]] and len(first) == 2
    assert {word for word, _ in first[1]} == {"right0", "right1", "right2"}


def test_perplexity_of_hidden_words(trained):
    model, _ = trained
    texts = grammar(np.random.default_rng(9), 100)
    # One word in a text is decided by the others but for "left" and "right" where "middle" is hidden, too.
    assert 1 <= model.perplexity(texts) < 1.5
    untrained = MaskedLanguageModel(model.vocabulary, hidden_size=8, seed=0)
    assert untrained.perplexity(texts) == pytest.approx(len(model.words), rel=0.4)
    assert model.perplexity(texts, batch_size=7) == pytest.approx(model.perplexity(texts), rel=0.2)
    assert model.perplexity(texts, seed=3) == model.perplexity(texts, seed=3)


def test_word_vectors(trained):
    model, _ = trained
    assert model.words[0] in model and "<pad>" not in model and len(model) == len(model.words) == 17
    vector = model.embedding.params["weight"][model.vocabulary.encode("start")[0]]
    np.testing.assert_array_equal(model["start"], vector)
    assert model.similarity("start", "start") == pytest.approx(1)
    assert len(model.most_similar("left0", topn=3)) == 3
    assert model.vectors.shape == (17, 16)


@pytest.mark.parametrize(
    "vocabulary",
    [7, CharVocabulary("abc"), Vocabulary.from_texts(["a b, c"], tokenizer="tokens")],
    ids=["number", "characters", "words"],
)
def test_files(vocabulary, tmp_path):
    model = small(vocabulary, "gru", hidden_share=0.3, replace=(0.6, 0.2, 0.2), dtype=np.float32)
    again = same_after_files(model, tmp_path / "m.safetensors")
    assert again.words == model.words and again.replace == model.replace
    text = [1, model.hidden_token, 2] if model.vocabulary is None else "a<mask>c"
    assert again.predict(text, 3) == model.predict(text, 3)
    assert again.vocabulary == model.vocabulary


def test_the_tokenizer_of_another_package(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    own = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    own.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    model = small(own, dtype=np.float32)
    assert model.words == ["a", "b"] and model.vocab_size == 6 and model.hidden_token == 6
    again = same_after_files(model, tmp_path / "m.safetensors")
    assert again.predict("a <mask> b", 2) == model.predict("a <mask> b", 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: small(hidden_share=0), ValueError, "hidden_share: expected 0 < hidden_share ≤ 1"),
        (lambda m: small(replace=(0.5, 0.1, 0.1)), ValueError, r"replace: expected three shares .* whose sum is 1"),
        (lambda m: small(replace=(0.5, 0.5)), ValueError, "replace: expected three shares"),
        (lambda m: small(cell="x"), ValueError, "cell: "),
        (lambda m: m.predict("a <mask>"), TypeError, "text: this model has no vocabulary; pass integers"),
        (lambda m: m.predict([1, 2]), ValueError, r"text: expected a hidden word, '<mask>' \(among integers 9\), got"),
        (lambda m: m.predict([9], 0), ValueError, "n: expected"),
        (lambda m: m.loss(([1, 2],)), ValueError, r"x: expected integers \[T, B\], got shape \(2,\)"),
        (lambda m: m.loss(([[10]],)), ValueError, "x: expected integers from 0 to 9"),
        (lambda m: m.loss(([[9]],)), ValueError, "x: expected words that can be hidden"),
        (lambda m: m.perplexity([]), ValueError, "texts: expected texts with words"),
        (lambda m: m["x"], KeyError, "'x' is not among the 9 words"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call(small())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.perplexity("a b"), TypeError, "texts: expected an iterable of texts, got one text; put it into"),
        (lambda m: m.perplexity(None), TypeError, "texts: expected an iterable of texts, got NoneType"),
        (lambda m: m.perplexity(["a"], batch_size=0), ValueError, "batch_size: expected a positive integer, got 0"),
        (lambda m: m.predict("a _", hidden=3), TypeError, "hidden: expected str, got int"),
        (
            lambda m: m.loss((np.full((3, 2), 4), None, None, [1.0, 1.0, 1.0])),
            ValueError,
            r"weight: expected \[2\], one for each row, got shape \(3,\)",
        ),
    ],
)
def test_bad_texts_and_weights(call, error, message):
    with pytest.raises(error, match=message):
        call(small(Vocabulary(["a", "b"])))


def test_vectors_start_small_and_move():
    """Words are told apart by what stands around them: after some steps those of one kind are the nearest."""
    rng = np.random.default_rng(0)
    kinds = [[f"{name}{k}" for k in range(5)] for name in "abcd"]
    texts = [" ".join(rng.choice(kinds[k % 4]) for k in range(start, start + 8)) for start in rng.integers(0, 4, 300)]
    vocabulary = Vocabulary.from_texts(texts)
    model = MaskedLanguageModel(vocabulary, embedding_dim=16, hidden_size=16, seed=0)
    data = fr.SequenceBatches([vocabulary.encode(text) for text in texts], batch_size=30)
    fr.fit(model, data, None, fr.optim.Adam(model, lr=0.01), epochs=15, seed=0, progress=False)
    near = [other[0] == word[0] for word in vocabulary.tokens[4:] for other, _ in model.most_similar(word, topn=4)]
    assert np.mean(near) > 0.8  # 4 in 19 by chance


def test_vectors_of_some_words():
    model = small(Vocabulary(["a", "b", "c"]))
    np.testing.assert_array_equal(model["b"], model.vectors[1])
    np.testing.assert_array_equal(model[["c", "a"]], model.vectors[[2, 0]])
    model["b"][:] = 9  # a copy
    assert (model.vectors[1] != 9).all() and model[[]].shape == (0, model.vectors.shape[1])
    with pytest.raises(KeyError, match="'z' is not among the 3 words"):
        model["z"]


def test_a_text_without_a_hidden_word():
    model = small(Vocabulary(["a"]))
    with pytest.raises(ValueError, match=r"text: expected a hidden word, '_' \(among integers 5\), got 'a a'"):
        model.predict("a a", hidden="_")
    with pytest.raises(ValueError, match="hidden: expected how the text writes"):
        model.predict("a a", hidden="")
