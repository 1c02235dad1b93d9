"""Word2Vec: what it learns, its corpora, Ctrl-C, errors, files of its own."""

import io
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.models import Word2Vec, _word_corpus
from tests.models.words import class_text, share_in_class

QUIET = {"progress": False, "threads": 1}


def params(model):
    return {name: a.tobytes() for name, a in model.params.items()}


# ---- learning


@pytest.mark.parametrize("settings", [{"sg": True}, {}, {"cbow_mean": False}], ids=["skipgram", "mean", "sum"])
@pytest.mark.parametrize("targets", [{"negative": 5}, {"negative": 0, "hs": True}], ids=["noise", "tree"])
@pytest.mark.parametrize("threads", [1, 2])
def test_words_of_one_company_come_together(settings, targets, threads):
    model = Word2Vec(vector_size=24, window=4, sample=0, seed=0, **settings, **targets)
    history = model.train(class_text(), 5, lr=0.05, threads=threads, progress=False)
    assert len(model) == 48
    assert share_in_class(model) > 0.95  # 7 of 47 by chance
    losses = [epoch["loss"] for epoch in history.epochs]
    assert losses[-1] < losses[0]


def test_the_loss_begins_at_that_of_guessing():
    """All dots are 0 at first: each target costs log 2."""
    model = Word2Vec(vector_size=8, negative=3, sample=0, sg=True, seed=0)
    history = model.train(class_text(50), 1, lr=0.0, min_lr=0.0, **QUIET)
    (loss,) = (epoch["loss"] for epoch in history.epochs)
    share_of_noise = 1 - 1 / 48
    assert abs(loss / np.log(2) - (1 + 3 * share_of_noise)) < 0.05


def test_a_seed_gives_the_same_bits_and_another_one_others():
    runs = []
    for seed, train_seed in ((0, 0), (0, 0), (1, 0), (0, 1)):
        model = Word2Vec(vector_size=8, seed=seed)
        model.train(class_text(100), 1, seed=train_seed, **QUIET)
        runs.append(params(model))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2] and runs[0] != runs[3]


def test_training_goes_on_and_keeps_the_vocabulary():
    model = Word2Vec(vector_size=8, seed=0, min_count=1)
    model.train(class_text(100), 1, **QUIET)
    before, words = params(model), list(model.words)
    history = model.train([*class_text(50, seed=1), ["never", "seen"]], 2, **QUIET)
    assert model.words == words and "never" not in model
    assert params(model) != before
    assert history.notes["words"] == 2 * 502 and history.notes["kept"] <= 1000


def test_vector_sizes_that_need_no_copy_and_those_that_do_learn_alike():
    """16 floats are a cache line; 15 are not."""
    for size in (15, 16, 17):
        model = Word2Vec(vector_size=size, sample=0, seed=0)
        model.train(class_text(), 5, lr=0.05, **QUIET)
        assert share_in_class(model) > 0.9


# ---- corpora


def test_each_form_of_a_corpus_gives_the_same_vectors(tmp_path, monkeypatch):
    text = class_text(200)
    path = tmp_path / "text.txt"
    path.write_text("\n".join(" ".join(s) for s in text) + "\n\n", encoding="utf-8")

    class Anew:
        def __iter__(self):
            return (tuple(s) for s in text)

    runs = []
    for corpus in (text, str(path), path, Anew()):
        model = Word2Vec(vector_size=8, seed=0)
        model.train(corpus, 2, **QUIET)
        runs.append((model.words, params(model)))
    assert all(run == runs[0] for run in runs)
    monkeypatch.setattr(_word_corpus, "CACHE", 100)  # now nothing is kept: each epoch reads again
    for block in (1 << 20, 16):
        monkeypatch.setattr(_word_corpus, "BLOCK", block)
        for corpus in (path, Anew()):
            model = Word2Vec(vector_size=8, seed=0)
            model.train(corpus, 2, **QUIET)
            assert (model.words, params(model)) == runs[0]
    assert threading.active_count() < 20


def test_integers_are_words():
    rng = np.random.default_rng(0)
    tokens = rng.integers(100, 110, (50, 20))
    for corpus in (tokens, tokens.ravel(), [row.tolist() for row in tokens], list(tokens.astype(np.uint8))):
        model = Word2Vec(vector_size=8, seed=0)
        model.train(corpus, 1, **QUIET)
        assert sorted(model.words) == list(range(100, 110))
        assert model[105].shape == (8,) and 99 not in model
        assert model.counts.sum() == 1000


def test_words_are_counted_and_ordered():
    text = [["b", "a", "b"], ["c", "b", "a", "d"]]
    model = Word2Vec(vector_size=4, min_count=2, seed=0)
    history = model.train(text, 3, **QUIET)
    assert model.words == ["b", "a"] and model.counts.tolist() == [3, 2]
    assert history.notes["words"] == 3 * 7
    model = Word2Vec(vector_size=4, min_count=1, max_vocab=3, seed=0)
    model.train(text, 1, **QUIET)
    assert model.words == ["b", "a", "c"]


def test_long_sentences_and_pieces_lose_no_word(monkeypatch):
    monkeypatch.setattr(_word_corpus, "LONGEST", 7)
    scan = _word_corpus.Scan([np.arange(100), list(range(20)), []], size=10)
    assert scan.encode(list(range(50, 100))) == 50
    pieces = list(scan.epoch(lambda: False))
    assert np.concatenate([p.tokens for p in pieces]).tolist() == list(range(50))
    for p in pieces:
        assert p.begin[0] == 0 and p.begin[-1] == len(p.tokens) and np.diff(p.begin).max(initial=0) <= 7


@pytest.mark.parametrize(
    "corpus, error, match",
    [
        ("no such file", FileNotFoundError, "corpus: expected a text file.*'no such file'"),
        (["a text", "another"], TypeError, r"split it into words: \[text.split"),
        ((s for s in [["a"]]), TypeError, "can start anew"),
        (5, TypeError, "corpus: expected a path, integers or sentences, got int"),
        ([5, 6], TypeError, "corpus: expected sentences as lists of words, got 5"),
        ([[["a"]]], TypeError, "corpus: expected words as strings or integers"),
        (np.ones(3), TypeError, "corpus: expected integers, got float64"),
        (np.ones((1, 1, 1), int), ValueError, r"corpus: expected integers \[N\] or \[S, T\]"),
        ([["a", "b"]], ValueError, "min_count: expected some words to occur at least 5 times, got 2 words"),
        ([], ValueError, "^corpus: expected some words, got none"),
        ([[], []], ValueError, "^corpus: expected some words, got none"),
    ],
)
def test_bad_corpora(corpus, error, match):
    with pytest.raises(error, match=match):
        Word2Vec().train(corpus, **QUIET)


def test_marks_of_other_systems_are_not_words(tmp_path):
    (tmp_path / "text").write_bytes(b"\xef\xbb\xbfa b\r\n\r\nb a\r\n" + b"a b\r\n" * 5)
    model = Word2Vec(vector_size=4, seed=0)
    model.train(tmp_path / "text", 1, **QUIET)
    assert sorted(model.words) == ["a", "b"] and model.counts.tolist() == [7, 7]


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"a b\n\xff\xfe c")
    with pytest.raises(ValueError, match=r"corpus: .*x is not a text in UTF-8"):
        Word2Vec().train(path, **QUIET)


def test_an_error_of_the_corpus_in_a_later_epoch_arrives_and_what_was_learned_stays(monkeypatch):
    monkeypatch.setattr(_word_corpus, "CACHE", 0)

    class Fails:
        reads = 0

        def __iter__(self):
            self.reads += 1
            yield from class_text(3000)
            if self.reads == 3:
                raise OSError("the disk is gone")

    model = Word2Vec(vector_size=16, sample=0, seed=0)
    with pytest.raises(OSError, match="the disk is gone"):
        model.train(Fails(), 5, lr=0.05, **QUIET)
    assert share_in_class(model) > 0.5


def test_words_that_the_model_does_not_have():
    model = Word2Vec({"a": 9, "b": 9}, vector_size=4)
    with pytest.raises(ValueError, match="corpus: expected some of the 2 words of this model, got 1 others"):
        model.train([["x"]], **QUIET)


# ---- Ctrl-C and progress


@pytest.mark.parametrize("cached", [True, False])
def test_ctrl_c_keeps_what_was_learned(cached, monkeypatch):
    if not cached:
        monkeypatch.setattr(_word_corpus, "CACHE", 0)
    model = Word2Vec(vector_size=20, sample=0, seed=0)
    model.train(class_text(1000), 1, lr=0.0, min_lr=0.0, **QUIET)
    before = model.vectors.copy()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which the background jobs of a shell don't have
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    start = time.monotonic()
    with pytest.raises(fr.Interrupted, match=r"stopped after \d+% of 1000000 epochs; the model keeps") as stop:
        model.train(class_text(3000), 1_000_000, lr=0.05, **QUIET)
    assert time.monotonic() - start < 10
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert stop.value.history.notes["stopped"] == "Ctrl-C" and stop.value.history.notes["predictions"] > 0
    assert (model.vectors != before).any() and np.isfinite(model.vectors).all()
    assert share_in_class(model) > 0.9


def test_progress_shows_the_loss():
    stream = io.StringIO()
    model = Word2Vec(vector_size=8, seed=0)
    progress = fr.Progress("nats", unit="word", stream=stream)
    history = model.train(class_text(200), 2, threads=1, progress=progress)
    assert "2 epochs in 0:0" in stream.getvalue() and "words/s" in stream.getvalue()
    assert len(history.steps["loss"]) == history.steps["step"][-1] == 2
    lr = history.steps["lr"]
    assert lr[0] == 0.025 and 0.012 < lr[1] < 0.013


def test_too_high_a_learning_rate_is_found():
    model = Word2Vec(vector_size=8, sample=0, cbow_mean=False, seed=0)
    with pytest.raises(FloatingPointError, match="lower learning rate"):
        model.train(class_text(1000), 50, lr=1e6, min_lr=1e6, **QUIET)


# ---- questions


def simple():
    model = Word2Vec({"king": 9, "queen": 8, "man": 7, "woman": 6, "stone": 5}, vector_size=3, seed=0)
    model.params["embedding.weight"] = [[1, 0, 1], [1, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, -1]]
    return model


def test_questions():
    model = simple()
    assert model.similarity("king", "queen") == pytest.approx(0.5)
    assert model.similarity("man", "woman") == 0
    (word, cosine), *_ = model.analogy("man", "king", "woman")
    assert word == "queen"
    unit = [np.array(v) / np.linalg.norm(v) for v in ([1, 0, 1], [0, 1, 0], [0, 0, 1], [1, 1, 0])]
    wanted = unit[0] + unit[1] - unit[2]
    assert cosine == pytest.approx(wanted @ unit[3] / np.linalg.norm(wanted), abs=1e-6)
    assert [w for w, _ in model.most_similar("man")] == ["king", "queen", "woman", "stone"]
    assert model.most_similar("man", topn=1)[0] == ("king", pytest.approx(0.5**0.5))
    assert [w for w, _ in model.most_similar(np.array([0, 0, -2.0]), topn=1)] == ["stone"]
    assert [w for w, _ in model.most_similar("stone", restrict=3, topn=9)] == ["queen", "king", "man"]
    assert "king" in model and "kong" not in model and len(model) == 5
    np.testing.assert_array_equal(model[["man", "stone"]], [[0, 0, 1], [0, 0, -1]])
    model["man"][:] = 7  # a copy
    assert model["man"].tolist() == [0, 0, 1]
    numbers = model.numbers([["man", "king"], ["stone", "queen"]])
    assert numbers.tolist() == [[2, 0], [4, 1]] and model(numbers).shape == (2, 2, 3)
    y, pullback = model.vjp(numbers)
    pullback(np.ones_like(y))
    assert model.grads["embedding.weight"].sum() == 12


def test_questions_without_answers():
    model = simple()
    with pytest.raises(KeyError, match="'kong' is not among the 5 words"):
        model.most_similar("kong")
    with pytest.raises(ValueError, match="positive: expected a word"):
        model.most_similar([])
    with pytest.raises(ValueError, match=r"positive: expected \[..., 3\] \(vector_size=3\)"):
        model.most_similar(np.ones(4))
    with pytest.raises(ValueError, match="topn: expected a positive integer, got 0"):
        model.most_similar("man", topn=0)
    with pytest.raises(ValueError, match="has no words to look up yet"):
        Word2Vec()([0])


# ---- settings, files


@pytest.mark.parametrize(
    "settings, error, match",
    [
        ({"vector_size": 0}, ValueError, "vector_size: expected a positive integer, got 0"),
        ({"window": 2.5}, TypeError, "window: expected an integer, got 2.5"),
        ({"negative": -1}, ValueError, "negative: expected an integer of at least 0, got -1"),
        ({"negative": 0}, ValueError, "negative: expected at least 1, or hs=True"),
        ({"sg": "yes"}, TypeError, "sg: expected True or False, got 'yes'"),
        ({"sample": 1.0}, ValueError, "sample: expected 0 ≤ sample < 1, got 1.0"),
        ({"vocabulary": ["a"]}, TypeError, "vocabulary: expected a mapping of words to counts, got list"),
        ({"vocabulary": {"a": -1}}, ValueError, "vocabulary: expected a count of at least 0"),
        ({"vocabulary": {"a": 4}}, ValueError, "min_count: .*the most frequent of them 4 times"),
    ],
)
def test_bad_settings(settings, error, match):
    with pytest.raises(error, match=match):
        Word2Vec(**settings)


@pytest.mark.parametrize(
    "settings, match",
    [
        ({"epochs": 0}, "epochs: expected a positive integer, got 0"),
        ({"lr": -1}, "lr: expected a number ≥ 0"),
        ({"min_lr": 1}, "min_lr: expected at most lr=0.025, got 1.0"),
        ({"threads": 0}, "threads: expected a positive integer, got 0"),
        ({"threads": 1000}, "threads: expected 1 to 256, got 1000"),
    ],
)
def test_bad_training(settings, match):
    with pytest.raises(ValueError, match=match):
        Word2Vec().train(class_text(10), **{**QUIET, **settings})
    with pytest.raises(TypeError, match=r"^progress: expected True, False or fr\.Progress"):
        Word2Vec().train(class_text(10), progress="bar")


@pytest.mark.parametrize("settings", [{}, {"hs": True, "sg": 1}, {"hs": True, "negative": 0}])
def test_saved_and_loaded_it_is_the_same_and_learns_the_same(settings, tmp_path):
    model = Word2Vec(vector_size=10, seed=0, **settings)
    model.train(class_text(100), 1, **QUIET)
    fr.save(model, tmp_path / "m")
    again = fr.load(tmp_path / "m")
    assert again.config() == model.config() and params(again) == params(model)
    assert again.counts.tolist() == model.counts.tolist()
    for m in (model, again):
        m.train(class_text(100, seed=2), 1, **QUIET)
    assert params(again) == params(model)


def test_a_model_without_words_is_saved_too(tmp_path):
    fr.save(Word2Vec(window=3), tmp_path / "m")
    assert fr.load(tmp_path / "m").window == 3


def test_the_whole_text_of_this_file_is_a_corpus():
    model = Word2Vec(vector_size=8, min_count=2, seed=0)
    model.train(Path(__file__), 1, **QUIET)
    assert "def" in model
