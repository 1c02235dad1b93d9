"""Every test runs on each instruction set of this machine, and with `dtype` in both float types."""

import numpy as np
import pytest

from fastrnn import _core


@pytest.fixture(params=_core.isas(), autouse=True)
def isa(request):
    before = _core.isa()
    _core.select_isa(request.param)
    yield request.param
    _core.select_isa(before)


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(7)
