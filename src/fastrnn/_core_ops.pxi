# The kernels of csrc/ops.h. All arrays are C-contiguous and of one float type; checked is what keeps kernels in bounds.

cdef extern from "ops.h" namespace "fastrnn" nogil:
    cdef struct Selection:
        void* data
        ptrdiff_t n
        const int64_t* rows
        ptrdiff_t width
        int dtype

    cdef struct Update:
        Selection p
        const void* g
        void* slot[3]
        double number[7]

    cdef struct OpsTable "fastrnn::Ops":
        void (*activation)(int, int, const void*, void*, ptrdiff_t, double, int) noexcept nogil
        void (*activation_backward)(int, int, const void*, const void*, const void*, void*, ptrdiff_t, double,
                                    int) noexcept nogil
        void (*softmax)(int, const void*, void*, ptrdiff_t, ptrdiff_t, int) noexcept nogil
        void (*log_softmax)(int, const void*, void*, ptrdiff_t, ptrdiff_t, int) noexcept nogil
        void (*softmax_backward)(int, const void*, const void*, void*, ptrdiff_t, ptrdiff_t, int) noexcept nogil
        ptrdiff_t (*cross_entropy)(int, const void*, const int64_t*, const void*, double, void*, double*, ptrdiff_t,
                                   ptrdiff_t, int) noexcept nogil
        double (*bce_with_logits)(int, const void*, const void*, const void*, void*, ptrdiff_t, int) noexcept nogil
        void (*layer_norm_forward)(int, const void*, const void*, const void*, double, void*, void*, void*, ptrdiff_t,
                                   ptrdiff_t, int) noexcept nogil
        void (*layer_norm_backward)(int, const void*, const void*, const void*, const void*, const void*, void*, void*,
                                    void*, ptrdiff_t, ptrdiff_t, int) noexcept nogil
        ptrdiff_t (*embedding_forward)(int, const void*, const int64_t*, void*, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                                       int) noexcept nogil
        ptrdiff_t (*embedding_backward)(int, const void*, const int64_t*, void*, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                                        int) noexcept nogil
        void (*max_pool)(int, const void*, ptrdiff_t, ptrdiff_t, const int64_t*, void*, void*, ptrdiff_t, ptrdiff_t,
                         ptrdiff_t, int) noexcept nogil
        void (*max_pool_backward)(int, const void*, const void*, const int64_t*, void*, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                                  ptrdiff_t, ptrdiff_t, int) noexcept nogil
        void (*mean_pool)(int, const void*, ptrdiff_t, ptrdiff_t, const int64_t*, void*, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                          int) noexcept nogil
        void (*mean_pool_backward)(int, const void*, const int64_t*, void*, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                                   ptrdiff_t, int) noexcept nogil
        void (*dropout)(int, const void*, double, uint64_t, void*, ptrdiff_t, int) noexcept nogil
        void (*update)(int, const Update*, ptrdiff_t, int) noexcept nogil
        double (*norm_squared)(const Selection*, ptrdiff_t, int) noexcept nogil
        void (*scale_all)(const Selection*, ptrdiff_t, double, int) noexcept nogil
        void (*column_sum)(int, const void*, void*, ptrdiff_t, ptrdiff_t, int) noexcept nogil
        double (*sum_squares)(int, const void*, ptrdiff_t, int) noexcept nogil
        int (*all_finite)(int, const void*, ptrdiff_t, int) noexcept nogil
        void (*scale)(int, void*, double, ptrdiff_t, int) noexcept nogil
        void (*clip)(int, void*, double, double, ptrdiff_t, int) noexcept nogil
        void (*add)(int, const void*, const void*, void*, ptrdiff_t, int) noexcept nogil


cdef inline const OpsTable* ops() noexcept nogil:
    return <const OpsTable*>kernels().ops


cdef inline int code_of(int type_num) noexcept nogil:
    return 0 if type_num == cnp.NPY_FLOAT32 else 1


cdef int floats(object a, str name) except -1:
    """NumPy's type number of an array of float32 or float64."""
    if not cnp.PyArray_Check(a):
        raise TypeError(f"{name}: expected an array, got {type(a).__name__}")
    cdef int t = cnp.PyArray_TYPE(a)
    if t != cnp.NPY_FLOAT32 and t != cnp.NPY_FLOAT64:
        raise TypeError(f"{name}: expected float32 or float64, got {a.dtype}")
    return t


cdef int floats_2d(object a, str name, ptrdiff_t* rows, ptrdiff_t* columns) except -1:
    cdef int t = floats(a, name)
    if cnp.PyArray_NDIM(a) != 2:
        raise ValueError(f"{name}: expected an array of 2 dimensions, got shape {a.shape}")
    rows[0] = cnp.PyArray_DIMS(a)[0]
    columns[0] = cnp.PyArray_DIMS(a)[1]
    return t


cdef inline void* optional(object a, int t, ptrdiff_t rows, ptrdiff_t columns, str name,
                           bint writable=False) except? NULL:
    return NULL if a is None else block(a, t, rows, columns, name, writable)


# ---- activations and softmax

cdef dict _ACTIVATIONS = {"exp": 0, "tanh": 1, "sigmoid": 2, "relu": 3, "leaky_relu": 4, "swish": 5, "gelu": 6}


cdef int activation_of(object name) except -1:
    f = _ACTIVATIONS.get(name)
    if f is None:
        raise ValueError(f"name: expected one of {', '.join(_ACTIVATIONS)}, got {name!r}")
    return f


def activation(name, x, out, double alpha=0.01):
    """out = f(x), elementwise; alpha: slope of leaky_relu, β of swish; out may be x."""
    cdef int f = activation_of(name), t = floats(x, "x")
    cdef ptrdiff_t n = cnp.PyArray_SIZE(x)
    cdef const void* px = block(x, t, n, 1, "x")
    cdef void* pout = block(out, t, n, 1, "out", True)
    with nogil:
        ops().activation(code_of(t), f, px, pout, n, alpha, threads())
    return out


def activation_backward(name, x, y, dy, out, double alpha=0.01):
    """out = f'(x)·dy, from x for leaky_relu, swish and gelu, from y = f(x) for the others; out may be any of them."""
    cdef int f = activation_of(name), t = floats(dy, "dy")
    cdef ptrdiff_t n = cnp.PyArray_SIZE(dy)
    cdef const void* px = block(x, t, n, 1, "x")
    cdef const void* py = block(y, t, n, 1, "y")
    cdef const void* pdy = block(dy, t, n, 1, "dy")
    cdef void* pout = block(out, t, n, 1, "out", True)
    with nogil:
        ops().activation_backward(code_of(t), f, px, py, pdy, pout, n, alpha, threads())


def softmax(x, out):
    """out = softmax of each row of x [N, C]; out may be x."""
    cdef ptrdiff_t N, C
    cdef int t = floats_2d(x, "x", &N, &C)
    cdef const void* px = block(x, t, N, C, "x")
    cdef void* pout = block(out, t, N, C, "out", True)
    with nogil:
        ops().softmax(code_of(t), px, pout, N, C, threads())


def log_softmax(x, out):
    """out = log softmax of each row of x [N, C]; out may be x."""
    cdef ptrdiff_t N, C
    cdef int t = floats_2d(x, "x", &N, &C)
    cdef const void* px = block(x, t, N, C, "x")
    cdef void* pout = block(out, t, N, C, "out", True)
    with nogil:
        ops().log_softmax(code_of(t), px, pout, N, C, threads())


def softmax_backward(y, dy, out):
    """out = dx from y = softmax(x) and dy, all [N, C]; out may be dy or y."""
    cdef ptrdiff_t N, C
    cdef int t = floats_2d(y, "y", &N, &C)
    cdef const void* py = block(y, t, N, C, "y")
    cdef const void* pdy = block(dy, t, N, C, "dy")
    cdef void* pout = block(out, t, N, C, "out", True)
    with nogil:
        ops().softmax_backward(code_of(t), py, pdy, pout, N, C, threads())


# ---- losses

def cross_entropy(logits, targets, factor, double label_smoothing, dlogits=None):
    """Σ factor·loss over the rows of logits [N, C]; dlogits, if given, is written and may be logits.

    targets int64 [N]; a row with factor [N] 0 isn't read and its dlogits are 0. Raises ValueError for any other row
    whose target is no class.
    """
    cdef ptrdiff_t N, C, bad
    cdef int t = floats_2d(logits, "logits", &N, &C)
    cdef const void* plogits = block(logits, t, N, C, "logits")
    cdef const int64_t* ptargets = <const int64_t*>block(targets, cnp.NPY_INT64, N, 1, "targets")
    cdef const void* pfactor = block(factor, t, N, 1, "factor")
    cdef void* pdlogits = optional(dlogits, t, N, C, "dlogits", True)
    cdef double loss = 0
    with nogil:
        bad = ops().cross_entropy(code_of(t), plogits, ptargets, pfactor, label_smoothing, pdlogits, &loss, N, C,
                                  threads())
    if bad >= 0:
        raise ValueError(f"targets: expected integers from 0 to {C - 1}, got {ptargets[bad]} at position {bad}")
    return loss


def bce_with_logits(logits, targets, factor, dlogits=None):
    """Σ factor·loss of the binary cross entropy; dlogits, if given, is written and may be logits. All of one size."""
    cdef int t = floats(logits, "logits")
    cdef ptrdiff_t n = cnp.PyArray_SIZE(logits)
    cdef const void* plogits = block(logits, t, n, 1, "logits")
    cdef const void* ptargets = block(targets, t, n, 1, "targets")
    cdef const void* pfactor = block(factor, t, n, 1, "factor")
    cdef void* pdlogits = optional(dlogits, t, n, 1, "dlogits", True)
    cdef double loss
    with nogil:
        loss = ops().bce_with_logits(code_of(t), plogits, ptargets, pfactor, pdlogits, n, threads())
    return loss


# ---- layer normalisation

def layer_norm_forward(x, gamma, beta, double eps, y, mean, rstd):
    """y = (x - mean)·rstd·gamma + beta over the rows of x [N, F]; writes y, mean [N], rstd [N]; y may be x."""
    cdef ptrdiff_t N, F
    cdef int t = floats_2d(x, "x", &N, &F)
    cdef const void* px = block(x, t, N, F, "x")
    cdef const void* pgamma = optional(gamma, t, F, 1, "gamma")
    cdef const void* pbeta = optional(beta, t, F, 1, "beta")
    cdef void* py = block(y, t, N, F, "y", True)
    cdef void* pmean = block(mean, t, N, 1, "mean", True)
    cdef void* prstd = block(rstd, t, N, 1, "rstd", True)
    with nogil:
        ops().layer_norm_forward(code_of(t), px, pgamma, pbeta, eps, py, pmean, prstd, N, F, threads())


def layer_norm_backward(dy, x, gamma, mean, rstd, dx, dgamma=None, dbeta=None):
    """Writes dx [N, F], which may be dy or x; adds to dgamma and dbeta [F]."""
    cdef ptrdiff_t N, F
    cdef int t = floats_2d(x, "x", &N, &F)
    cdef const void* pdy = block(dy, t, N, F, "dy")
    cdef const void* px = block(x, t, N, F, "x")
    cdef const void* pgamma = optional(gamma, t, F, 1, "gamma")
    cdef const void* pmean = block(mean, t, N, 1, "mean")
    cdef const void* prstd = block(rstd, t, N, 1, "rstd")
    cdef void* pdx = block(dx, t, N, F, "dx", True)
    cdef void* pdgamma = optional(dgamma, t, F, 1, "dgamma", True)
    cdef void* pdbeta = optional(dbeta, t, F, 1, "dbeta", True)
    with nogil:
        ops().layer_norm_backward(code_of(t), pdy, px, pgamma, pmean, prstd, pdx, pdgamma, pdbeta, N, F, threads())


# ---- embeddings

def embedding_forward(weight, idx, out):
    """out[n] = weight[idx[n]]; weight [V, E], idx int64 [N], out [N, E]."""
    cdef ptrdiff_t V, E, N, bad
    cdef int t = floats_2d(weight, "weight", &V, &E)
    if not cnp.PyArray_Check(idx):
        raise TypeError(f"idx: expected an array, got {type(idx).__name__}")
    N = cnp.PyArray_SIZE(idx)
    cdef const void* pweight = block(weight, t, V, E, "weight")
    cdef const int64_t* pidx = <const int64_t*>block(idx, cnp.NPY_INT64, N, 1, "idx")
    cdef void* pout = block(out, t, N, E, "out", True)
    with nogil:
        bad = ops().embedding_forward(code_of(t), pweight, pidx, pout, N, V, E, threads())
    if bad >= 0:
        raise ValueError(f"idx: expected integers from 0 to {V - 1}, got {pidx[bad]} at position {bad}")


def embedding_backward(dy, idx, dweight):
    """dweight[idx[n]] += dy[n] for ascending n; dy [N, E], idx int64 [N], dweight [V, E]."""
    cdef ptrdiff_t V, E, N, bad
    cdef int t = floats_2d(dweight, "dweight", &V, &E)
    if not cnp.PyArray_Check(idx):
        raise TypeError(f"idx: expected an array, got {type(idx).__name__}")
    N = cnp.PyArray_SIZE(idx)
    cdef const void* pdy = block(dy, t, N, E, "dy")
    cdef const int64_t* pidx = <const int64_t*>block(idx, cnp.NPY_INT64, N, 1, "idx")
    cdef void* pdweight = block(dweight, t, V, E, "dweight", True)
    with nogil:
        bad = ops().embedding_backward(code_of(t), pdy, pidx, pdweight, N, V, E, threads())
    if bad >= 0:
        raise ValueError(f"idx: expected integers from 0 to {V - 1}, got {pidx[bad]} at position {bad}")


# ---- dropout

def dropout(x, double p, seed, out):
    """out = x·mask/(1-p), the mask decided by seed and an element's index; its own backward. out may be x."""
    cdef int t = floats(x, "x")
    cdef ptrdiff_t n = cnp.PyArray_SIZE(x)
    cdef const void* px = block(x, t, n, 1, "x")
    cdef void* pout = block(out, t, n, 1, "out", True)
    cdef uint64_t bits
    if not 0 <= p < 1:
        raise ValueError(f"p: expected 0 ≤ p < 1, got {p!r}")
    try:
        bits = seed
    except OverflowError:
        raise ValueError(f"seed: expected an integer from 0 to 2**64 - 1, got {seed!r}") from None
    except TypeError:
        raise TypeError(f"seed: expected an integer, got {seed!r}") from None
    with nogil:
        ops().dropout(code_of(t), px, p, bits, pout, n, threads())


def dropout_mask(n, double p, seed):
    """The mask that `dropout` uses for n elements: bool [n], True where an element is kept."""
    kept = np.ones(n, np.float32)
    dropout(kept, p, seed, kept)
    return kept != 0


# ---- sums and simple arithmetic

def column_sum(a, out):
    """out [N] += the rows of a [M, N], in their order."""
    cdef ptrdiff_t M, N
    cdef int t = floats_2d(a, "a", &M, &N)
    cdef const void* pa = block(a, t, M, N, "a")
    cdef void* pout = block(out, t, N, 1, "out", True)
    with nogil:
        ops().column_sum(code_of(t), pa, pout, M, N, threads())


def sum_squares(a):
    """Σ a², summed in float64."""
    cdef int t = floats(a, "a")
    cdef ptrdiff_t n = cnp.PyArray_SIZE(a)
    cdef const void* pa = block(a, t, n, 1, "a")
    cdef double total
    with nogil:
        total = ops().sum_squares(code_of(t), pa, n, threads())
    return total


def all_finite(a):
    """Whether a holds neither NaN nor infinity."""
    cdef int t = floats(a, "a")
    cdef ptrdiff_t n = cnp.PyArray_SIZE(a)
    cdef const void* pa = block(a, t, n, 1, "a")
    cdef bint finite
    with nogil:
        finite = ops().all_finite(code_of(t), pa, n, threads())
    return finite


def scale(a, double s):
    """a *= s."""
    cdef int t = floats(a, "a")
    cdef ptrdiff_t n = cnp.PyArray_SIZE(a)
    cdef void* pa = block(a, t, n, 1, "a", True)
    with nogil:
        ops().scale(code_of(t), pa, s, n, threads())


def clip(a, double low, double high):
    """Limit a to low … high, in place; NaN stays."""
    cdef int t = floats(a, "a")
    cdef ptrdiff_t n = cnp.PyArray_SIZE(a)
    cdef void* pa = block(a, t, n, 1, "a", True)
    if not low <= high:
        raise ValueError(f"low, high: expected low ≤ high, got {low} and {high}")
    with nogil:
        ops().clip(code_of(t), pa, low, high, n, threads())


def add(a, b, out):
    """out = a + b, of one size; out may be either."""
    cdef int t = floats(a, "a")
    cdef ptrdiff_t n = cnp.PyArray_SIZE(a)
    cdef const void* pa = block(a, t, n, 1, "a")
    cdef const void* pb = block(b, t, n, 1, "b")
    cdef void* pout = block(out, t, n, 1, "out", True)
    with nogil:
        ops().add(code_of(t), pa, pb, pout, n, threads())
