# Part of _core.pyx: recurrent layers, forward and backward.

cdef int GATES[6]
GATES[0] = GATES[1] = GATES[2] = 1
GATES[3] = 4
GATES[4] = GATES[5] = 3

RNN_TANH, RNN_RELU, RNN_SIGMOID, LSTM, GRU_AFTER, GRU_BEFORE = range(6)


cdef class Saved:
    """What one layer's forward pass keeps for its backward pass: a description of the call, and memory."""
    cdef Sequence q
    cdef Sizes sizes
    cdef tuple refs       # every array that q points into
    cdef const Kernels* table  # the layout of what is saved is its own
    cdef bint batch_first
    cdef int type_num

    def __dealloc__(self):
        for d in range(2):
            workspace_release(self.q.dir[d].gates)
            workspace_release(self.q.dir[d].c)
            workspace_release(self.q.dir[d].hidden)

    cdef int allocate(self) except -1:
        cdef int d
        cdef Sequence* q = &self.q
        self.table.sizes(q, &self.sizes)
        for d in range(q.D):
            q.dir[d].gates = workspace_acquire(self.sizes.gates) if self.sizes.gates else NULL
            q.dir[d].c = workspace_acquire(self.sizes.c) if self.sizes.c else NULL
            q.dir[d].hidden = workspace_acquire(self.sizes.hidden) if self.sizes.hidden else NULL
            if ((self.sizes.gates and q.dir[d].gates == NULL) or (self.sizes.c and q.dir[d].c == NULL)
                    or (self.sizes.hidden and q.dir[d].hidden == NULL)):
                raise MemoryError(f"no memory for the saved states of {q.steps} steps")
        return 0

    cdef int describe_gradients(self, Sequence* q, dy, dh_n, dc_n, grads, dh_0, dc_0) except -1:
        """Pointers to the gradients of each direction."""
        cdef int d, t = self.type_num, G = GATES[q.cell]
        cdef ptrdiff_t item = 4 if t == cnp.NPY_FLOAT32 else 8, first = 1 if self.batch_first else 0
        cdef cnp.ndarray a = dy
        cdef Direction* p
        for d in range(q.D):
            p = &q.dir[d]
            if dy is not None:
                p.dy = <char*>cnp.PyArray_DATA(a) + d * q.P * item
                p.dy_t = stride(a, first)
                p.dy_b = stride(a, 1 - first)
            if dh_n is not None:
                p.dh_n = <char*>block(dh_n, t, q.D * q.B, q.P, "dh_n") + d * q.B * q.P * item
            if dc_n is not None:
                p.dc_n = <char*>block(dc_n, t, q.D * q.B, q.H, "dc_n") + d * q.B * q.H * item
            if dh_0 is not None:
                p.dh_0 = <char*>block(dh_0, t, q.D * q.B, q.P, "dh_0", True) + d * q.B * q.P * item
            if dc_0 is not None:
                p.dc_0 = <char*>block(dc_0, t, q.D * q.B, q.H, "dc_0", True) + d * q.B * q.H * item
            gW, gR, gbw, gbr, gM = grads[d]
            if gW is not None:
                p.dW = block(gW, t, G * q.H, q.I, "dW", True)
            if gR is not None:
                p.dR = block(gR, t, G * q.H, q.P, "dR", True)
            if gbw is not None:
                p.db_w = block(gbw, t, G * q.H, 1, "db_w", True)
            if gbr is not None:
                p.db_r = block(gbr, t, G * q.H, 1, "db_r", True)
            if gM is not None and p.M != NULL:
                p.dM = block(gM, t, q.P, q.H, "dM", True)
        return 0

    def backward(self, dy, dh_n, dc_n, grads, bint input_grad, dh_0, dc_0, bint retain=False, dx=None):
        """Gradients of one layer.

        dy [T, B, D·P] (in x's layout) or None; dh_n [D, B, P], dc_n [D, B, H] or None; grads: a tuple of one tuple
        (dW, dR, db_w, db_r, dM) a direction, accumulated into, None for what isn't wanted; dh_0, dc_0: written, or None.
        Returns dx or None.
        """
        cdef Sequence q = self.q
        cdef int d, t = self.type_num
        cdef ptrdiff_t first = 1 if self.batch_first else 0
        cdef cnp.ndarray a
        cdef cnp.npy_intp dims[3]
        cdef void* scratch[2]
        if type(grads) is not tuple or len(grads) != q.D:
            raise ValueError(f"grads: expected a tuple of {q.D}")
        if q.B == 0:
            return np.zeros((q.T, 0, q.I), self.refs[0].dtype).swapaxes(0, first) if input_grad else None
        if dy is not None:
            a = readable(dy, t, 3, "dy")
            if (cnp.PyArray_DIMS(a)[first] != q.T or cnp.PyArray_DIMS(a)[1 - first] != q.B
                    or cnp.PyArray_DIMS(a)[2] != q.D * q.P):
                raise ValueError(f"dy: expected the shape of y, got {dy.shape}")
            dy = a  # keeps the copy alive
        self.describe_gradients(&q, dy, dh_n, dc_n, grads, dh_0, dc_0)
        if input_grad:
            if dx is None:
                dims[first] = q.T
                dims[1 - first] = q.B
                dims[2] = q.I
                dx = empty((dims[0], dims[1], dims[2]), self.refs[0].dtype)
            elif (not fits(dx, t, 3) or not rows_contiguous(dx) or not cnp.PyArray_ISWRITEABLE(dx)
                    or cnp.PyArray_DIMS(dx)[first] != q.T or cnp.PyArray_DIMS(dx)[1 - first] != q.B
                    or cnp.PyArray_DIMS(dx)[2] != q.I):
                raise ValueError("dx: expected a writable array of the shape of x with contiguous rows")
            q.dx = cnp.PyArray_DATA(dx)
            q.dx_t = stride(dx, first)
            q.dx_b = stride(dx, 1 - first)
        q.threads = threads()
        self.table.sizes(&q, &self.sizes)
        scratch[0] = scratch[1] = NULL
        retain = retain and self.sizes.gates > 0  # else backward computes the gates afresh
        q.workspace = workspace_acquire(self.sizes.backward)
        if retain:
            for d in range(q.D):
                scratch[d] = workspace_acquire(self.sizes.gates)
        if q.workspace == NULL or (retain and (scratch[0] == NULL or (q.D == 2 and scratch[1] == NULL))):
            workspace_release(q.workspace)
            workspace_release(scratch[0])
            workspace_release(scratch[1])
            raise MemoryError("no memory for the backward pass")
        with nogil:
            if retain:
                for d in range(q.D):
                    memcpy(scratch[d], q.dir[d].gates, self.sizes.gates)
                    q.dir[d].gates = scratch[d]
            self.table.backward(&q)
        workspace_release(q.workspace)
        workspace_release(scratch[0])
        workspace_release(scratch[1])
        return dx if input_grad else None


cdef int describe_directions(Sequence* q, int t, int first, weights, h_0, c_0, bint reverse, cnp.ndarray y, h_n,
                             c_n) except -1:
    """Pointers to the weights, states and outputs of each direction."""
    cdef int d
    cdef ptrdiff_t n, item = 4 if t == cnp.NPY_FLOAT32 else 8
    cdef Direction* p
    for d in range(q.D):
        p = &q.dir[d]
        W, R, b_w, b_r, M = weights[d]
        n = GATES[q.cell] * q.H
        p.W = matrix(W, t, n, q.I, &p.W_rs, &p.W_cs, "weight_ih")
        p.R = matrix(R, t, n, q.P, &p.R_rs, &p.R_cs, "weight_hh")
        if b_w is not None:
            p.b_w = block(b_w, t, n, 1, "bias_ih")
        if b_r is not None:
            p.b_r = block(b_r, t, n, 1, "bias_hh")
        if M is not None:
            p.M = matrix(M, t, q.P, q.H, &p.M_rs, &p.M_cs, "weight_hr")
        elif q.P != q.H:
            raise ValueError("weight_hh: expected [G·H, H]")
        if (d == 1 and (p.M == NULL) != (q.dir[0].M == NULL)) or (M is not None and q.cell != 3):
            raise ValueError("weight_hr: only for LSTM, in both directions or none")
        if h_0 is not None:
            p.h_0 = <char*>block(h_0, t, q.D * q.B, q.P, "h_0") + d * q.B * q.P * item
        if c_0 is not None:
            p.c_0 = <char*>block(c_0, t, q.D * q.B, q.H, "c_0") + d * q.B * q.H * item
        p.h_n = <char*>block(h_n, t, q.D * q.B, q.P, "h_n", True) + d * q.B * q.P * item
        if q.cell == 3:
            p.c_n = <char*>block(c_n, t, q.D * q.B, q.H, "c_n", True) + d * q.B * q.H * item
        p.y = <char*>cnp.PyArray_DATA(y) + d * q.P * item
        p.y_t = stride(y, first)
        p.y_b = stride(y, 1 - first)
        p.reverse = reverse or d == 1
    return 0


def forward(int cell, x, weights, h_0, c_0, lengths, bint batch_first, bint reverse, y, h_n, c_n, bint save,
            ptrdiff_t checkpoint=0):
    """Run one layer, in one direction or two.

    x [T, B, I] (batch_first: [B, T, I]), last axis contiguous, else it is copied; weights: a tuple of one tuple
    (W, R, b_w, b_r, M) a direction; h_0 [D, B, P], c_0 [D, B, H] or None; lengths int64 [B] or None; y in x's layout with
    contiguous rows, h_n, c_n: written. checkpoint: steps between saved cell states, 0 to save everything. Returns what
    backward needs, or None without `save`.
    """
    cdef Saved s = Saved.__new__(Saved)
    cdef Sequence* q = &s.q
    cdef int t, first = 1 if batch_first else 0
    cdef ptrdiff_t i
    cdef int64_t* lens
    cdef cnp.ndarray xa, w, ya
    if not cnp.PyArray_Check(x):
        raise TypeError("x: expected an array")
    q.dtype = dtype_of(x)
    t = cnp.NPY_FLOAT32 if q.dtype == 0 else cnp.NPY_FLOAT64
    xa = readable(x, t, 3, "x")
    if not 0 <= cell < 6 or type(weights) is not tuple or not 1 <= len(weights) <= 2 or len(weights[0]) != 5:
        raise ValueError("cell, weights: out of range")
    if not fits(weights[0][1], t, 2):
        raise ValueError("weight_hh: expected a matrix of x's dtype")
    w = weights[0][1]
    s.type_num = t
    s.table = kernels()
    s.batch_first = batch_first
    q.cell = cell
    q.D = len(weights)
    q.T = cnp.PyArray_DIMS(xa)[first]
    q.B = cnp.PyArray_DIMS(xa)[1 - first]
    q.I = cnp.PyArray_DIMS(xa)[2]
    q.H = cnp.PyArray_DIMS(w)[0] // GATES[cell]
    q.P = cnp.PyArray_DIMS(w)[1]
    if q.T < 1 or q.I < 1 or q.H < 1 or q.P < 1:
        raise ValueError("x: expected at least one time step, and sizes of at least one")
    q.x = cnp.PyArray_DATA(xa)
    q.x_t = stride(xa, first)
    q.x_b = stride(xa, 1 - first)
    q.steps = q.T * q.B
    if save:  # the caller may change these before the pullback runs; x and the weights are held by reference
        lengths = None if lengths is None else lengths.copy()
        h_0 = None if h_0 is None else h_0.copy()
    if lengths is not None:
        lens = <int64_t*>block(lengths, cnp.NPY_INT64, q.B, 1, "lengths")
        q.lengths = lens
        q.steps = 0
        for i in range(q.B):
            if not 0 <= lens[i] <= q.T:
                raise ValueError(f"lengths: expected integers from 0 to T={q.T}, got {lens[i]} in row {i}")
            q.steps += lens[i]
    if q.T * q.B >= 1 << 31:
        raise ValueError(f"x: expected fewer than 2**31 steps in one call, got {q.T} x {q.B}")
    if q.B == 0:  # nothing to do; the strides of empty arrays mean nothing
        h_n[...] = 0
        s.refs = (xa,)
        return s if save else None
    ya = y
    if (ya is None or not fits(y, t, 3) or not rows_contiguous(ya) or not cnp.PyArray_ISWRITEABLE(ya)
            or cnp.PyArray_DIMS(ya)[first] != q.T or cnp.PyArray_DIMS(ya)[1 - first] != q.B
            or cnp.PyArray_DIMS(ya)[2] != q.D * q.P):
        raise ValueError(f"y: expected contiguous rows in the layout of x, got shape {y.shape}")
    describe_directions(q, t, first, weights, h_0, c_0, reverse, ya, h_n, c_n)
    q.save = 0 if not save else 2 if checkpoint > 0 else 1
    q.checkpoint = min(checkpoint, q.T) if q.save == 2 else 0
    q.threads = threads()
    s.allocate()
    q.workspace = workspace_acquire(s.sizes.forward)
    if q.workspace == NULL:
        raise MemoryError("no memory for the forward pass")
    with nogil:
        s.table.forward(q)
    workspace_release(q.workspace)
    q.workspace = NULL
    if not save:
        return None
    s.refs = (xa, y, weights, h_0, c_0, lengths)
    return s
