# Part of _core.pyx: what a decoder writes by itself (csrc/search.h).

from libc.stdint cimport uint8_t

cdef extern from "search.h" namespace "fastrnn" nogil:
    cdef struct Search:
        Decoder d
        int mode, width, n_best
        ptrdiff_t V, Z
        const void* embedding
        ptrdiff_t e_v
        const void* extra
        const void* O
        ptrdiff_t O_rs, O_cs
        const void* b_o
        const uint8_t* banned
        int64_t bos, eos
        ptrdiff_t min_length
        double length_penalty, coverage_penalty
        int early
        double temperature, top_p
        ptrdiff_t top_k
        uint64_t seed
        int64_t* tokens
        int64_t* lengths
        double* scores
        void* weights
        void* workspace

    cdef struct SearchTable:
        size_t (*bytes)(const Search*) noexcept nogil
        void (*run)(const Search*) noexcept nogil

SEARCH_BEAM, SEARCH_SAMPLE = range(2)


cdef int describe_texts(Search* q, int t, embedding, extra, O, b_o, banned) except -1:
    """Tokens' matrices."""
    cdef cnp.ndarray e, o
    if not fits(embedding, t, 2) or not rows_contiguous(embedding) or not fits(O, t, 2):
        raise ValueError("embedding, output: expected matrices of the decoder's dtype, with contiguous rows")
    e, o = embedding, O
    q.V = cnp.PyArray_DIMS(e)[0]
    q.Z = q.d.E - cnp.PyArray_DIMS(e)[1]
    if q.V < 1 or q.V >= 1 << 31 or cnp.PyArray_DIMS(e)[1] < 1 or q.Z < 0 or (q.Z > 0) != (extra is not None):
        raise ValueError("embedding, extra: don't fit the decoder's input")
    if not 0 <= q.bos < q.V or not 0 <= q.eos < q.V:
        raise ValueError(f"bos, eos: expected tokens from 0 to {q.V - 1}")
    q.embedding, q.e_v = cnp.PyArray_DATA(e), stride(e, 0)
    if extra is not None:
        q.extra = block(extra, t, q.d.B, q.Z, "extra")
    q.O = matrix(O, t, q.V, q.d.A, &q.O_rs, &q.O_cs, "output weight")
    if b_o is not None:
        q.b_o = block(b_o, t, q.V, 1, "output bias")
    if banned is not None:
        q.banned = <uint8_t*>block(banned, cnp.NPY_UINT8, q.V, 1, "banned")
    return 0


def search(int mode, int cell, ptrdiff_t batch, ptrdiff_t input_size, tuple layers, h_0, c_0, feed_0, keys, values,
           source_lengths, U, v, double scale, C, b_c, bint feeding, bint batch_first, embedding, extra, O, b_o, banned,
           int64_t bos, int64_t eos, int width, int n_best, ptrdiff_t most, ptrdiff_t least, double length_penalty,
           double coverage_penalty, bint early, double temperature, ptrdiff_t top_k, double top_p, uint64_t seed, bint weights,
           Options options=None):
    """Beam search, or samples.

    The decoder as for `decoder_forward`, or C None: no attention, and no keys. embedding [V, E]; extra [B, Z] or None; O [V, A];
    banned: uint8 [V] or None. Returns tokens [B, n_best, most], lengths, scores [B, n_best], weights [B, n_best, most, S] or
    None.
    """
    cdef SavedDecoder s = SavedDecoder.__new__(SavedDecoder)
    cdef Search q
    cdef Decoder* d = &s.d
    cdef cnp.ndarray k, w
    cdef int t, first = 1 if batch_first else 0
    cdef const SearchTable* table = <const SearchTable*>kernels().search
    memset(&q, 0, sizeof(q))
    d.dtype = dtype_of(embedding)
    t = cnp.NPY_FLOAT32 if d.dtype == 0 else cnp.NPY_FLOAT64
    s.type_num, s.batch_first = t, batch_first
    d.cell, d.feeding, d.scale = cell, feeding, scale
    describe_given(s, options)
    if not 0 <= mode < 2 or width < 1 or not 1 <= n_best <= width or (mode == 1 and n_best != width) or top_k < 0 or least < 0:
        raise ValueError("width, n_best, top_k: out of range")
    k = w = None
    if C is not None:
        w = three_axes(values, t, -1, -1, -1, "values")
        k = w if keys is values else three_axes(keys, t, cnp.PyArray_DIMS(w)[0], cnp.PyArray_DIMS(w)[1], -1, "keys")
    elif feeding or weights or coverage_penalty != 0:
        raise ValueError("without attention there are no weights, no coverage and no input feeding")
    s.sizes_of(most, batch, input_size, layers, k, w, C)
    s.weights_of(layers, U, v, C, b_c)
    if C is not None:
        d.keys, d.k_s, d.k_b = cnp.PyArray_DATA(k), stride(k, first), stride(k, 1 - first)
        d.values, d.v_s, d.v_b = cnp.PyArray_DATA(w), stride(w, first), stride(w, 1 - first)
        d.source_lengths = lengths_of(source_lengths, d.B, d.S, "source_lengths")
    if feed_0 is not None:
        d.feed_0 = block(feed_0, t, d.B, d.A, "feed")
    s.states_of(h_0, c_0, None, None)
    d.threads = threads()
    q.d = d[0]
    q.mode, q.width, q.n_best, q.bos, q.eos, q.min_length = mode, width, n_best, bos, eos, least
    q.length_penalty, q.coverage_penalty, q.early = length_penalty, coverage_penalty, early
    q.temperature, q.top_k, q.top_p, q.seed = temperature, top_k, top_p, seed
    describe_texts(&q, t, embedding, extra, O, b_o, banned)
    if d.B * width >= (<ptrdiff_t>1 << 31) // most or (mode == 0 and d.B * width >= (<ptrdiff_t>1 << 40) // width):
        raise ValueError(f"width, max_length: expected fewer than 2**31 tokens, got {d.B} x {width} x {most}")
    cdef cnp.ndarray tokens = np.empty((d.B, n_best, most), np.int64), lengths = np.empty((d.B, n_best), np.int64)
    cdef cnp.ndarray scores = np.empty((d.B, n_best)), found = None
    q.tokens = <int64_t*>cnp.PyArray_DATA(tokens)
    q.lengths = <int64_t*>cnp.PyArray_DATA(lengths)
    q.scores = <double*>cnp.PyArray_DATA(scores)
    if weights:
        found = empty((d.B, n_best, most, d.S), embedding.dtype)
        q.weights = cnp.PyArray_DATA(found)
    if d.B:
        q.workspace = workspace_acquire(table.bytes(&q))
        if q.workspace == NULL:
            raise MemoryError(f"no memory for {d.B} x {width} texts of {most} tokens")
        with nogil:
            table.run(&q)
        workspace_release(q.workspace)
    return tokens, lengths, scores, found
