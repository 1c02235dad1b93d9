"""Settings of the core that tests change, put back after each test."""

import pytest

from fastrnn import _core


@pytest.fixture
def isa(request):
    """The instruction set that the test's parameter names; see `isas` in cases.py."""
    before = _core.isa()
    _core.select_isa(request.param)
    yield request.param
    _core.select_isa(before)


@pytest.fixture
def threads():
    """The function that sets the number of threads."""
    before = _core.get_num_threads()
    yield _core.set_num_threads
    _core.set_num_threads(before)
