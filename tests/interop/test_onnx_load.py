"""Graphs read from ONNX: how they are called, what broken ones say, files that hold them, layers made of them."""

import contextlib
import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx as onnx_library
from onnx import TensorProto, helper, numpy_helper, parser

import fastrnn as fr
from fastrnn.interop import onnx

ADD = """<ir_version: 8, opset_import: ["": 17]>
add (float[N, 2] x, float[N, 2] z) => (float[N, 2] y, float[N, 2] w) <float[2] b = {1, 2}> {
    y = Add(x, z)
    w = Mul(y, b)
}"""


def model_of(text):
    return onnx.load(parser.parse_model(text))


def test_calls_by_position_and_by_name():
    model, x = model_of(ADD), np.ones((3, 2), np.float32)
    expected = (2 * x, 2 * x * np.float32([1, 2]))
    for found in (
        model(x, x),
        model(x=x, z=x),
        model(x, z=x),
        model({"x": x, "z": x}),
        model.run(None, {"x": x, "z": x}),
    ):
        assert len(found) == 2 and all(np.array_equal(a, b) for a, b in zip(found, expected))
    (w,) = model.run(["w"], {"x": x, "z": x})
    assert np.array_equal(w, expected[1])
    assert [port.name for port in model.inputs] == ["x", "z"] and str(model.outputs[0]) == "y float32[N, 2]"
    assert repr(model) == "OnnxModel(x float32[N, 2], z float32[N, 2] → y float32[N, 2], w float32[N, 2])"


@pytest.mark.parametrize(
    "args, kwargs, kind, message",
    [
        ([], {}, ValueError, r"x: this input is missing; there are x float32\[N, 2\], z float32\[N, 2\]"),
        ([0], {"z": np.ones((3, 2), np.float32), "q": 1}, ValueError, r"x: expected x float32\[N, 2\], got shape \(\)"),
        ([np.ones((3, 2), np.float32)] * 3, {}, TypeError, r"expected at most 2 inputs"),
        ([np.ones((3, 2))] * 2, {}, TypeError, r"x: expected float32, got float64; use x.astype\(np.float32\)"),
        ([np.ones((3, 1), np.float32)] * 2, {}, ValueError, r"x: expected x float32\[N, 2\], got shape \(3, 1\)"),
        ([np.ones((3, 2), np.float32)], {"x": 1}, TypeError, "x: given by position and by name"),
        ([], dict.fromkeys("xzq", np.ones((3, 2), np.float32)), ValueError, "q: no such input; there are x"),
        ([["a"], 1], {}, TypeError, "x: expected float32, got <U1"),
    ],
)
def test_bad_inputs(args, kwargs, kind, message):
    with pytest.raises(kind, match=f"^{message}"):
        model_of(ADD)(*args, **kwargs)


def test_whole_numbers_are_converted():
    model = model_of('<ir_version: 8, opset_import: ["": 17]> f (int32[N] x) => (int32[N] y) { y = Add(x, x) }')
    assert model([1, 2]).dtype == np.int32 and model(np.arange(3)).tolist() == [0, 2, 4]
    with pytest.raises(ValueError, match=r"^x: expected int32, which doesn't hold 0 to 1099511627776$"):
        model(np.array([0, 1 << 40]))
    with pytest.raises(ValueError, match=r"^names: expected some of y, got 'z'$"):
        model.run(["z"], {"x": [1]})


def test_sizes_that_do_not_fit_inside():
    """NumPy's words, and where it was; before them which inputs don't go together, where names of sizes tell."""
    x, where = (
        np.ones((3, 2), np.float32),
        r"Add .* of the node that makes 'y', inputs float32\[3, 2\], float32\[2, 2\]: ",
    )
    with pytest.raises(ValueError, match=f"^z: expected N = 3, as in x, got 2; {where}"):
        model_of(ADD)(x, x[:2])
    with pytest.raises(ValueError, match=f"^{where}"):
        model_of(ADD.replace("float[N, 2] z", "float[M, 2] z"))(x, x[:2])


def test_unknown_operators_are_named(tmp_path):
    node = helper.make_node("Frobnicate", ["x"], ["y"], name="the node", domain="com.example")
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph([node], "g", infos[:1], infos[1:])
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    proto = helper.make_model(graph, opset_imports=sets, ir_version=8)
    message = (
        r"^Frobnicate \(domain com.example\) of node 'the node': there is no such operator here, fastrnn runs Abs, "
    )
    with pytest.raises(ValueError, match=message):
        onnx.load(proto)
    assert not onnx.Backend.is_compatible(proto)
    node.domain, node.op_type = "", "GridSample"
    with pytest.raises(ValueError, match=r"^GridSample \(domain ai.onnx\) of node 'the node': there is no such"):
        onnx.run_node(helper.make_node("GridSample", ["x", "g"], ["y"], name="the node"), [infos, infos])


def test_functions_of_the_file_and_of_onnx():
    """A model's own functions become nodes, and so do ONNX's operators that are made of others."""
    text = """<ir_version: 8, opset_import: ["": 17, "mine": 1]>
    f (float[N] x) => (float[N] y) { y = mine.twice(x) }
    <domain: "mine", opset_import: ["": 17]> twice (x) => (y) { y = Add(x, x) }"""
    assert model_of(text)(np.ones(2, np.float32)).tolist() == [2, 2]
    text = """<ir_version: 8, opset_import: ["": 17]>
    f (float[1, 2, 1, 2] x) => (float[1, 2, 1, 2] y) { y = MeanVarianceNormalization(x) }"""
    x = np.float32([[[[1, 3]], [[4, 8]]]])
    assert np.abs(model_of(text)(x) - [[[[-1, 1]], [[-1, 1]]]]).max() < 1e-4


BROKEN = [
    b"",
    b"not a model",
    b"\x08\x08" + b"\xff" * 20,
    onnx_library.ModelProto(ir_version=8).SerializeToString(),
]


@pytest.mark.parametrize("data", BROKEN, ids=range(len(BROKEN)))
def test_broken_files(data, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    for file in (path, data):
        with pytest.raises(ValueError, match="not a whole ONNX model: "):
            onnx.load(file)


def test_every_cut_is_refused_or_runs():
    """Half a file may be a whole message; it is never anything but a model or a ValueError."""
    whole = onnx.to_proto(fr.Sequential(fr.GRU(3, 4, seed=0), fr.Last(), fr.Linear(4, 2))).SerializeToString()
    for end in range(0, len(whole), 7):
        with contextlib.suppress(ValueError):
            onnx.load(whole[:end])
    rng = np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(256)
        with contextlib.suppress(ValueError, TypeError):
            model = onnx.load(bytes(data))
            model(np.ones((2, 1, 3), np.float32))


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.onnx: no such file"):
        onnx.load(tmp_path / "none.onnx")
    with pytest.raises(TypeError, match=r"^file: expected a path, bytes or an onnx.ModelProto, got int$"):
        onnx.load(3)


def with_external_weights(location):
    proto = onnx.to_proto(fr.GRU(3, 4, seed=0), lengths=False)
    for tensor in proto.graph.initializer:
        if tensor.name == "W_l0":
            onnx_library.external_data_helper.set_external_data(tensor, location)
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
    return proto.SerializeToString()


def test_weights_in_a_second_file(tmp_path):
    layer, x = fr.GRU(3, 4, seed=0), np.ones((5, 2, 3), np.float32)
    onnx_library.save_model(
        onnx.to_proto(layer), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    assert np.abs(onnx.load(tmp_path / "m.onnx")(x) - layer(x)[0]).max() < 1e-6
    (tmp_path / "w.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="not a whole ONNX model"):
        onnx.load(tmp_path / "m.onnx")


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd"])
def test_weights_outside_of_the_folder(location, tmp_path):
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 144)
    (folder / "m.onnx").write_bytes(with_external_weights(location))
    with pytest.raises(ValueError, match="not a whole ONNX model"):
        onnx.load(folder / "m.onnx")
    with pytest.raises(ValueError, match=r"^W_l0: an array that can't be read"):
        onnx.load((folder / "m.onnx").read_bytes())


# ---- a layer as others


def test_it_is_a_layer(tmp_path):
    layer, x = fr.Sequential(fr.GRU(3, 4, seed=0), fr.Last(), fr.Linear(4, 2, seed=1)), np.ones((5, 2, 3), np.float32)
    onnx.save(layer, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    y = model(x)
    fr.save(model, tmp_path / "m.safetensors")
    for again in (fr.load(tmp_path / "m.safetensors"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(again(x), y) and again.inputs == model.inputs
        with pytest.raises(ValueError, match="read-only"):
            again.params["2.bias"][...] = 1
    assert fr.Sequential(model, fr.Tanh())(x).shape == (2, 2)
    state = model.state_dict()
    state["2.bias"] += 1
    model.load_state_dict(state)
    assert np.abs(model(x) - y - 1).max() < 1e-6
    state["0.W_l0"] *= 2
    model.load_state_dict(state)  # what was made of the old weights is dropped
    assert np.abs(model(x) - y - 1).max() > 1e-3
    for call in (
        lambda: fr.optim.Adam(model),
        lambda: model.vjp(x),
        lambda: fr.value_and_grad(lambda x: model(x).sum(), model)(x),
    ):
        with pytest.raises(TypeError, match=r"^OnnxModel is for inference and has no gradients; .*layers=True"):
            call()


def test_it_loads_where_onnx_is_not_installed(tmp_path):
    layer, x = fr.LSTM(3, 4, bidirectional=True, seed=0), np.ones((5, 2, 3), np.float32)
    onnx.save(layer, tmp_path / "m.onnx")
    fr.save(onnx.load(tmp_path / "m.onnx"), tmp_path / "m.safetensors")
    code = """
import sys
sys.modules["onnx"] = None  # whoever imports it gets an ImportError
import numpy as np, fastrnn as fr
model = fr.load(sys.argv[1])
np.save(sys.argv[2], model(np.ones((5, 2, 3), np.float32)))
assert "fastrnn.interop.onnx" not in sys.modules and "fastrnn.models" in sys.modules
"""
    command = [sys.executable, "-c", code, tmp_path / "m.safetensors", tmp_path / "y.npy"]
    subprocess.run(command, check=True, timeout=60)
    assert np.abs(np.load(tmp_path / "y.npy") - layer(x)[0]).max() < 1e-6


GRAPH = onnx.to_proto(fr.GRU(3, 4, seed=0))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda g: g.pop("nodes"), "'nodes' is missing"),
        (lambda g: g["nodes"].pop(0), "its input .* is made by no node before it, and is no input"),
        (lambda g: g["nodes"].append(g["nodes"][0]), "makes '.*', which is there already"),
        (lambda g: g["nodes"][0].update(op="Exec"), "there is no such operator here"),
        (lambda g: g["outputs"][0].update(name="q"), "the output 'q' is made by no node"),
        (lambda g: g["inputs"][0].update(type="object"), "expected one of the types"),
        (lambda g: next(iter(g["constants"].values())).update(data="AAAA"), "an array of shape .* with 3 bytes"),
        (lambda g: next(iter(g["constants"].values())).update(data="A"), "an array that can't be read"),
        (lambda g: g.update(opsets={"": 6}), "expected operator set 7 or later, got 6"),
        (lambda g: g.update(params=3), "not a description of a graph"),
    ],
)
def test_broken_descriptions(change, message):
    """In files of fastrnn's that somebody has changed."""
    graph = copy.deepcopy(onnx.load(GRAPH).config()["graph"])
    change(graph)
    with pytest.raises(ValueError, match=message):
        fr.nn.from_spec({"type": "OnnxModel", "config": {"graph": graph}})


def test_calls_from_several_threads():
    from concurrent.futures import ThreadPoolExecutor

    model = onnx.load(onnx.to_proto(fr.Sequential(fr.LSTM(3, 8, 2, bidirectional=True, seed=0), fr.Linear(16, 2))))
    inputs = [np.random.default_rng(k).standard_normal((6, 3, 3)).astype(np.float32) for k in range(40)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(model, inputs))
    assert all(np.array_equal(y, model(x)) for x, y in zip(inputs, found))


def test_intermediate_results_are_dropped():
    """A chain of 200 additions of 8 MB holds a few of them."""
    import tracemalloc

    nodes = [helper.make_node("Add", [f"v{k}", "one"], [f"v{k + 1}"]) for k in range(200)]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in ("v0", "v200")]
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], [one])
    model = onnx.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    x = np.zeros(1 << 21, np.float32)
    model(x[:1])
    tracemalloc.start()
    assert model(x)[0] == 200
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * x.nbytes


def test_the_backend():
    proto, x = onnx.to_proto(fr.GRU(3, 4, seed=0)), np.ones((5, 2, 3), np.float32)
    found = onnx.prepare(proto).run(x)
    assert found.y.shape == (5, 2, 4) and np.array_equal(found["y"], found[0])
    assert np.array_equal(onnx.run_model(proto, {"x": x})[0], onnx.Backend.run_model(proto, [x])[0])
    assert onnx.supports_device("CPU") and not onnx.supports_device("CUDA:1") and onnx.Backend.is_compatible(proto)
    with pytest.raises(ValueError, match=r"^device: expected 'CPU', got 'CUDA'$"):
        onnx.prepare(proto, "CUDA")
    with pytest.raises(ValueError, match=r"^inputs: expected at most 2, got 3$"):
        onnx.prepare(proto).run([x, x, x])
    with pytest.raises(ValueError, match=r"^inputs: expected 2 \(a, b\), got 1$"):
        onnx.run_node(helper.make_node("Add", ["a", "b"], ["c"]), [x])
