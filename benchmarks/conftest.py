"""Options and fixtures of the benchmarks."""

import pytest

import fastrnn
from fastrnn import bench


def pytest_addoption(parser):
    group = parser.getgroup("fastrnn")
    group.addoption("--threads", type=int, help="threads of every side (default: each figure's own; 1 for layers)")
    group.addoption("--peers", default=",".join(bench.PEERS), help="default: %(default)s")
    group.addoption("--repeat", type=int, default=15, help="turns of each side in ratios (default: %(default)s)")


def pytest_generate_tests(metafunc):
    if "peer" in metafunc.fixturenames:
        names = metafunc.config.getoption("--peers").split(",")
        if unknown := [name for name in names if name not in bench.PEERS]:
            raise pytest.UsageError(f"--peers: expected some of {', '.join(bench.PEERS)}, got {', '.join(unknown)}")
        metafunc.parametrize("peer", names)


def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info["fastrnn"] = bench.facts()


@pytest.fixture(autouse=True)
def keep_threads():
    """Leave the number of threads as it was."""
    before = fastrnn.get_num_threads()
    yield
    fastrnn.set_num_threads(before)


@pytest.fixture
def threads(request):
    return request.config.getoption("--threads")


@pytest.fixture
def repeat(request):
    return request.config.getoption("--repeat")
