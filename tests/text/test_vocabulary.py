"""Vocabulary: tokenisers, special tokens, the way there and back."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn as fr
from fastrnn.text import CharVocabulary, Vocabulary, join_tokens, split_tokens

TEXTS = ["to be or not to be", "that is the question", "not to be"]


def test_numbers_follow_frequency_and_first_occurrence():
    vocabulary = Vocabulary.from_texts(TEXTS)
    assert (vocabulary.pad, vocabulary.bos, vocabulary.eos, vocabulary.unk) == (0, 1, 2, 3)
    assert vocabulary.tokens[:6] == ["<pad>", "<bos>", "<eos>", "<unk>", "to", "be"]
    assert vocabulary.tokens[6:] == ["not", "or", "that", "is", "the", "question"]
    assert vocabulary.encode("to question all").dtype == np.int32
    assert vocabulary.encode("to question all").tolist() == [4, 11, 3]
    assert [vocabulary.token(k) for k in (0, 3, 11)] == ["<pad>", "<unk>", "question"]
    assert "be" in vocabulary and "all" not in vocabulary
    assert vocabulary.encode("").shape == (0,)


def test_the_rarest_are_left_out():
    assert len(Vocabulary.from_texts(TEXTS, max_size=6)) == 6
    assert Vocabulary.from_texts(TEXTS, min_count=3).tokens[4:] == ["to", "be"]


def test_decode_reads_from_begin_to_end():
    vocabulary = Vocabulary.from_texts(TEXTS)
    be, to = vocabulary.encode("be to")
    assert vocabulary.decode([1, to, be, 3, 0, 2, to, to]) == "to be <unk>"
    assert vocabulary.decode([]) == vocabulary.decode([1, 2, to]) == ""


def test_special_tokens_in_a_text_end_nothing():
    vocabulary = Vocabulary.from_texts(["a <eos> <pad> <bos> <unk> b"])
    assert vocabulary.tokens[4:] == ["a", "b"]
    assert vocabulary.encode("a <eos> <pad> <bos> <unk> b").tolist() == [4, 3, 3, 3, 3, 5]
    assert "<eos>" not in vocabulary


@pytest.mark.parametrize("tokenizer", ["words", "tokens", "characters"])
@pytest.mark.parametrize("lower", [False, True])
def test_it_is_rebuilt_from_json(tokenizer, lower):
    vocabulary = Vocabulary.from_texts(["To be, or\nnot?"], tokenizer=tokenizer, lower=lower)
    again = fr.text.vocabulary_from_config(json.loads(json.dumps(vocabulary.config())))
    assert again == vocabulary and hash(again) == hash(vocabulary)
    assert again != Vocabulary.from_texts(["To be, or\nnot?"], tokenizer=tokenizer, lower=not lower)
    wanted = {"words": "To be, or not?", "tokens": "To be, or\nnot?", "characters": "To be, or\nnot?"}[tokenizer]
    assert again.decode(again.encode("To be, or\nnot?")) == (wanted.lower() if lower else wanted)
    assert again.encode("TO").tolist() == vocabulary.encode("TO").tolist()


@settings(deadline=None)
@given(st.text())
def test_characters_come_back(string):
    vocabulary = Vocabulary.from_texts([string], tokenizer="characters")
    assert vocabulary.decode(vocabulary.encode(string)) == string


SIGNS = st.text(alphabet="ab1. ,'\"-_()$’`\n", max_size=40)


@settings(deadline=None, max_examples=500)
@given(st.text() | SIGNS)
def test_tokens_put_together_split_as_before(string):
    tokens = split_tokens(string)
    assert "".join(tokens) == "".join(c for c in string if c == "\n" or not c.isspace())
    assert split_tokens(join_tokens(tokens)) == tokens


@settings(deadline=None)
@given(SIGNS)
def test_a_joined_beginning_begins_the_whole(string):
    tokens = split_tokens(string)
    for k in range(len(tokens)):
        assert join_tokens(tokens).startswith(join_tokens(tokens[:k]))


@pytest.mark.parametrize(
    "text",
    [
        "Isn't it 3.5, or 1,000 (at most)?",
        'He said: "no", and went.',
        "A well-known, so-called `name`; and/or x_1.",
        "One line.\nAnother 'quoted' line!\n\nIt costs $5, that is 5%.",
    ],
)
def test_english_reads_as_it_was(text):
    assert join_tokens(split_tokens(text)) == text


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Vocabulary("abc"), TypeError, "tokens: expected a sequence of tokens, got one text"),
        (lambda: Vocabulary(["a", "a"]), ValueError, "tokens: 'a' occurs twice"),
        (lambda: Vocabulary(["<eos>"]), ValueError, "tokens: '<eos>' occurs twice, or is a special token"),
        (
            lambda: Vocabulary([], tokenizer="x"),
            ValueError,
            "tokenizer: expected one of 'words', 'tokens', 'characters'",
        ),
        (lambda: Vocabulary.from_texts("abc"), TypeError, "texts: expected an iterable of texts, got one text"),
        (lambda: Vocabulary(5), TypeError, "tokens: expected an iterable of texts, got int"),
        (lambda: Vocabulary([1, 2]), TypeError, "tokens: expected str, got int"),
        (lambda: Vocabulary([], tokenizer=["words"]), ValueError, "tokenizer: expected one of 'words'"),
        (lambda: Vocabulary([], lower="no"), TypeError, "lower: expected True or False, got 'no'"),
        (lambda: Vocabulary.from_texts(None), TypeError, "texts: expected an iterable of texts, got NoneType"),
        (lambda: Vocabulary.from_texts([["a"]]), TypeError, "text: expected str, got a list of length 1"),
        (lambda: Vocabulary.from_texts(TEXTS, max_size=5.5), TypeError, "max_size: expected an integer, got 5.5"),
        (lambda: Vocabulary.from_texts(TEXTS, min_count="1"), TypeError, "min_count: expected an integer, got '1'"),
        (
            lambda: fr.text.token_stream(5, Vocabulary(["a"])),
            TypeError,
            "texts: expected an iterable of texts, got int",
        ),
        (lambda: split_tokens(5), TypeError, "text: expected str, got int"),
        (lambda: fr.text.split_words(None), TypeError, "text: expected str, got NoneType"),
        (lambda: fr.text.split_corpus("abc"), TypeError, "corpus: expected a Corpus, .* got str"),
        (lambda: fr.text.load_corpus(max_chars=-1), ValueError, "max_chars: expected a positive integer, got -1"),
        (lambda: CharVocabulary(["a", "b"]), TypeError, "symbols: expected str, got a list of length 2"),
        (lambda: CharVocabulary.from_text(b"a"), TypeError, "text: expected str, got bytes"),
        (lambda: CharVocabulary.from_text("a", max_size="2"), TypeError, "max_size: expected an integer, got '2'"),
        (lambda: CharVocabulary("a").encode(["a"]), TypeError, "text: expected str, got a list of length 1"),
        (lambda: Vocabulary.from_texts(TEXTS, max_size=4), ValueError, "max_size: expected >= 5, got 4"),
        (lambda: Vocabulary(["a"]).encode(3), TypeError, "text: expected str, got int"),
        (lambda: Vocabulary(["a"]).decode([5]), ValueError, "tokens: expected 0 … 4, got 5 … 5"),
        (lambda: Vocabulary(["a"]).decode([[1]]), ValueError, r"tokens: expected integers \[N\]"),
        (lambda: Vocabulary(["a"]).token(5), ValueError, "number: expected an integer from 0 to 4, got 5"),
        (lambda: fr.text.vocabulary_from_config({"x": 1}), ValueError, "config: doesn't describe a vocabulary"),
        (lambda: fr.text.vocabulary_from_config("x"), TypeError, "config: expected the dict"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
