"""Files: models, trees, and what a crash or a foreign file does."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import fastrnn as fr
from fastrnn import io


def model():
    return fr.Sequential(fr.GRU(3, 4, seed=0), fr.Last(), fr.Linear(4, 2, seed=1, dtype=np.float32))


def test_a_model_comes_back(tmp_path):
    path = tmp_path / "new" / "m.safetensors"
    first = model()
    fr.save(first, path, metadata={"note": "ü", "bits": 2.5})
    second = fr.load(path)
    assert repr(second) == repr(first)
    for name, array in first.params.items():
        np.testing.assert_array_equal(array, second.params[name])
    x = np.ones((5, 2, 3), np.float32)
    np.testing.assert_array_equal(first(x)[0], second(x)[0])
    assert io.read_header(path)["metadata"] == {"note": "ü", "bits": 2.5}
    assert [p.name for p in path.parent.iterdir()] == ["m.safetensors"]


def test_other_readers_see_plain_tensors_and_equal_models_are_equal_files(tmp_path):
    for name in "ab":
        fr.save(model(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    tensors = load_file(tmp_path / "a")
    np.testing.assert_array_equal(tensors["2.weight"], model().params["2.weight"])


def test_broken_and_foreign_files(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(FileNotFoundError, match=r"m\.safetensors: no such file"):
        fr.load(path)
    with pytest.raises(FileNotFoundError, match="not a file"):
        fr.load(tmp_path)
    fr.save(model(), path)
    whole = path.read_bytes()
    for size in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="not a complete safetensors file"):
            fr.load(path)
    path.write_bytes(b"\x80\x04\x95" + whole)
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        fr.load(path)
    save_file({"x": np.ones(3)}, path)
    with pytest.raises(ValueError, match=r"without fastrnn's description.*load_state_dict"):
        fr.load(path)
    with pytest.raises(ValueError, match="not written by fastrnn"):
        io.read_header(path)
    save_file({"x": np.ones(3)}, path, metadata={"fastrnn": "{"})
    with pytest.raises(ValueError, match="its metadata is not JSON"):
        fr.load(path)
    save_file({"x": np.ones(3)}, path, metadata={"fastrnn": '{"format": 99}'})
    with pytest.raises(ValueError, match="format 99, this version of fastrnn reads format 1"):
        fr.load(path)
    header = {"format": 1, "kind": "model", "spec": {"type": "os.system", "config": {}}}
    save_file({"x": np.ones(3)}, path, metadata={"fastrnn": json.dumps(header)})
    with pytest.raises(ValueError, match=r"os\.system"):
        fr.load(path)
    io.save_tree(path, {})
    with pytest.raises(ValueError, match="holds a checkpoint, expected a model"):
        fr.load(path)


def test_what_is_no_json_is_not_saved(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(TypeError, match="can't be written as JSON"):
        fr.save(model(), path, metadata={"x": object()})
    assert not path.exists()


def test_trees_come_back_bit_for_bit(tmp_path):
    tree = {
        "none": None,
        "numbers": [1, 2**127, 0.1, float("inf"), -0.0, True],
        "arrays": [
            np.float32(1.5) * np.ones((2, 3), np.float32).T,
            np.array(3.0),
            np.zeros((0, 2), np.int64),
        ],
        "generator": np.random.default_rng(3).bit_generator.state,
        "older": np.random.RandomState(3).get_state(legacy=False),
        "deep": {"a/b": {"c": np.array([True, False])}, "": np.arange(3)},
        "number": np.float64(0.3),
    }
    io.save_tree(tmp_path / "t", tree)
    found = io.load_tree(tmp_path / "t")
    assert found["numbers"] == tree["numbers"]
    assert found["generator"] == tree["generator"]
    assert found["number"] == 0.3
    for a, b in zip(found["arrays"], tree["arrays"], strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(found["deep"]["a/b"]["c"], [True, False])
    np.testing.assert_array_equal(found["deep"][""], [0, 1, 2])
    np.testing.assert_array_equal(found["older"]["state"]["key"], tree["older"]["state"]["key"])
    assert io.load_tree(tmp_path / "t")["none"] is None


def test_trees_hold_no_code(tmp_path):
    for bad in ({"x": object()}, {"x": {1: 2}}, {"x": {"$array": "y"}}, {"f": print}):
        with pytest.raises(TypeError):
            io.save_tree(tmp_path / "t", bad)
    fr.save(model(), tmp_path / "m")
    with pytest.raises(ValueError, match="is a model, expected a checkpoint"):
        io.load_tree(tmp_path / "m")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    io.write_atomic(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            io.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1
    io.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


def test_import_loads_numpy_alone():
    code = (
        "import sys, fastrnn; "
        "print([m for m in ('safetensors', 'tqdm', 'matplotlib', 'torch', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_missing_safetensors_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match="pip install safetensors"):
        fr.save(model(), tmp_path / "m")
