# cython: language_level=3, wraparound=False, cdivision=True, initializedcheck=False
"""The binding: pointers and strides out of arrays, the GIL released, one call of the kernels' table.

Arguments are checked by the callers (`fastrnn.functional`, `fastrnn.nn`, through `fastrnn._check`); what is checked here
again is only what would make a kernel read or write out of bounds.
"""
import os

import numpy as np

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stddef cimport ptrdiff_t
from libc.string cimport memcpy, memset

cnp.import_array()


cdef extern from "fastrnn.h" namespace "fastrnn" nogil:
    enum:
        kMostGates
        kMostStates
        kMostVectors

    cdef struct CellSpec:
        int64_t gates, states, vectors

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
        ptrdiff_t c_next
        const void* reset_h
        const void* reset_c
        void* c_all
        ptrdiff_t c_all_t, c_all_b, c_all_next
        const void* dc_all
        ptrdiff_t dc_all_t, dc_all_b, dc_all_next
        const void* vectors[8]
        void* dvectors[8]
        const void* gain_x
        const void* gain_r
        void* dgain_x
        void* dgain_r

    cdef struct Sequence:
        int dtype, cell
        ptrdiff_t T, B, I, H, P
        int D, threads, save
        ptrdiff_t checkpoint
        const void* x
        ptrdiff_t x_t, x_b
        const int64_t* codes
        ptrdiff_t codes_t, codes_b
        void* dx
        ptrdiff_t dx_t, dx_b
        const int64_t* lengths
        int64_t steps
        void* workspace
        Direction dir[2]
        const uint8_t* reset
        ptrdiff_t reset_t, reset_b
        const CellSpec* spec
        int norm, expect
        double zoneout[4]
        double recurrent_dropout
        uint64_t mask_seed

    cdef struct Sizes:
        size_t gates, c, hidden, forward, backward

    enum:
        kMostLayers

    cdef struct Ops:
        pass

    cdef struct Streams:
        pass

    cdef struct TreeKernels:
        pass

    cdef struct Word2VecKernels:
        pass

    cdef struct Kernels:
        const char* name
        int vector_bytes
        void (*sizes)(const Sequence*, Sizes*) noexcept nogil
        void (*forward)(const Sequence*) noexcept nogil
        void (*backward)(const Sequence*) noexcept nogil
        int (*stack_teams)(const Sequence*, int, int) noexcept nogil
        void (*forward_stack)(const Sequence**, int) noexcept nogil
        void (*backward_stack)(const Sequence**, int) noexcept nogil
        size_t (*gemm_workspace)(int, ptrdiff_t, ptrdiff_t, ptrdiff_t, int) noexcept nogil
        void (*gemm)(int, ptrdiff_t, ptrdiff_t, ptrdiff_t, const void*, ptrdiff_t, ptrdiff_t, const void*, ptrdiff_t,
                     ptrdiff_t, void*, ptrdiff_t, const void*, int, void*, int) noexcept nogil
        double (*fma_peak)(int, int64_t) noexcept nogil
        const Ops* ops
        const Streams* stream
        const void* attention
        const TreeKernels* tree
        const Word2VecKernels* word2vec
        const void* decoder
        const void* search
        const void* scan
        void* variant

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
    int pool_set_own_threads(int)
    cdef struct Lender:
        void (*parallel)(void (*)(void*) noexcept nogil, void*, unsigned int, unsigned int) noexcept nogil
        int (*id)() noexcept nogil
        int (*size)() noexcept nogil
    bint pool_borrow(const Lender*)


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


def set_own_threads(int n):
    """Set the number of threads of what the calling thread runs, 0 for everybody's; returns what it was."""
    return pool_set_own_threads(n)


def borrow_threads(size_t parallel, size_t id, size_t size):
    """Run what threads with a number of their own call on the threads of an OpenMP library; three zeros: no longer.

    The addresses of GOMP_parallel, omp_get_thread_num and omp_get_num_threads. False, and nothing has changed: this is the
    child of a fork, which such threads don't survive.
    """
    cdef Lender lender
    lender.parallel = <void (*)(void (*)(void*) noexcept nogil, void*, unsigned int, unsigned int) noexcept nogil>parallel
    lender.id = <int (*)() noexcept nogil>id
    lender.size = <int (*)() noexcept nogil>size
    return pool_borrow(&lender if parallel and id and size else NULL)


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


select_isa(os.environ.get("FASTRNN_ISA") or None)


# ---- arrays

cdef inline int threads() noexcept nogil:
    return pool_threads()


cdef int dtype_of(cnp.ndarray a) except -1:
    if a is None:
        raise TypeError("expected an array, got None")
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
        return np.array(a, np.float32 if type_num == cnp.NPY_FLOAT32 else np.float64, order="C")
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


cdef cnp.ndarray empty_array(int nd, cnp.npy_intp* dims, int t):
    """Uninitialised; large ones on reused memory: fresh pages of outputs and gradients cost 8% of a training step."""
    cdef cnp.npy_intp size = 4 if t == cnp.NPY_FLOAT32 else 8
    cdef int i
    cdef _Block memory
    for i in range(nd):
        size *= dims[i]
    if size < 1 << 17:
        return cnp.PyArray_EMPTY(nd, dims, t, 0)
    memory = _Block.__new__(_Block)
    memory.data = workspace_acquire(size)
    if memory.data == NULL:
        raise MemoryError(f"no memory for an array of {size} bytes")
    cdef cnp.ndarray array = cnp.PyArray_SimpleNewFromData(nd, dims, t, memory.data)
    cnp.set_array_base(array, memory)
    return array


def empty(shape, dtype):
    """`np.empty`, large arrays on reused memory."""
    cdef cnp.npy_intp dims[32]
    cdef cnp.npy_intp size = 1
    cdef int i, nd = len(shape), t = cnp.NPY_FLOAT32 if dtype == np.float32 else cnp.NPY_FLOAT64
    if nd > 32:
        raise ValueError("shape: too many axes")
    for i in range(nd):
        dims[i] = shape[i]
        if dims[i] < 0 or (dims[i] > 0 and size > (<cnp.npy_intp>1 << 48) // dims[i]):
            return np.empty(shape, dtype)  # raises what NumPy raises
        size *= dims[i]
    return empty_array(nd, dims, t)


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
    cdef const Kernels* table = kernels()
    workspace = workspace_acquire(table.gemm_workspace(code, M, N, K, n))
    if workspace == NULL:
        raise MemoryError("no memory for a matrix product")
    with nogil:
        table.gemm(code, M, N, K, pa, ars, acs, pb, brs, bcs, pc, crs, pbias, accumulate, workspace, n)
    workspace_release(workspace)
    return out


include "_core_one_hot.pxi"
include "_core_recurrent.pxi"
include "_core_given.pxi"
include "_core_stack.pxi"
include "_core_ops.pxi"
include "_core_pool.pxi"
include "_core_stream.pxi"
include "_core_native.pxi"
include "_core_optim.pxi"
include "_core_attention.pxi"
include "_core_tree.pxi"
include "_core_online.pxi"
include "_core_word2vec.pxi"
include "_core_decoder.pxi"
include "_core_decoder_given.pxi"
include "_core_search.pxi"
include "_core_scan.pxi"
