"""``fastrnn convert``: what comes out is what went in, nothing is lost on the way, and errors say what is wrong."""

import json
import os
import stat
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

import fastrnn as fr
from fastrnn.cli import convert, formats, main
from fastrnn.cli.same import Difference, compared


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def some_models():
    vocabulary = fr.text.CharVocabulary("abc \n")
    return {
        "lstm": fr.LSTM(3, 4, 2, bidirectional=True, seed=0),
        "gru": fr.GRU(3, 4, batch_first=True, seed=0),
        "double": fr.RNN(3, 4, dtype=np.float64, seed=0),
        "tagger": fr.Sequential(fr.Embedding(10, 4, seed=0), fr.GRU(4, 5, seed=1), fr.Last(), fr.Linear(5, 3, seed=2)),
        "language": fr.models.LanguageModel(vocabulary, "gru", hidden_size=8, embedding_dim=4, seed=0),
    }


def same(one, other):
    assert type(one) is type(other)
    assert list(one.params) == list(other.params)
    for name, array in one.params.items():
        np.testing.assert_array_equal(array, other.params[name], strict=True)


# ---- PyTorch's state dicts


@pytest.mark.parametrize("name", list(some_models()))
def test_weights_go_to_pytorch_and_back(name, capsys):
    torch = pytest.importorskip("torch")
    model = some_models()[name]
    fr.save(model, "m.safetensors")
    assert main(["convert", "m.safetensors", "m.pt"]) == 0
    state = torch.load("m.pt", weights_only=True)
    assert list(state) == list(model.params)
    assert "verified: largest difference of weights 0, of outputs 0" in capsys.readouterr().out
    other = some_models()[name]
    for array in other.params.values():
        array += 1
    fr.save(other, "other.safetensors")
    assert main(["convert", "m.pt", "again.safetensors", "--like", "other.safetensors"]) == 0
    same(fr.load("again.safetensors"), model)
    same(fr.load("other.safetensors"), other)


def test_a_layer_of_pytorch_computes_the_same():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(3, 4, 2, bidirectional=True)
    torch.save({"state_dict": theirs.state_dict(), "epoch": 3}, "lightning.ckpt.pth")
    fr.save(fr.LSTM(3, 4, 2, bidirectional=True), "like.safetensors")
    assert main(["convert", "lightning.ckpt.pth", "m.safetensors", "--like", "like.safetensors"]) == 0
    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(fr.load("m.safetensors")(x)[0], expected, atol=1e-6)


def test_files_of_pytorch_that_hold_something_else(capsys):
    torch = pytest.importorskip("torch")
    fr.save(fr.GRU(3, 4), "like.safetensors")
    torch.save(torch.nn.GRU(3, 4), "module.pt")
    torch.save([torch.zeros(3)], "list.pt")
    torch.save(torch.nn.GRU(3, 5).state_dict(), "other.pt")
    with open("broken.pt", "wb") as file:
        file.write(b"PK\x03\x04 nothing")
    for name, message in (
        ("module.pt", "module.pt: holds more than tensors; torch.save(model.state_dict(), path) doesn't"),
        ("list.pt", "list.pt: expected a state dict, names and tensors, got list"),
        ("broken.pt", "broken.pt: "),
        ("other.pt", "other.pt: "),
    ):
        assert main(["convert", name, "m.safetensors", "--like", "like.safetensors"]) == 2
        shown = capsys.readouterr()
        assert shown.err.startswith(f"fastrnn convert: error: {message}")
        assert (shown.err.count("\n"), shown.out) == (1, "")
    assert not os.path.exists("m.safetensors")


def test_bfloat16_weights():
    torch = pytest.importorskip("torch")
    state = {name: tensor.bfloat16() for name, tensor in torch.nn.GRU(3, 4).state_dict().items()}
    torch.save(state, "half.pt")
    fr.save(fr.GRU(3, 4), "like.safetensors")
    assert main(["convert", "half.pt", "m.safetensors", "--like", "like.safetensors"]) == 0
    np.testing.assert_array_equal(
        fr.load("m.safetensors").params["weight_ih_l0"], state["weight_ih_l0"].float().numpy()
    )


# ---- ONNX and Keras


@pytest.mark.parametrize("name", [name for name in some_models() if name != "double"])
def test_to_onnx_and_back(name, capsys):
    onnx = pytest.importorskip("fastrnn.interop.onnx", exc_type=ImportError)
    model = some_models()[name]
    fr.save(model, "m.safetensors")
    assert main(["convert", "m.safetensors", "m.onnx"]) == 0
    assert "verified: largest difference of outputs " in capsys.readouterr().out
    assert main(["convert", "m.onnx", "graph.safetensors", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs_difference"] == 0
    graph = fr.load("graph.safetensors")
    assert isinstance(graph, onnx.OnnxModel)
    assert compared(model, graph, exact=False).largest < 1e-6
    assert main(["convert", "graph.safetensors", "again.onnx"]) == 0
    assert compared(graph, onnx.load("again.onnx"), exact=False).largest == 0


@pytest.mark.parametrize("pool", [None, fr.Last, fr.MeanPool, fr.MaxPool])
def test_layers_of_a_graph(pool):
    pytest.importorskip("fastrnn.interop.onnx", exc_type=ImportError)
    model = fr.Sequential(fr.GRU(3, 4, seed=0), *([pool()] if pool else []), fr.Linear(4, 2, seed=1))
    fr.save(model, "m.safetensors")
    assert main(["convert", "m.safetensors", "m.onnx"]) == 0
    assert main(["convert", "m.onnx", "layers.safetensors", "--layers"]) == 0
    found = fr.load("layers.safetensors")
    assert isinstance(found, fr.Sequential)
    assert compared(model, found, exact=False).largest < 1e-6


@pytest.mark.parametrize("name", ["lstm", "gru", "tagger"])
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_to_keras_and_back(name, suffix, capsys):
    pytest.importorskip("fastrnn.interop.keras", exc_type=ImportError)
    model = some_models()[name]
    fr.save(model, "m.safetensors")
    assert main(["convert", "m.safetensors", f"m{suffix}"]) == 0
    assert "verified: largest difference of outputs " in capsys.readouterr().out
    like = ["--like", "m.safetensors"] if suffix == ".weights.h5" else []
    assert main(["convert", f"m{suffix}", "again.safetensors", *like]) == 0
    assert compared(model, fr.load("again.safetensors"), exact=False).largest < 1e-6


def test_what_keras_has_not(capsys):
    pytest.importorskip("fastrnn.interop.keras", exc_type=ImportError)
    fr.save(some_models()["language"], "m.safetensors")
    assert main(["convert", "m.safetensors", "m.keras"]) == 2
    assert "error: m.keras: a LanguageModel can't be written as Keras: " in capsys.readouterr().err
    assert os.listdir() == ["m.safetensors"]


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("a.onnx", "b.safetensors", "onnx"),
        ("a.safetensors", "b.onnx", "onnx"),
        ("a.keras", "b.safetensors", "h5py"),
        ("a.safetensors", "b.keras", "h5py"),
        ("a.safetensors", "b.pt", "PyTorch is not installed, which .pt and .pth need: pip install torch"),
    ],
)
def test_missing_libraries_are_named(source, target, message, monkeypatch, capsys):
    """Without the library, or in a fastrnn without that part, one line says so."""
    fr.save(fr.GRU(3, 4), "a.safetensors")
    for name in ("a.onnx", "a.keras"):
        open(name, "w").close()
    library, part = {"onnx": ("onnx", "onnx"), "h5py": ("h5py", "keras")}.get(message, ("torch", "torch"))
    for name in [name for name in sys.modules if name.startswith(f"fastrnn.interop.{part}")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    assert main(["convert", source, target]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("fastrnn convert: error: ")
    assert message in shown.err or f"no fastrnn.interop.{part}" in shown.err
    assert (shown.err.count("\n"), shown.out) == (1, "")
    assert not os.path.exists(target)


# ---- files of fastrnn


def test_a_run_is_a_source(capsys):
    model = some_models()["language"]
    fr.save(model, "run/model.safetensors")
    assert main(["convert", "run", "m.safetensors"]) == 0
    same(fr.load("m.safetensors"), model)
    out = capsys.readouterr().out
    sizes = [os.path.getsize(name) for name in ("run/model.safetensors", "m.safetensors")]
    assert out.splitlines() == [
        f"run/model.safetensors ({sizes[0]:,} bytes) → m.safetensors ({sizes[1]:,} bytes)",
        "model: LanguageModel, 414 parameters",
        "verified: largest difference of weights 0, of outputs 0",
    ]


def test_weights_alone(capsys):
    model = fr.GRU(3, 4, seed=0)
    save_file(model.state_dict(), "weights.safetensors")
    fr.save(fr.GRU(3, 4, seed=1), "like.safetensors")
    assert main(["convert", "weights.safetensors", "m.safetensors"]) == 2
    assert "a safetensors file without fastrnn's description" in (err := capsys.readouterr().err) and "--like" in err
    assert main(["convert", "weights.safetensors", "m.safetensors", "--like", "like.safetensors"]) == 0
    same(fr.load("m.safetensors"), model)
    os.mkdir("run")
    os.rename("like.safetensors", "run/model.safetensors")  # the folder of a run, as for SOURCE
    assert main(["convert", "weights.safetensors", "again.safetensors", "--like", "run"]) == 0
    same(fr.load("again.safetensors"), model)
    fr.save(fr.GRU(3, 5), "other.safetensors")
    assert main(["convert", "weights.safetensors", "n.safetensors", "--like", "other.safetensors"]) == 2
    assert "weights.safetensors: " in capsys.readouterr().err


def test_json(capsys):
    fr.save(fr.GRU(3, 4, seed=0), "a.safetensors")
    assert main(["convert", "a.safetensors", "b.safetensors", "--json"]) == 0
    shown = capsys.readouterr()
    size = os.path.getsize("a.safetensors")
    assert json.loads(shown.out) == {
        **{"source": "a.safetensors", "target": "b.safetensors", "model": "GRU", "parameters": 108},
        **{"source_bytes": size, "target_bytes": size, "verified": True},
        **{"weights_difference": 0.0, "outputs_difference": 0.0, "not_compared": None},
    }
    assert shown.err.endswith("verified: largest difference of weights 0, of outputs 0\n")
    assert main(["convert", "a.safetensors", "c.safetensors", "--json", "--no-verify", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert not json.loads(shown.out)["verified"]
    assert shown.err == ""


def test_nothing_is_overwritten_by_mistake(capsys):
    fr.save(fr.GRU(3, 4, seed=0), "a.safetensors")
    fr.save(fr.GRU(3, 4, seed=1), "b.safetensors")
    os.chmod("b.safetensors", 0o640)
    before = fr.load("b.safetensors")
    assert main(["convert", "a.safetensors", "b.safetensors"]) == 2
    assert "TARGET: b.safetensors exists; --force overwrites it" in capsys.readouterr().err
    same(fr.load("b.safetensors"), before)
    assert main(["convert", "a.safetensors", "b.safetensors", "--force"]) == 0
    same(fr.load("b.safetensors"), fr.load("a.safetensors"))
    assert stat.S_IMODE(os.stat("b.safetensors").st_mode) == 0o640
    assert sorted(os.listdir()) == ["a.safetensors", "b.safetensors"]


def test_a_file_that_comes_meanwhile_is_left_alone(monkeypatch, capsys):
    fr.save(fr.GRU(3, 4, seed=0), "a.safetensors")

    def tell(*args, **options):
        with open("b.safetensors", "w") as file:
            file.write("mine")
        return Difference(0.0, 0.0)

    monkeypatch.setattr(convert, "compared", tell)
    assert main(["convert", "a.safetensors", "b.safetensors"]) == 2
    assert "TARGET: b.safetensors exists" in capsys.readouterr().err
    with open("b.safetensors") as file:
        assert file.read() == "mine"
    assert sorted(os.listdir()) == ["a.safetensors", "b.safetensors"]


@pytest.mark.parametrize("how", ["weights", "shape", "unreadable", "disk", "nan"])
def test_what_was_written_wrong_gets_no_name(how, monkeypatch, capsys):
    fr.save(fr.GRU(3, 4, seed=0), "a.safetensors")
    fr.save(fr.GRU(3, 4, seed=1), "b.safetensors")
    before = fr.load("b.safetensors")

    def write(model, path):
        if how == "disk":
            raise OSError(28, "No space left on device", str(path))
        if how == "unreadable":
            with open(path, "w") as file:
                file.write("x")
            return
        other = fr.GRU(3, 5) if how == "shape" else fr.GRU(3, 4, seed=0)
        other.params["bias_hh_l0"][1] += np.nan if how == "nan" else 1e-6
        fr.save(other, path)

    table = tuple(kind._replace(write=write) if kind.name == "fastrnn" else kind for kind in formats.FORMATS)
    monkeypatch.setattr(formats, "FORMATS", table)
    assert main(["convert", "a.safetensors", "b.safetensors", "--force"]) == 1
    message = {
        "weights": "b.safetensors: not written, for it would differ: largest difference of weights ",
        "nan": "b.safetensors: not written, for it would differ: largest difference of weights nan",
        "shape": "b.safetensors: not written, for reading it again doesn't give the model: output 0: shape (7, 3, 5)",
        "unreadable": "b.safetensors: not written, for reading it again doesn't give the model: not a complete safe",
        "disk": "b.safetensors: No space left on device",
    }[how]
    assert capsys.readouterr().err.startswith(f"fastrnn convert: error: {message}")
    same(fr.load("b.safetensors"), before)
    assert sorted(os.listdir()) == ["a.safetensors", "b.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: SOURCE, TARGET"),
        (["a.safetensors"], "the following arguments are required: TARGET"),
        (
            ["a.safetensors", "b.onx"],
            "TARGET: expected a name that ends in .safetensors, .onnx, .*; did you mean",
        ),
        (["a.txt", "b.onnx"], "SOURCE: expected a name that ends in .*, got 'a.txt'"),
        (["missing.onnx", "b.safetensors"], "SOURCE: missing.onnx: no such file"),
        (["folder", "b.safetensors"], "SOURCE: folder/model.safetensors: no such file"),
        (["a.safetensors", "folder.onnx"], "TARGET: folder.onnx is a folder, expected the name of a file"),
        (["a.safetensors", "none/b.onnx"], "TARGET: none: no such folder"),
        (["a.safetensors", "a.safetensors", "--force"], "TARGET: expected another file than SOURCE"),
        (["a.safetensors", "link.safetensors", "--force"], "TARGET: expected another file than SOURCE"),
        (["w.pt", "b.safetensors"], "SOURCE: w.pt holds weights without the model; --like names"),
        (["w.weights.h5", "b.safetensors"], "SOURCE: w.weights.h5 holds weights without the model; --like names"),
        (["a.onnx", "b.safetensors", "--like", "a.safetensors"], "--like: is for weights without a model; a.onnx has"),
        (
            ["w.pt", "b.safetensors", "--like", "w.pt"],
            "--like: expected a file that holds a model, got w.pt, which has weights alone",
        ),
        (["w.pt", "b.safetensors", "--like", "none.safetensors"], "none.safetensors: no such file"),
        (["a.safetensors", "b.safetensors", "--layers"], "--layers: is for graphs of ONNX"),
        (["broken.safetensors", "b.safetensors"], "broken.safetensors: not a complete safetensors file"),
        (
            ["a.safetensors", "b.safetensors", "--cell", "x"],
            "--cell: expected one of lstm, .*, or module:name",
        ),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, capsys):
    import re

    fr.save(fr.GRU(3, 4), "a.safetensors")
    os.symlink("a.safetensors", "link.safetensors")
    os.mkdir("folder")
    os.mkdir("folder.onnx")
    for name in ("a.txt", "a.onnx", "w.pt", "w.weights.h5", "broken.safetensors"):
        open(name, "w").close()
    assert main(["convert", *arguments]) == 2
    shown = capsys.readouterr()
    assert re.match(f"fastrnn convert: error: {message}", shown.err)
    assert (shown.err.count("\n"), shown.out) == (1, "")
    assert not os.path.exists("b.safetensors")


# ---- comparisons


def test_distances():
    one, other = fr.GRU(3, 4, seed=0), fr.GRU(3, 4, seed=0)
    assert compared(one, other, exact=True) == Difference(0.0, 0.0)
    other.params["weight_ih_l0"][0, 0] += 0.25
    found = compared(one, other, exact=True)
    assert found.weights == pytest.approx(0.25 / np.abs(one.params["weight_ih_l0"]).max())
    assert found.outputs > 1e-3
    assert compared(one, other, exact=False).weights is None
    turned = fr.GRU(3, 4, batch_first=True, seed=0)
    assert compared(one, turned, exact=True).largest < 1e-6  # the same layer, other axes


def test_models_that_take_something_else():
    one = fr.TreeLSTM(3, 4, seed=0)
    found = compared(one, fr.TreeLSTM(3, 4, seed=0), exact=True)
    assert found.weights == 0
    assert found.outputs is None and "TreeLSTM" in found.why
    assert str(found) == f"largest difference of weights 0; outputs not compared: {found.why}"
