# Part of _core.pyx: the decoder with attention and input feeding (csrc/decoder.h).

cdef extern from "decoder.h" namespace "fastrnn" nogil:
    enum:
        kDecoderLayers

    cdef struct DecoderLayer:
        const void* W
        ptrdiff_t W_rs, W_cs
        const void* R
        ptrdiff_t R_rs, R_cs
        const void* b_w
        const void* b_r
        const void* h_0
        const void* c_0
        void* h_n
        void* c_n
        const void* dh_n
        const void* dc_n
        void* dW
        void* dR
        void* db_w
        void* db_r
        void* dh_0
        void* dc_0
        const void* vectors[8]
        void* dvectors[8]
        const void* gain_x
        const void* gain_r
        void* dgain_x
        void* dgain_r

    cdef struct DecoderSampling:
        double probability
        uint64_t seed
        ptrdiff_t V, E
        const void* embedding
        ptrdiff_t e_v
        const void* O
        ptrdiff_t O_rs, O_cs
        const void* b_o
        int64_t* tokens
        ptrdiff_t t_t, t_b

    cdef struct Decoder:
        int dtype, cell, layers, threads, save, feeding
        ptrdiff_t T, B, S, E, H, A, K, Q
        const void* x
        ptrdiff_t x_t, x_b
        const int64_t* lengths
        int64_t steps
        const int64_t* source_lengths
        const void* keys
        ptrdiff_t k_s, k_b
        const void* values
        ptrdiff_t v_s, v_b
        const void* U
        ptrdiff_t U_rs, U_cs
        const void* v
        double scale
        const void* C
        ptrdiff_t C_rs, C_cs
        const void* b_c
        const void* feed_0
        DecoderLayer* layer
        ptrdiff_t c_next
        const CellSpec* spec
        int norm, expect
        double zoneout[4]
        double recurrent_dropout
        uint64_t mask_seed
        const DecoderSampling* sampling
        void* y
        ptrdiff_t y_t, y_b
        void* weights
        void* saved
        const void* dy
        ptrdiff_t dy_t, dy_b
        void* dx
        ptrdiff_t dx_t, dx_b
        void* dkeys
        ptrdiff_t dk_s, dk_b
        void* dvalues
        ptrdiff_t dv_s, dv_b
        void* dfeed_0
        void* dU
        void* dv
        void* dC
        void* db_c
        void* workspace

    cdef struct DecoderSizes:
        size_t gates, saved, forward, backward

    cdef struct DecoderTable:
        void (*sizes)(const Decoder*, DecoderSizes*) noexcept nogil
        void (*forward)(const Decoder*) noexcept nogil
        void (*backward)(const Decoder*) noexcept nogil

DECODER_LAYERS = kDecoderLayers


cdef const int64_t* lengths_of(lengths, ptrdiff_t rows, ptrdiff_t most, str name) except? NULL:
    """Data of int64 [rows] from 0 to `most`, or null for None."""
    cdef const int64_t* data
    cdef ptrdiff_t i
    if lengths is None or rows == 0:
        return NULL
    data = <const int64_t*>block(lengths, cnp.NPY_INT64, rows, 1, name)
    for i in range(rows):
        if not 0 <= data[i] <= most:
            raise ValueError(f"{name}: expected integers from 0 to {most}, got {data[i]} in row {i}")
    return data


cdef cnp.ndarray three_axes(a, int t, ptrdiff_t n0, ptrdiff_t n1, ptrdiff_t n2, str name, bint writable=False):
    """`a` as an array [n0, n1, n2] whose last axis is contiguous; -1: any."""
    cdef cnp.ndarray b
    if writable:
        if not fits(a, t, 3) or not rows_contiguous(a) or not cnp.PyArray_ISWRITEABLE(a):
            raise ValueError(f"{name}: expected a writable array of three axes with contiguous rows")
        b = a
    else:
        b = readable(a, t, 3, name)
    if ((n0 >= 0 and cnp.PyArray_DIMS(b)[0] != n0) or (n1 >= 0 and cnp.PyArray_DIMS(b)[1] != n1)
            or (n2 >= 0 and cnp.PyArray_DIMS(b)[2] != n2)):
        raise ValueError(f"{name}: expected shape [{n0}, {n1}, {n2}], got {a.shape}")
    return b


cdef class SavedDecoder:
    """What a decoder's forward pass keeps for its backward pass."""
    cdef Decoder d
    cdef DecoderLayer layer[kDecoderLayers]
    cdef DecoderSizes sizes
    cdef CellSpec spec
    cdef Options options  # keeps what `spec` points to
    cdef list refs        # every array that d points into
    cdef const DecoderTable* table  # the layout of what is saved is its own
    cdef bint batch_first
    cdef int type_num

    def __dealloc__(self):
        workspace_release(self.d.saved)

    cdef keep(self, a):
        self.refs.append(a)
        return a

    cdef int sizes_of(self, ptrdiff_t T, ptrdiff_t B, ptrdiff_t E, tuple layers, keys, values, C) except -1:
        """Dimensions; without C there is no attention."""
        cdef Decoder* d = &self.d
        cdef int t = self.type_num, first = 1 if self.batch_first else 0
        cdef cnp.ndarray k, v, c, R
        if not 1 <= len(layers) <= kDecoderLayers or not 0 <= d.cell < 7:
            raise ValueError(f"layers: expected 1 to {kDecoderLayers} of a known cell")
        if not fits(layers[0][1], t, 2) or (C is not None and not fits(C, t, 2)):
            raise ValueError("weight_hh_l0, weight_c: expected matrices of x's dtype")
        R = layers[0][1]
        d.layers = len(layers)
        d.layer = self.layer
        d.T, d.B, d.E, d.H = T, B, E, cnp.PyArray_DIMS(R)[1]
        d.S, d.Q, d.K, d.A = 1, d.H, 1, d.H
        if C is not None:
            k, v, c = keys, values, C
            d.S, d.Q, d.K = cnp.PyArray_DIMS(v)[first], cnp.PyArray_DIMS(k)[2], cnp.PyArray_DIMS(v)[2]
            d.A = cnp.PyArray_DIMS(c)[0]
            if cnp.PyArray_DIMS(v)[1 - first] != B:
                raise ValueError(f"source: expected {B} rows, as many as x has, got {cnp.PyArray_DIMS(v)[1 - first]}")
        if d.T < 1 or d.S < 1 or d.E < 1 or d.Q < 1 or d.K < 1 or d.H < 1 or d.A < 1:
            raise ValueError("expected at least one step of x and of the source, and sizes of at least one")
        if d.T * d.B >= 1 << 31 or d.S * d.B >= 1 << 31:
            raise ValueError(f"x, source: expected fewer than 2**31 steps in one call, got {d.T} x {d.B} and {d.S} x {d.B}")
        return 0

    cdef int weights_of(self, tuple layers, U, v, C, b_c) except -1:
        cdef Decoder* d = &self.d
        cdef DecoderLayer* p
        cdef int i, t = self.type_num
        cdef ptrdiff_t n = decoder_gates(d) * d.H
        for i in range(d.layers):
            p = &self.layer[i]
            W, R, b_w, b_r = layers[i][:4]
            decoder_parameters(p, d, t, layers[i])
            p.W = matrix(W, t, n, d.H if i else d.E + (d.A if d.feeding else 0), &p.W_rs, &p.W_cs, f"weight_ih_l{i}")
            p.R = matrix(R, t, n, d.H, &p.R_rs, &p.R_cs, f"weight_hh_l{i}")
            if b_w is not None:
                p.b_w = block(b_w, t, n, 1, f"bias_ih_l{i}")
            if b_r is not None:
                p.b_r = block(b_r, t, n, 1, f"bias_hh_l{i}")
        if C is None:
            return 0
        if U is not None:
            d.U = matrix(U, t, d.Q, d.H, &d.U_rs, &d.U_cs, "weight_query")
        elif d.Q != d.H:
            raise ValueError(f"keys: expected size {d.H}, that of the query, got {d.Q}")
        if v is not None:
            d.v = block(v, t, d.Q, 1, "v")
        d.C = matrix(C, t, d.A, d.K + d.H, &d.C_rs, &d.C_cs, "weight_c")
        if b_c is not None:
            d.b_c = block(b_c, t, d.A, 1, "bias_c")
        return 0

    cdef int states_of(self, h_0, c_0, h_n, c_n) except -1:
        """Pointers into arrays [layers, B, H], of cells with more than two states [states - 1, layers, B, H] in c."""
        cdef Decoder* d = &self.d
        cdef int i, t = self.type_num, further = decoder_states(d) - 1
        cdef ptrdiff_t item = 4 if t == cnp.NPY_FLOAT32 else 8, rows = d.layers * d.B
        cdef char* at[4]
        at[0] = <char*>block(h_0, t, rows, d.H, "state h") if h_0 is not None else NULL
        at[1] = <char*>block(c_0, t, further * rows, d.H, "state c") if c_0 is not None else NULL
        at[2] = <char*>block(h_n, t, rows, d.H, "h_n", True) if h_n is not None else NULL
        at[3] = <char*>block(c_n, t, further * rows, d.H, "c_n", True) if c_n is not None else NULL
        d.c_next = rows * d.H
        for i in range(d.layers):
            self.layer[i].h_0 = rows_from(at[0], i * d.B * d.H * item)
            self.layer[i].c_0 = rows_from(at[1], i * d.B * d.H * item)
            self.layer[i].h_n = rows_from(at[2], i * d.B * d.H * item)
            self.layer[i].c_n = rows_from(at[3], i * d.B * d.H * item)
        return 0

    cdef int gradients_of(self, Decoder* d, DecoderLayer* layer, tuple grads, tuple others, dh_n, dc_n, dh_0, dc_0) except -1:
        cdef int i, t = self.type_num, further = decoder_states(d) - 1
        cdef ptrdiff_t item = 4 if t == cnp.NPY_FLOAT32 else 8, rows = d.layers * d.B, n = decoder_gates(d) * d.H
        cdef char* at[4]
        cdef DecoderLayer* p
        if len(grads) != d.layers or len(others) != 4:
            raise ValueError("grads: expected a tuple for each layer, and four arrays")
        at[0] = <char*>block(dh_n, t, rows, d.H, "dstate h") if dh_n is not None else NULL
        at[1] = <char*>block(dc_n, t, further * rows, d.H, "dstate c") if dc_n is not None else NULL
        at[2] = <char*>block(dh_0, t, rows, d.H, "dh_0", True)
        at[3] = <char*>block(dc_0, t, further * rows, d.H, "dc_0", True) if dc_0 is not None else NULL
        for i in range(d.layers):
            p = &layer[i]
            p.dh_n = rows_from(at[0], i * d.B * d.H * item)
            p.dc_n = rows_from(at[1], i * d.B * d.H * item)
            p.dh_0 = rows_from(at[2], i * d.B * d.H * item)
            p.dc_0 = rows_from(at[3], i * d.B * d.H * item)
            dW, dR, db_w, db_r = grads[i][:4]
            decoder_parameter_gradients(p, d, t, grads[i])
            if dW is not None:
                p.dW = block(dW, t, n, d.H if i else d.E + (d.A if d.feeding else 0), "dW", True)
            if dR is not None:
                p.dR = block(dR, t, n, d.H, "dR", True)
            if db_w is not None:
                p.db_w = block(db_w, t, n, 1, "db_w", True)
            if db_r is not None:
                p.db_r = block(db_r, t, n, 1, "db_r", True)
        dU, dv, dC, db_c = others
        if dU is not None and d.U != NULL:
            d.dU = block(dU, t, d.Q, d.H, "dU", True)
        if dv is not None and d.v != NULL:
            d.dv = block(dv, t, d.Q, 1, "dv", True)
        if dC is not None:
            d.dC = block(dC, t, d.A, d.K + d.H, "dC", True)
        if db_c is not None:
            d.db_c = block(db_c, t, d.A, 1, "db_c", True)
        return 0

    def backward(self, dy, dh_n, dc_n, tuple grads, tuple others, bint input_grad, dkeys, dvalues, bint retain=False):
        """Gradients of a decoder.

        dy in y's layout or None; dh_n, dc_n [layers, B, H] or None; grads: (dW, dR, db_w, db_r) of each layer, others:
        (dU, dv, dC, db_c), accumulated into, None for what isn't wanted; dkeys, dvalues: like keys and values, accumulated
        into, may be one array. Returns (dx or None, dh_0, dc_0, dfeed_0).
        """
        cdef Decoder d = self.d
        cdef DecoderLayer layer[kDecoderLayers]
        cdef int t = self.type_num, first = 1 if self.batch_first else 0
        cdef cnp.npy_intp dims[3]
        cdef cnp.ndarray a, dx = None
        cdef void* copy = NULL
        memcpy(layer, self.layer, sizeof(layer))
        d.layer = layer
        dh_0, dc_0 = decoder_state_arrays(&d, t)
        dims[0], dims[1] = d.B, d.A
        cdef cnp.ndarray dfeed_0 = empty_array(2, dims, t)
        self.gradients_of(&d, layer, grads, others, dh_n, dc_n, dh_0, dc_0)
        d.dfeed_0 = cnp.PyArray_DATA(dfeed_0)
        dims[first], dims[1 - first], dims[2] = d.T, d.B, d.A
        if dy is not None:
            a = dy = three_axes(dy, t, dims[0], dims[1], d.A, "dy")
            d.dy, d.dy_t, d.dy_b = cnp.PyArray_DATA(a), stride(a, first), stride(a, 1 - first)
        if input_grad:
            dims[2] = d.E
            dx = empty_array(3, dims, t)
            d.dx, d.dx_t, d.dx_b = cnp.PyArray_DATA(dx), stride(dx, first), stride(dx, 1 - first)
        dims[first] = d.S
        a = three_axes(dkeys, t, dims[0], dims[1], d.Q, "dkeys", True)
        d.dkeys, d.dk_s, d.dk_b = cnp.PyArray_DATA(a), stride(a, first), stride(a, 1 - first)
        a = three_axes(dvalues, t, dims[0], dims[1], d.K, "dvalues", True)
        d.dvalues, d.dv_s, d.dv_b = cnp.PyArray_DATA(a), stride(a, first), stride(a, 1 - first)
        if d.B == 0:
            return dx, dh_0, dc_0, dfeed_0
        d.threads = threads()
        self.table.sizes(&d, &self.sizes)
        d.workspace = workspace_acquire(self.sizes.backward)
        if retain:
            copy = workspace_acquire(self.sizes.gates)
        if d.workspace == NULL or (retain and copy == NULL):
            workspace_release(d.workspace)
            workspace_release(copy)
            raise MemoryError("no memory for the backward pass")
        with nogil:
            if retain:
                memcpy(copy, d.saved, self.sizes.gates)
            self.table.backward(&d)
            if retain:
                memcpy(d.saved, copy, self.sizes.gates)
        workspace_release(d.workspace)
        workspace_release(copy)
        return dx, dh_0, dc_0, dfeed_0


def decoder_forward(int cell, x, tuple layers, h_0, c_0, feed_0, lengths, keys, values, source_lengths, U, v, double scale, C,
                    b_c, bint feeding, bint batch_first, bint weights, bint save, tuple sampling=None, Options options=None):
    """Run a decoder.

    x [T, B, E] (batch_first: [B, T, E]); layers: (W, R, b_w, b_r) of each, with options (W, R, b_w, b_r, None, gain_x, gain_r,
    *vectors); h_0, c_0 [layers, B, H] (more than two states: c_0 [states - 1, layers, B, H]), feed_0 [B, A] or None;
    lengths, source_lengths: int64 [B] or None; keys [S, B, Q] and values [S, B, K] (batch_first: [B, S, ·]), may be one
    array; U [Q, H], v [Q] or None; C [A, K + H]; b_c [A] or None; sampling: (probability, seed, embedding, O, b_o, tokens int64
    [T, B]), which overwrites x and tokens, or None. Returns y, h_n, c_n (None without one), the weights
    [T, B, S] or None, and what backward needs or None.
    """
    cdef SavedDecoder s = SavedDecoder.__new__(SavedDecoder)
    cdef Decoder* d = &s.d
    cdef int t, first = 1 if batch_first else 0
    cdef cnp.ndarray a, k, w, y
    cdef cnp.npy_intp dims[3]
    cdef ptrdiff_t i
    s.refs = []
    d.dtype = dtype_of(x)
    t = cnp.NPY_FLOAT32 if d.dtype == 0 else cnp.NPY_FLOAT64
    s.type_num, s.table, s.batch_first = t, <const DecoderTable*>kernels().decoder, batch_first
    d.cell, d.feeding, d.save, d.scale = cell, feeding, save, scale
    describe_given(s, options)
    a = s.keep(three_axes(x, t, -1, -1, -1, "x"))
    w = s.keep(three_axes(values, t, -1, -1, -1, "values"))
    k = w if keys is values else s.keep(three_axes(keys, t, cnp.PyArray_DIMS(w)[0], cnp.PyArray_DIMS(w)[1], -1, "keys"))
    s.sizes_of(cnp.PyArray_DIMS(a)[first], cnp.PyArray_DIMS(a)[1 - first], cnp.PyArray_DIMS(a)[2], layers, k, w, C)
    if save:  # the caller may change these before the pullback runs; x, source and weights are held by reference
        lengths = None if lengths is None else lengths.copy()
        source_lengths = None if source_lengths is None else source_lengths.copy()
        h_0 = None if h_0 is None else h_0.copy()
        feed_0 = None if feed_0 is None else feed_0.copy()
    s.refs += [layers, U, v, C, b_c, lengths, source_lengths, h_0, c_0, feed_0]
    s.weights_of(layers, U, v, C, b_c)
    d.x, d.x_t, d.x_b = cnp.PyArray_DATA(a), stride(a, first), stride(a, 1 - first)
    d.keys, d.k_s, d.k_b = cnp.PyArray_DATA(k), stride(k, first), stride(k, 1 - first)
    d.values, d.v_s, d.v_b = cnp.PyArray_DATA(w), stride(w, first), stride(w, 1 - first)
    d.lengths = lengths_of(lengths, d.B, d.T, "lengths")
    d.source_lengths = lengths_of(source_lengths, d.B, d.S, "source_lengths")
    d.steps = d.T * d.B
    if d.lengths != NULL:
        d.steps = 0
        for i in range(d.B):
            d.steps += d.lengths[i]
    if feed_0 is not None:
        d.feed_0 = block(feed_0, t, d.B, d.A, "feed")
    h_n, c_n = decoder_state_arrays(d, t)
    s.states_of(h_0, c_0, h_n, c_n)
    dims[first], dims[1 - first], dims[2] = d.T, d.B, d.A
    y = s.keep(empty_array(3, dims, t))
    d.y, d.y_t, d.y_b = cnp.PyArray_DATA(y), stride(y, first), stride(y, 1 - first)
    found = None
    if weights:
        dims[0], dims[1], dims[2] = d.T, d.B, d.S
        found = empty_array(3, dims, t)
        d.weights = cnp.PyArray_DATA(found)
    if d.B == 0:
        return y, h_n, c_n, found, s if save else None
    cdef DecoderSampling drawn
    if sampling is not None:
        describe_sampling(d, &drawn, t, first, a, sampling)
    d.threads = threads()
    s.table.sizes(d, &s.sizes)
    if save:
        d.saved = workspace_acquire(s.sizes.saved)
    d.workspace = workspace_acquire(s.sizes.forward)
    if d.workspace == NULL or (save and d.saved == NULL):
        workspace_release(d.workspace)
        raise MemoryError(f"no memory for a decoder of {d.steps} steps")
    with nogil:
        s.table.forward(d)
    workspace_release(d.workspace)
    d.workspace = NULL
    d.weights = NULL
    d.sampling = NULL
    return y, h_n, c_n, found, s if save else None
