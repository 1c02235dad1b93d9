"""Vocabularies and corpora."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import text
from fastrnn.text import CharVocabulary, Corpus


@settings(deadline=None)
@given(st.text(min_size=1))
def test_text_comes_back(string):
    vocabulary = CharVocabulary.from_text(string)
    tokens = vocabulary.encode(string)
    assert tokens.dtype == np.int32
    assert vocabulary.decode(tokens) == string
    assert CharVocabulary(**vocabulary.config()) == vocabulary


def test_unknown_characters():
    vocabulary = CharVocabulary("abc")
    np.testing.assert_array_equal(vocabulary.encode("aXc\U0001f600\ufffd"), [1, 0, 3, 0, 0])
    assert vocabulary.decode([1, 0]) == "a\ufffd"
    assert len(vocabulary) == 4
    np.testing.assert_array_equal(CharVocabulary("").encode("ab"), [0, 0])
    assert vocabulary.decode([]) == ""
    assert vocabulary.encode("").shape == (0,)


def test_the_rarest_are_left_out():
    assert CharVocabulary.from_text("aaabbc", max_size=3).symbols[1:] == "ab"
    assert CharVocabulary.from_text("aaabbc", min_count=3).symbols[1:] == "a"


def test_lone_surrogates():
    vocabulary = CharVocabulary("a\ud800")
    assert vocabulary.decode(vocabulary.encode("\ud800a")) == "\ud800a"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: CharVocabulary("aa"), "occurs twice"),
        (lambda v: CharVocabulary.from_text("a", max_size=1), "max_size: expected >= 2"),
        (lambda v: v.decode([9]), r"tokens: expected 0 … 3, got 9 … 9"),
        (lambda v: v.decode([-1]), "tokens: expected 0"),
        (lambda v: v.decode([0.5]), "tokens: expected integers"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(CharVocabulary("abc"))


def test_standard_library():
    corpus = text.standard_library(max_chars=500_000)
    assert corpus.size == 500_000
    names = [name for name, _ in corpus.texts]
    assert names == sorted(names)
    assert not any("test/" in name or "site-packages" in name for name in names)
    assert text.standard_library(max_chars=500_000) == corpus


def test_folder(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "one.txt").write_bytes(b"one\r\ntwo\rthree\xff")
    (tmp_path / "a.md").write_text("\ufeffä", encoding="utf-8")
    (tmp_path / "c.bin").write_bytes(b"a\0b")
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "empty.txt").write_text("")
    corpus = text.load_corpus(tmp_path)
    assert corpus.texts == [("a.md", "ä"), ("b/one.txt", "one\ntwo\nthree\ufffd")]
    assert text.load_corpus(tmp_path, max_chars=3).texts == [("a.md", "ä"), ("b/one.txt", "on")]
    assert text.load_corpus(tmp_path / "a.md").texts == [("a.md", "ä")]


def test_nothing_to_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        text.load_corpus(tmp_path / "missing")
    with pytest.raises(ValueError, match="holds no text"):
        text.load_corpus(tmp_path)
    (tmp_path / "c.bin").write_bytes(b"a\0b")
    with pytest.raises(ValueError, match="holds no text"):
        text.load_corpus(tmp_path / "c.bin")


def test_split_by_files():
    texts = [(str(i), f"{i:02}" * (i + 1)) for i in range(100)]
    train, held = text.split_corpus(Corpus("x", texts), 0.1)
    size = sum(len(t) for _, t in texts)
    assert 0.05 * size < len(held) < 0.16 * size
    parts = train.split("\n") + held.split("\n")
    assert sorted(parts) == sorted(t for _, t in texts)
    assert text.split_corpus(Corpus("x", texts), 0.1) == (train, held)


def test_split_of_one_file_and_of_giants():
    assert text.split_corpus(Corpus("x", [("a", "0123456789")]), 0.2) == ("01234567", "89")
    train, held = text.split_corpus(Corpus("x", [(str(i), "y" * 1000) for i in range(20)]), 0.01)
    assert len(held) == 1000
    assert len(train) == 19 * 1001 - 1
    with pytest.raises(ValueError, match="held_out: expected a share"):
        text.split_corpus(Corpus("x", [("a", "b")]), 1.0)
