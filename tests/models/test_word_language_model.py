"""Language models of words: prediction, perplexity, samples, files, with each kind of vocabulary."""

import math

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.models import LanguageModel, SequenceVAE
from fastrnn.text import CharVocabulary, Vocabulary, as_vocabulary, token_stream
from tests.models.helpers import check_loss, same_after_files

TEXTS = ["the cat eats fish", "the cow eats grass", "the cat sees the cow", "the cow sees grass"]


def small(vocabulary, cell="lstm", **options):
    return LanguageModel(vocabulary, cell, **{"embedding_dim": 8, "hidden_size": 16, "seed": 0, **options})


@pytest.fixture(scope="module")
def trained():
    vocabulary = Vocabulary.from_texts(TEXTS)
    model = small(vocabulary)
    texts = np.random.default_rng(0).choice(TEXTS, 200).tolist()
    data = fr.TokenWindows(token_stream(texts, vocabulary), batch_size=8, seq_len=12)
    schedule = fr.schedules.Cosine()
    adam = fr.optim.Adam(model, lr=0.02)
    fr.fit(model, data, None, adam, epochs=30, schedule=schedule, carry_state=True, progress=False)
    return model


def test_a_stream_has_an_end_around_each_text():
    vocabulary = Vocabulary.from_texts(TEXTS)
    stream = token_stream(TEXTS[:2], vocabulary)
    assert stream.dtype == np.int32
    first, second = (vocabulary.encode(text).tolist() for text in TEXTS[:2])
    assert stream.tolist() == [2, *first, 2, *second, 2]
    assert token_stream([], vocabulary).tolist() == [2]
    assert token_stream(["ab"], CharVocabulary("ab")).tolist() == [5, 1, 2, 5]
    with pytest.raises(TypeError, match="texts: expected an iterable of texts, got one text"):
        token_stream("abc", vocabulary)


def test_the_next_word(trained):
    words = dict(trained.predict_next(token_stream(["the cow"], trained.vocabulary)[:-1], 2))  # a text's first words
    assert set(words) == {"eats", "sees"}
    assert sum(words.values()) > 0.8 and min(words.values()) > 0.2
    assert trained.predict_next("the cow eats", 1)[0][0] == "grass"
    assert trained.predict_next("the cat eats fish", 1)[0][0] == "<eos>"
    assert trained.predict_next(n=1)[0][0] == "the"  # after the end of a text
    assert [best[0][0] for best in trained.predict_next(["the cow eats", "the cat eats"], 1)] == ["grass", "fish"]


def test_probabilities_are_those_of_the_model(trained):
    tokens = trained.vocabulary.encode("the cow")
    logits = trained(tokens[:, None])[0][-1, 0].astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum()
    best = trained.predict_next("the cow", 100)
    assert [token for token, _ in best] == [
        trained.vocabulary.token(k) for k in np.argsort(-p, kind="stable").tolist() if k not in (0, 1, 3)
    ]
    for token, share in best:
        number = 2 if token == "<eos>" else trained.vocabulary.encode(token)[0]
        assert share == pytest.approx(p[number], rel=1e-5)
    assert trained.predict_next(tokens, 3) == trained.predict_next("the cow", 3)


def test_numbers_stay_numbers():
    model = small(5)
    best = model.predict_next([1, 2], 10)
    assert sorted(token for token, _ in best) == [0, 1, 2, 3, 4]
    assert sum(p for _, p in best) == pytest.approx(1)
    assert len(model.sample([1], 6, seed=0)) == 6


def test_characters_too():
    model = small(CharVocabulary.from_text("abc"))
    assert {token for token, _ in model.predict_next("ab", 9)} == {"a", "b", "c"}


def test_calls_of_their_own_are_asked(trained):
    class Other(LanguageModel):
        def __call__(self, x, state=None, **options):
            logits, state = super().__call__(x, state, **options)
            logits[..., self.vocabulary.encode("fish")[0]] = 50.0
            return logits, state

    model = Other(trained.vocabulary, hidden_size=8, embedding_dim=4, seed=0)
    assert model.predict_next("the", 1) == [("fish", pytest.approx(1.0))]
    assert model.sample("the", 3) == "fish fish fish"


def test_perplexity_of_texts_and_of_their_stream(trained):
    stream = token_stream(TEXTS, trained.vocabulary)
    assert trained.perplexity(TEXTS) == trained.perplexity(stream)
    logits, _ = trained(stream[:-1, None])
    nats, _ = fr.losses.cross_entropy(logits[:, 0], stream[1:])
    assert trained.perplexity(stream) == pytest.approx(math.exp(nats), rel=1e-5)
    # Of a text the words after "the" and after "eats", "sees" are open: two or three words each.
    assert trained.perplexity(TEXTS) < 2 < small(trained.vocabulary).perplexity(TEXTS)


def test_samples_are_sentences_and_end(trained):
    for seed in range(10):
        words = trained.sample(length=30, seed=seed).split()
        assert words[0] == "the" and len(words) < 30 and "<eos>" not in words
    tokens = list(trained.generate("the cow", 30, temperature=0))
    assert tokens[-1] == trained.vocabulary.eos and trained.vocabulary.eos not in tokens[:-1]
    assert trained.sample("the cow eats", 1, temperature=0) == "grass"
    assert trained.sample("the", 5, seed=1) == trained.sample("the", 5, seed=1)


def test_nobody_reads_unknown_words_or_padding():
    model = small(Vocabulary(["a"]))
    model.params["output.bias"][[0, 1, 3]] = 100.0
    assert set(model.generate("a", 200, seed=0)) <= {2, 4}


def test_an_empty_prompt_is_a_line_break_where_there_is_one():
    lines = Vocabulary.from_texts(["a\nb"], tokenizer="tokens")
    model = small(lines)
    assert model.sample("", 9, seed=0) == model.sample(lines.encode("\n"), 9, seed=0)
    plain = small(Vocabulary(["a", "b"]))
    assert plain.sample("", 9, seed=0) == plain.sample([2], 9, seed=0)


@pytest.mark.parametrize(
    "vocabulary", [Vocabulary.from_texts(TEXTS, tokenizer="tokens", lower=True), as_vocabulary(CharVocabulary("abc"))]
)
def test_files(vocabulary, tmp_path):
    model = same_after_files(small(vocabulary), tmp_path / "m.safetensors")
    assert model.vocabulary == vocabulary
    assert model.sample("cab", 8, seed=0) == small(vocabulary).sample("cab", 8, seed=0)


def test_a_tokenizer_of_hugging_face(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    own = tokenizers.Tokenizer(tokenizers.models.BPE())
    own.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=290, initial_alphabet=own.pre_tokenizer.alphabet())
    own.train_from_iterator(TEXTS, trainer)
    model = small(own)
    vocabulary = model.vocabulary
    assert vocabulary.tokenizer is own and model.vocab_size == len(vocabulary)
    data = fr.TokenWindows(token_stream(TEXTS * 20, vocabulary), batch_size=4, seq_len=12)
    fr.fit(model, data, None, fr.optim.Adam(model, lr=0.02), epochs=20, carry_state=True, progress=False)
    assert model.sample("the cow eats", 9, temperature=0) == " grass"
    again = same_after_files(model, tmp_path / "m.safetensors")
    assert again.sample("the", 20, seed=3) == model.sample("the", 20, seed=3)


def test_a_tokenizer_that_cannot_be_written_says_what_to_do(tmp_path):
    class Bytes:
        vocab_size = 256

        def encode(self, text):
            return list(text.encode())

        def decode(self, ids):
            return bytes(ids).decode(errors="replace")

    model = small(Bytes())
    with pytest.raises(TypeError, match=r"a Bytes can't be written to a file .* model\.load_state_dict"):
        fr.save(model, tmp_path / "m.safetensors")
    fr.io.save_tree(tmp_path / "w.safetensors", model.state_dict())
    other = small(Bytes(), seed=9)
    other.load_state_dict(fr.io.load_tree(tmp_path / "w.safetensors"))
    assert other.sample("a", 9, seed=0) == model.sample("a", 9, seed=0)


def test_sequence_vae_of_words(tmp_path):
    vocabulary = Vocabulary.from_texts(TEXTS)
    model = SequenceVAE(vocabulary, 4, "gru", hidden_size=32, embedding_dim=8, annealing=800, word_dropout=0.5, seed=0)
    data = fr.SequenceBatches([vocabulary.encode(text) for text in TEXTS], batch_size=4)
    fr.fit(model, data, None, fr.optim.Adam(model, lr=0.01), epochs=250, seed=0, progress=False)
    assert model.reconstruct(TEXTS) == TEXTS
    again = same_after_files(model, tmp_path / "m.safetensors")
    assert again.vocabulary == vocabulary
    assert again.sample(3, seed=0) == model.sample(3, seed=0)
    words = {word for text in model.sample(20, seed=1, temperature=3.0) for word in text.split()}
    assert words <= set(vocabulary.tokens[4:])


def test_gradients_of_the_sequence_vae_of_words():
    vocabulary = Vocabulary(["a", "b"])
    model = SequenceVAE(vocabulary, 2, hidden_size=3, embedding_dim=3, annealing=0, dtype=np.float64, seed=0)
    check_loss(model, (np.array([[4, 5], [5, 4], [3, 0]]), None, [3, 2]))


def test_sequence_vae_of_a_foreign_tokenizer(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    own = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    own.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    model = SequenceVAE(own, latent_size=2, hidden_size=4, seed=0)
    again = same_after_files(model, tmp_path / "m.safetensors")
    assert again.sample(4, seed=0) == model.sample(4, seed=0)
    assert set(" ".join(model.sample(9, seed=0)).split()) == {"a", "b"}


def test_evaluation_in_small_parts(trained, monkeypatch):
    """However large the vocabulary, few logits are kept at once, and the figure is the same."""
    tokens = np.random.default_rng(0).integers(4, trained.vocab_size, 500)
    expected = trained.perplexity(tokens, batch_size=3, seq_len=50)
    seen, loss = [], trained.loss
    monkeypatch.setattr(trained, "loss", lambda batch, **options: seen.append(batch[0].shape) or loss(batch, **options))
    monkeypatch.setattr("fastrnn.models.language_model.MOST_LOGITS", 3 * trained.vocab_size * 4 + 1)
    assert trained.perplexity(tokens, batch_size=3, seq_len=50) == pytest.approx(expected, rel=1e-6)
    assert max(seen) == (4, 3)
    monkeypatch.setattr("fastrnn.models.language_model.MOST_LOGITS", 1)  # a step at least
    assert trained.perplexity(tokens, batch_size=3, seq_len=50) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.predict_next("the", 0), ValueError, "n: expected"),
        (lambda m: m.predict_next([[1]]), ValueError, r"text: expected text or integers \[N\], got shape \(1, 1\)"),
        (lambda m: m.predict_next([0.5]), TypeError, "text: expected text or integers"),
        (lambda m: small(3).predict_next("the"), TypeError, "text: this model has no vocabulary"),
        (lambda m: small(3).perplexity(["a", "b"]), TypeError, "tokens: this model has no vocabulary"),
        (lambda m: small(CharVocabulary("a")).perplexity(["a", "b"]), TypeError, "expected one text, got a list"),
        (lambda m: m.perplexity([[4, 5], [6]]), ValueError, r"tokens: expected text or integers \[N\], got a list"),
        (lambda m: m.sample(["the", "cat"]), TypeError, "prompt: expected one text, .* got a list of length 2"),
        (lambda m: m.sample("the", seed="x"), TypeError, "seed: expected None, an int"),
        (lambda m: m.loss(None), TypeError, r"batch: expected \(x, target\), .* got NoneType"),
        (
            lambda m: m.loss((np.zeros((3, 2), int),)),
            TypeError,
            "batch: expected .* a tuple of length 1",
        ),
        (lambda m: small(object()), TypeError, "vocabulary: expected a number of tokens or a CharVocabulary"),
        (lambda m: LanguageModel({"symbols": "aa"}), ValueError, "symbols: a character occurs twice"),
    ],
)
def test_bad_arguments(trained, call, error, message):
    with pytest.raises(error, match=message):
        call(trained)
