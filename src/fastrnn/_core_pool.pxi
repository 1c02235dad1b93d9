# Pooling over time (csrc/ops.h).

cdef struct Pooled:  # the sizes and the arrays that the four have in common
    int t
    ptrdiff_t T, B, F, stride_t, stride_b
    const int64_t* lengths


cdef int describe_pool(Pooled* p, cnp.ndarray x, lengths) except -1:
    """Sizes and strides of x or dx [T, B, F], whose rows are contiguous; lengths int64 [B] or None."""
    cdef ptrdiff_t b
    p.t = cnp.PyArray_TYPE(x)
    p.T = cnp.PyArray_DIMS(x)[0]
    p.B = cnp.PyArray_DIMS(x)[1]
    p.F = cnp.PyArray_DIMS(x)[2]
    if not 1 <= p.T < 1 << 31:
        raise ValueError(f"x: expected 1 to 2**31 - 1 time steps, got {p.T}")
    p.stride_t = stride(x, 0)
    p.stride_b = stride(x, 1)
    p.lengths = NULL
    if lengths is not None:
        p.lengths = <const int64_t*>block(lengths, cnp.NPY_INT64, p.B, 1, "lengths")
        for b in range(p.B):
            if not 0 <= p.lengths[b] <= p.T:
                raise ValueError(f"lengths: expected integers from 0 to T={p.T}, got {p.lengths[b]} in row {b}")
    return 0


cdef cnp.ndarray pool_input(x):
    return readable(x, floats(x, "x"), 3, "x")


cdef cnp.ndarray pool_gradient(dx):
    if not fits(dx, floats(dx, "dx"), 3) or not rows_contiguous(dx) or not cnp.PyArray_ISWRITEABLE(dx):
        raise ValueError("dx: expected a writable array of 3 dimensions with contiguous rows")
    return dx


cdef inline int step_type(int t) noexcept nogil:
    return cnp.NPY_INT32 if t == cnp.NPY_FLOAT32 else cnp.NPY_INT64


def max_pool(x, lengths, y, step=None):
    """y [B, F] = the largest of each row's steps of x [T, B, F]; lengths int64 [B] or None.

    step, if given, gets the first step of that value: [B, F], int32 for float32 and int64 for float64.
    """
    cdef Pooled p
    cdef cnp.ndarray a = pool_input(x)
    describe_pool(&p, a, lengths)
    cdef const void* px = cnp.PyArray_DATA(a)
    cdef void* py = block(y, p.t, p.B, p.F, "y", True)
    cdef void* pstep = optional(step, step_type(p.t), p.B, p.F, "step", True)
    with nogil:
        ops().max_pool(code_of(p.t), px, p.stride_t, p.stride_b, p.lengths, py, pstep, p.T, p.B, p.F, threads())


def max_pool_backward(dy, step, lengths, dx):
    """dx [T, B, F] = dy [B, F] at the steps that `max_pool` found, 0 elsewhere."""
    cdef Pooled p
    cdef cnp.ndarray a = pool_gradient(dx)
    describe_pool(&p, a, lengths)
    cdef void* pdx = cnp.PyArray_DATA(a)
    cdef const void* pdy = block(dy, p.t, p.B, p.F, "dy")
    cdef const void* pstep = block(step, step_type(p.t), p.B, p.F, "step")
    with nogil:
        ops().max_pool_backward(code_of(p.t), pdy, pstep, p.lengths, pdx, p.stride_t, p.stride_b, p.T, p.B, p.F,
                                threads())


def mean_pool(x, lengths, y):
    """y [B, F] = the mean of each row's steps of x [T, B, F]; lengths int64 [B] or None."""
    cdef Pooled p
    cdef cnp.ndarray a = pool_input(x)
    describe_pool(&p, a, lengths)
    cdef const void* px = cnp.PyArray_DATA(a)
    cdef void* py = block(y, p.t, p.B, p.F, "y", True)
    with nogil:
        ops().mean_pool(code_of(p.t), px, p.stride_t, p.stride_b, p.lengths, py, p.T, p.B, p.F, threads())


def mean_pool_backward(dy, lengths, dx):
    """dx [T, B, F] = dy [B, F] / the row's length, 0 past it."""
    cdef Pooled p
    cdef cnp.ndarray a = pool_gradient(dx)
    describe_pool(&p, a, lengths)
    cdef void* pdx = cnp.PyArray_DATA(a)
    cdef const void* pdy = block(dy, p.t, p.B, p.F, "dy")
    with nogil:
        ops().mean_pool_backward(code_of(p.t), pdy, p.lengths, pdx, p.stride_t, p.stride_b, p.T, p.B, p.F, threads())
