"""Keras's layers beside ours: random options, with and without masks, both ways, equal to 1e-5."""

# ruff: noqa: E402  (what is missing is said before it is imported)

import importlib.util
import os

import numpy as np
import pytest

pytest.importorskip("h5py")
for backend in ("torch", "jax", "numpy"):
    if importlib.util.find_spec(backend):
        os.environ.setdefault("KERAS_BACKEND", backend)  # without effect where another module has imported Keras
keras = pytest.importorskip("keras")

import fastrnn as fr
from fastrnn.interop import keras as ours
from tests.reference.finite_differences import assert_close

L = keras.layers
CELLS = {"SimpleRNN": L.SimpleRNN, "LSTM": L.LSTM, "GRU": L.GRU}
IN_CELLS = ["tanh", "sigmoid", "relu", "linear", "hard_sigmoid", "elu", "softsign", "softplus", "leaky_relu"]
B, T, F = 3, 6, 4


def randomized(model, seed=0):
    """The model with random weights, biases among them."""
    rng = np.random.default_rng(seed)
    model.set_weights([0.4 * rng.standard_normal(w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def theirs(model, x):
    return keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(x, dtype=str(x.dtype))))


def mine(model, x, **options):
    y = model(x, **options)
    return y[0] if isinstance(y, tuple) else y


def data(seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal((B, T, F)).astype(dtype)


def close(actual, expected):
    """float32, sums of tens of products."""
    assert_close(actual, expected, 1e-5)


def options_of(cell, seed):
    """Random options of a recurrent layer."""
    rng = np.random.default_rng([seed, *map(ord, cell)])
    pick = lambda *values: values[rng.integers(len(values))]  # noqa: E731
    options = {
        "units": int(rng.integers(1, 20)),
        "use_bias": bool(rng.integers(4)),
        "return_sequences": pick(True, False),
        "go_backwards": pick(True, False),
        "activation": pick(*IN_CELLS, "tanh", "tanh"),
    }
    if cell != "SimpleRNN":
        options["recurrent_activation"] = pick("sigmoid", "sigmoid", "hard_sigmoid", "tanh")
    if cell == "GRU":
        options["reset_after"] = pick(True, False)
    return options


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_layers(cell, seed):
    options, x = options_of(cell, seed), data(seed)
    layer = CELLS[cell](**options)
    layer.build((None, None, F))
    randomized(layer, seed)
    found = ours.load(layer)
    close(mine(found, x), theirs(layer, x))
    again = ours.to_keras(found)
    close(theirs(again, x), theirs(layer, x))
    for a, b in zip(again.get_weights(), layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert {name: again.layers[0].get_config()[name] for name in options} == options


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cell", CELLS)
def test_bidirectional(cell, seed):
    options, x = {**options_of(cell, seed), "go_backwards": False}, data(seed)
    layer = L.Bidirectional(CELLS[cell](**options))
    layer.build((None, T, F))
    randomized(layer, seed)
    found = ours.load(layer)
    close(mine(found, x), theirs(layer, x))
    close(theirs(ours.to_keras(found), x), theirs(layer, x))


def test_float64():
    if keras.backend.backend() not in ("torch", "tensorflow"):
        pytest.skip("JAX computes in float32 unless it is told otherwise when it starts, Keras's NumPy in part")
    layer = L.GRU(5, dtype="float64", return_sequences=True)
    layer.build((None, None, F))
    randomized(layer)
    found, x = ours.load(layer), data(dtype="float64")
    assert found.dtype == np.float64 and isinstance(found, fr.GRU) and found.batch_first
    assert_close(mine(found, x), theirs(layer, x), 1e-12)
    assert_close(theirs(ours.to_keras(found), x), theirs(layer, x), 1e-12)
    assert ours.load(layer, dtype=np.float32).dtype == np.float32


# ---- models


def tagger():
    return keras.Sequential([
        keras.Input((None,), dtype="int32"),
        L.Embedding(11, 5, mask_zero=True),
        L.Bidirectional(L.LSTM(4, return_sequences=True)),
        L.Dropout(0.3),
        L.GRU(6, return_sequences=True, reset_after=False),
        L.LayerNormalization(),
        L.TimeDistributed(L.Dense(7, activation="relu")),
        L.Dense(3, activation="softmax"),
    ])  # fmt: skip


def classifier():
    return keras.Sequential([
        keras.Input((None, F)),
        L.Masking(-1.0),
        L.LSTM(5, return_sequences=True),
        L.Bidirectional(L.GRU(4)),
        L.LayerNormalization(center=False),
        L.LayerNormalization(scale=False, epsilon=1e-2),
        L.Activation("gelu"),
        L.Dense(8, use_bias=False),
        L.LeakyReLU(negative_slope=0.1),
        L.Dense(2),
        L.Softmax(),
    ])  # fmt: skip


def functional():
    x = keras.Input((T,), dtype="int32")
    h = L.Embedding(11, 5, mask_zero=True)(x)
    h = L.LSTM(4, return_sequences=True, name="below")(h)
    h = L.SimpleRNN(4, go_backwards=True, name="above")(h)
    return keras.Model(x, L.Dense(2, activation="sigmoid")(L.ReLU()(h)))


def nested():
    inner = keras.Sequential([L.Dense(5, activation="silu"), L.GRU(4, return_sequences=True)])
    return keras.Sequential([keras.Input((None, F)), inner, L.GRU(3), L.Dense(2)])


def pooled():
    return keras.Sequential([keras.Input((None, F)), L.GRU(4, return_sequences=True), L.GlobalAveragePooling1D()])


def highest():
    return keras.Sequential([keras.Input((None, F)), L.GRU(4, return_sequences=True), L.GlobalMaxPooling1D()])


MODELS = {f.__name__: f for f in (tagger, classifier, functional, nested, pooled, highest)}
LENGTHS = np.array([T, 2, 4])


def input_of(name):
    """Padded rows, where the model has a mask; (x, where a step counts)."""
    steps = np.arange(T) < LENGTHS[:, None]
    if name in ("tagger", "functional"):
        return np.where(steps, np.random.default_rng(0).integers(1, 11, (B, T)), 0).astype("int32"), steps
    if name == "classifier":
        return np.where(steps[..., None], data(), np.float32(-1)), steps
    return data(), np.ones((B, T), bool)


@pytest.mark.parametrize("name", MODELS)
def test_models(name, tmp_path):
    """From the object, its files, and back, with the masks that Keras makes."""
    model = randomized(MODELS[name]())
    x, steps = input_of(name)
    expected = theirs(model, x)
    real = steps if expected.ndim == 3 else slice(None)  # Keras repeats the last output past a row's end
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    found = ours.load(model)
    for source in (model, tmp_path / "m.keras", str(tmp_path / "m.keras")):
        close(mine(ours.load(source), x)[real], expected[real])
    # what fastrnn writes, Keras reads
    ours.save(found, tmp_path / "ours.keras")
    again = keras.models.load_model(tmp_path / "ours.keras")
    close(theirs(again, x), expected)
    ours.save(found, tmp_path / "ours.weights.h5")
    again = ours.to_keras(ours.load(tmp_path / "ours.keras"))
    randomized(again, 1)
    again.load_weights(tmp_path / "ours.weights.h5")
    close(theirs(again, x), expected)
    # and weights alone
    sources = [again, tmp_path / "ours.keras", tmp_path / "ours.weights.h5"]
    if name in ("functional", "pooled", "highest"):
        sources.append(tmp_path / "m.weights.h5")
    for source in sources:
        other = ours.load(tmp_path / "m.keras")
        for param in other.params.values():
            param[...] = 0
        ours.load_weights(other, source)
        close(mine(other, x)[real], expected[real])


def test_masks_are_lengths():
    model, (x, _) = randomized(tagger()), input_of("tagger")
    found = ours.load(model)
    assert isinstance(found, fr.nn.Masked)
    np.testing.assert_array_equal(found.lengths(x), LENGTHS)
    np.testing.assert_array_equal(mine(found, x), mine(found, x, lengths=LENGTHS))
    with pytest.raises(ValueError, match="row 1 begins with steps that are masked: pad sequences on the right"):
        found(x[:, ::-1])


def test_trains_after_loading():
    """Gradients through everything that Keras's options became."""
    found = ours.load(randomized(classifier()))
    x, _ = input_of("classifier")
    optimizer, losses = fr.optim.Adam(found, lr=0.05), []
    for _ in range(30):
        loss, _ = fr.value_and_grad(
            lambda: fr.losses.cross_entropy(fr.ops.log(found(x)[0]), np.array([0, 1, 1])), found
        )(seed=0)
        optimizer.step()
        losses.append(loss)
    assert losses[-1] < 0.2 * losses[0]


def test_a_model_of_ours():
    """A stack becomes layers of Keras, whatever its layout."""
    model = fr.Sequential(
        fr.Embedding(9, 5, seed=0),
        fr.LSTM(5, 4, num_layers=2, bidirectional=True, dropout=0.1, seed=1),
        fr.nn.Ends(),
        fr.Swish(),
        fr.Linear(8, 3, seed=2),
        fr.LayerNorm(3),
        fr.Tanh(),
    )
    x = np.random.default_rng(0).integers(0, 9, (T, B))
    again = ours.to_keras(model)
    kinds = "Embedding Bidirectional Dropout Bidirectional Activation Dense LayerNormalization Activation"
    assert [type(layer).__name__ for layer in again.layers] == kinds.split()
    close(theirs(again, x.T.astype("int32")), model(x)[0])
    other = fr.Sequential(fr.LSTM(5, 4, seed=3), fr.Linear(4, 2, seed=4))
    theirs_ = keras.Sequential([keras.Input((None, 5)), L.LSTM(4, return_sequences=True), L.Dense(2)])
    ours.set_weights(theirs_, other)
    x = np.random.default_rng(0).standard_normal((T, B, 5)).astype("float32")
    close(theirs(theirs_, x.swapaxes(0, 1)).swapaxes(0, 1), other(x)[0])
    ours.load_weights(other, randomized(theirs_))
    close(theirs(theirs_, x.swapaxes(0, 1)).swapaxes(0, 1), other(x)[0])


def test_set_weights_builds():
    layer = L.GRU(5, return_sequences=True)
    gru = fr.GRU(F, 5, batch_first=True, seed=0)
    ours.set_weights(layer, gru)
    close(theirs(layer, data()), gru(data())[0])
    with pytest.raises(ValueError, match=r"^GRU 'twin' has weights of shapes \(4, 18\).*the GRU has \(4, 15\)"):
        ours.set_weights(L.GRU(6, name="twin"), gru)


def test_dropout_in_cells_is_carried_over():
    layer = L.LSTM(5, dropout=0.1, recurrent_dropout=0.2, return_sequences=True, return_state=True)
    layer.build((None, None, F))
    found = ours.load(layer)
    assert (found.variant.input_dropout, found.variant.recurrent_dropout) == (0.1, 0.2)
    config = ours.to_keras(found).layers[0].get_config()
    assert (config["dropout"], config["recurrent_dropout"]) == (0.1, 0.2)


def test_saved_by_fastrnn(tmp_path):
    found = ours.load(randomized(functional()))
    fr.save(found, tmp_path / "m.safetensors")
    again, (x, _) = fr.load(tmp_path / "m.safetensors"), input_of("functional")
    assert np.array_equal(again(x)[0], found(x)[0]) and isinstance(again, fr.nn.Masked)
