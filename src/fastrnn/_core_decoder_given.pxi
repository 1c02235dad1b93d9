# Part of _core.pyx: what a decoder takes besides weights: cells given by functions (csrc/cell.h), and scheduled sampling.

cdef int describe_given(SavedDecoder s, Options options) except -1:
    """The cell of a decoder; its sizes come after."""
    cdef Decoder* d = &s.d
    cdef int k
    if options is None or not (options.is_given or options.is_variant):
        return 0
    s.options = options
    if options.is_given:
        s.spec = options.given
    elif not (<VariantFunction>kernels().variant)(&options.settings, d.dtype, d.cell, &s.spec):
        raise ValueError("variant: the cell has no such variant")
    d.cell, d.spec = 6, &s.spec
    for k in range(4):
        d.zoneout[k] = options.zoneout[k]
    d.recurrent_dropout, d.norm, d.expect, d.mask_seed = options.recurrent_dropout, options.norm, options.expect, options.seed
    return 0


cdef inline int decoder_gates(const Decoder* d) noexcept:
    return <int>d.spec.gates if d.cell == 6 else GATES[d.cell]


cdef inline int decoder_states(const Decoder* d) noexcept:
    return <int>d.spec.states if d.cell == 6 else 2 if d.cell == LSTM else 1


cdef tuple decoder_state_arrays(const Decoder* d, int t):
    """New arrays for h and for further states, or None."""
    cdef cnp.npy_intp dims[4]
    cdef int states = decoder_states(d)
    dims[0], dims[1], dims[2], dims[3] = states - 1, d.layers, d.B, d.H
    h = empty_array(3, dims + 1, t)
    if states == 1:
        return h, None
    return h, empty_array(3, dims + 1, t) if states == 2 else empty_array(4, dims, t)


cdef int decoder_parameters(DecoderLayer* p, const Decoder* d, int t, tuple layer) except -1:
    cdef int v
    cdef ptrdiff_t n = decoder_gates(d) * d.H
    if d.cell != 6 or len(layer) < 7:
        if len(layer) > 5 or (d.cell == 6 and (d.norm or d.spec.vectors > 0)):
            raise ValueError("layers: expected gains and vectors for a cell that has them, and for no other")
        return 0
    if len(layer) != 7 + d.spec.vectors:
        raise ValueError("layers: expected as many vectors as the cell has")
    if d.norm:
        p.gain_x = block(layer[5], t, n, 1, "gain_ih")
        p.gain_r = block(layer[6], t, n, 1, "gain_hh")
    for v in range(d.spec.vectors):
        p.vectors[v] = block(layer[7 + v], t, d.H, 1, "vector")
    return 0


cdef int decoder_parameter_gradients(DecoderLayer* p, const Decoder* d, int t, tuple layer) except -1:
    cdef int v
    cdef ptrdiff_t n = decoder_gates(d) * d.H
    if d.cell != 6 or len(layer) < 7:
        return 0
    if len(layer) != 7 + d.spec.vectors:
        raise ValueError("grads: expected as many vectors as the cell has")
    if d.norm and layer[5] is not None:
        p.dgain_x = block(layer[5], t, n, 1, "dgain_ih", True)
    if d.norm and layer[6] is not None:
        p.dgain_r = block(layer[6], t, n, 1, "dgain_hh", True)
    for v in range(d.spec.vectors):
        if layer[7 + v] is not None:
            p.dvectors[v] = block(layer[7 + v], t, d.H, 1, "dvector", True)
    return 0


cdef int describe_sampling(Decoder* d, DecoderSampling* q, int t, int first, cnp.ndarray x, tuple sampling) except -1:
    cdef cnp.ndarray e, tokens
    probability, seed, embedding, O, b_o, given = sampling
    if not fits(embedding, t, 2) or not rows_contiguous(embedding) or not fits(given, cnp.NPY_INT64, 2):
        raise ValueError("sampling: expected a matrix of embeddings of x's dtype, and tokens [T, B] in int64")
    e, tokens = embedding, given
    q.probability, q.seed = probability, seed
    q.V, q.E = cnp.PyArray_DIMS(e)[0], cnp.PyArray_DIMS(e)[1]
    if (q.V < 1 or q.V >= 1 << 31 or not 1 <= q.E <= d.E or cnp.PyArray_DIMS(tokens)[first] != d.T
            or cnp.PyArray_DIMS(tokens)[1 - first] != d.B or not cnp.PyArray_ISWRITEABLE(tokens)
            or not cnp.PyArray_ISWRITEABLE(x)):
        raise ValueError("sampling: sizes don't fit, or x or tokens are read-only")
    q.embedding, q.e_v = cnp.PyArray_DATA(e), stride(e, 0)
    q.O = matrix(O, t, q.V, d.A, &q.O_rs, &q.O_cs, "output weight")
    q.b_o = NULL
    if b_o is not None:
        q.b_o = block(b_o, t, q.V, 1, "output bias")
    q.tokens = <int64_t*>cnp.PyArray_DATA(tokens)
    q.t_t, q.t_b = stride(tokens, first), stride(tokens, 1 - first)
    d.sampling = q
    return 0
