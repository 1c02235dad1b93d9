"""Training and inference of every shape and cell, the peers beside each other in one group."""

import pytest

from fastrnn import bench


@pytest.mark.parametrize("mode", bench.MODES)
@pytest.mark.parametrize("cell", bench.CELLS)
@pytest.mark.parametrize("shape", bench.SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_layer(benchmark, shape, cell, mode, peer, threads):
    case = bench.Case(cell, shape, mode)
    sides = bench.prepare(case, ["fastrnn"] if peer == "fastrnn" else ["fastrnn", peer], threads or 1)
    if peer not in sides.runs:
        pytest.skip(sides.skipped[peer])
    benchmark.group = str(case)
    benchmark.extra_info.update(peer=peer, threads=threads or 1, flops=case.flops)
    benchmark(sides.runs[peer])
    if benchmark.stats:  # there are none with --benchmark-disable
        benchmark.extra_info["gflops"] = case.flops / benchmark.stats.stats.median / 1e9
