"""Training, inference and single steps of every shape and cell, the peers beside each other in one group."""

import pytest

from fastrnn import bench
from fastrnn.bench.cases import FLOAT64_SHAPES

CASES = [
    *bench.grid(modes=bench.MODES),
    *bench.grid(FLOAT64_SHAPES, dtypes=["float64"]),
]


def name(case):
    """Such as lstm-train-128x32x256x256-float32."""
    return "-".join([case.cell, case.mode, "x".join(map(str, case.shape)), case.dtype])


@pytest.mark.parametrize("case", CASES, ids=name)
def test_layer(peer_benchmark, case, peer, threads):
    peer_benchmark(peer, case, threads=threads or 1)
