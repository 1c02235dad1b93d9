"""Options and fixtures of the benchmarks."""

import warnings

import pytest
from pytest_benchmark.logger import PytestBenchmarkWarning

import fastrnn
from fastrnn import bench
from fastrnn.bench import peer_benchmark  # noqa: F401
from fastrnn.bench.command import MOST_THREADS


def pytest_addoption(parser):
    group = parser.getgroup("fastrnn")
    group.addoption("--threads", type=int, help="threads of every side (default: each figure's own; 1 for layers)")
    group.addoption("--peers", default=",".join(bench.PEERS), help="default: %(default)s")
    group.addoption("--repeat", type=int, default=15, help="turns of each side in ratios (default: %(default)s)")


def pytest_sessionfinish():
    bench.close_workers()


def pytest_generate_tests(metafunc):
    if "peer" in metafunc.fixturenames:
        names = metafunc.config.getoption("--peers").split(",")
        if unknown := [name for name in names if name not in bench.PEERS]:
            raise pytest.UsageError(f"--peers: expected some of {', '.join(bench.PEERS)}, got {', '.join(unknown)}")
        metafunc.parametrize("peer", names)


def pytest_configure(config):
    """Options are checked before anything is collected. A saved run of another machine or version may be compared
    with; pytest-benchmark says so in a warning."""
    threads, repeat = config.getoption("--threads"), config.getoption("--repeat")
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise pytest.UsageError(f"--threads: expected 1 to {MOST_THREADS}, got {threads}")
    if repeat < 1:
        raise pytest.UsageError(f"--repeat: expected >= 1, got {repeat}")
    warnings.filterwarnings("ignore", category=PytestBenchmarkWarning)
    config.addinivalue_line("filterwarnings", "ignore::pytest_benchmark.logger.PytestBenchmarkWarning")


def pytest_benchmark_update_machine_info(config, machine_info):
    """Without what differs in every run: --benchmark-compare would take it for another machine."""
    machine_info["fastrnn"] = {name: value for name, value in bench.facts().items() if name != "load"}


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
