"""The language model: gradients, evaluation, sampling, files."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.models._sampling import sample_token

CELLS = ["lstm", "gru", "rnn"]


def small(cell="lstm", vocabulary=7, **options):
    options = {"embedding_dim": 3, "hidden_size": 5, "num_layers": 2, "seed": 0, **options}
    return fr.models.LanguageModel(vocabulary, cell, **options)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_by_finite_differences(cell):
    model = small(cell, dtype=np.float64, dropout=0.3)
    rng = np.random.default_rng(1)
    x = rng.integers(0, 7, (6, 3))
    batch = fr.Batch(x[:-1], x[1:], [5, 2, 4])
    model.zero_grads()
    loss, _ = model.loss(batch, seed=4)

    for name, param in model.params.items():
        for index in rng.choice(param.size, min(4, param.size), replace=False):
            values = []
            for shift in (1e-5, -1e-5):
                param.flat[index] += shift
                (logits, _), _ = model.vjp(batch.x, lengths=batch.lengths, seed=4)
                values.append(fr.losses.cross_entropy(logits, batch.target, lengths=batch.lengths)[0])
                param.flat[index] -= shift
            slope = (values[0] - values[1]) / 2e-5
            assert model.grads[name].flat[index] == pytest.approx(slope, rel=1e-5, abs=1e-8), name
    assert loss == pytest.approx(np.log(7), rel=0.2)


@pytest.mark.parametrize("cell", CELLS)
def test_names_and_shapes(cell):
    model = small(cell, num_layers=1)
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[cell]
    assert {name: array.shape for name, array in model.params.items()} == {
        "embedding.weight": (7, 3),
        "rnn.weight_ih_l0": (gates * 5, 3),
        "rnn.weight_hh_l0": (gates * 5, 5),
        "rnn.bias_ih_l0": (gates * 5,),
        "rnn.bias_hh_l0": (gates * 5,),
        "output.weight": (7, 5),
        "output.bias": (7,),
    }
    assert model.num_params == sum(array.size for array in model.params.values())
    logits, _ = model(np.zeros((4, 2), int))
    assert logits.shape == (4, 2, 7)
    logits, _ = model(np.zeros(4, int))
    assert logits.shape == (4, 7)


def test_forget_bias():
    model = small()
    for layer in range(2):
        total = model.params[f"rnn.bias_ih_l{layer}"] + model.params[f"rnn.bias_hh_l{layer}"]
        np.testing.assert_array_equal(total[5:10], 1.0)


def test_seeds():
    first, second, third = small(seed=1), small(seed=1), small(seed=2)
    for name, array in first.params.items():
        np.testing.assert_array_equal(array, second.params[name])
    assert (first.params["output.weight"] != third.params["output.weight"]).any()


def test_the_state_carries_on():
    model = small("gru")
    x = np.random.default_rng(0).integers(0, 7, (8, 2))
    whole, state = model(x)
    first, middle = model(x[:3])
    second, last = model(x[3:], middle)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last, state, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [2, 3, 100, 1001])
def test_bits_count_every_token_once(count):
    model = small(dtype=np.float64)
    for array in model.params.values():
        array[...] = 0  # every token has probability 1/7
    tokens = np.random.default_rng(0).integers(0, 7, count)
    assert model.bits_per_token(tokens, batch_size=4, seq_len=10) == pytest.approx(np.log2(7))
    assert model.perplexity(tokens, batch_size=4, seq_len=10) == pytest.approx(7)


def test_bits_equal_the_loss_of_one_row():
    model = small(dtype=np.float64)
    tokens = np.random.default_rng(0).integers(0, 7, 30)
    loss, _ = model.loss((tokens[:-1, None], tokens[1:, None]), train=False)
    assert model.bits_per_char(tokens, seq_len=8, batch_size=1) == pytest.approx(loss / np.log(2))
    with pytest.raises(ValueError, match=r"tokens: expected \[N\] with N >= 2"):
        model.bits_per_token([1])
    with pytest.raises(TypeError, match="no vocabulary"):
        model.bits_per_char("text")


def test_learns_and_samples_what_it_learned(tmp_path):
    text = "abcdefgh\n" * 60
    vocabulary = fr.text.CharVocabulary.from_text(text)
    model = fr.models.LanguageModel(vocabulary, "gru", embedding_dim=8, hidden_size=16, seed=0)
    data = fr.TokenWindows(vocabulary.encode(text), batch_size=4, seq_len=20)
    opt = fr.optim.Adam(model, lr=0.03)
    fr.fit(model, data, optimizer=opt, epochs=12, carry_state=True, progress=False)
    assert model.bits_per_char(text) < 0.1
    assert model.sample("abc", 12, temperature=0) == "defgh\nabcdef"
    assert model.sample("", 9, temperature=0) == "abcdefgh\n"
    assert model.sample("abc", 0) == ""
    path = tmp_path / "m.safetensors"
    fr.save(model, path)
    again = fr.load(path)
    assert again.vocabulary == vocabulary
    assert again.sample("ab", 30, seed=3) == model.sample("ab", 30, seed=3)


def test_samples_of_integers():
    model = small()
    tokens = model.sample([1, 2], 5, seed=0)
    assert tokens.shape == (5,)
    np.testing.assert_array_equal(tokens, model.sample([1, 2], 5, seed=0))
    assert model.sample(length=3, seed=0).shape == (3,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": -1}, "length: expected >= 0"),
        ({"temperature": -1.0}, "temperature: expected a finite number >= 0"),
        ({"temperature": float("nan")}, "temperature: expected"),
        ({"top_k": 0}, "top_k: expected >= 1"),
        ({"top_p": 0.0}, r"top_p: expected a probability in \(0, 1\]"),
        ({"prompt": [[1]]}, r"prompt: expected text or integers \[N\]"),
    ],
)
def test_bad_sampling(options, message):
    with pytest.raises(ValueError, match=message):
        small().sample(**options)


def test_bad_models():
    expected = r"cell: expected one of lstm, gru, .*indrnn, fastrnn, fastgrnn, or a cell made by fr\.cell, got 'tcn'"
    with pytest.raises(ValueError, match=expected):
        small("tcn")


def test_sampling_follows_the_distribution():
    logits = np.log([0.5, 0.2, 0.2, 0.1])
    rng = np.random.default_rng(0)

    def shares(**options):
        draws = [sample_token(logits, rng, **options) for _ in range(4000)]
        return np.bincount(draws, minlength=4) / 4000

    np.testing.assert_allclose(shares(), [0.5, 0.2, 0.2, 0.1], atol=0.03)
    sharp = np.array([0.25, 0.04, 0.04, 0.01])
    np.testing.assert_allclose(shares(temperature=0.5), sharp / sharp.sum(), atol=0.03)
    np.testing.assert_allclose(shares(top_k=2), [5 / 7, 2 / 7, 0, 0], atol=0.03)
    np.testing.assert_allclose(shares(top_p=0.6), [5 / 7, 2 / 7, 0, 0], atol=0.03)
    np.testing.assert_allclose(shares(top_p=0.4), [1, 0, 0, 0])
    np.testing.assert_allclose(shares(banned=0), [0, 0.4, 0.4, 0.2], atol=0.03)
    np.testing.assert_allclose(shares(temperature=1e-300), [1, 0, 0, 0])
    with pytest.raises(FloatingPointError, match="not finite"):
        sample_token(np.array([0.0, np.nan]), rng)


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda m: m.bits_per_token([1, 2, 3], seq_len=0), ValueError, "seq_len: expected a positive integer, got 0"),
        (lambda m: m.bits_per_token([1, 2, 3], batch_size=1.5), TypeError, "batch_size: expected an integer"),
        (lambda m: m.bits_per_token([0.5, 1.5]), TypeError, "tokens: expected text or integers"),
        (lambda m: m.sample([1], 2.5), TypeError, "length: expected an integer, got 2.5"),
        (lambda m: m.generate([1], 2.5), TypeError, "length: expected an integer, got 2.5"),
        (lambda m: m.sample([1], 2, top_k=2.5), TypeError, "top_k: expected an integer, got 2.5"),
        (lambda m: m.sample([1], 2, top_p="all"), TypeError, "top_p: expected a number, got 'all'"),
        (lambda m: m.sample([1], 2, temperature="hot"), TypeError, "temperature: expected a number, got 'hot'"),
        (lambda m: m.sample([1.5], 2), TypeError, "prompt: expected text or integers"),
        (lambda m: m.sample("abc", 2), TypeError, "prompt: this model has no vocabulary"),
        (lambda m: fr.models.LanguageModel("abc"), TypeError, "vocabulary: expected a number of tokens or a Char"),
        (lambda m: fr.models.LanguageModel(2.5), TypeError, "vocabulary: expected a number of tokens or a Char"),
        (lambda m: fr.models.LanguageModel(0), ValueError, "vocabulary: expected a positive integer"),
    ],
)
def test_wrong_arguments_are_named(use, error, message):
    model = fr.models.LanguageModel(7, "rnn", hidden_size=4, seed=0)
    with pytest.raises(error, match=message):
        use(model)


def test_repr_tells_the_dropout():
    assert "dropout=0.25" in repr(fr.models.LanguageModel(7, hidden_size=4, dropout=0.25))
    assert "dropout" not in repr(fr.models.LanguageModel(7, hidden_size=4))


def test_top_k_among_many_is_that_of_a_whole_sort():
    """Also where logits are equal at the limit: the first tokens are kept."""
    logits = np.random.default_rng(0).integers(0, 40, 1000).astype(np.float64)
    for k in (1, 3, 17, 999, 1000, 5000):
        allowed = set(np.argsort(-logits, kind="stable")[:k].tolist())
        rng = np.random.default_rng(k)
        drawn = {sample_token(logits, rng, temperature=30.0, top_k=k) for _ in range(400)}
        assert drawn <= allowed and len(drawn) > 0.3 * min(k, 400)
