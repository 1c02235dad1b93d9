"""Files: models, trees, and what a crash or a foreign file does."""

import json
import os
import subprocess
import sys
import threading

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


def test_threads_write_the_same_file(tmp_path):
    contents = [bytes([65 + i]) * 100_000 for i in range(4)]
    problems = []

    def write(data):
        try:
            for _ in range(15):
                io.write_atomic(tmp_path / "file", data)
                assert (tmp_path / "file").read_bytes() in contents
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=write, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_a_file_has_the_usual_mode(tmp_path):
    before = os.umask(0o027)
    try:
        io.write_atomic(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_temporary_files_of_killed_runs_are_cleaned(tmp_path, monkeypatch):
    checkpoint = fr.train.Checkpoint(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda source, target: None)  # killed before
        checkpoint.save({"step": 1})
    assert len(list(tmp_path.iterdir())) == 1
    checkpoint.clean()
    assert list(tmp_path.iterdir()) == []


def test_errors_name_the_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*file'"):
        io.write_atomic(tmp_path / "file", b"")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IsADirectoryError, match=r"\.: is a folder, expected the name of a file"):
        fr.save(fr.Linear(2, 2), ".")
    with pytest.raises(TypeError, match="model: expected a layer or model, got dict"):
        fr.save({"weight": np.zeros(2)}, "m")


@pytest.mark.parametrize(
    "spec",
    [
        None,
        [],
        {"type": "Linear"},
        {"type": ["Linear"], "config": {}},
        {"type": "Linear", "config": [1, 2]},
        {"type": "Linear", "config": {"in_features": 2, "out_features": 2, "color": "red"}},
        {"type": "Linear", "config": {"in_features": "2", "out_features": 2}},
        {"type": "Linear", "config": {"in_features": 7, "out_features": 2}},
        {"type": "Sequential", "config": {"layers": [{"same_as": 4}]}},
        {"type": "LanguageModel", "config": {"vocabulary": {"symbol": "abc"}}},
    ],
)
def test_a_malformed_description(spec, tmp_path):
    header = {"format": 1, "kind": "model", **({} if spec is None else {"spec": spec})}
    path = tmp_path / "m"
    save_file({"weight": np.ones((2, 2), np.float32)}, path, metadata={"fastrnn": json.dumps(header)})
    with pytest.raises(ValueError, match="m: its description doesn't make a model"):
        fr.load(path)


@pytest.mark.parametrize("tree", [{}, {"tree": {"a": {"$array": "/b"}}}, {"tree": {"a": {"$array": []}}}])
def test_a_malformed_tree(tree, tmp_path):
    header = {"format": 1, "kind": "checkpoint", **tree}
    save_file({"/a": np.ones(2)}, tmp_path / "t", metadata={"fastrnn": json.dumps(header)})
    with pytest.raises(ValueError, match="t: not whole"):
        io.load_tree(tmp_path / "t")


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
