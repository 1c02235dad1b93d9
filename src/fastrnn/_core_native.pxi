# Part of _core.pyx: layers for compiled code (csrc/native.h); for streams see _core_stream.pxi.

cdef extern from "native.h" namespace "fastrnn" nogil:
    enum:
        kNativeLayout

    cdef struct NativeLayer:
        int64_t batch_first, input_size, output_size
        int64_t states, h_size, c_size
        int64_t layers
        const Sequence* layer

    void native_layer(NativeLayer*)

NATIVE_LAYOUT = kNativeLayout


cdef class NativeLayers:
    """A stack of recurrent layers described once, for calls from compiled code that can't look at Python's objects.

    cell, layers: as in `forward_layers`; the arrays are kept, and read at each call.
    """
    cdef NativeLayer native
    cdef Sequence* layer
    cdef tuple refs

    def __dealloc__(self):
        free(self.layer)

    def __init__(self, int cell, tuple layers, bint batch_first, dtype):
        cdef Saved s
        cdef States nothing, final
        cdef Sequence* first
        cdef ptrdiff_t k, count = len(layers)
        if self.layer != NULL or count == 0:
            raise ValueError("NativeLayers: expected layers, and one call of __init__")
        self.layer = <Sequence*>calloc(count, sizeof(Sequence))
        if self.layer == NULL:
            raise MemoryError
        first = self.layer
        nothing.h = nothing.c = NULL
        for k in range(count):
            weights = layers[k]
            x = np.zeros((1, 1, weights[0][0].shape[1]), dtype)
            s = Saved.__new__(Saved)
            describe_layer(s, cell, x, weights, None, False, False)
            describe_saving(s, False, 0, 1)
            y, h, c = (np.zeros((s.q.D, 1, n), dtype) for n in (s.q.D * s.q.P, s.q.P, s.q.H))
            describe_states(&final, h, c if cell == 3 else None, s.type_num, &s.q, 1, True, "state_n")
            describe_forward(s, (x, y), weights, nothing, False, y[:1], final)
            self.layer[k] = s.q  # places of x, y and states are of this call, the rest is of every one
            if first.D != s.q.D or first.H != s.q.H or first.P != s.q.P or k and s.q.I != s.q.D * s.q.P:
                raise ValueError("layers: expected equal directions and sizes in all")
        self.refs = layers
        native_layer(&self.native)
        self.native.batch_first = batch_first
        self.native.input_size, self.native.output_size = first.I, first.D * first.P
        self.native.states, self.native.h_size, self.native.c_size = count * first.D, first.P, first.H
        self.native.layers, self.native.layer = count, first

    @property
    def address(self):
        if self.refs is None:
            raise RuntimeError("NativeLayers: __init__ has not run")
        return <size_t>&self.native
