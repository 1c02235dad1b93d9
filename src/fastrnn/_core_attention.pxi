# Attention (csrc/attention.h). Arrays are [time, batch, features] with contiguous rows; checked is what keeps kernels in
# bounds.

cdef extern from "attention.h" namespace "fastrnn" nogil:
    cdef struct DotAttention:
        int dtype, causal, threads
        ptrdiff_t T, S, B, N, D, E
        const void* q
        ptrdiff_t q_t, q_b
        const void* k
        ptrdiff_t k_s, k_b
        const void* v
        ptrdiff_t v_s, v_b
        const int64_t* lengths
        const void* mask
        ptrdiff_t m_b, m_h, m_t
        double scale, dropout
        uint64_t seed
        void* y
        ptrdiff_t y_t, y_b
        void* stats
        void* weights
        ptrdiff_t w_t, w_b, w_h
        const void* dy
        ptrdiff_t dy_t, dy_b
        void* dq
        ptrdiff_t dq_t, dq_b
        void* dk
        ptrdiff_t dk_s, dk_b
        void* dv
        ptrdiff_t dv_s, dv_b
        void* workspace

    cdef struct AdditiveAttention:
        int dtype, threads
        ptrdiff_t T, S, B, A, E
        const void* q
        ptrdiff_t q_t, q_b
        const void* k
        ptrdiff_t k_s, k_b
        const void* v
        const void* x
        ptrdiff_t x_s, x_b
        const int64_t* lengths
        void* y
        ptrdiff_t y_t, y_b
        void* weights
        ptrdiff_t w_t, w_b
        const void* dy
        ptrdiff_t dy_t, dy_b
        void* dq
        ptrdiff_t dq_t, dq_b
        void* dk
        ptrdiff_t dk_s, dk_b
        void* dv
        void* dx
        ptrdiff_t dx_s, dx_b
        void* workspace

    cdef struct AttentionTable:
        size_t (*dot_workspace)(const DotAttention*, int) noexcept nogil
        void (*dot_forward)(const DotAttention*) noexcept nogil
        void (*dot_backward)(const DotAttention*) noexcept nogil
        size_t (*additive_workspace)(const AdditiveAttention*, int) noexcept nogil
        void (*additive_forward)(const AdditiveAttention*) noexcept nogil
        void (*additive_backward)(const AdditiveAttention*) noexcept nogil


cdef inline const AttentionTable* attention() noexcept nogil:
    return <const AttentionTable*>kernels().attention


cdef void* rows_of(object a, int t, ptrdiff_t steps, ptrdiff_t batch, ptrdiff_t columns, ptrdiff_t* by_step,
                   ptrdiff_t* by_row, str name, bint writable=False) except? NULL:
    """Data and strides of an array [steps, batch, columns] whose rows are contiguous."""
    if (not fits(a, t, 3) or cnp.PyArray_DIMS(a)[0] != steps or cnp.PyArray_DIMS(a)[1] != batch
            or cnp.PyArray_DIMS(a)[2] != columns or not rows_contiguous(a)
            or (writable and not cnp.PyArray_ISWRITEABLE(a))):
        raise ValueError(f"{name}: expected [{steps}, {batch}, {columns}] with contiguous rows, got "
                         f"{getattr(a, 'shape', a)} of {getattr(a, 'dtype', '')}")
    by_step[0] = stride(a, 0)
    by_row[0] = stride(a, 1)
    return cnp.PyArray_DATA(a)


cdef const int64_t* source_lengths(lengths, ptrdiff_t B, ptrdiff_t S) except? NULL:
    cdef ptrdiff_t b
    cdef const int64_t* found
    if lengths is None:
        return NULL
    found = <const int64_t*>block(lengths, cnp.NPY_INT64, B, 1, "lengths")
    for b in range(B):
        if not 0 <= found[b] <= S:
            raise ValueError(f"lengths: expected integers from 0 to S={S}, got {found[b]} in row {b}")
    return found


cdef int describe_dot(DotAttention* a, q, k, v, ptrdiff_t heads, lengths, bint causal, mask, double scale, double dropout,
                      uint64_t seed) except -1:
    cdef int t = floats(q, "q")
    cdef cnp.ndarray m
    for name, array in (("q", q), ("k", k), ("v", v)):
        if not cnp.PyArray_Check(array) or cnp.PyArray_NDIM(array) != 3:
            raise ValueError(f"{name}: expected an array of 3 dimensions")
    memset(a, 0, sizeof(DotAttention))
    a.dtype = code_of(t)
    a.T = cnp.PyArray_DIMS(q)[0]
    a.B = cnp.PyArray_DIMS(q)[1]
    a.S = cnp.PyArray_DIMS(k)[0]
    a.N = heads
    if heads < 1 or cnp.PyArray_DIMS(q)[2] % heads or cnp.PyArray_DIMS(v)[2] % heads or a.S < 1:
        raise ValueError(f"heads: expected a divisor of the sizes of q and v, and at least one source step, got {heads}")
    a.D = cnp.PyArray_DIMS(q)[2] // heads
    a.E = cnp.PyArray_DIMS(v)[2] // heads
    if a.D < 1 or a.E < 1:
        raise ValueError("q, v: expected at least one feature")
    a.q = rows_of(q, t, a.T, a.B, heads * a.D, &a.q_t, &a.q_b, "q")
    a.k = rows_of(k, t, a.S, a.B, heads * a.D, &a.k_s, &a.k_b, "k")
    a.v = rows_of(v, t, a.S, a.B, heads * a.E, &a.v_s, &a.v_b, "v")
    a.lengths = source_lengths(lengths, a.B, a.S)
    a.causal = causal
    if mask is not None:
        if (not fits(mask, t, 4) or (<object>mask).shape != (a.B, a.N, a.T, a.S) or not rows_contiguous(mask)):
            raise ValueError(f"mask: expected {(a.B, a.N, a.T, a.S)} with contiguous rows, got {mask.shape} of {mask.dtype}")
        m = mask
        a.mask = cnp.PyArray_DATA(m)
        a.m_b, a.m_h, a.m_t = stride(m, 0), stride(m, 1), stride(m, 2)
    a.scale = scale
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: expected 0 ≤ dropout < 1, got {dropout!r}")
    a.dropout = dropout
    a.seed = seed
    a.threads = threads()
    return t


cdef void* attention_memory(size_t bytes) except NULL:
    cdef void* memory = workspace_acquire(bytes)
    if memory == NULL:
        raise MemoryError(f"no memory for {bytes} bytes of attention")
    return memory


def dot_attention(q, k, v, heads, lengths, causal, mask, scale, dropout, seed, y, stats=None, weights=None):
    """y [T, B, N·E] from q [T, B, N·D], k [S, B, N·D], v [S, B, N·E]; stats [B, N, T, 2] for backward; weights
    [T, B, N, S]. lengths int64 [B] or None; mask [B, N, T, S] is added to the scores."""
    cdef DotAttention a
    cdef int t = describe_dot(&a, q, k, v, heads, lengths, causal, mask, scale, dropout, seed)
    a.y = rows_of(y, t, a.T, a.B, a.N * a.E, &a.y_t, &a.y_b, "y", True)
    if stats is not None:
        a.stats = block(stats, t, a.B * a.N * a.T, 2, "stats", True)
    if weights is not None:
        if (not fits(weights, t, 4) or weights.shape != (a.T, a.B, a.N, a.S) or not rows_contiguous(weights)
                or not cnp.PyArray_ISWRITEABLE(weights)):
            raise ValueError(f"weights: expected {(a.T, a.B, a.N, a.S)} with contiguous rows, got {weights.shape}")
        a.weights = cnp.PyArray_DATA(weights)
        a.w_t, a.w_b, a.w_h = stride(weights, 0), stride(weights, 1), stride(weights, 2)
    cdef const AttentionTable* table = attention()
    a.workspace = attention_memory(table.dot_workspace(&a, 0))
    with nogil:
        table.dot_forward(&a)
    workspace_release(a.workspace)


def dot_attention_backward(q, k, v, heads, lengths, causal, mask, scale, dropout, seed, y, stats, dy, dq, dk, dv):
    """Writes dq, dk, dv, like q, k, v, from what `dot_attention` was given and wrote."""
    cdef DotAttention a
    cdef int t = describe_dot(&a, q, k, v, heads, lengths, causal, mask, scale, dropout, seed)
    a.y = rows_of(y, t, a.T, a.B, a.N * a.E, &a.y_t, &a.y_b, "y")
    a.stats = block(stats, t, a.B * a.N * a.T, 2, "stats")
    a.dy = rows_of(dy, t, a.T, a.B, a.N * a.E, &a.dy_t, &a.dy_b, "dy")
    a.dq = rows_of(dq, t, a.T, a.B, a.N * a.D, &a.dq_t, &a.dq_b, "dq", True)
    a.dk = rows_of(dk, t, a.S, a.B, a.N * a.D, &a.dk_s, &a.dk_b, "dk", True)
    a.dv = rows_of(dv, t, a.S, a.B, a.N * a.E, &a.dv_s, &a.dv_b, "dv", True)
    cdef const AttentionTable* table = attention()
    a.workspace = attention_memory(table.dot_workspace(&a, 1))
    with nogil:
        table.dot_backward(&a)
    workspace_release(a.workspace)


cdef int describe_additive(AdditiveAttention* a, q, k, v, x, lengths, weights, bint writable) except -1:
    cdef int t = floats(q, "q")
    for name, array in (("q", q), ("k", k), ("x", x)):
        if not cnp.PyArray_Check(array) or cnp.PyArray_NDIM(array) != 3:
            raise ValueError(f"{name}: expected an array of 3 dimensions")
    memset(a, 0, sizeof(AdditiveAttention))
    a.dtype = code_of(t)
    a.T = cnp.PyArray_DIMS(q)[0]
    a.B = cnp.PyArray_DIMS(q)[1]
    a.A = cnp.PyArray_DIMS(q)[2]
    a.S = cnp.PyArray_DIMS(k)[0]
    a.E = cnp.PyArray_DIMS(x)[2]
    if a.S < 1 or a.A < 1 or a.E < 1:
        raise ValueError("k, x: expected at least one source step and one feature")
    a.q = rows_of(q, t, a.T, a.B, a.A, &a.q_t, &a.q_b, "q")
    a.k = rows_of(k, t, a.S, a.B, a.A, &a.k_s, &a.k_b, "k")
    a.v = block(v, t, a.A, 1, "v")
    a.x = rows_of(x, t, a.S, a.B, a.E, &a.x_s, &a.x_b, "x")
    a.lengths = source_lengths(lengths, a.B, a.S)
    a.weights = rows_of(weights, t, a.T, a.B, a.S, &a.w_t, &a.w_b, "weights", writable)
    a.threads = threads()
    return t


def additive_attention(q, k, v, x, lengths, y, weights):
    """y [T, B, E] and weights [T, B, S] from q [T, B, A], k [S, B, A], v [A], x [S, B, E]; lengths int64 [B] or None."""
    cdef AdditiveAttention a
    cdef int t = describe_additive(&a, q, k, v, x, lengths, weights, True)
    a.y = rows_of(y, t, a.T, a.B, a.E, &a.y_t, &a.y_b, "y", True)
    cdef const AttentionTable* table = attention()
    a.workspace = attention_memory(table.additive_workspace(&a, 0))
    with nogil:
        table.additive_forward(&a)
    workspace_release(a.workspace)


def additive_attention_backward(q, k, v, x, lengths, weights, dy, dq, dk, dv, dx):
    """Writes dq [T, B, A], dk [S, B, A] and dx [S, B, E]; adds to dv [A]."""
    cdef AdditiveAttention a
    cdef int t = describe_additive(&a, q, k, v, x, lengths, weights, False)
    a.dy = rows_of(dy, t, a.T, a.B, a.E, &a.dy_t, &a.dy_b, "dy")
    a.dq = rows_of(dq, t, a.T, a.B, a.A, &a.dq_t, &a.dq_b, "dq", True)
    a.dk = rows_of(dk, t, a.S, a.B, a.A, &a.dk_s, &a.dk_b, "dk", True)
    a.dv = block(dv, t, a.A, 1, "dv", True)
    a.dx = rows_of(dx, t, a.S, a.B, a.E, &a.dx_s, &a.dx_b, "dx", True)
    cdef const AttentionTable* table = attention()
    a.workspace = attention_memory(table.additive_workspace(&a, 1))
    with nogil:
        table.additive_backward(&a)
    workspace_release(a.workspace)
