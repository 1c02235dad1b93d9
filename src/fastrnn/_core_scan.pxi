# The kernels of csrc/scan.h. What is checked is what keeps them in bounds.

cdef extern from "scan.h" namespace "fastrnn" nogil:
    cdef struct Scan:
        int dtype, cell, option, threads, reverse
        ptrdiff_t T, B, H, G
        const int64_t* lengths
        const int64_t* first
        ptrdiff_t step, y_t, y_b, dy_t, dy_b
        const void* z
        const void* skip
        const void* p
        double alpha
        const void* s_0
        void* s_n
        void* y
        void* s
        const void* dy
        const void* ds_n
        void* ds_0
        void* dz
        void* dskip
        void* dp
        void* workspace

    cdef struct ScanTable:
        size_t (*workspace)(const Scan*) noexcept nogil
        void (*forward)(const Scan*) noexcept nogil
        void (*backward)(const Scan*) noexcept nogil


SCAN_SRU, SCAN_QRNN, SCAN_MIN_GRU, SCAN_MIN_LSTM, SCAN_LRU, SCAN_IND_RNN = range(6)

# by cell: blocks of z (SRU: with a block for the skip), states, parameters of a channel
cdef int[6] _SCAN_GATES = [4, 3, 2, 3, 2, 1]
cdef int[6] _SCAN_STATES = [1, 1, 1, 1, 2, 1]
cdef int[6] _SCAN_PARAMS = [2, 0, 0, 0, 2, 1]


cdef int scan_places(Scan* q, int cell, ptrdiff_t N, ptrdiff_t T, lengths, first, ptrdiff_t step) except -1:
    """Where the steps of the rows are, all within N."""
    cdef ptrdiff_t b, n, last
    if not 0 <= cell < 6:
        raise ValueError("cell: expected one of SCAN_…")
    if T < 1 or not cnp.PyArray_Check(first):
        raise ValueError("T, first: expected at least one step, and an array")
    q.cell = cell
    q.threads = threads()
    q.T = T
    q.B = cnp.PyArray_SIZE(first)
    q.step = step
    q.first = <const int64_t*>block(first, cnp.NPY_INT64, q.B, 1, "first")
    q.lengths = NULL
    if lengths is not None:
        q.lengths = <const int64_t*>block(lengths, cnp.NPY_INT64, q.B, 1, "lengths")
    for b in range(q.B):
        n = T if q.lengths == NULL else q.lengths[b]
        if not 0 <= n <= T:
            raise ValueError(f"lengths: expected integers from 0 to T={T}, got {n} in row {b}")
        last = q.first[b] + (n - 1) * step
        if n > 0 and (q.first[b] < 0 or q.first[b] >= N or last < 0 or last >= N):
            raise ValueError(f"first: row {b} is not within {N} rows")
    return 0


cdef void* scan_rows(object a, const Scan* q, int t, ptrdiff_t* stride_t, ptrdiff_t* stride_b, str name,
                     bint writable) except? NULL:
    """Data of [T, B, H] with contiguous rows, or NULL for None."""
    if a is None:
        return NULL
    if (not fits(a, t, 3) or cnp.PyArray_DIMS(a)[0] != q.T or cnp.PyArray_DIMS(a)[1] != q.B
            or cnp.PyArray_DIMS(a)[2] != q.H or not rows_contiguous(a)
            or (writable and not cnp.PyArray_ISWRITEABLE(a))):
        raise ValueError(f"{name}: expected [{q.T}, {q.B}, {q.H}] with contiguous rows, got {getattr(a, 'shape', a)}")
    stride_t[0] = stride(a, 0)
    stride_b[0] = stride(a, 1)
    return cnp.PyArray_DATA(a)


def scan_forward(int cell, bint option, ptrdiff_t T, lengths, first, ptrdiff_t step, bint reverse, z, skip, p,
                 double alpha, s_0, s_n, y, s):
    """One direction of one layer; the names are those of csrc/scan.h. y [T, B, H], or None for the LRU."""
    cdef Scan q
    cdef ptrdiff_t N, columns
    cdef int t = floats_2d(z, "z", &N, &columns)
    memset(&q, 0, sizeof(q))
    scan_places(&q, cell, N, T, lengths, first, step)
    cdef int S = _SCAN_STATES[cell]
    q.dtype = code_of(t)
    q.option = option
    q.reverse = reverse
    q.alpha = alpha
    q.G = _SCAN_GATES[cell] - (1 if cell == 0 and skip is not None else 0)
    q.H = columns // q.G
    q.z = block(z, t, N, q.G * q.H, "z", cell == 4)
    q.skip = optional(skip, t, N, q.H, "skip") if cell == 0 else NULL
    q.p = optional(p, t, _SCAN_PARAMS[cell], q.H, "p") if cell == 0 else (
        block(p, t, _SCAN_PARAMS[cell], q.H, "p") if _SCAN_PARAMS[cell] else NULL)
    q.s_0 = optional(s_0, t, q.B, S * q.H, "s_0")
    q.s_n = block(s_n, t, q.B, S * q.H, "s_n", True)
    q.y = scan_rows(y, &q, t, &q.y_t, &q.y_b, "y", True)
    if (q.y == NULL) != (cell == 4):
        raise ValueError("y: expected an array, but none for the LRU")
    q.s = block(s, t, N, S * q.H, "s", True) if cell == 4 else optional(s, t, N, S * q.H, "s", True)
    if q.B == 0:
        return
    with nogil:
        (<const ScanTable*>kernels().scan).forward(&q)


def scan_backward(int cell, bint option, ptrdiff_t T, lengths, first, ptrdiff_t step, bint reverse, z, skip, p,
                  double alpha, s_0, y, s, dy, ds_n, ds_0, dz, dskip, dp):
    """The reverse of scan_forward. dz may be z; for the LRU it holds the gradient of s on entry, and z is None."""
    cdef Scan q
    cdef ptrdiff_t N, columns
    cdef int t = floats_2d(dz, "dz", &N, &columns)
    memset(&q, 0, sizeof(q))
    scan_places(&q, cell, N, T, lengths, first, step)
    cdef int S = _SCAN_STATES[cell], K = _SCAN_PARAMS[cell]
    cdef bint saves = cell == 0 or cell == 1 or cell == 4
    q.dtype = code_of(t)
    q.option = option
    q.reverse = reverse
    q.alpha = alpha
    q.G = _SCAN_GATES[cell] - (1 if cell == 0 and skip is not None else 0)
    q.H = columns // q.G
    q.dz = block(dz, t, N, q.G * q.H, "dz", True)
    q.z = NULL if cell == 4 else block(z, t, N, q.G * q.H, "z")
    q.skip = optional(skip, t, N, q.H, "skip") if cell == 0 else NULL
    q.dskip = optional(dskip, t, N, q.H, "dskip", True) if cell == 0 and skip is not None else NULL
    q.p = optional(p, t, K, q.H, "p") if cell == 0 else (block(p, t, K, q.H, "p") if K else NULL)
    q.s_0 = optional(s_0, t, q.B, S * q.H, "s_0")
    q.y = NULL if saves else scan_rows(y, &q, t, &q.y_t, &q.y_b, "y", False)
    if not saves and q.y == NULL:
        raise ValueError("y: expected the outputs, which are the saved states")
    q.s = block(s, t, N, S * q.H, "s") if saves else NULL
    dy = None if dy is None or cell == 4 else readable(dy, t, 3, "dy")
    q.dy = scan_rows(dy, &q, t, &q.dy_t, &q.dy_b, "dy", False)
    q.ds_n = optional(ds_n, t, q.B, S * q.H, "ds_n")
    q.ds_0 = block(ds_0, t, q.B, S * q.H, "ds_0", True)
    q.dp = optional(dp, t, K, q.H, "dp", True) if K else NULL
    if q.B == 0:
        return
    cdef const ScanTable* table = <const ScanTable*>kernels().scan
    q.workspace = workspace_acquire(table.workspace(&q))
    if q.workspace == NULL:
        raise MemoryError("no memory for the sums of a scan")
    with nogil:
        table.backward(&q)
    workspace_release(q.workspace)
