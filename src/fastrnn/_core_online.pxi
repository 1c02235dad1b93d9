# Many small steps of stochastic gradient descent in one call: what a step costs in Python is paid once.

cdef struct Online:  # a model of one recurrent layer and a linear map on its outputs, and where its step works
    Sequence q
    ptrdiff_t rows, O
    const char* x         # [N, T, B, I]
    const char* target    # [N, T, B, O]
    const void* V         # [O, H]
    const void* b_v       # [O] or null
    void* y               # [T, B, H]
    void* dy
    void* logits          # [T, B, O]; then their gradient
    const void* factor    # [T·B·O]
    void* dV
    void* db_v
    char* gradients       # all, one after the other
    size_t gradient_bytes
    void* gemm_space
    void* workspaces[2]
    Update updates[6]
    ptrdiff_t count
    double lr


cdef double online_step(Online* s, const Kernels* table, ptrdiff_t n) noexcept nogil:
    """Forward, loss, backward, update; returns the loss."""
    cdef Sequence* q = &s.q
    cdef ptrdiff_t item = 4 if q.dtype == 0 else 8
    cdef double loss
    q.x = s.x + n * s.rows * q.I * item
    q.workspace = s.workspaces[0]
    table.forward(q)
    # logits = y·Vᵀ + b
    table.gemm(q.dtype, s.rows, s.O, q.H, s.y, q.H, 1, s.V, 1, q.H, s.logits, s.O, s.b_v, 0, s.gemm_space, q.threads)
    loss = ops().bce_with_logits(q.dtype, s.logits, s.target + n * s.rows * s.O * item, s.factor, s.logits,
                                 s.rows * s.O, q.threads)
    memset(s.gradients, 0, s.gradient_bytes)
    table.gemm(q.dtype, s.O, q.H, s.rows, s.logits, 1, s.O, s.y, q.H, 1, s.dV, q.H, NULL, 1, s.gemm_space, q.threads)
    if s.db_v != NULL:
        ops().column_sum(q.dtype, s.logits, s.db_v, s.rows, s.O, q.threads)
    table.gemm(q.dtype, s.rows, q.H, s.O, s.logits, s.O, 1, s.V, q.H, 1, s.dy, q.H, NULL, 0, s.gemm_space, q.threads)
    q.workspace = s.workspaces[1]
    table.backward(q)
    ops().update(0, s.updates, s.count, q.threads)
    return loss


def online_sgd(int cell, x, target, weights, V, b_v, double lr, losses):
    """One step of SGD for each item of x [N, T, B, I], target [N, T, B, O]: binary cross entropy of the outputs.

    weights: (W, R, b_w, b_r) of the recurrent layer; V [O, H], b_v [O] of the linear one; biases may be None. All are
    changed in place. losses: float64 [N], written: the mean over an item's targets, before its step.
    """
    cdef Online s
    cdef Sequence* q = &s.q
    cdef const Kernels* table = kernels()
    cdef ptrdiff_t N, n, G, at = 0, k
    cdef int t = floats(x, "x")
    cdef list parts = []
    memset(&s, 0, sizeof(Online))
    if cnp.PyArray_NDIM(x) != 4 or cnp.PyArray_NDIM(target) != 4 or not 0 <= cell < 6 or len(weights) != 4:
        raise ValueError("x, target: expected [N, T, B, I] and [N, T, B, O]")
    W, R, b_w, b_r = weights
    q.dtype = code_of(t)
    q.cell = cell
    q.D = 1
    N, q.T, q.B, q.I = x.shape
    s.O = target.shape[3]
    q.H = q.P = R.shape[1]
    q.steps = s.rows = q.T * q.B
    q.save = 1
    q.threads = threads()
    G = GATES[cell]
    if min(q.T, q.I, q.H, s.O) < 1 or s.rows >= 1 << 31:
        raise ValueError("x: expected at least one time step, and sizes of at least one")
    s.x = <const char*>block(x, t, N * s.rows, q.I, "x")
    s.target = <const char*>block(target, t, N * s.rows, s.O, "target")
    cdef double* found = <double*>block(losses, cnp.NPY_FLOAT64, N, 1, "losses", True)
    if N == 0 or q.B == 0:
        losses[...] = 0
        return
    dtype = x.dtype
    q.x_t = q.B * q.I
    q.x_b = q.I
    # parameters, and their gradients one after the other
    arrays = [W, R, b_w, b_r, V, b_v]
    shapes = [(G * q.H, q.I), (G * q.H, q.H), (G * q.H, 1), (G * q.H, 1), (s.O, q.H), (s.O, 1)]
    gradients = np.zeros(sum(a.size for a in arrays if a is not None), dtype)
    s.gradients = <char*>cnp.PyArray_DATA(gradients)
    s.gradient_bytes = gradients.nbytes
    cdef void* p[6]
    cdef void* g[6]
    for k in range(6):
        p[k] = g[k] = NULL
        if arrays[k] is None:
            continue
        p[k] = block(arrays[k], t, shapes[k][0], shapes[k][1], "parameter", True)
        g[k] = s.gradients + at
        at += arrays[k].nbytes
        s.updates[s.count].p = Selection(p[k], arrays[k].size, NULL, 1, q.dtype)
        s.updates[s.count].g = g[k]
        s.updates[s.count].number[0] = lr
        s.count += 1
    if p[0] == NULL or p[1] == NULL or p[4] == NULL:
        raise ValueError("weights: expected arrays")
    q.dir[0].W, q.dir[0].W_rs, q.dir[0].W_cs = p[0], q.I, 1
    q.dir[0].R, q.dir[0].R_rs, q.dir[0].R_cs = p[1], q.H, 1
    q.dir[0].b_w, q.dir[0].b_r = p[2], p[3]
    q.dir[0].dW, q.dir[0].dR, q.dir[0].db_w, q.dir[0].db_r = g[0], g[1], g[2], g[3]
    s.V, s.b_v, s.dV, s.db_v = p[4], p[5], g[4], g[5]
    cdef Sizes sizes
    table.sizes(q, &sizes)
    item = dtype.itemsize
    lengths = [sizes.gates, sizes.c, sizes.hidden, sizes.forward, sizes.backward,
               table.gemm_workspace(q.dtype, max(s.rows, s.O), max(q.H, s.O), max(q.H, s.O, s.rows), q.threads),
               *[s.rows * q.H * item] * 2, *[s.rows * s.O * item], q.B * q.H * item, q.B * q.H * item]
    offsets = np.cumsum([0, *[-(-length // 64) * 64 for length in lengths]])
    cdef ptrdiff_t offset[12]
    for k in range(12):
        offset[k] = offsets[k]
    factor = np.full(s.rows * s.O, 1.0 / (s.rows * s.O), dtype)
    s.factor = cnp.PyArray_DATA(factor)
    cdef char* memory = <char*>workspace_acquire(offset[11])
    if memory == NULL:
        raise MemoryError("no memory for a step")
    q.dir[0].gates, q.dir[0].c, q.dir[0].hidden = memory, memory + offset[1], memory + offset[2]
    s.workspaces[0], s.workspaces[1], s.gemm_space = memory + offset[3], memory + offset[4], memory + offset[5]
    s.y, s.dy, s.logits = memory + offset[6], memory + offset[7], memory + offset[8]
    q.dir[0].h_n, q.dir[0].c_n = memory + offset[9], memory + offset[10]
    q.dir[0].y = s.y
    q.dir[0].y_t, q.dir[0].y_b = q.B * q.H, q.H
    q.dir[0].dy = s.dy
    q.dir[0].dy_t, q.dir[0].dy_b = q.B * q.H, q.H
    with nogil:
        for n in range(N):
            found[n] = online_step(&s, table, n)
    workspace_release(memory)
