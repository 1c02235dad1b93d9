"""Settings of the core that tests change, put back after each test."""

import pytest

from fastrnn import _core


@pytest.fixture(params=_core.isas())
def isa(request):
    """Each instruction set of this machine in turn."""
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
