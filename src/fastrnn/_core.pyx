# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The binding: pointers and strides out of arrays, the GIL released, one call of the kernels' table.

Arguments are checked by the callers (`fastrnn.functional`, `fastrnn.nn`, through `fastrnn._check`); what is checked here
again is only what would make a kernel read or write out of bounds.
"""
import os

import numpy as np

cimport numpy as cnp
from libc.stdint cimport int64_t, uint64_t
from libc.stddef cimport ptrdiff_t
from libc.string cimport memcpy, memset

cnp.import_array()


cdef extern from "fastrnn.h" namespace "fastrnn" nogil:
    cdef struct Direction:
        const void* W
        ptrdiff_t W_rs, W_cs
        const void* R
        ptrdiff_t R_rs, R_cs
        const void* b_w
        const void* b_r
        const void* M
        ptrdiff_t M_rs, M_cs
        const void* h_0
        const void* c_0
        void* h_n
        void* c_n
        void* y
        ptrdiff_t y_t, y_b
        int reverse
        void* gates
        void* c
        void* hidden
        const void* dy
        ptrdiff_t dy_t, dy_b
        const void* dh_n
        const void* dc_n
        void* dW
        void* dR
        void* db_w
        void* db_r
        void* dM
        void* dh_0
        void* dc_0

    cdef struct Sequence:
        int dtype, cell
        ptrdiff_t T, B, I, H, P
        int D, threads, save
        ptrdiff_t checkpoint
        const void* x
        ptrdiff_t x_t, x_b
        void* dx
        ptrdiff_t dx_t, dx_b
        const int64_t* lengths
        int64_t steps
        void* workspace
        Direction dir[2]

    cdef struct Sizes:
        size_t gates, c, hidden, forward, backward

    cdef struct Ops:
        pass

    cdef struct Kernels:
        const char* name
        int vector_bytes
        void (*sizes)(const Sequence*, Sizes*) noexcept nogil
        void (*forward)(const Sequence*) noexcept nogil
        void (*backward)(const Sequence*) noexcept nogil
        size_t (*gemm_workspace)(int, ptrdiff_t, ptrdiff_t, ptrdiff_t, int) noexcept nogil
        void (*gemm)(int, ptrdiff_t, ptrdiff_t, ptrdiff_t, const void*, ptrdiff_t, ptrdiff_t, const void*, ptrdiff_t,
                     ptrdiff_t, void*, ptrdiff_t, const void*, int, void*, int) noexcept nogil
        void (*vmath)(int, int, const void*, void*, ptrdiff_t, int) noexcept nogil
        double (*fma_peak)(int, int64_t) noexcept nogil
        const Ops* ops

    const Kernels* kernels()
    const char* select(const char*)
    const char* available_isas()
    void* workspace_acquire(size_t)
    void workspace_release(void*)
    size_t workspace_cached()

cdef extern from "pool.h" namespace "fastrnn" nogil:
    int pool_default_threads()
    int pool_threads()
    void pool_set_threads(int)


# ---- settings

def select_isa(name=None):
    """Choose the instruction set by name, or the best one. Raises ValueError for one that this CPU can't run."""
    cdef bytes b = b"" if name is None else name.encode()
    cdef const char* wanted = b
    if name is None:
        wanted = NULL
    cdef const char* why = select(wanted)
    if why != NULL:
        raise ValueError("FASTRNN_ISA: " + (<bytes>why).decode())


def isa():
    """Name of the instruction set in use."""
    return (<bytes>kernels().name).decode()


def isas():
    """Names of the instruction sets that this CPU can run, best first."""
    return (<bytes>available_isas()).decode().split()


def set_num_threads(int n):
    """Set the number of threads of every kernel."""
    pool_set_threads(n)


def get_num_threads():
    """Number of threads of every kernel."""
    return pool_threads()


def default_threads():
    """CPUs that this process may use."""
    return pool_default_threads()


def cached_bytes():
    """Workspace kept for the next calls."""
    return workspace_cached()


def fma_peak(dtype, int64_t rounds):
    """Run rounds of independent fused multiply-adds in registers on one core; returns the operations done."""
    cdef int code = 0 if np.dtype(dtype) == np.float32 else 1
    cdef double done
    with nogil:
        done = kernels().fma_peak(code, rounds)
    return done


def _initialise():
    select_isa(os.environ.get("FASTRNN_ISA") or None)
    text = os.environ.get("FASTRNN_NUM_THREADS")
    if not text:
        pool_set_threads(pool_default_threads())
        return
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"FASTRNN_NUM_THREADS: expected an integer of at least 1, got {text!r}")
    pool_set_threads(min(int(text), 1 << 20))


_initialise()


# ---- arrays

cdef inline int threads() noexcept nogil:
    return pool_threads()


cdef int dtype_of(cnp.ndarray a) except -1:
    cdef int t = cnp.PyArray_TYPE(a)
    if t == cnp.NPY_FLOAT32:
        return 0
    if t == cnp.NPY_FLOAT64:
        return 1
    raise TypeError(f"expected float32 or float64, got {a.dtype}")


cdef inline bint fits(object a, int type_num, int ndim) noexcept:
    """An aligned array of native byte order whose strides are whole elements."""
    cdef int i
    if not cnp.PyArray_Check(a):
        return False
    cdef cnp.ndarray b = a
    if cnp.PyArray_TYPE(b) != type_num or cnp.PyArray_NDIM(b) != ndim or not cnp.PyArray_ISBEHAVED_RO(b):
        return False
    for i in range(ndim):
        if cnp.PyArray_STRIDES(b)[i] % cnp.PyArray_ITEMSIZE(b):
            return False
    return True


cdef inline ptrdiff_t stride(cnp.ndarray a, int axis) noexcept:
    return cnp.PyArray_STRIDES(a)[axis] // cnp.PyArray_ITEMSIZE(a)


cdef inline bint rows_contiguous(cnp.ndarray a) noexcept:
    cdef int last = cnp.PyArray_NDIM(a) - 1
    return cnp.PyArray_SIZE(a) == 0 or cnp.PyArray_DIMS(a)[last] == 1 or stride(a, last) == 1


cdef cnp.ndarray readable(object a, int type_num, int ndim, str name):
    """`a` itself, or a copy that kernels can read."""
    if not cnp.PyArray_Check(a) or cnp.PyArray_NDIM(a) != ndim:
        raise ValueError(f"{name}: expected an array of {ndim} dimensions")
    if cnp.PyArray_SIZE(a) == 0:
        return a
    if not fits(a, type_num, ndim) or not rows_contiguous(a):
        if cnp.PyArray_TYPE(a) != type_num:
            raise TypeError(f"{name}: expected one float type everywhere, got {a.dtype}")
        return np.ascontiguousarray(a, np.float32 if type_num == cnp.NPY_FLOAT32 else np.float64).reshape(a.shape)
    return a


cdef void* block(object a, int type_num, ptrdiff_t rows, ptrdiff_t columns, str name, bint writable=False) except NULL:
    """Data of a C-contiguous array of rows·columns elements."""
    if not cnp.PyArray_Check(a):
        raise TypeError(f"{name}: expected an array")
    cdef cnp.ndarray b = a
    if (cnp.PyArray_TYPE(b) != type_num or cnp.PyArray_SIZE(b) != rows * columns or not cnp.PyArray_IS_C_CONTIGUOUS(b)
            or not cnp.PyArray_ISBEHAVED_RO(b) or (writable and not cnp.PyArray_ISWRITEABLE(b))):
        raise ValueError(f"{name}: expected a contiguous array of {rows} x {columns}, got shape {a.shape} of {a.dtype}")
    return cnp.PyArray_DATA(b)


cdef const void* matrix(object a, int type_num, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t* rs, ptrdiff_t* cs,
                        str name) except NULL:
    if not fits(a, type_num, 2) or cnp.PyArray_DIMS(a)[0] != rows or cnp.PyArray_DIMS(a)[1] != columns:
        raise ValueError(f"{name}: expected [{rows}, {columns}], got {getattr(a, 'shape', a)} of {getattr(a, 'dtype', '')}")
    rs[0] = stride(a, 0)
    cs[0] = stride(a, 1)
    return cnp.PyArray_DATA(a)


cdef class _Block:
    """Memory of the workspace that an array stands on; it goes back when the last view of the array is gone."""
    cdef void* data

    def __dealloc__(self):
        workspace_release(self.data)


def empty(shape, dtype):
    """`np.empty`, large arrays on reused memory: fresh pages of outputs and gradients cost 8% of a training step."""
    cdef cnp.npy_intp dims[32]
    cdef cnp.npy_intp size = 1
    cdef int i, nd = len(shape), t = cnp.NPY_FLOAT32 if dtype == np.float32 else cnp.NPY_FLOAT64
    cdef _Block memory
    if nd > 32:
        raise ValueError("shape: too many axes")
    for i in range(nd):
        dims[i] = shape[i]
        if dims[i] < 0 or (dims[i] > 0 and size > (<cnp.npy_intp>1 << 48) // dims[i]):
            return np.empty(shape, dtype)  # raises what NumPy raises
        size *= dims[i]
    size *= 4 if t == cnp.NPY_FLOAT32 else 8
    if size < 1 << 17:
        return cnp.PyArray_EMPTY(nd, dims, t, 0)
    memory = _Block.__new__(_Block)
    memory.data = workspace_acquire(size)
    if memory.data == NULL:
        raise MemoryError(f"no memory for an array of shape {tuple(shape)}")
    array = cnp.PyArray_SimpleNewFromData(nd, dims, t, memory.data)
    cnp.set_array_base(array, memory)
    return array


# ---- recurrent layers

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
        kernels().sizes(q, &self.sizes)
        for d in range(q.D):
            q.dir[d].gates = workspace_acquire(self.sizes.gates) if self.sizes.gates else NULL
            q.dir[d].c = workspace_acquire(self.sizes.c) if self.sizes.c else NULL
            q.dir[d].hidden = workspace_acquire(self.sizes.hidden) if self.sizes.hidden else NULL
            if ((self.sizes.gates and q.dir[d].gates == NULL) or (self.sizes.c and q.dir[d].c == NULL)
                    or (self.sizes.hidden and q.dir[d].hidden == NULL)):
                raise MemoryError(f"no memory for the saved states of {q.steps} steps")
        return 0

    def backward(self, dy, dh_n, dc_n, grads, bint input_grad, dh_0, dc_0, bint retain=False, dx=None):
        """Gradients of one layer.

        dy [T, B, D·P] (in x's layout) or None; dh_n [D, B, P], dc_n [D, B, H] or None; grads: a tuple of one tuple
        (dW, dR, db_w, db_r, dM) a direction, accumulated into, None for what isn't wanted; dh_0, dc_0: written, or None.
        Returns dx or None.
        """
        cdef Sequence q = self.q
        cdef int d, t = self.type_num, G = GATES[q.cell]
        cdef ptrdiff_t item = 4 if t == cnp.NPY_FLOAT32 else 8
        cdef ptrdiff_t first = 1 if self.batch_first else 0
        cdef cnp.ndarray a
        cdef cnp.npy_intp dims[3]
        cdef void* scratch[2]
        cdef Direction* p
        if q.B == 0:
            return np.zeros((q.T, 0, q.I), self.refs[0].dtype).swapaxes(0, first) if input_grad else None
        if dy is not None:
            a = readable(dy, t, 3, "dy")
            dims[first] = q.T
            dims[1 - first] = q.B
            if (cnp.PyArray_DIMS(a)[first] != q.T or cnp.PyArray_DIMS(a)[1 - first] != q.B
                    or cnp.PyArray_DIMS(a)[2] != q.D * q.P):
                raise ValueError(f"dy: expected the shape of y, got {dy.shape}")
            dy = a  # keeps the copy alive
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
        if input_grad:
            if dx is None:
                dims[first] = q.T
                dims[1 - first] = q.B
                dims[2] = q.I
                dx = empty((dims[0], dims[1], dims[2]), self.refs[0].dtype)
            elif not fits(dx, t, 3) or not rows_contiguous(dx):
                raise ValueError("dx: expected an array with contiguous rows")
            q.dx = cnp.PyArray_DATA(dx)
            q.dx_t = stride(dx, first)
            q.dx_b = stride(dx, 1 - first)
        q.threads = threads()
        kernels().sizes(&q, &self.sizes)
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
            kernels().backward(&q)
        workspace_release(q.workspace)
        workspace_release(scratch[0])
        workspace_release(scratch[1])
        return dx if input_grad else None


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
    cdef int d, t, first = 1 if batch_first else 0
    cdef ptrdiff_t item, i, n
    cdef int64_t* lens
    cdef cnp.ndarray xa, w, ya
    cdef Direction* p
    if not cnp.PyArray_Check(x):
        raise TypeError("x: expected an array")
    q.dtype = dtype_of(x)
    t = cnp.NPY_FLOAT32 if q.dtype == 0 else cnp.NPY_FLOAT64
    item = 4 if q.dtype == 0 else 8
    xa = readable(x, t, 3, "x")
    w = weights[0][1]
    if not 0 <= cell < 6 or not 1 <= len(weights) <= 2 or cnp.PyArray_NDIM(w) != 2:
        raise ValueError("cell, weights: out of range")
    s.type_num = t
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
    if (not fits(y, t, 3) or not rows_contiguous(ya) or not cnp.PyArray_ISWRITEABLE(ya)
            or cnp.PyArray_DIMS(ya)[first] != q.T or cnp.PyArray_DIMS(ya)[1 - first] != q.B
            or cnp.PyArray_DIMS(ya)[2] != q.D * q.P):
        raise ValueError(f"y: expected contiguous rows in the layout of x, got shape {y.shape}")
    for d in range(q.D):
        p = &q.dir[d]
        W, R, b_w, b_r, M = weights[d]
        n = GATES[cell] * q.H
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
        if (d == 1 and (p.M == NULL) != (q.dir[0].M == NULL)) or (M is not None and cell != 3):
            raise ValueError("weight_hr: only for LSTM, in both directions or none")
        if h_0 is not None:
            p.h_0 = <char*>block(h_0, t, q.D * q.B, q.P, "h_0") + d * q.B * q.P * item
        if c_0 is not None:
            p.c_0 = <char*>block(c_0, t, q.D * q.B, q.H, "c_0") + d * q.B * q.H * item
        p.h_n = <char*>block(h_n, t, q.D * q.B, q.P, "h_n", True) + d * q.B * q.P * item
        if cell == 3:
            p.c_n = <char*>block(c_n, t, q.D * q.B, q.H, "c_n", True) + d * q.B * q.H * item
        p.y = <char*>cnp.PyArray_DATA(ya) + d * q.P * item
        p.y_t = stride(ya, first)
        p.y_b = stride(ya, 1 - first)
        p.reverse = reverse or d == 1
    q.save = 0 if not save else 2 if checkpoint > 0 else 1
    q.checkpoint = min(checkpoint, q.T) if q.save == 2 else 0
    q.threads = threads()
    s.allocate()
    q.workspace = workspace_acquire(s.sizes.forward)
    if q.workspace == NULL:
        raise MemoryError("no memory for the forward pass")
    with nogil:
        kernels().forward(q)
    workspace_release(q.workspace)
    q.workspace = NULL
    if not save:
        return None
    s.refs = (xa, y, weights, h_0, c_0, lengths)
    return s


# ---- matrix products

def gemm(a, b, out, bias=None, bint accumulate=False):
    """out[M, N] = (out if accumulate else bias or 0) + a[M, K] · b[K, N]; a and b of any strides."""
    cdef int t, code
    cdef ptrdiff_t M, N, K, ars, acs, brs, bcs, crs, ccs
    cdef const void* pa
    cdef const void* pb
    cdef const void* pbias = NULL
    cdef void* pc
    cdef void* workspace
    if not cnp.PyArray_Check(out) or cnp.PyArray_NDIM(out) != 2 or not cnp.PyArray_Check(a) or cnp.PyArray_NDIM(a) != 2:
        raise TypeError("gemm: expected arrays of two dimensions")
    code = dtype_of(out)
    t = cnp.NPY_FLOAT32 if code == 0 else cnp.NPY_FLOAT64
    M = cnp.PyArray_DIMS(out)[0]
    N = cnp.PyArray_DIMS(out)[1]
    K = cnp.PyArray_DIMS(a)[1]
    pa = matrix(a, t, M, K, &ars, &acs, "a")
    pb = matrix(b, t, K, N, &brs, &bcs, "b")
    pc = <void*>matrix(out, t, M, N, &crs, &ccs, "out")
    if not rows_contiguous(out) or not cnp.PyArray_ISWRITEABLE(out):
        raise ValueError("out: expected a writable array with contiguous rows")
    if bias is not None:
        pbias = block(bias, t, N, 1, "bias")
    if M == 0 or N == 0:
        return out
    cdef int n = threads()
    workspace = workspace_acquire(kernels().gemm_workspace(code, M, N, K, n))
    if workspace == NULL:
        raise MemoryError("no memory for a matrix product")
    with nogil:
        kernels().gemm(code, M, N, K, pa, ars, acs, pb, brs, bcs, pc, crs, pbias, accumulate, workspace, n)
    workspace_release(workspace)
    return out


_VMATH = {"exp": 0, "tanh": 1, "sigmoid": 2}


def vmath(str name, x, out):
    """out = f(x) elementwise for f in exp, tanh, sigmoid; contiguous arrays, out may be x."""
    cdef int code = dtype_of(x), f = _VMATH[name]
    cdef int t = cnp.PyArray_TYPE(x)
    cdef ptrdiff_t n = cnp.PyArray_SIZE(x)
    cdef void* px = block(x, t, n, 1, "x")
    cdef void* py = block(out, t, n, 1, "out", True)
    with nogil:
        kernels().vmath(code, f, px, py, n, threads())
    return out


include "_core_ops.pxi"
