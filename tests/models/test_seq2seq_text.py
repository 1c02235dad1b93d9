"""Seq2Seq with texts: learning, translating, sampling, attention maps, files, errors by name."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.text import Vocabulary
from tests.models.helpers import same_after_files

PAIRS = [
    ("one two three", "drei zwei eins"),
    ("two", "zwei"),
    ("three one", "eins drei"),
    ("three three two one", "eins zwei drei drei"),
    ("one", "eins"),
    ("two one two", "zwei eins zwei"),
]
SOURCES, TARGETS = (list(texts) for texts in zip(*PAIRS))


def make(*, trained=0, **options):
    source, target = Vocabulary.from_texts(SOURCES), Vocabulary.from_texts(TARGETS)
    model = fr.models.Seq2Seq(source, target, **{"embedding_dim": 24, "hidden_size": 24, "seed": 0, **options})
    if trained:
        model.fit(PAIRS, epochs=trained, lr=0.02, batch_size=6, progress=False)
    return model


@pytest.fixture(scope="module")
def translator():
    return make(trained=80, bidirectional=True)


KINDS = {
    "attention": {"cell": "gru", "reverse_source": True},
    "none": {"attention": None},
    "peeky": {"attention": None, "peeky": True, "cell": "rnn"},
    "tied, sampled": {"tied": "output", "sampling": 0.2, "attention": "additive"},
    "none, sampled": {"attention": None, "sampling": 0.2, "bidirectional": True, "cell": "gru"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_learns_and_translates(kind, tmp_path):
    model = make(trained=120, **KINDS[kind])
    assert model.translate(SOURCES) == TARGETS
    assert model.greedy(SOURCES) == TARGETS
    assert model.sample(SOURCES, temperature=0) == TARGETS
    assert model.perplexity(PAIRS) < 1.2
    again = same_after_files(model, tmp_path / "m.safetensors")
    assert again.config() == model.config()
    assert again.translate(SOURCES, batch_size=2) == TARGETS
    np.testing.assert_array_equal(again.score(PAIRS), model.score(PAIRS))


def log_p(model, source, tokens):
    """Of a search, in which padding, begin and unknown never come."""
    logits = model([source], [tokens])[:, 0].astype(np.float64)
    logits[:, [0, 1, 3]] = -np.inf
    return sum(row[token] - np.log(np.exp(row).sum()) for row, token in zip(logits, [*tokens, 2]))


def test_n_best(translator):
    found = translator.translate(SOURCES, n_best=3, beam_size=4, length_penalty=0, weights=True)
    for (source, target), texts in zip(PAIRS, found):
        assert texts[0].text == target
        scores = [text.score for text in texts]
        assert scores == sorted(scores, reverse=True)
        # float32 logits of size 10 are rounded to 1e-6
        assert [log_p(translator, source, text.tokens) for text in texts] == pytest.approx(scores, rel=1e-5, abs=1e-6)
        for text in texts:
            assert text.weights.shape == (len(text.tokens) + 1, len(source.split()))
            np.testing.assert_allclose(text.weights.sum(-1), 1, rtol=1e-5)
    assert translator.translate("two one two") == "zwei eins zwei"
    assert translator.translate("two one two", n_best=2)[0].text == "zwei eins zwei"
    assert translator.translate([]) == []


def test_scores_are_those_of_the_loss_however_many_logits_are_held(monkeypatch):
    model = make()
    scores = model.score(PAIRS)
    tokens = sum(len(target.split()) + 1 for target in TARGETS)
    assert -scores.sum() / tokens == pytest.approx(np.log(model.perplexity(PAIRS)), rel=1e-5)
    monkeypatch.setattr("fastrnn.models.seq2seq.SCORED", 3 * model.target.size)
    np.testing.assert_array_equal(model.score(PAIRS), scores)


def test_samples(translator):
    draw = {"num_samples": 5, "temperature": 3.0, "max_length": 6}
    first, again = (translator.sample(SOURCES, **draw, seed=1) for _ in range(2))
    assert [[x.text for x in row] for row in first] == [[x.text for x in row] for row in again]
    other = translator.sample(SOURCES, **draw, seed=2)
    assert [[x.text for x in row] for row in first] != [[x.text for x in row] for row in other]
    assert all("<" not in x.text for row in first for x in row), "neither padding nor begin nor unknown"
    assert translator.sample(SOURCES, temperature=3.0, top_k=1, seed=0) == TARGETS
    assert translator.sample(SOURCES, temperature=0.5, top_p=0.01, seed=0) == TARGETS


@pytest.mark.parametrize("reverse", [False, True])
def test_attention_map(reverse):
    model = make(trained=120, reverse_source=reverse, input_feeding=False, seed=1)
    found = model.attention_map("one two three", "drei zwei eins")
    assert (found.source, found.target) == (["one", "two", "three"], ["drei", "zwei", "eins", "<eos>"])
    np.testing.assert_allclose(found.weights.sum(-1), 1, rtol=1e-5)
    best = model.translate(["one two three"], n_best=1, weights=True)[0][0]
    assert best.text == "drei zwei eins"
    np.testing.assert_allclose(model.attention_map("one two three").weights, best.weights, rtol=1e-4, atol=1e-6)
    encoded = model.encode(["one two three", "two"])
    assert encoded.outputs.shape == (3, 2, 24)
    assert encoded.thought.shape == (2, 24)
    # Each row by itself: the weights of a source alone are those in a batch, columns in the text's order.
    both = model.translate(["one two three", "two"], n_best=1, weights=True)
    np.testing.assert_array_equal(both[0][0].weights, best.weights)


def test_reversed_attention_is_in_the_order_of_the_text():
    """Encoder outputs that differ only at one place attract the weight there."""
    model = make(reverse_source=True, input_feeding=False)
    plain = make(input_feeding=False)
    plain.load_state_dict(model.state_dict())
    there = model.attention_map("one two three", "drei").weights
    back = plain.attention_map("three two one", "drei").weights
    np.testing.assert_allclose(there, back[:, ::-1], rtol=1e-5)


def test_tokens_instead_of_texts():
    model = fr.models.Seq2Seq(20, 12, embedding_dim=8, hidden_size=32, seed=0)
    rng = np.random.default_rng(0)
    pairs = [(row, row[::-1] % 8 + 4) for row in (rng.integers(4, 20, rng.integers(1, 6)) for _ in range(20))]
    model.fit(pairs, epochs=150, lr=0.01, progress=False)
    found = model.translate([source for source, _ in pairs])
    assert sum(np.array_equal(a, b) for a, (_, b) in zip(found, pairs)) >= 19
    assert model.translate([[4, 5]], n_best=1)[0][0].text is None
    assert model.attention_map([4, 5], [6]).target == [6, 2]


def test_any_tokenizer():
    """Characters, whose vocabulary has no begin and end of its own; and one of Hugging Face's."""
    characters = fr.text.CharVocabulary.from_text("".join(SOURCES + TARGETS))
    model = fr.models.Seq2Seq(characters, cell="gru", embedding_dim=16, hidden_size=32, tied="all", bridge="linear")
    assert model.source is model.target
    assert model.target.size == len(characters) + 3
    assert isinstance(model.translate("one", max_length=5), str)
    tokenizers = pytest.importorskip("tokenizers")
    inner = tokenizers.models.WordLevel({"[UNK]": 0, "one": 1, "two": 2, "[BOS]": 3, "[EOS]": 4}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(inner)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    model = fr.models.Seq2Seq(tokenizer, embedding_dim=8, hidden_size=8, seed=0)
    again = fr.nn.from_spec(fr.nn.to_spec(model))
    assert again.source.encode("two one").tolist() == [2, 1]
    again.load_state_dict(model.state_dict())
    assert again.translate(["two one"], max_length=4) == model.translate(["two one"], max_length=4)


def test_empty_texts():
    model = make()
    assert model(["", "one"], ["", "eins zwei"]).shape == (3, 2, len(model.target.vocabulary))
    assert isinstance(model.translate([""], max_length=3)[0], str)
    assert np.isfinite(model.score([("", ""), ("one", "")])).all()
    history = model.fit([("", ""), ("one", "")], validation=[("", "")], epochs=1, progress=False)
    assert np.isfinite([history.epochs[0]["loss"], history.validations[0]["loss"]]).all()
    assert make(attention=None).translate("", max_length=3, min_length=2).count(" ") >= 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"cell": "tcn"}, "cell: expected one of"),
        ({"attention": "loud"}, "attention: expected one of"),
        ({"attention": None, "attention_size": 3}, "attention_size: expected None without attention, got 3"),
        ({"attention": "dot", "bidirectional": True}, "attention: 'dot' needs source_size = hidden_size"),
        ({"bridge": "arch"}, "bridge: expected one of"),
        ({"bridge": "sum", "decoder_hidden": 9}, "bridge: 'sum' needs a decoder of the encoder's 1 layers of 24"),
        ({"tied": "both"}, "tied: expected one of"),
        ({"tied": "all"}, "tied: 'all' needs one vocabulary"),
        ({"tied": "output", "attention": None, "embedding_dim": 7}, "tied: without attention needs embedding_dim"),
        ({"sampling": 1.5}, "sampling: expected 0 ≤ sampling ≤ 1, got 1.5"),
        ({"dropout": 1.0}, "expected 0 ≤ dropout < 1, got 1.0"),
        ({"hidden_size": 0}, "hidden_size: expected"),
        ({"decoder_hidden": 0}, "decoder_hidden: expected a positive integer, got 0"),
        ({"decoder_layers": -1}, "decoder_layers: expected a positive integer, got -1"),
    ],
)
def test_bad_options(options, error):
    with pytest.raises(ValueError, match=error):
        make(**options)


def test_bad_vocabularies_and_calls(translator):
    for given in (3.5, None, ["a"]):
        with pytest.raises(TypeError, match="source_vocabulary: expected a vocabulary, a tokenizer or a number"):
            fr.models.Seq2Seq(given)
    with pytest.raises(ValueError, match="target_vocabulary: expected at least 5 tokens"):
        fr.models.Seq2Seq(9, 4)
    with pytest.raises(ValueError, match="k: expected 0 < k < 1, got 2"):
        fr.models.ScheduledSampling("exponential", 2)
    with pytest.raises(ValueError, match=r"k: expected k ≥ 1, got 0\.5"):
        fr.models.ScheduledSampling("linear", 0.5)
    for call, error in (
        (lambda m: m.translate(SOURCES, n_best=6), "n_best: expected at most beam_size=5, got 6"),
        (lambda m: m.translate(SOURCES, batch_size=0), "batch_size: expected"),
        (lambda m: m.translate("one", n_best=0), "n_best: expected a positive integer, got 0"),
        (lambda m: m.sample("one", num_samples=0), "num_samples: expected a positive integer, got 0"),
        (lambda m: m.score(PAIRS, batch_size=0), "batch_size: expected a positive integer, got 0"),
        (lambda m: m.perplexity([]), "pairs: expected at least one, got none"),
        (
            lambda m: m.loss((SOURCES, TARGETS, [1, 2])),
            r"lengths: expected \[2, B\], those of sources .* got shape \(2,\)",
        ),
        (
            lambda m: m.loss((SOURCES, TARGETS, None, [1])),
            r"weight: expected \[6\], one for each row, got shape \(1,",
        ),
        (lambda m: m.sample(SOURCES, top_p=2), "top_p: expected"),
        (lambda m: make(attention=None).attention_map("one"), "attention_map: this model has no attention"),
        (lambda m: make(attention=None).translate("one", weights=True), "weights: this model has no attention"),
        (lambda m: m(np.ones((3, 2), int), np.ones((3, 3), int)), "target: expected 2 rows, as many as source"),
        (lambda m: m(np.ones((3, 2), int), np.full((3, 2), 99)), "target: .*99"),
        (lambda m: m(np.ones((3, 2), int), np.ones((3, 2), int), source_lengths=[4, 1]), "source_lengths: "),
        (lambda m: m.translate([[1, 99]]), "source: .*99"),
        (lambda m: m.fit([("a", "b"), ("a", "b")], epochs=1, batch_size=0), "batch_size: expected"),
    ):
        with pytest.raises(ValueError, match=error):
            call(translator)
    for call, error in (
        (
            lambda m: m.fit([("a", "b"), "one"], epochs=1),
            r"pairs: expected \(source, target\) each, got str as number 1",
        ),
        (lambda m: m.score([{"one": 1, "two": 2}]), r"pairs: expected \(source, target\) each, got dict as number 0"),
        (lambda m: m.score(None), r"pairs: expected a list of \(source, target\), got NoneType"),
        (lambda m: m.translate(None), "texts: expected a text, or a list of texts or of integers .* got NoneType"),
        (lambda m: m.translate(b"one"), "texts: expected a text, .* got bytes"),
        (lambda m: m.translate([b"one"]), "source: expected texts, or integers .* got bytes"),
        (lambda m: m.translate([["one"]]), "source: expected texts, .* got a list of length 1 that holds texts"),
        (lambda m: m.translate("one", banned=4), "banned: expected integers, got int"),
        (lambda m: m.loss(None), "batch: expected .*source, target, lengths=None, weight=None.*, got NoneType"),
        (lambda m: m.loss(("one",)), "batch: expected .*, got a tuple of length 1"),
    ):
        with pytest.raises(TypeError, match=error):
            call(translator)
    with pytest.raises(TypeError, match="source: this model has no vocabulary; pass integers, not text"):
        fr.models.Seq2Seq(9, embedding_dim=2, hidden_size=2).translate("one")
