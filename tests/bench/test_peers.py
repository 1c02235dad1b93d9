"""Peers agree, are skipped when absent, and are refused when they compute something else."""

import subprocess
import sys

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import bench
from fastrnn.bench import peers
from fastrnn.bench.agree import check, check_losses, difference

SHAPE = bench.Shape(T=5, B=3, I=4, H=6)
# Those in another Python too, where the environment says so. PyTorch takes long to load.
INSTALLED = [peer.name for peer in peers.choose()[0] if peer.name != "torch"]


@pytest.fixture(autouse=True)
def keep_threads():
    before = fr.get_num_threads()
    yield
    fr.set_num_threads(before)


class Wrong(peers.FastRNN):
    """Computes everything, but scales one array."""

    name = "wrong"

    def __init__(self, array, factor):
        self.array, self.factor = array, factor

    def prepare(self, case, weights, data, threads):
        prepared = super().prepare(case, weights, data, threads)

        def arrays(result):
            named = {name: np.array(a) for name, a in prepared.arrays(result).items()}
            if self.factor is None:
                del named[self.array]
            else:
                named[self.array] *= self.factor
            return named

        return bench.Prepared(prepared.run, arrays)


class Absent(peers.FastRNN):
    name = "absent"
    package = "fastrnn_has_no_such_peer"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", bench.MODES)
@pytest.mark.parametrize("cell", bench.CELLS)
def test_peers_agree(cell, mode, dtype):
    case = bench.Case(cell, SHAPE, mode, dtype, num_layers=2, bidirectional=mode != "step")
    sides = bench.prepare(case, INSTALLED)
    taking_part = [name for name in INSTALLED if bench.PEERS[name].declines(case) is None]
    assert "numpy" in taking_part
    assert list(sides.runs) == taking_part
    assert set(sides.differences) == set(taking_part[1:])
    assert set(sides.skipped) == set(INSTALLED) - set(taking_part)


@pytest.mark.parametrize("mode", ["train", "infer"])
@pytest.mark.parametrize("cell", bench.CELLS)
def test_peers_agree_on_ragged_batches(cell, mode):
    case = bench.Case(cell, SHAPE, mode, bidirectional=True, lengths=(2, 5, 3))
    assert list(bench.prepare(case, ["fastrnn", "numpy"]).differences) == ["numpy"]


@pytest.mark.parametrize("cell", bench.CELLS)
def test_a_step_gives_fresh_gradients(cell):
    case = bench.Case(cell, SHAPE)
    for name in ("fastrnn", "numpy"):
        prepared = bench.PEERS[name].prepare(case, case.weights(), case.data(), 1)
        first = {key: np.array(a) for key, a in prepared.arrays(prepared.run()).items()}
        again = prepared.arrays(prepared.run())
        assert {"y", "h_n", "dx", "weight_ih_l0", "bias_hh_l0"} <= set(first)
        for key in first:
            np.testing.assert_array_equal(first[key], again[key])


@pytest.mark.parametrize(
    ("array", "factor", "reason"),
    [
        ("y", 1 + 1e-4, "y"),
        ("dx", 1 + 1e-3, "dx"),
        ("weight_hh_l0", -1, "weight_hh_l0"),
        ("c_n", np.nan, "c_n"),
        ("bias_ih_l0", None, "bias_ih_l0 (only one side has it)"),
    ],
)
def test_wrong_results_are_not_timed(monkeypatch, array, factor, reason):
    monkeypatch.setitem(bench.PEERS, "wrong", Wrong(array, factor))
    with pytest.raises(bench.Disagreement) as error:
        bench.prepare(bench.Case("lstm", SHAPE), ["fastrnn", "wrong"])
    assert f"wrong differs from fastrnn in {reason}" in str(error.value)
    assert "lstm train T=5 B=3" in str(error.value)


def test_rounding_is_no_disagreement(monkeypatch):
    monkeypatch.setitem(bench.PEERS, "wrong", Wrong("dx", 1 + 1e-5))
    sides = bench.prepare(bench.Case("lstm", SHAPE), ["fastrnn", "wrong"])
    assert 5e-6 < sides.differences["wrong"] < 2e-5


def test_absent_peers_are_skipped_with_a_line(monkeypatch):
    monkeypatch.setitem(bench.PEERS, "absent", Absent())
    sides = bench.prepare(bench.Case("gru", SHAPE), ["fastrnn", "absent"])
    assert list(sides.runs) == ["fastrnn"]
    assert sides.skipped == {"absent": "absent is not installed (pip install fastrnn_has_no_such_peer)"}


def test_slow_peers_decline():
    large = bench.Case("lstm", bench.Shape(64, 64, 1024, 1024))
    assert "too slow" in bench.PEERS["numpy"].declines(large)
    assert bench.PEERS["fastrnn"].declines(large) is None


def test_unknown_peers():
    with pytest.raises(ValueError, match="peers: expected some of fastrnn, torch, ort, jax, keras, numpy, got lasagne"):
        peers.choose(["fastrnn", "lasagne"])


def test_difference_of_shapes_nothing_and_nan():
    assert difference(np.zeros(3), np.zeros(4)) == np.inf
    assert difference(np.zeros(0), np.zeros(0)) == 0
    assert difference(np.zeros(3), np.zeros(3)) == 0
    with pytest.raises(bench.Disagreement, match="b differs from a in y"):
        check({"a": {"y": np.ones(2)}, "b": {"y": np.array([1.0, np.nan])}}, "float32")


def test_losses_that_differ():
    check_losses({"a": [3.0, 2.0], "b": [3.0, 2.0001]}, 1e-4)
    with pytest.raises(bench.Disagreement, match="case: b differs from a in step 1"):
        check_losses({"a": [3.0], "b": [np.nan]}, 1e-4, "case")


def test_importing_loads_no_peer_and_fastrnn_loads_no_bench():
    code = (
        "import sys, fastrnn; assert 'fastrnn.bench' not in sys.modules; import fastrnn.bench.__main__; "
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
