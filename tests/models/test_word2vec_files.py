"""Mikolov's formats: round trips, other writers' files, gensim, broken files."""

import numpy as np
import pytest

from fastrnn.models import Word2Vec
from tests.models.words import class_text


@pytest.fixture(scope="module")
def model():
    trained = Word2Vec(vector_size=11, seed=0, min_count=1)
    trained.train([*class_text(60), ["größer", "日本語", "0x20"]], 1, progress=False, threads=1)
    return trained


@pytest.mark.parametrize("binary", [False, True])
def test_round_trip_is_exact(model, binary, tmp_path):
    path = tmp_path / "vectors"
    model.save_word2vec_format(path, binary=binary)
    again = Word2Vec.load_word2vec_format(path, binary=binary)
    assert again.words == model.words and again.counts is None
    np.testing.assert_array_equal(again.vectors, model.vectors)
    first = Word2Vec.load_word2vec_format(path, binary=binary, limit=3)
    assert first.words == model.words[:3]
    assert again.most_similar("1.1") == model.most_similar("1.1")


@pytest.mark.parametrize("binary", [False, True])
def test_gensim_reads_it_and_we_read_gensim(model, binary, tmp_path):
    keyed = pytest.importorskip("gensim.models").KeyedVectors
    model.save_word2vec_format(tmp_path / "ours", binary=binary)
    theirs = keyed.load_word2vec_format(str(tmp_path / "ours"), binary=binary)
    assert theirs.index_to_key == model.words
    np.testing.assert_array_equal(theirs.vectors, model.vectors)
    theirs.save_word2vec_format(str(tmp_path / "theirs"), binary=binary)
    again = Word2Vec.load_word2vec_format(tmp_path / "theirs", binary=binary)
    assert again.words == model.words
    # gensim writes the shortest digits that give a float32 back, too
    np.testing.assert_array_equal(again.vectors, model.vectors)
    for word, cosine in theirs.most_similar("1.1", topn=5):
        assert cosine == pytest.approx(model.similarity("1.1", word), abs=1e-5)


def test_binary_without_line_breaks_is_read(tmp_path):
    """As gensim and others write it; Mikolov's program ends each word with a line break."""
    vectors = np.arange(6, dtype="<f4").reshape(2, 3)
    (tmp_path / "v").write_bytes(b"2 3\na " + vectors[0].tobytes() + b"b " + vectors[1].tobytes())
    model = Word2Vec.load_word2vec_format(tmp_path / "v", binary=True)
    assert model.words == ["a", "b"]
    np.testing.assert_array_equal(model.vectors, vectors)


def test_vectors_that_were_read_go_on_learning(model, tmp_path):
    model.save_word2vec_format(tmp_path / "v")
    again = Word2Vec.load_word2vec_format(tmp_path / "v", sg=True, seed=0)
    with pytest.raises(ValueError, match="counts: this model was read from a word2vec file"):
        again.loss(([0], [1]))
    history = again.train(class_text(60), 1, progress=False, threads=1)
    assert again.counts is not None and again.counts[again.index["größer"]] == 0
    assert history.notes["predictions"] > 0
    assert (again.vectors != model.vectors).any()
    np.testing.assert_array_equal(again["größer"], model["größer"])  # it isn't in the new text


@pytest.mark.parametrize(
    "data, binary, match",
    [
        (b"", False, "expected a first line"),
        (b"words and text", False, "expected a first line"),
        (b"2 -1\n", False, "expected a first line"),
        (b"2 3\na 1 2 3\n", False, "expected 2 words, got 1; the file is not whole"),
        (b"2 3\na 1 2 3\nb 1 2", False, "word 2 is not in word2vec's text format"),
        (b"2 3\na 1 2 3\nb 1 x 2", False, "word 2 is not in word2vec's text format"),
        (b"2 1\na 1\na 2\n", False, "a word occurs twice"),
        (b"9999999 100\na 1\n", True, "expected a first line"),
        (b"2 3\na " + bytes(12) + b"b " + bytes(8), True, "expected 2 words, got 1"),
        (b"1 3\n\xff\xfe " + bytes(12), True, "word 1 is not in word2vec's binary format"),
    ],
)
def test_broken_files(data, binary, match, tmp_path):
    (tmp_path / "v").write_bytes(data)
    with pytest.raises(ValueError, match=match):
        Word2Vec.load_word2vec_format(tmp_path / "v", binary=binary)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Word2Vec.load_word2vec_format(tmp_path / "nothing")


@pytest.mark.parametrize("word", ["a b", "", "a\n", "a\u2003b"])
def test_words_that_have_no_place_in_the_format(word, tmp_path):
    model = Word2Vec({word: 5, "b": 5}, vector_size=2)
    with pytest.raises(ValueError, match="no place for a word with white space"):
        model.save_word2vec_format(tmp_path / "v")
    assert not (tmp_path / "v").exists()
