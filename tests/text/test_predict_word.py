"""What examples/predict_word.py measures against: shares of words and of pairs; and what it takes for prose."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def example():
    path = Path(__file__).parents[2] / "examples" / "predict_word.py"
    spec = importlib.util.spec_from_file_location("predict_word", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_probabilities_of_words_and_pairs_sum_to_one(example):
    size = 12
    tokens = np.random.default_rng(0).geometric(0.3, 300).clip(1, size - 2)
    words = range(size)
    assert sum(1 / example.unigrams(tokens, np.array([0, w]), size) for w in words) == pytest.approx(1)
    for before in words:  # 0 and 11 never occur
        p = [1 / example.bigrams(tokens, np.array([before, after]), size) for after in words]
        assert min(p) > 0 and sum(p) == pytest.approx(1)


def test_perplexity_is_that_of_the_product(example):
    rng = np.random.default_rng(1)
    tokens, held = rng.integers(0, 5, 200), rng.integers(0, 5, 20)
    p = [1 / example.bigrams(tokens, held[k : k + 2], 5) for k in range(19)]
    assert example.bigrams(tokens, held, 5) == pytest.approx(np.prod(p) ** (-1 / 19))


def test_pairs_beat_words_where_the_word_before_tells(example):
    tokens = np.tile([0, 1, 2, 3], 50)
    assert example.bigrams(tokens, tokens, 4) < 1.1 < example.unigrams(tokens, tokens, 4) < 4.1


def test_prose(example):
    source = '''"""Do one thing and do it well.

    >>> not(prose)

    That is what this
    module does."""
x = 1  # a short one
# A comment that goes on
# over two lines is prose, too.
'''
    assert list(example.paragraphs(source)) == [
        "do one thing and do it well.",
        "that is what this module does.",
        "a comment that goes on over two lines is prose, too.",
    ]
