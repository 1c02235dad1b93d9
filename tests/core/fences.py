"""Every kernel on arrays that lie against pages without access. Run as a script with "end" or "start"."""

import ctypes
import mmap
import sys

import numpy as np

from fastrnn import _core
from tests.core.cases import CELLS, F32, F64, Call, Case, ragged

NO_ACCESS = 0


def fenced(array, at_end):
    """A copy whose last byte is followed, or whose first is preceded, by a page without access."""
    page = mmap.PAGESIZE
    pages = -(-array.nbytes // page) or 1
    memory = mmap.mmap(-1, (pages + 2) * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    offset = page + (pages * page - array.nbytes if at_end else 0)
    copy = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
    copy[...] = array
    for fence in (start, start + (pages + 1) * page):
        if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(fence), page, NO_ACCESS):
            print("no mprotect")
            sys.exit(0)
    return copy


class Outputs:
    """Arrays for results against fences, as cases.Outputs makes them between guards."""

    def __init__(self, dtype, at_end):
        self.dtype, self.at_end = dtype, at_end

    def new(self, *shape, value=np.nan):
        return fenced(np.full(shape, value, self.dtype), self.at_end)

    def check(self):
        pass


def main(side):
    at_end = side == "end"
    shapes = [{"T": 2, "B": n[0], "I": n[1], "H": n[2]} for n in ((1, 1, 1), (2, 5, 15), (7, 16, 16), (3, 33, 35))]
    shapes.append({"T": 5, "B": 9, "I": 20, "H": 21, "directions": 2, "lengths": ragged(5, 9)})
    for isa in _core.isas():
        _core.select_isa(isa)
        for dtype in (F32, F64):
            for cell in CELLS:
                for shape in shapes:
                    print(isa, dtype.__name__, cell, shape, flush=True)
                    call = Call(
                        Case(cell, **shape), dtype, change=lambda name, a: fenced(a, at_end),
                        outputs=Outputs(dtype, at_end),
                    )  # fmt: skip
                    call.backward()
            for M, N, K in ((1, 1, 1), (7, 33, 5), (14, 70, 170)):
                for order in ("C", "F"):
                    print(isa, dtype.__name__, "gemm", (M, N, K), order, flush=True)
                    a, b = fenced(np.ones((M, K), dtype), at_end), fenced(np.ones((K, N), dtype), at_end)
                    a = a if order == "C" else fenced(np.ones((K, M), dtype), at_end).T
                    bias, out = fenced(np.ones(N, dtype), at_end), fenced(np.zeros((M, N), dtype), at_end)
                    _core.gemm(a, b, out, bias)
                    assert (out == K + 1).all()
            for n in range(1, 40):
                print(isa, dtype.__name__, "vmath", n, flush=True)
                x = fenced(np.ones(n, dtype), at_end)
                for name in ("exp", "tanh", "sigmoid"):
                    _core.activation(name, x, fenced(x, at_end))
    print("done")


if __name__ == "__main__":
    main(sys.argv[1])
