# Part of _core.pyx: recurrent layers, forward and backward.

cdef int GATES[6]
GATES[0] = GATES[1] = GATES[2] = 1
GATES[3] = 4
GATES[4] = GATES[5] = 3

RNN_TANH, RNN_RELU, RNN_SIGMOID, LSTM, GRU_AFTER, GRU_BEFORE = range(6)
FAST_RNN, FAST_GRNN = 7, 8  # with Options that have a variant


cdef struct States:  # data of states [D, B, P] and [D, B, H], or null
    char* h
    char* c


cdef inline char* rows_from(char* data, ptrdiff_t bytes) noexcept nogil:
    return data if data == NULL else data + bytes


cdef int describe_states(States* s, h, c, int t, const Sequence* q, ptrdiff_t layers, bint writable, str name) except -1:
    """Data of arrays [layers·D, B, P] and [further states, layers·D, B, H]."""
    s.h = s.c = NULL
    if h is not None:
        s.h = <char*>block(h, t, layers * q.D * q.B, q.P, name + " h", writable)
    if c is not None and states_of(q) > 1:
        s.c = <char*>block(c, t, (states_of(q) - 1) * layers * q.D * q.B, q.H, name + " c", writable)
    return 0


cdef class Saved:
    """What one layer's forward pass keeps for its backward pass: a description of the call, and memory."""
    cdef Sequence q
    cdef Sizes sizes
    cdef tuple refs       # every array that q points into
    cdef const Kernels* table  # the layout of what is saved is its own
    cdef bint batch_first
    cdef int type_num
    cdef CellSpec spec    # of a cell given by functions
    cdef Options options

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

    cdef inline ptrdiff_t all_size(self) noexcept:
        """Numbers in one state of every step."""
        return self.q.T * self.q.B * self.q.D * self.q.H

    cdef void describe_all(self, ptrdiff_t* step, ptrdiff_t* row, ptrdiff_t* state) noexcept:
        """Strides of the states of every step, [states, …, D·H] in x's layout."""
        cdef ptrdiff_t width = self.q.D * self.q.H
        step[0] = width * (1 if self.batch_first else self.q.B)
        row[0] = width * (self.q.T if self.batch_first else 1)
        state[0] = self.all_size()

    cdef int describe_gradients(self, Sequence* q, dy, States* given, tuple grads, States* out) except -1:
        """Pointers to the gradients of each direction."""
        cdef int d, t = self.type_num, G = gates_of(q)
        cdef ptrdiff_t item = 4 if t == cnp.NPY_FLOAT32 else 8, first = 1 if self.batch_first else 0
        cdef cnp.ndarray a = dy
        cdef Direction* p
        for d in range(q.D):
            p = &q.dir[d]
            if dy is not None:
                p.dy = <char*>cnp.PyArray_DATA(a) + d * q.P * item
                p.dy_t = stride(a, first)
                p.dy_b = stride(a, 1 - first)
            p.dh_n = rows_from(given.h, d * q.B * q.P * item)
            p.dc_n = rows_from(given.c, d * q.B * q.H * item)
            p.dh_0 = rows_from(out.h, d * q.B * q.P * item)
            p.dc_0 = rows_from(out.c, d * q.B * q.H * item)
            gW, gR, gbw, gbr, gM = grads[d][:5]
            describe_parameter_gradients(p, q, t, grads[d])
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

    def backward(self, dy, dh_n, dc_n, grads, bint input_grad, dh_0, dc_0, bint retain=False, dx=None, dc_all=None):
        """Gradients of one layer.

        dy [T, B, D·P] (in x's layout) or None; dh_n [D, B, P], dc_n [D, B, H] or None; grads: a tuple of one tuple
        (dW, dR, db_w, db_r, dM, and what a cell with options has more) a direction, accumulated into, None for what isn't
        wanted; dh_0, dc_0: written, or None; dc_all: of `forward`'s c_all, or None. Returns dx or None, as for one-hot input.
        """
        cdef States given, out
        cdef char* all_c = NULL
        cdef int d
        if dc_all is not None:
            all_c = <char*>block(dc_all, self.type_num, states_of(&self.q) - 1, self.all_size(), "dstates c")
        for d in range(self.q.D):
            self.q.dir[d].dc_all = rows_from(all_c, d * self.q.H * (4 if self.type_num == cnp.NPY_FLOAT32 else 8))
            self.describe_all(&self.q.dir[d].dc_all_t, &self.q.dir[d].dc_all_b, &self.q.dir[d].dc_all_next)
        describe_states(&given, dh_n, dc_n, self.type_num, &self.q, 1, False, "dstate")
        describe_states(&out, dh_0, dc_0, self.type_num, &self.q, 1, True, "dstate_0")
        return self.run_backward(dy, given, grads, input_grad, out, retain, dx)

    cdef describe_backward(self, Sequence* q, dy, States given, grads, bint input_grad, States out, dx, int n):
        """Everything in q but its workspace; returns (dx or None, what must live until the call is over)."""
        cdef int t = self.type_num
        cdef ptrdiff_t first = 1 if self.batch_first else 0
        cdef cnp.ndarray a
        cdef cnp.npy_intp dims[3]
        q[0] = self.q
        input_grad = input_grad and q.codes == NULL
        if type(grads) is not tuple or len(grads) != q.D:
            raise ValueError(f"grads: expected a tuple of {q.D}")
        if q.B == 0:
            return np.zeros((q.T, 0, q.I), self.refs[0].dtype).swapaxes(0, first) if input_grad else None, None
        if dy is not None:
            a = readable(dy, t, 3, "dy")
            if (cnp.PyArray_DIMS(a)[first] != q.T or cnp.PyArray_DIMS(a)[1 - first] != q.B
                    or cnp.PyArray_DIMS(a)[2] != q.D * q.P):
                raise ValueError(f"dy: expected the shape of y, got {dy.shape}")
            dy = a  # may be a copy
        self.describe_gradients(q, dy, &given, grads, &out)
        if input_grad:
            if dx is None:
                dims[first] = q.T
                dims[1 - first] = q.B
                dims[2] = q.I
                dx = empty_array(3, dims, t)
            elif (not fits(dx, t, 3) or not rows_contiguous(dx) or not cnp.PyArray_ISWRITEABLE(dx)
                    or cnp.PyArray_DIMS(dx)[first] != q.T or cnp.PyArray_DIMS(dx)[1 - first] != q.B
                    or cnp.PyArray_DIMS(dx)[2] != q.I):
                raise ValueError("dx: expected a writable array of the shape of x with contiguous rows")
            q.dx = cnp.PyArray_DATA(dx)
            q.dx_t = stride(dx, first)
            q.dx_b = stride(dx, 1 - first)
        q.threads = n
        self.table.sizes(q, &self.sizes)
        return dx if input_grad else None, dy

    cdef run_backward(self, dy, States given, grads, bint input_grad, States out, bint retain, dx):
        cdef Sequence q
        cdef int d
        cdef void* scratch[2]
        dx, held = self.describe_backward(&q, dy, given, grads, input_grad, out, dx, threads())
        if q.B == 0:
            return dx
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
        return dx


cdef int describe_directions(Sequence* q, int t, int first, tuple weights, States initial, bint reverse, cnp.ndarray y,
                             States final) except -1:
    """Pointers to the weights, states and outputs of each direction."""
    cdef int d
    cdef ptrdiff_t n, item = 4 if t == cnp.NPY_FLOAT32 else 8
    cdef Direction* p
    for d in range(q.D):
        p = &q.dir[d]
        W, R, b_w, b_r, M = weights[d][:5]
        n = gates_of(q) * q.H
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
        if (d == 1 and (p.M == NULL) != (q.dir[0].M == NULL)) or (M is not None and states_of(q) < 2):
            raise ValueError("weight_hr: only for LSTM, in both directions or none")
        p.h_0 = rows_from(initial.h, d * q.B * q.P * item)
        p.c_0 = rows_from(initial.c, d * q.B * q.H * item)
        p.h_n = rows_from(final.h, d * q.B * q.P * item)
        p.c_n = rows_from(final.c, d * q.B * q.H * item)
        describe_parameters(p, q, t, weights[d])
        if p.h_n == NULL or (states_of(q) > 1 and p.c_n == NULL):
            raise ValueError("h_n, c_n: expected arrays")
        p.y = <char*>cnp.PyArray_DATA(y) + d * q.P * item
        p.y_t = stride(y, first)
        p.y_b = stride(y, 1 - first)
        p.reverse = reverse or d == 1
    return 0


cdef int describe_layer(Saved s, int cell, cnp.ndarray x, tuple weights, lengths, bint batch_first, bint save,
                        Options options=None) except -1:
    """Sizes and options of one layer's call."""
    cdef Sequence* q = &s.q
    cdef int t, first = 1 if batch_first else 0
    cdef bint one_hot = cnp.PyArray_TYPE(x) == cnp.NPY_INT64
    cdef ptrdiff_t i
    cdef int64_t* lens
    cdef cnp.ndarray w
    cdef bint known = 0 <= cell < 6 or (7 <= cell <= 8 and options is not None and options.is_variant)
    if not known or not 1 <= len(weights) <= 2 or len(weights[0]) < 5:
        raise ValueError("cell, weights: out of range")
    q.dtype = dtype_of(weights[0][1] if one_hot else x)
    t = cnp.NPY_FLOAT32 if q.dtype == 0 else cnp.NPY_FLOAT64
    if not fits(weights[0][1], t, 2):
        raise ValueError("weight_hh: expected a matrix of x's dtype")
    w = weights[0][1]
    s.type_num = t
    s.table = kernels()
    s.batch_first = batch_first
    q.cell = cell
    if options is not None:
        options.describe(s, cell)
    q.D = len(weights)
    q.T = cnp.PyArray_DIMS(x)[first]
    q.B = cnp.PyArray_DIMS(x)[1 - first]
    q.I = num_classes(weights) if one_hot else cnp.PyArray_DIMS(x)[2]
    q.H = cnp.PyArray_DIMS(w)[0] // gates_of(q)
    q.P = cnp.PyArray_DIMS(w)[1]
    if q.T < 1 or q.I < 1 or q.H < 1 or q.P < 1:
        raise ValueError("x: expected at least one time step, and sizes of at least one")
    if one_hot:
        q.codes = <const int64_t*>cnp.PyArray_DATA(x)
        q.codes_t = stride(x, first)
        q.codes_b = stride(x, 1 - first)
    else:
        q.x = cnp.PyArray_DATA(x)
        q.x_t = stride(x, first)
        q.x_b = stride(x, 1 - first)
    q.steps = q.T * q.B
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
    return 0


cdef void describe_saving(Saved s, bint save, ptrdiff_t checkpoint, int n) noexcept:
    """What `describe_layer` described is to be saved so, and to run on up to n threads."""
    s.q.save = 0 if not save else 2 if checkpoint > 0 else 1
    s.q.checkpoint = min(checkpoint, s.q.T) if save else 0
    s.q.threads = n


cdef int describe_forward(Saved s, tuple refs, tuple weights, States initial, bint reverse, cnp.ndarray y,
                          States final) except -1:
    """The rest of the call that `describe_layer` began, with what it saves, but for the workspace."""
    cdef Sequence* q = &s.q
    cdef int first = 1 if s.batch_first else 0
    s.refs = refs
    if q.B == 0:  # nothing to do; the strides of empty arrays mean nothing
        return 0
    if (y is None or not fits(y, s.type_num, 3) or not rows_contiguous(y) or not cnp.PyArray_ISWRITEABLE(y)
            or cnp.PyArray_DIMS(y)[first] != q.T or cnp.PyArray_DIMS(y)[1 - first] != q.B
            or cnp.PyArray_DIMS(y)[2] != q.D * q.P):
        raise ValueError("y: expected contiguous rows in the layout of x")
    describe_directions(q, s.type_num, first, weights, initial, reverse, y, final)
    s.allocate()
    return 0


cdef int run_forward(Saved s) except -1:
    cdef Sequence* q = &s.q
    if q.B == 0:
        return 0
    q.workspace = workspace_acquire(s.sizes.forward)
    if q.workspace == NULL:
        raise MemoryError("no memory for the forward pass")
    with nogil:
        s.table.forward(q)
    workspace_release(q.workspace)
    q.workspace = NULL
    return 0


def forward(int cell, x, weights, h_0, c_0, lengths, bint batch_first, bint reverse, y, h_n, c_n, bint save,
            ptrdiff_t checkpoint=0, Options options=None, c_all=None):
    """Run one layer, in one direction or two.

    x [T, B, I] (batch_first: [B, T, I]), last axis contiguous, else it is copied, or int64 [T, B]: the codes of rows that are
    one-hot; weights: a tuple of one tuple (W, R, b_w, b_r, M) a direction; h_0 [D, B, P], c_0 [D, B, H] or None; lengths
    int64 [B] or None; y in x's layout with contiguous rows, h_n, c_n: written. checkpoint: steps between saved cell states,
    0 to save everything; options: what goes beyond the plain cell; c_all: [states - 1, …, D·H] in x's layout, written: c of
    every step, or None. Returns what backward needs, or None without `save`.
    """
    cdef Saved s = Saved.__new__(Saved)
    cdef States initial, final
    cdef cnp.ndarray a
    cdef char* all_c = NULL
    cdef int t, d
    if type(weights) is not tuple:
        raise ValueError("weights: expected a tuple")
    a = input_array(x, weights, save, &t)
    if save:  # the caller may change these before the pullback runs; x and the weights are held by reference
        lengths = None if lengths is None else lengths.copy()
        h_0 = None if h_0 is None else h_0.copy()
        if options is not None:
            options.keep()
    describe_layer(s, cell, a, weights, lengths, batch_first, save, options)
    describe_states(&initial, h_0, c_0, s.type_num, &s.q, 1, False, "state")
    describe_states(&final, h_n, c_n, s.type_num, &s.q, 1, True, "state_n")
    describe_saving(s, save, checkpoint, threads())
    if options is not None:  # before the workspace is measured
        options.describe_resets(s, 0, 1)
    if c_all is not None:
        all_c = <char*>block(c_all, s.type_num, states_of(&s.q) - 1, s.all_size(), "c_all", True)
    for d in range(s.q.D):
        s.q.dir[d].c_next = s.q.D * s.q.B * s.q.H
        s.q.dir[d].c_all = rows_from(all_c, d * s.q.H * (4 if s.type_num == cnp.NPY_FLOAT32 else 8))
        s.describe_all(&s.q.dir[d].c_all_t, &s.q.dir[d].c_all_b, &s.q.dir[d].c_all_next)
    describe_forward(s, (a, y, weights, h_0, c_0, lengths, c_all), weights, initial, reverse, y, final)
    run_forward(s)
    return s if save else None
