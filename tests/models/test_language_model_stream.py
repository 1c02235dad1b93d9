"""A language model as a stream: the bits of its calls, its state, and text made with it."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.models._sampling import sample_token

CELLS = ["lstm", "gru", "rnn"]


def small(cell="lstm", vocabulary=11, **options):
    options = {"embedding_dim": 5, "hidden_size": 19, "num_layers": 2, "seed": 0, **options}
    return fr.models.LanguageModel(vocabulary, cell, **options)


def tokens(*shape):
    return np.random.default_rng(1).integers(0, 11, shape)


def arrays(state):
    return state if isinstance(state, tuple) else (state,)


def same_state(actual, expected):
    assert isinstance(actual, tuple) == isinstance(expected, tuple)
    for a, b in zip(arrays(actual), arrays(expected), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_steps_and_blocks_are_the_models_calls(cell, B, dtype):
    model = small(cell, dtype=dtype, dropout=0.5)
    x = tokens(40, B)
    logits, state = model(x)
    s = model.stream(B)
    out = np.empty((B, 11), dtype)
    found = [s.step(x_t) if t % 2 else s.step(x_t, out).copy() for t, x_t in enumerate(x[:5])]
    np.testing.assert_array_equal([*found, *s.run(x[5:])], logits)
    assert s.run(x[:1]).dtype == dtype
    s.reset()
    s.run(x)
    same_state(s.state, state)


@pytest.mark.parametrize("cell", CELLS)
def test_the_state_is_the_models(cell):
    model, x = small(cell), tokens(6, 2)
    _, state = model(x)
    expected, last = model(x, state)
    s = model.stream(2)
    s.reset(state)
    same_state(s.state, state)
    np.testing.assert_array_equal(s.run(x), expected)
    same_state(s.state, last)
    same_state(model(x, s.state)[1], model(x, last)[1])
    s.reset(rows=[1])
    for a, b in zip(arrays(s.state), arrays(last), strict=True):
        np.testing.assert_array_equal(a[:, 0], b[:, 0])
        assert not a[:, 1].any()


def test_one_text_needs_no_batch():
    model, x = small(), tokens(7)
    logits, _ = model(x)
    s = model.stream()
    found = [s.step(x[0]), s.step(int(x[1])), s.step(x[2:3])[0], *s.run(x[3:5]), *s.run(list(x[5:]))]
    np.testing.assert_array_equal(found, logits)


def test_refresh_takes_the_weights_as_they_are():
    model, x = small("gru"), tokens(4, 1)
    s = model.stream()
    before = s.run(x)
    for param in model.params.values():
        param *= 1.5
    s.reset()
    np.testing.assert_array_equal(s.run(x), before)
    s.refresh()
    s.reset()
    np.testing.assert_array_equal(s.run(x), model(x)[0])
    assert not np.array_equal(model(x)[0], before)


def test_a_model_in_a_sequential():
    layers = fr.Sequential(small("gru"), fr.Softmax())
    x = tokens(5, 2)
    y, state = layers(x)
    s = layers.stream(2)
    np.testing.assert_array_equal(s.run(x), y)
    (found,) = s.state
    np.testing.assert_array_equal(found, state[0])
    s.reset(state)
    np.testing.assert_array_equal(s.run(x), layers(x, state)[0])


def test_bad_tokens_and_states():
    model = small()
    s = model.stream(2)
    for call, message in (
        (lambda: s.step([0, 11]), r"^x: expected integers from 0 to 10 \(num_embeddings=11\), got 11"),
        (lambda: s.step([0.0, 1.0]), "^x: expected integers, got float64"),
        (lambda: s.run(tokens(4, 3)), "^x: expected 2 rows, the batch_size of this stream, got 3"),
        (lambda: s.reset(np.zeros((2, 2, 19), np.float32)), r"^state: expected a tuple \(h, c\) or None"),
        (lambda: model.stream(0), "^batch_size: expected a positive integer, got 0"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            call()
    assert not any(a.any() for a in s.state)


def test_a_call_of_ones_own_has_no_stream():
    class Cooler(fr.models.LanguageModel):
        def __call__(self, *args, **options):
            logits, state = super().__call__(*args, **options)
            return logits / 2, state

    with pytest.raises(ValueError, match=r"^stream: Cooler can't run one time step at a time"):
        Cooler(11, hidden_size=4).stream()


@pytest.mark.parametrize("prompt", [1, 3, 600])  # 600: more than one block
@pytest.mark.parametrize("cell", CELLS)
def test_text_is_that_of_calls(cell, prompt):
    model, x = small(cell), tokens(prompt)
    rng, expected = np.random.default_rng(5), []
    logits, state = model(x[:, None])
    for _ in range(30):
        expected.append(sample_token(logits[-1, 0], rng, temperature=0.8, top_k=7, top_p=0.9))
        logits, state = model(np.array([[expected[-1]]]), state)
    options = {"temperature": 0.8, "top_k": 7, "top_p": 0.9, "seed": 5}
    assert model.sample(x, 30, **options).tolist() == expected
    assert list(model.generate(x.astype(np.int32), 30, **options)) == expected
    assert all(type(token) is int for token in model.generate(x, 2))


def test_texts_do_not_disturb_each_other():
    model = small()
    alone = model.sample([1, 2], 20, seed=0).tolist()
    pairs = zip(model.generate([1, 2], 20, seed=0), model.generate([3], 20, seed=1), strict=True)
    assert [first for first, _ in pairs] == alone


def test_a_text_keeps_the_weights_it_began_with():
    model = small("rnn")
    expected = model.sample([1], 20, temperature=0).tolist()
    text = model.generate([1], 20, temperature=0)
    found = [next(text)]
    model.params["output.bias"][(found[0] + 1) % 11] = 1e3
    assert [*found, *text] == expected
    assert model.sample([1], 1, temperature=0) == [(found[0] + 1) % 11]


def test_models_with_calls_of_their_own_generate_through_them():
    """A subclass may compute something else than the stream would."""

    class Shy(fr.models.LanguageModel):
        def __call__(self, *args, **kwargs):
            logits, state = super().__call__(*args, **kwargs)
            return logits - 1e4 * (np.arange(logits.shape[-1]) > 2), state

    class Negated(fr.GRU):
        def __call__(self, *args, **kwargs):
            y, state = super().__call__(*args, **kwargs)
            return -y, state

    model = Shy(8, hidden_size=16, seed=0)
    assert max(model.generate([1, 2], 40, seed=0)) <= 2
    plain = fr.models.LanguageModel(8, "gru", hidden_size=16, seed=0)
    before = list(plain.generate([1, 2], 40, temperature=0))
    other = Negated(64, 16, seed=0)
    other.load_state_dict(plain.rnn.state_dict())
    plain.rnn = other
    assert list(plain.generate([1, 2], 40, temperature=0)) != before
    assert list(plain.generate([1, 2], 0)) == []
