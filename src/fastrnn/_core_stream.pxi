# Part of _core.pyx: streams (csrc/stream.h).
# Over 400 lines: one class, whose checks stand inline in its methods.

from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef extern from "stream.h" namespace "fastrnn" nogil:
    cdef struct StreamLayer:
        int dtype, kind, function
        ptrdiff_t B, I, H, P
        double alpha
        const void* W
        ptrdiff_t W_rs, W_cs
        const void* R
        ptrdiff_t R_rs, R_cs
        const void* M
        ptrdiff_t M_rs, M_cs
        const void* b_w
        const void* b_r
        const CellSpec* spec
        int norm
        double zoneout[4]
        const void* gain_x
        const void* gain_r
        const void* vectors[8]
        ptrdiff_t y_b, c_b, c_next
        void* h
        void* c

    cdef struct StreamTable "fastrnn::Streams":
        size_t (*prepare)(StreamLayer*, void*) noexcept nogil
        void (*pack)(StreamLayer*) noexcept nogil
        ptrdiff_t (*step)(StreamLayer*, int, const void*, ptrdiff_t, void*, ptrdiff_t) noexcept nogil
        ptrdiff_t (*run)(StreamLayer*, int, ptrdiff_t, const void*, ptrdiff_t, ptrdiff_t, void*, ptrdiff_t,
                         ptrdiff_t) noexcept nogil

cdef extern from "native.h" namespace "fastrnn" nogil:
    cdef struct NativeStream:
        int64_t batch_size, input_size, output_size, members
        const int64_t* sizes
        int64_t batch_first, integers, item
        StreamLayer* layers
        int64_t n
        const StreamTable* table
        int64_t busy

    void native_stream(NativeStream*)
    bint native_enter(NativeStream*)
    void native_leave(NativeStream*)
    bint rows_overlap(ptrdiff_t T, ptrdiff_t t_step, ptrdiff_t B, ptrdiff_t b_step, ptrdiff_t n)

cdef enum:
    GIVEN = 6  # kGiven

STREAM_CELL, STREAM_LINEAR, STREAM_ACTIVATION, STREAM_SOFTMAX, STREAM_NORM, STREAM_EMBEDDING = range(6)


cdef void exchange(char* mine, char* rows, ptrdiff_t k, size_t bytes, bint inwards) noexcept:
    """A row of a state, from or to the k-th of `rows`; from nowhere come zeros."""
    if rows == NULL:
        if inwards:
            memset(mine, 0, bytes)
    elif inwards:
        memcpy(mine, rows + k * bytes, bytes)
    else:
        memcpy(rows + k * bytes, mine, bytes)


cdef bint may_overlap(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Whether the addresses between first and last element have some in common."""
    cdef char* low[2]
    cdef char* high[2]
    cdef cnp.ndarray c
    cdef ptrdiff_t reach
    cdef int i, k
    for k in range(2):
        c = b if k else a
        low[k] = high[k] = <char*>cnp.PyArray_DATA(c)
        for i in range(cnp.PyArray_NDIM(c)):
            reach = (cnp.PyArray_DIMS(c)[i] - 1) * cnp.PyArray_STRIDES(c)[i]
            if reach < 0:
                low[k] += reach
            else:
                high[k] += reach
        high[k] += cnp.PyArray_ITEMSIZE(c)
    return low[0] < high[1] and low[1] < high[0]


cdef class Stream:
    """Layers that move on by one time step a call: packed weights and states, in one block of memory.

    `fastrnn.nn.stream.Stream` derives from it. That class finds the layers' arrays, and says what is wrong with an argument.

    layers: a list of (kind, function, I, H, P, alpha, W, R, M, b_w, b_r), arrays or None; kept, for `pack` reads them again.
    A variant of a cell, or a cell given by functions, has more: its Options, gain_ih, gain_hh, and vectors.
    members: [·, 3] layers, P, H of each recurrent layer as users see it (int64), for compiled code; None: there is none.
    """
    cdef StreamLayer* layers
    cdef CellSpec* specs  # [n] of the layers that are given by functions
    cdef const StreamTable* table
    cdef void* memory
    cdef int n, x_type, y_type, x_shift, y_shift
    cdef NativeStream native  # what compiled code sees, and whether a call is inside
    cdef bint batch_first  # layout of x and y in run
    cdef bint integers     # x is for an embedding
    cdef ptrdiff_t B, I, P
    cdef double work       # nanoseconds of a step, roughly
    cdef list refs

    def __dealloc__(self):
        free(self.layers)
        free(self.specs)
        workspace_release(self.memory)

    def __init__(self, list layers, ptrdiff_t batch, dtype, bint batch_first=False, members=None):
        cdef StreamLayer* l
        cdef int i, t
        cdef size_t bytes = 0
        cdef char* at
        if self.layers != NULL or not layers or batch < 1:
            raise ValueError("Stream: expected layers, a batch of at least one row, and one call of __init__")
        t = cnp.NPY_FLOAT32 if dtype == np.float32 else cnp.NPY_FLOAT64
        self.layers = <StreamLayer*>calloc(len(layers), sizeof(StreamLayer))
        self.specs = <CellSpec*>calloc(len(layers), sizeof(CellSpec))
        if self.layers == NULL or self.specs == NULL:
            raise MemoryError
        self.table = <const StreamTable*>kernels().stream
        self.B = batch
        self.batch_first = batch_first
        self.work = 0
        for i in range(len(layers)):
            l = self.layers + i
            l.dtype = code_of(t)
            l.B = batch
            self.describe(i, layers[i], t)
            if i and (l.I != self.layers[i - 1].P or l.kind == STREAM_EMBEDDING):
                raise ValueError(f"layers: number {i} doesn't fit the one below")
            # a product of sizes could overflow; no machine has so much
            bytes = bytes + self.table.prepare(l, NULL) if batch <= (1 << 44) // (l.I + 8 * l.H + l.P + 64) else 1 << 60
        self.memory = workspace_acquire(bytes)
        if self.memory == NULL:
            raise MemoryError(f"no memory for a stream of {bytes} bytes")
        at = <char*>self.memory
        for i in range(len(layers)):
            at += self.table.prepare(self.layers + i, at)
        self.refs = [layers, members]
        self.integers = self.layers[0].kind == STREAM_EMBEDDING
        self.I = self.layers[0].I
        self.P = self.layers[len(layers) - 1].P
        self.y_type = t
        self.y_shift = 2 if t == cnp.NPY_FLOAT32 else 3
        self.x_type = cnp.NPY_INT64 if self.integers else t
        self.x_shift = 3 if self.integers else self.y_shift
        self.n = len(layers)
        self.describe_native(members)
        self.pack()

    cdef int describe_native(self, members) except -1:
        """The same for compiled code (csrc/native.h)."""
        cdef NativeStream* s = &self.native
        cdef int i
        cdef ptrdiff_t m = 0, k = 0  # the member that the next cell belongs to, and its layer there
        native_stream(s)
        s.batch_size, s.input_size, s.output_size = self.B, self.I, self.P
        s.batch_first, s.integers, s.item = self.batch_first, self.integers, 1 << self.y_shift
        if members is not None:
            s.members = len(members)
            s.sizes = <const int64_t*>block(members, cnp.NPY_INT64, s.members, 3, "members")
            for i in range(self.n):
                if self.layers[i].kind != STREAM_CELL:
                    continue
                if m == s.members or s.sizes[3 * m + 1] != self.layers[i].P or s.sizes[3 * m + 2] != self.layers[i].H:
                    raise ValueError("members: expected the sizes of all cells")
                k += 1
                if k >= s.sizes[3 * m]:
                    m += 1
                    k = 0
            if m != s.members or k:
                raise ValueError("members: expected the sizes of all cells")
        s.layers, s.n, s.table = self.layers, self.n, self.table
        return 0

    @property
    def _native_address(self):
        if self.n == 0 or self.native.sizes == NULL:
            raise RuntimeError("Stream: __init__ has not run")
        return <size_t>&self.native

    @property
    def busy(self):
        """Whether a call is inside."""
        return self.native.busy != 0

    cdef int describe(self, int i, layer, int t) except -1:
        """Sizes and pointers of one layer."""
        cdef StreamLayer* l = self.layers + i
        cdef ptrdiff_t rows
        kind, function, I, H, P, alpha, W, R, M, b_w, b_r, *given = layer
        l.kind, l.I, l.H, l.P, l.alpha = kind, I, H, P, alpha
        l.function = activation_of(function) if l.kind == STREAM_ACTIVATION else function
        if l.I < 1 or l.H < 1 or l.P < 1 or not 0 <= l.kind < 6 or not 0 <= l.function <= (FAST_GRNN if given else 5):
            raise ValueError("layers: out of range")
        rows = l.H
        if l.kind == STREAM_CELL:
            rows *= self.describe_given(i, t, given) if given else GATES[l.function]
            l.R = matrix(R, t, rows, l.P, &l.R_rs, &l.R_cs, "weight_hh")
            if M is not None and l.function in (LSTM, GIVEN):
                l.M = matrix(M, t, l.P, l.H, &l.M_rs, &l.M_cs, "weight_hr")
            elif l.P != l.H:
                raise ValueError("weight_hh: expected [G·H, H]")
            if b_r is not None:
                l.b_r = block(b_r, t, rows, 1, "bias_hh")
        if l.kind == STREAM_CELL or l.kind == STREAM_LINEAR:
            l.W = matrix(W, t, rows, l.I, &l.W_rs, &l.W_cs, "weight")
        elif l.kind == STREAM_EMBEDDING and W is None:  # one-hot
            if l.I != l.P:
                raise ValueError("layers: out of range")
        elif l.kind == STREAM_EMBEDDING:
            l.W = matrix(W, t, l.I, l.P, &l.W_rs, &l.W_cs, "weight")
        elif l.kind == STREAM_NORM:
            l.W = block(W, t, l.P, 1, "weight")
            l.W_cs = 1
        if l.kind != STREAM_CELL and l.P != l.H or l.kind == STREAM_NORM and b_w is None:
            raise ValueError("layers: out of range")
        if b_w is not None:
            l.b_w = block(b_w, t, rows, 1, "bias")
        # 64 bytes of weights or two vectors of activations a nanosecond
        self.work += 20 + l.B * 0.1 * l.P + (0.06 * l.B * rows * (l.I + l.P) if l.W != NULL and l.kind < 2 else 0)
        return 0

    cdef int describe_given(self, int i, int t, list given) except -1:
        """Number of gates of a cell given by functions; describes what it has beyond weights."""
        cdef StreamLayer* l = self.layers + i
        cdef CellSpec* spec = self.specs + i
        cdef Options options = given[0]
        cdef list vectors = given[3:]
        cdef int k
        if options.is_given:
            spec[0] = options.given
        elif not options.is_variant or not (<VariantFunction>kernels().variant)(&options.settings, l.dtype, l.function, spec):
            raise ValueError("layers: the cell has no such variant")
        if len(vectors) != spec.vectors or not 0 <= options.norm <= spec.gates or options.recurrent_dropout > 0:
            raise ValueError("layers: expected as many vectors as the cell has, and nothing that is drawn")
        l.function = GIVEN
        l.spec = spec
        l.norm = options.norm
        for k in range(4):
            l.zoneout[k] = options.zoneout[k]
        if l.norm:
            l.gain_x = block(given[1], t, spec.gates * l.H, 1, "gain_ih")
            l.gain_r = block(given[2], t, spec.gates * l.H, 1, "gain_hh")
        for k in range(spec.vectors):
            l.vectors[k] = block(vectors[k], t, l.H, 1, "vector")
        self.work += 20 + 2 * l.B * spec.gates * 0.1 * l.H
        return spec.gates

    def pack(self):
        """Weights into panels, once more."""
        cdef int i
        self.enter()
        for i in range(self.n):
            self.table.pack(self.layers + i)
        native_leave(&self.native)

    cdef inline int enter(self) except -1:
        if self.n == 0 or not native_enter(&self.native):
            raise RuntimeError("Stream: another thread is inside a call of this stream; a stream belongs to one thread"
                               if self.n else "Stream: __init__ has not run")
        return 0

    @property
    def input_size(self):
        """Size of x's last axis; of an embedding, its number of rows."""
        return self.I

    # ---- states

    def read_states(self, list states):
        """states: (number of a layer, h [B, P], c [B, H] or None, further ones alike), contiguous and written."""
        cdef int i
        self.enter()
        try:
            for i, *parts in states:
                self.copy_rows(i, parts, None, False)
        finally:
            native_leave(&self.native)

    def write_states(self, list states, rows):
        """states: (number of a layer, h [N, P] or None for zeros, c [N, H] alike, …); rows: int64 [N], or None for all B."""
        cdef int i
        self.enter()
        try:
            for i, *parts in states:
                self.copy_rows(i, parts, rows, True)
        finally:
            native_leave(&self.native)

    cdef int copy_rows(self, int i, list parts, rows, bint inwards) except -1:
        cdef StreamLayer* l
        cdef ptrdiff_t k, b, size, count = self.B
        cdef size_t item = 1 << self.y_shift
        cdef int64_t* index = NULL
        cdef char* mine
        cdef char* given
        cdef int part, states
        if not 0 <= i < self.n or self.layers[i].kind != STREAM_CELL:
            raise ValueError("states: no such cell")
        l = self.layers + i
        states = l.spec.states if l.spec != NULL else 1 + (l.c != NULL)
        if len(parts) < states:
            raise ValueError("states: the cell has more")
        if rows is not None:
            count = len(rows)
            index = <int64_t*>block(rows, cnp.NPY_INT64, count, 1, "rows")
            for k in range(count):
                if not 0 <= index[k] < self.B:
                    raise ValueError("rows: out of range")
        for part in range(states):
            size = l.H if part else l.P
            given = NULL
            if parts[part] is not None:
                given = <char*>block(parts[part], self.y_type, count, size, "c" if part else "h", not inwards)
            mine = <char*>l.h if part == 0 else <char*>l.c + (part - 1) * l.c_next * item
            for k in range(count):
                b = k if index == NULL else index[k]
                exchange(mine + b * (l.c_b if part else l.y_b) * item, given, k, size * item, inwards)
        return 0

    # ---- steps

    cdef inline bint accepts_x(self, object x) noexcept:
        """[B, I] (an embedding: [B]), or one axis less for one row."""
        cdef cnp.npy_intp* dims
        cdef int nd
        if not cnp.PyArray_Check(x):
            return False
        cdef cnp.ndarray a = x
        nd = cnp.PyArray_NDIM(a) + self.integers
        dims = cnp.PyArray_DIMS(a)
        if cnp.PyArray_TYPE(a) != self.x_type or not cnp.PyArray_ISBEHAVED_RO(a) or (nd == 2) + (nd == 1 and self.B == 1) == 0:
            return False
        if nd == 2 and dims[0] != self.B:
            return False
        if self.integers:
            return True
        return dims[nd - 1] == self.I and (cnp.PyArray_STRIDES(a)[nd - 1] == 1 << self.x_shift or self.I == 1)

    cdef inline bint accepts_out(self, object out, int nd) noexcept:
        if not cnp.PyArray_Check(out):
            return False
        cdef cnp.ndarray a = out
        return (cnp.PyArray_TYPE(a) == self.y_type and cnp.PyArray_NDIM(a) == nd and cnp.PyArray_ISBEHAVED(a)
                and cnp.PyArray_DIMS(a)[nd - 1] == self.P
                and (cnp.PyArray_STRIDES(a)[nd - 1] == 1 << self.y_shift or self.P == 1)
                and (nd == 1 or cnp.PyArray_DIMS(a)[0] == self.B))

    def step(self, x, out=None):
        """Move on by one time step.

        Parameters
        ----------
        x : array, [B, input_size], or [input_size] when batch_size is 1
            Of the layer's dtype. For a model that starts with an embedding: integers [B], or one integer.
        out : array, optional
            [B, ·], or [·] where `x` is [input_size]: written and returned, so that the call allocates nothing. It may be `x`
            or overlap it, but its rows don't overlap each other.

        Returns
        -------
        y : array
            `out`, or a fresh array.

        Raises
        ------
        ValueError, TypeError
            An argument doesn't fit; the message names it. The states are as they were.
        RuntimeError
            Another thread is inside this stream.
        """
        cdef cnp.ndarray a, y
        cdef cnp.npy_intp dims[2]
        cdef ptrdiff_t x_b = 0, y_b = 0, bad
        cdef int nd
        if not self.accepts_x(x):
            x = self._accept(x, False)
            if not self.accepts_x(x):
                raise RuntimeError("Stream: __init__ has not run")
        a = x
        nd = cnp.PyArray_NDIM(a) + self.integers
        if out is None:
            dims[0] = self.B
            dims[nd - 1] = self.P
            out = cnp.PyArray_EMPTY(nd, dims, self.y_type, 0)
        elif not self.accepts_out(out, nd):
            self._accept_out(out, (self.B, self.P)[2 - nd:])
        y = out
        if nd == 2:
            x_b = cnp.PyArray_STRIDES(a)[0] >> self.x_shift
            y_b = cnp.PyArray_STRIDES(y)[0] >> self.y_shift
            if -self.P < y_b < self.P and self.B > 1:
                self._accept_out(y, None, y)
        self.enter()
        if self.work < 50e3:  # a thread that lets go of the GIL may wait 5 ms to get it back
            bad = self.table.step(self.layers, self.n, cnp.PyArray_DATA(a), x_b, cnp.PyArray_DATA(y), y_b)
        else:
            with nogil:
                bad = self.table.step(self.layers, self.n, cnp.PyArray_DATA(a), x_b, cnp.PyArray_DATA(y), y_b)
        native_leave(&self.native)
        if bad >= 0:
            self._accept(x, False)  # says which integer
            raise RuntimeError("x: another thread changed it")
        return y

    def run(self, x, out=None):
        """Move on by a block of time steps.

        Parameters
        ----------
        x : array, [T, B, input_size], [B, T, input_size] with `batch_first`, or [T, input_size] when batch_size is 1
            Of the layer's dtype. For a model that starts with an embedding: integers, without the last axis.
        out : array, optional
            Written and returned: in the layout of `x`. It may be `x`, but not overlap it otherwise, nor
            itself.

        Returns
        -------
        y : array, in the layout of `x`
            `out`, or a fresh array.

        Raises
        ------
        ValueError, TypeError
            An argument doesn't fit; the message names it. The states are as they were.
        RuntimeError
            Another thread is inside this stream.
        """
        cdef cnp.ndarray a, y
        cdef cnp.npy_intp* dims
        cdef ptrdiff_t T, x_t, x_b = 0, y_t, y_b = 0, bad
        cdef int nd, time
        cdef bint in_place
        if not self.accepts_block(x, self.x_type, self.I, -1, self.integers):
            x = self._accept(x, True)
            if not self.accepts_block(x, self.x_type, self.I, -1, self.integers):
                raise RuntimeError("Stream: __init__ has not run")
        a = x
        dims = cnp.PyArray_DIMS(a)
        nd = cnp.PyArray_NDIM(a) + self.integers
        time = 1 if nd == 3 and self.batch_first else 0
        T = dims[time]
        shape = (T, self.P)
        if nd == 3:
            shape = (dims[0], dims[1], self.P)
        if out is None:
            out = empty(shape, np.float32 if self.y_shift == 2 else np.float64)
        elif not self.accepts_block(out, self.y_type, self.P, T, False) or cnp.PyArray_NDIM(out) != nd:
            self._accept_out(out, shape)
        y = out
        if not cnp.PyArray_ISWRITEABLE(y):
            self._accept_out(out, shape)
        x_t = cnp.PyArray_STRIDES(a)[time] >> self.x_shift
        y_t = cnp.PyArray_STRIDES(y)[time] >> self.y_shift
        if nd == 3:
            x_b = cnp.PyArray_STRIDES(a)[1 - time] >> self.x_shift
            y_b = cnp.PyArray_STRIDES(y)[1 - time] >> self.y_shift
        if rows_overlap(T, y_t, self.B, y_b, self.P):
            self._accept_out(y, None, y)
        # strides count elements, so those of integers mean something else
        in_place = not self.integers and cnp.PyArray_DATA(a) == cnp.PyArray_DATA(y) and x_t == y_t and x_b == y_b
        if not in_place and may_overlap(a, y) or in_place and rows_overlap(T, x_t, self.B, x_b, self.I):
            self._accept_out(y, None, a)
        self.enter()
        if T * self.work < 50e3:
            bad = self.table.run(self.layers, self.n, T, cnp.PyArray_DATA(a), x_t, x_b, cnp.PyArray_DATA(y), y_t, y_b)
        else:
            with nogil:
                bad = self.table.run(self.layers, self.n, T, cnp.PyArray_DATA(a), x_t, x_b, cnp.PyArray_DATA(y), y_t, y_b)
        native_leave(&self.native)
        if bad >= 0:
            self._accept(x, True)  # says which integer
            raise RuntimeError("x: another thread changed it")
        return y

    cdef bint accepts_block(self, object x, int type_num, ptrdiff_t size, ptrdiff_t steps, bint integers) noexcept:
        """[T, B, size] or [B, T, size], or [T, size] for one row; integers: without the last axis. steps: T, or -1."""
        cdef cnp.npy_intp* dims
        cdef int nd, time
        if not cnp.PyArray_Check(x):
            return False
        cdef cnp.ndarray a = x
        nd = cnp.PyArray_NDIM(a) + integers
        if (cnp.PyArray_TYPE(a) != type_num or not cnp.PyArray_ISBEHAVED_RO(a) or not (nd == 3 or nd == 2 and self.B == 1)):
            return False
        time = 1 if nd == 3 and self.batch_first else 0
        dims = cnp.PyArray_DIMS(a)
        if dims[time] < 1 or (steps >= 0 and dims[time] != steps) or (nd == 3 and dims[1 - time] != self.B):
            return False
        return integers or (dims[nd - 1] == size
                            and (size == 1 or cnp.PyArray_STRIDES(a)[nd - 1] == cnp.PyArray_ITEMSIZE(a)))

    def _accept(self, x, block):
        raise TypeError("x: not accepted")

    def _accept_out(self, out, shape, x=None):
        raise TypeError("out: not accepted")

    def __reduce__(self):
        raise TypeError("a stream can't be pickled or copied: keep its layer and s.state, and make a new one")
