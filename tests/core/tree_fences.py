"""The kernels for trees on arrays that lie against pages without access. Run as a script with "end" or "start"."""

import sys

import numpy as np

from fastrnn import _core
from fastrnn.nn import Trees
from tests.core.fences import fenced

PARENTS = [[-1], [-1, 0, 0, 2, 2], [2, 2, 4, 4, -1], [-1, *([0] * 3), *([1] * 2)]]


def run(cell, slots, H, dtype, at_end):
    rng = np.random.default_rng(0)
    trees = Trees([p for p in PARENTS if slots != 2 or len(p) != 6] * 20)
    _, level, first, child, _ = (fenced(a, at_end) for a in trees.levels(slots))
    nodes, inner, gated = trees.num_nodes, trees.num_nodes - trees.num_leaves, cell >= _core.TREE_CHILD_SUM

    def new(*shape):
        return fenced(rng.standard_normal(shape).astype(dtype), at_end)

    A = slots or 1
    U = new(4 * H if not slots else (3 + A) * H if gated else H, A * H)
    h, hc, dh = new(nodes, H), new(inner, A * H), new(nodes, H)
    z, f, c, dc = (new(nodes, 4 * H), new(len(child), H), new(nodes, H), new(nodes, H)) if gated else [None] * 4
    _core.tree_forward(cell, level, first, child, U, None if gated else new(H), z, f, h, c, hc)
    _core.tree_backward(cell, level, first, child, U, z if gated else new(inner, H), f, h, c, dh, dc)
    assert np.isfinite(dh).all() and np.isfinite(h).all()


def main(side):
    for isa in _core.isas():
        _core.select_isa(isa)
        for dtype in (np.float32, np.float64):
            for H in (1, 15, 16, 33, 70):
                for cell, slots in ((0, 2), (1, 2), (2, 2), (3, 0), (4, 2), (4, 3)):
                    print(isa, dtype.__name__, cell, slots, H, flush=True)
                    run(cell, slots, H, dtype, side == "end")
    print("done")


if __name__ == "__main__":
    main(sys.argv[1])
