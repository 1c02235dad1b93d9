"""ONNX's own tests of single nodes, run on `fastrnn.interop.onnx.Backend`.

A case whose operator or type isn't known must be refused in so many words; all others must pass, and 1,400 do.
"""

import re
import unittest
import warnings

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import TensorProto, numpy_helper
from onnx.backend.test import BackendTest
from onnx.backend.test.loader import load_model_tests

from fastrnn.interop.onnx import Backend

with warnings.catch_warnings():  # ONNX computes what it expects, and NumPy warns of its overflows
    warnings.simplefilter("ignore")
    # RNN, GRU and LSTM by ONNX's own runner
    RECURRENT = BackendTest(Backend, __name__).include("test_(simple_)?(lstm|gru|rnn)_.*_cpu").test_cases
    CASES = {case.name: case for case in load_model_tests(kind="node")}
RANDOM = {f"test_training_dropout{end}" for end in ("", "_mask", "_default", "_default_mask")}
WORDS = re.compile(
    "there is no such operator here|expected arrays of numbers or bools|arrays are not supported|is not supported|"
    "a loaded graph is for inference|places of maxima|expected Scan of|expected operator set 7"
)
passed, refused = set(), {}


def test_recurrent_nodes_by_the_runner_of_onnx():
    """The runner skips what isn't chosen: all that is chosen ran, and passed."""
    case, result = RECURRENT["OnnxBackendNodeModelTest"], unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.wasSuccessful(), result.errors or result.failures
    skipped = {test.id().rsplit(".", 1)[1] for test, _ in result.skipped}
    ran = {name.removesuffix("_cpu") for name in dir(case) if name.startswith("test_") and name not in skipped}
    assert ran == {name for name in CASES if re.match("test_(simple_)?(lstm|gru|rnn)_", name)}
    assert len(ran) >= 18


def array(value):
    value = numpy_helper.to_array(value) if isinstance(value, TensorProto) else value
    return value.astype(np.float32) if value.dtype.name == "bfloat16" else value  # as which fastrnn has them


def is_bfloat16(value):
    if isinstance(value, TensorProto):
        return value.data_type == TensorProto.BFLOAT16
    return value.dtype.name == "bfloat16"


def prepared(case):
    """The model, or why there is none."""
    try:
        return Backend.prepare(case.model)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("name", sorted(CASES.keys() - RANDOM))
def test_it_runs_or_says_what_is_missing(name):
    case = CASES[name]
    model = prepared(case)
    if isinstance(model, str):
        assert WORDS.search(model), model
        refused[name] = model
        return
    for inputs, expected in case.data_sets:
        outputs = model.run([array(value) for value in inputs])
        assert len(outputs) == len(expected)
        for found, value in zip(outputs, expected):
            right = array(value)
            assert found.dtype == right.dtype and found.shape == right.shape
            coarse = is_bfloat16(value)
            rtol = (
                max(case.rtol, 2**-6) if coarse else case.rtol
            )  # two units in the last place, as ONNX's runner has it
            np.testing.assert_allclose(found, right, rtol=rtol, atol=case.atol)
    passed.add(name)


def test_how_many_ran():
    """After all of the others, and not in a run of some of them."""
    if len(passed) + len(refused) + len(RANDOM) < len(CASES):
        pytest.skip("only some cases ran")
    assert len(passed) >= 1400 * len(CASES) / 1884  # of onnx 1.23
