# The kernels of csrc/tree.h. What is checked is what keeps them in bounds: shapes, and that children lie below.

cdef extern from "tree.h" namespace "fastrnn" nogil:
    cdef struct TreeCall:
        int dtype, cell, threads
        ptrdiff_t N, L, E, H, A, levels
        const int64_t* level
        const int64_t* first
        const int64_t* child
        const void* U
        const void* bias
        void* z
        void* f
        void* h
        void* c
        void* hc
        void* dh
        void* dc
        void* workspace

    cdef struct TreeTable "fastrnn::TreeKernels":
        size_t (*workspace)(const TreeCall*) noexcept nogil
        void (*forward)(const TreeCall*) noexcept nogil
        void (*backward)(const TreeCall*) noexcept nogil


TREE_TANH, TREE_RELU, TREE_SIGMOID, TREE_CHILD_SUM, TREE_NARY = range(5)


cdef bint levels_rise(const TreeCall* q) noexcept nogil:
    """Whether levels and slots cover their arrays in order, and every child stands below its parent."""
    cdef ptrdiff_t k, n, e
    if q.level[0] != 0 or q.level[q.levels] != q.N or (q.levels > 0 and q.level[1] != q.L):
        return False
    if q.first[0] != 0 or q.first[q.N - q.L] != q.E:
        return False
    for k in range(q.levels):
        if q.level[k + 1] < q.level[k] or q.level[k + 1] > q.N:
            return False
        if k == 0:
            continue
        for n in range(q.level[k], q.level[k + 1]):
            if q.first[n - q.L + 1] <= q.first[n - q.L] or q.first[n - q.L + 1] > q.E:
                return False
            if q.cell != 3 and q.first[n - q.L + 1] - q.first[n - q.L] != q.A:
                return False
            for e in range(q.first[n - q.L], q.first[n - q.L + 1]):
                if q.child[e] >= q.level[k] or (q.child[e] < 0 and q.cell != 4):
                    return False
    return True


def _tree(int cell, levels, first, child, U, bias, z, f, h, c, hc, dh, dc, bint backward):
    cdef TreeCall q
    cdef ptrdiff_t L, inner, rows, columns
    cdef int t = floats_2d(h, "h", &q.N, &q.H)
    cdef bint gated = cell >= 3
    if not 0 <= cell <= 4 or not cnp.PyArray_Check(levels) or not cnp.PyArray_Check(first):
        raise ValueError("cell: expected one of TREE_…, with arrays for levels and first")
    q.dtype = code_of(t)
    q.cell = cell
    q.threads = threads()
    q.levels = cnp.PyArray_SIZE(levels) - 1
    if q.levels < 0 or (q.levels == 0) != (q.N == 0):
        raise ValueError(f"levels: expected where each begins, and {q.N}")
    q.level = <const int64_t*>block(levels, cnp.NPY_INT64, q.levels + 1, 1, "levels")
    q.L = q.level[1] if q.levels > 0 else 0
    inner = q.N - q.L
    if not 0 <= q.L <= q.N:
        raise ValueError(f"levels: expected numbers up to {q.N}")
    q.first = <const int64_t*>block(first, cnp.NPY_INT64, inner + 1, 1, "first")
    q.E = q.first[inner]
    q.child = <const int64_t*>block(child, cnp.NPY_INT64, q.E, 1, "child")
    floats_2d(U, "U", &rows, &columns)
    q.A = columns // q.H if q.H > 0 else 0
    if not 1 <= q.A <= 16 or (cell == 3 and q.A != 1):
        raise ValueError(f"U: expected up to 16 blocks of {q.H} columns, got shape {U.shape}")
    if not levels_rise(&q):
        raise ValueError("child: expected every child on a level below its parent's")
    rows = q.H if not gated else 4 * q.H if cell == 3 else (3 + q.A) * q.H
    q.U = block(U, t, rows, q.A * q.H, "U")
    q.bias = NULL if bias is None else block(bias, t, q.H, 1, "bias")
    q.z = block(z, t, q.N if gated else inner, 4 * q.H if gated else q.H, "z", True) if gated or backward else NULL
    q.f = block(f, t, q.E, q.H, "f", True) if gated else NULL
    q.h = block(h, t, q.N, q.H, "h", True)
    q.c = block(c, t, q.N, q.H, "c", True) if gated else NULL
    q.hc = block(hc, t, inner, q.A * q.H, "hc", True) if not backward else NULL
    q.dh = block(dh, t, q.N, q.H, "dh", True) if backward else NULL
    q.dc = block(dc, t, q.N, q.H, "dc", True) if backward and gated else NULL
    if q.N == 0:
        return
    cdef const TreeTable* table = <const TreeTable*>kernels().tree
    q.workspace = workspace_acquire(table.workspace(&q))
    if q.workspace == NULL:
        raise MemoryError("no memory for the weights of a tree network")
    with nogil:
        if backward:
            table.backward(&q)
        else:
            table.forward(&q)
    workspace_release(q.workspace)


def tree_forward(int cell, levels, first, child, U, bias, z, f, h, c, hc):
    """The levels of a batch of trees, from the leaves up; see csrc/tree.h. z, f and c are None for cells without gates."""
    _tree(cell, levels, first, child, U, bias, z, f, h, c, hc, None, None, False)


def tree_backward(int cell, levels, first, child, U, z, f, h, c, dh, dc):
    """The reverse of tree_forward, from the roots down: z becomes dz, f df, and dh (dy on entry) is complete."""
    _tree(cell, levels, first, child, U, None, z, f, h, c, None, dh, dc, True)
