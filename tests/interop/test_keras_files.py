"""Keras's files without Keras: what is refused, by name; files that are damaged or hostile; those of Keras 2."""

# ruff: noqa: E402  (what is missing is said before it is imported)

import io
import json
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

import fastrnn as fr
from fastrnn.interop import keras

RNG = np.random.default_rng(0)


def layer(kind, weights=(), **config):
    """(a layer's description, its weights by place)."""
    return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}, weights


def lstm(inputs=3, units=4, kind="LSTM", **config):
    gates = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}[kind]
    bias = (2, gates * units) if kind == "GRU" and config.get("reset_after", True) else (gates * units,)
    shapes = [(inputs, gates * units), (units, gates * units), bias]
    return layer(kind, [("cell/", shapes)], units=units, **config)


def dense(inputs, units, **config):
    return layer("Dense", [("", [(inputs, units), (units,)])], units=units, **config)


def archive(path, *layers, version="3.9.0", spec=None):
    """A .keras file, made without Keras."""
    entries = [layer("InputLayer", batch_shape=[None, None, 3], dtype="float32"), *layers]
    data, count = io.BytesIO(), {}
    with h5py.File(data, "w") as h5:
        for described, weights in entries:
            kind = re.sub("(?<=[a-z])(?=[A-Z])", "_", described["class_name"]).lower()
            number = count[kind] = count.get(kind, -1) + 1
            for place, shapes in weights:
                for k, shape in enumerate(shapes):
                    h5[f"layers/{kind}{f'_{number}' * bool(number)}/{place}vars/{k}"] = RNG.random(shape, np.float32)
    model = spec or {"module": "keras", "class_name": "Sequential", "config": {"layers": [d for d, _ in entries]}}
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("metadata.json", json.dumps({"keras_version": version}))
        file.writestr("config.json", json.dumps(model))
        file.writestr("model.weights.h5", data.getvalue())
    return path


REFUSED = [
    ([lstm(stateful=True)], r"LSTM 'LSTM': stateful=True: fastrnn's layers keep no state between calls"),
    ([lstm(time_major=True)], r"time_major=True: expected sequences \[B, T, F\]"),
    ([lstm(activation="selu")], r"LSTM 'LSTM': activation='selu': cells have tanh, sigmoid"),
    ([lstm(new_option=3)], r"new_option=3: fastrnn doesn't know this option"),
    ([lstm(units=5)], r"expected weights of shapes \(3, 20\), \(5, 20\), \(20,\), got"),
    ([lstm()], None),
    ([lstm(dropout=1.5)], r"dropout: expected a rate from 0 up to 1, got 1.5"),
    ([lstm(use_bias="yes")], r"use_bias: expected true or false, got 'yes'"),
    ([lstm(dtype="float16")], r"dtype='float16': fastrnn computes in float32 or float64; load\(…, dtype=np.float32\)"),
    ([lstm(dtype={"class_name": "DTypePolicy", "config": {"name": "mixed_bfloat16"}})], r"dtype='mixed_bfloat16'"),
    ([layer("Conv1D", filters=3)], r"Conv1D 'Conv1D': fastrnn has no such layer; it reads InputLayer, Masking"),
    ([layer("Lambda", function={"class_name": "__lambda__", "config": {"code": "4wA="}})], r"Lambda.*no such layer"),
    ([layer("RNN", cell=lstm()[0])], r"RNN 'RNN': fastrnn has no such layer"),
    ([lstm(), layer("Masking", mask_value=0.0)], r"a mask is read from the model's input"),
    ([layer("Masking"), lstm(return_sequences=True), layer("GlobalMaxPooling1D")], r"takes no notice of the mask"),
    ([layer("Dropout", rate=0.5, noise_shape=[1, 2])], r"noise_shape=\[1, 2\]: fastrnn drops each number by itself"),
    ([dense(3, 2, activation="mish")], r"activation='mish': expected one of linear, tanh"),
    ([dense(3, 2, lora_rank=4)], r"lora_rank=4: fastrnn doesn't know"),
    ([dense(3, 2, quantization_config={"mode": "int8"})], r"quantization_config="),
    ([layer("LayerNormalization", [("", [(3,)] * 2)], axis=[1])], r"axis=\[1\]: fastrnn normalises the last axis"),
    ([layer("LayerNormalization", [("", [(3,)])], rms_scaling=True)], r"rms_scaling=True"),
    ([layer("Softmax", axis=1)], r"axis=1: expected the last, -1"),
    ([layer("ReLU", max_value=6.0)], r"max_value=6.0: fr.ReLU has no upper limit"),
    ([layer("TimeDistributed", layer=lstm()[0])], r"of LSTM: expected a layer that works on the last axis"),
    ([layer("Bidirectional", layer=lstm()[0], merge_mode="sum")], r"merge_mode='sum': .*side by side, 'concat'"),
    ([layer("Bidirectional", layer=layer("Dense", units=1)[0])], r"of Dense: expected one of SimpleRNN, LSTM, GRU"),
    (
        [layer("Bidirectional", layer=lstm()[0], backward_layer=lstm(units=5, go_backwards=True)[0])],
        r"backward_layer: units=5, but the forward layer has 4",
    ),
]


@pytest.mark.parametrize("layers, message", REFUSED)
def test_what_is_refused(tmp_path, layers, message):
    if message is None:
        layers[0][0]["config"]["units"], message = -1, r"units: expected a positive integer, got -1"
    elif "shapes" in message:
        layers = [lstm()]
        layers[0][0]["config"]["units"] = 5
    with pytest.raises(ValueError, match=message) as raised:
        keras.load(archive(tmp_path / "m.keras", *layers))
    assert str(raised.value).startswith(str(tmp_path / "m.keras"))


def test_what_may_be_ignored(tmp_path):
    path = archive(tmp_path / "m.keras", lstm(stateful=True, new_option=3))
    assert isinstance(keras.load(path, ignore=["stateful", "new_option"]), fr.Sequential)
    with pytest.raises(TypeError, match=r"^ignore: expected a list of names, got the string 'stateful'"):
        keras.load(path, ignore="stateful")
    path = archive(tmp_path / "m.keras", dense(3, 2, kernel_regularizer={"class_name": "L2"}, bias_constraint=None))
    with pytest.warns(UserWarning, match=r"Dense 'Dense': kernel_regularizer is about training in Keras"):
        keras.load(path)
    keras.load(path, ignore=["kernel_regularizer"])
    path = archive(tmp_path / "m.keras", dense(3, 2, dtype="float16"))
    assert keras.load(path, dtype=np.float64).dtype == np.float64
    with pytest.raises(TypeError, match=r"^dtype: expected float32 or float64"):
        keras.load(path, dtype=np.int32)


def test_hard_sigmoid_of_keras_2(tmp_path):
    for version, slope in (("2.15.0", 0.2), ("3.0.0", 1 / 6)):
        path = archive(tmp_path / "m.keras", lstm(recurrent_activation="hard_sigmoid"), version=version)
        assert keras.load(path)[0].variant.activations[0] == ("hard_sigmoid", slope, 0.5)


def functional(layers, **config):
    """A functional model of (name, kind, sources, config)."""
    found = []
    for name, kind, sources, options in layers:
        tensors = [
            {"class_name": "__keras_tensor__", "config": {"keras_history": [source, 0, index]}}
            for source, index in sources
        ]
        inbound = [{"args": tensors, "kwargs": {}}] if sources else []
        described = {"class_name": kind, "module": "keras.layers", "config": {"name": name, **options}}
        found.append({**described, "name": name, "inbound_nodes": inbound})
    ends = {"input_layers": ["a", 0, 0], "output_layers": [layers[-1][0], 0, 0]}
    return {"class_name": "Functional", "module": "keras", "config": {"layers": found, **ends, **config}}


A, D = ("a", "InputLayer", [], {}), {"units": 4}
CHAINS = [
    (functional([A, ("d", "Dense", [("a", 0), ("a", 0)], D)]), r"Dense 'd': called with 2 tensors"),
    (functional([A, ("e", "Dropout", [("a", 0)], {"rate": 0.1}), ("d", "Dense", [("a", 0)], D)]), r"beside the chain"),
    (functional([A, ("d", "Dense", [("a", 1)], D)]), r"Dense 'd': reads a state of 'a'"),
    (functional([A, ("d", "Dense", [("d", 0)], D)]), r"'d' comes twice"),
    (functional([A, ("d", "Dense", [("b", 0)], D)]), r"its description doesn't make a model \(KeyError: 'b'\)"),
    (
        functional([A, ("d", "Dense", [("a", 0)], D)], output_layers=[["d", 0, 0], ["a", 0, 0]]),
        r"a model with 2 outputs",
    ),
    ({"class_name": "Mine", "module": "mine", "registered_name": "mine>Mine", "config": {"layers": []}}, r"Mine"),
    ({"class_name": "Sequential", "config": {"layers": [3]}}, r"expected the description of a Keras layer, got 3"),
    ({"class_name": "Sequential", "config": {"layers": None}}, r"its description doesn't make a model"),
    ({"class_name": "Sequential", "config": {"layers": []}}, r"expected a model with a layer that computes something"),
    ({"config": 3}, r"its description doesn't make a model"),
    ([], r"its description doesn't make a model"),
    (
        {"class_name": "Sequential", "config": {"layers": [{**layer("LSTM", units=3)[0], "module": "mine"}]}},
        r"a class of your own \(mine\)",
    ),
]


@pytest.mark.parametrize("spec, message", CHAINS)
def test_models_that_are_no_chain(tmp_path, spec, message):
    path = tmp_path / "m.keras"
    archive(path, spec=spec)
    if not spec:  # archive takes an empty one for none
        with zipfile.ZipFile(path) as file:
            contents = {name: file.read(name) for name in file.namelist()}
        with zipfile.ZipFile(path, "w") as file:
            for name, content in {**contents, "config.json": b"[]"}.items():
                file.writestr(name, content)
    with pytest.raises(ValueError, match=message):
        keras.load(path)


# ---- damage and malice


def test_damaged_files(tmp_path):
    good = archive(tmp_path / "m.keras", lstm()).read_bytes()
    for k, size in enumerate(range(0, len(good), max(1, len(good) // 40))):
        path = tmp_path / f"{k}.keras"
        path.write_bytes(good[:size])
        with pytest.raises(ValueError, match=str(path)):
            keras.load(path)
    rng = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(good)
        broken[rng.integers(len(good))] ^= 1 << rng.integers(8)
        (tmp_path / "b.keras").write_bytes(broken)
        try:
            keras.load(tmp_path / "b.keras")
        except ValueError as error:
            assert "b.keras" in str(error)  # noqa: PT017  one or the other
    with pytest.raises(FileNotFoundError, match="no such file"):
        keras.load(tmp_path / "none.keras")
    with pytest.raises(FileNotFoundError, match="not a file"):
        keras.load(tmp_path)
    (tmp_path / "text.keras").write_text("hello")
    with pytest.raises(ValueError, match=r"neither a \.keras archive nor an HDF5 file"):
        keras.load(tmp_path / "text.keras")
    with zipfile.ZipFile(tmp_path / "z.keras", "w") as file:
        file.writestr("a.txt", "")
    with pytest.raises(ValueError, match=r"expected config\.json and model\.weights\.h5 in the archive"):
        keras.load(tmp_path / "z.keras")
    archive(tmp_path / "deep.keras")
    with zipfile.ZipFile(tmp_path / "deep.keras", "w") as file:
        file.writestr("config.json", "[" * 100_000)
        file.writestr("model.weights.h5", "")
    with pytest.raises(ValueError, match=r"deep\.keras"):
        keras.load(tmp_path / "deep.keras")


def test_other_files_are_not_opened(tmp_path):
    """HDF5 can have links to other files and arrays in them."""
    with h5py.File(tmp_path / "secret.h5", "w") as h5:
        h5["w"] = np.ones((3, 4), np.float32)
    (tmp_path / "raw").write_bytes(bytes(48))
    linear = fr.Linear(3, 4, seed=0)
    for kind in ("link", "soft", "external", "virtual"):
        path = tmp_path / f"{kind}.weights.h5"
        with h5py.File(path, "w") as h5:
            group = h5.create_group("layers/dense/vars")
            group["1"] = np.zeros(4, np.float32)
            if kind == "link":
                group["0"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "w")
            elif kind == "soft":
                group["0"] = h5py.SoftLink("/layers/dense/vars/1")
            elif kind == "external":
                group.create_dataset("0", (3, 4), np.float32, external=[(str(tmp_path / "raw"), 0, 48)])
            else:
                layout = h5py.VirtualLayout((3, 4), np.float32)
                layout[...] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "w", (3, 4))
                group.create_virtual_dataset("0", layout)
        with pytest.raises(ValueError, match=r"isn't followed|expected an array in the file itself"):
            keras.load_weights(linear, path)


def test_files_that_would_fill_the_memory(tmp_path):
    with h5py.File(tmp_path / "m.weights.h5", "w") as h5:
        h5.create_dataset("layers/dense/vars/0", (1 << 20, 1 << 20), np.float32)  # 4 TiB of zeros, none of them written
        h5["layers/dense/vars/1"] = np.zeros(4, np.float32)
    with pytest.raises(ValueError, match=r"expected a layer's weights, got \(1048576, 1048576\) numbers of nothing"):
        keras.load_weights(fr.Linear(3, 4), tmp_path / "m.weights.h5")
    with zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", "{}")
        file.writestr("model.weights.h5", bytes(64 << 20))
    with pytest.raises(ValueError, match=r"model\.weights\.h5 says it has 67108864 bytes, packed in \d+$"):
        keras.load(tmp_path / "m.keras")


def test_axes_counted_from_the_front(tmp_path):
    norm = [("", [(3,)] * 2)]
    first = layer("LayerNormalization", norm, axis=[2])
    last = layer("LayerNormalization", norm, axis=[1])
    model = keras.load(archive(tmp_path / "m.keras", first, lstm(units=3), last))
    assert [type(member).__name__ for member in model] == ["LayerNorm", "LSTM", "Last", "LayerNorm"]


def test_weights_that_dont_match(tmp_path):
    path = tmp_path / "m.weights.h5"
    keras.save(fr.Sequential(fr.GRU(3, 4), fr.Linear(4, 2)), path)
    with pytest.raises(ValueError, match=r"holds weights alone, without the layers.*load_weights\(model, file\)"):
        keras.load(path)
    other = fr.Sequential(fr.GRU(3, 4, seed=1), fr.Linear(4, 3, seed=1))
    before = other.state_dict()
    with pytest.raises(ValueError, match=r"dense: expected weights of shapes \(4, 3\), \(3,\), got \(4, 2\), \(2,\)"):
        keras.load_weights(other, path)
    assert all(np.array_equal(other.params[name], before[name]) for name in before)
    with pytest.raises(
        ValueError, match=r"expected weights of layers/lstm, layers/dense; the file has layers/dense, la"
    ):
        keras.load_weights(fr.Sequential(fr.LSTM(3, 4), fr.Linear(4, 2)), path)
    with pytest.raises(ValueError, match=r"expected weights of layers/gru; the file has"):
        keras.load_weights(fr.GRU(3, 4), path)


# ---- writing


def test_files_are_the_same_for_the_same_model(tmp_path):
    model = fr.Sequential(fr.GRU(3, 4, seed=0), fr.Last(), fr.Linear(4, 2, seed=1))
    for name in ("a", "b"):
        keras.save(model, tmp_path / f"{name}.keras")
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.keras", "b.keras"]


UNWRITTEN = [
    (lambda: fr.LSTM(3, 4, proj_size=2), r"LSTM: proj_size: Keras's layers haven't got it"),
    (lambda: fr.LSTM(3, 4, peephole=True), r"LSTM: peephole=True"),
    (lambda: fr.GRU(3, 4, zoneout=0.1), r"GRU: zoneout"),
    (lambda: fr.GRU(3, 4, clip=1.0), r"GRU: clip=1.0"),
    (
        lambda: fr.LSTM(3, 4, activations=("sigmoid", "tanh", "relu")),
        r"Keras has one for g and c, got 'tanh' and 'relu'",
    ),
    (
        lambda: fr.RNN(3, 4, activations=("scaled_tanh", 2.0, 1.0)),
        r"Keras has no activation \('scaled_tanh',\) by name",
    ),
    (lambda: fr.LRU(3, 4), r"LRU: no layer of Keras does that; written are LSTM, GRU, RNN"),
    (lambda: fr.Sequential(fr.Linear(3, 4), fr.Last()), r"Last: Keras has it as return_sequences=False"),
    (lambda: fr.Sequential(fr.GRU(3, 4, bidirectional=True), fr.Last()), r"Keras returns what fr\.nn\.Ends does"),
    (lambda: fr.Sequential(fr.GRU(3, 4), fr.nn.Ends()), r"Ends: expected after a bidirectional layer"),
    (lambda: fr.Sequential(fr.nn.Reverse(), fr.Linear(3, 4)), r"Reverse: Keras has it as go_backwards=True"),
    (lambda: fr.Sequential(fr.nn.Reverse(), fr.GRU(3, 4, num_layers=2)), r"expected one layer in one direction"),
    (lambda: fr.Sequential(fr.Linear(3, 3), fr.Swish(2.0)), r"Swish: beta=2.0: Keras's silu has 1"),
    (lambda: fr.Sequential(*[fr.Linear(3, 3)] * 2), r"Linear: stands twice in the model"),
    (lambda: fr.Sequential(fr.Tanh()), r"expected a layer with parameters, which say the size of the input"),
]


@pytest.mark.parametrize("make, message", UNWRITTEN)
def test_what_keras_has_not_got(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        keras.save(make(), tmp_path / "m.keras")
    assert not list(tmp_path.iterdir())


def test_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"^file: expected a name that ends in \.keras or \.weights\.h5, got "):
        keras.save(fr.Linear(3, 4), tmp_path / "m.h5")
    with pytest.raises(TypeError, match=r"^model: expected a layer or Sequential of fastrnn, got int"):
        keras.save(3, tmp_path / "m.keras")
    with pytest.raises(TypeError, match=r"expected a file's name, or a layer or model of Keras, got int"):
        keras.load(3)


# ---- Keras 2's files of whole models


def test_h5_of_keras_2(tmp_path):
    path = tmp_path / "old.h5"
    tensors = {"gru_1": lstm(kind="GRU")[1][0][1], "out": [(4, 2), (2,)]}
    arrays = {name: [RNG.random(shape, np.float32) for shape in shapes] for name, shapes in tensors.items()}
    config = {
        "layers": [
            {"class_name": "InputLayer", "name": "in", "config": {}, "inbound_nodes": []},
            {"class_name": "GRU", "name": "gru_1", "config": {"name": "gru_1", "units": 4, "implementation": 2,
             "recurrent_activation": "sigmoid"}, "inbound_nodes": [[["in", 0, 0, {}]]]},
            {"class_name": "Dense", "name": "out", "config": {"name": "out", "units": 2, "activation": "linear"},
             "inbound_nodes": [[["gru_1", 0, 0, {"training": None}]]]},
        ],
        "input_layers": [["in", 0, 0]],
        "output_layers": [["out", 0, 0]],
    }  # fmt: skip
    with h5py.File(path, "w") as h5:
        h5.attrs["keras_version"] = b"2.4.0"
        h5.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": config})
        h5.create_group("model_weights").attrs["layer_names"] = [b"in", *map(str.encode, tensors)]
        for name, parts in arrays.items():
            names = [f"{name}/cell/{k}:0".encode() for k in range(len(parts))]
            group = h5["model_weights"].create_group(name)
            group.attrs["weight_names"] = names
            for inner, array in zip(names, parts):
                group[inner.decode()] = array
        h5["model_weights"].create_group("in").attrs["weight_names"] = []
    model = keras.load(path)
    assert [type(member).__name__ for member in model] == ["GRU", "Last", "Linear"] and model[0].reset_after
    r, z, n = np.split(model[0].params["weight_ih_l0"].T, 3, 1)
    assert np.array_equal(np.concatenate([z, r, n], 1), arrays["gru_1"][0])
    assert np.array_equal(model[2].params["weight"].T, arrays["out"][0])
    for param in (other := keras.load(path)).params.values():
        param[...] = 0
    keras.load_weights(other, path)
    assert all(np.array_equal(other.params[name], model.params[name]) for name in model.params)


def test_files_need_no_keras(tmp_path):
    code = f"""
import sys
sys.modules["keras"] = sys.modules["tensorflow"] = None
import fastrnn as fr
from fastrnn.interop import keras
keras.save(fr.Sequential(fr.GRU(3, 4, seed=0), fr.Linear(4, 2, seed=0)), {str(tmp_path / "m.keras")!r})
keras.load_weights(keras.load({str(tmp_path / "m.keras")!r}), {str(tmp_path / "m.keras")!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
