# Part of _core.pyx: what a recurrent layer may have beyond the plain cell, and cells given by functions (csrc/cell.h).

cdef extern from "variant.h" namespace "fastrnn" nogil:
    cdef struct CellActivationSettings:
        int kind
        double alpha, beta

    cdef struct VariantSettings:
        bint peephole, coupled, norm_c
        double clip
        CellActivationSettings activation[3]


ctypedef bint (*VariantFunction)(const VariantSettings*, int, int, CellSpec*) noexcept nogil

ACTIVATIONS = ("identity", "tanh", "sigmoid", "relu", "leaky_relu", "thresholded_relu", "affine", "scaled_tanh", "hard_sigmoid",
               "elu", "softsign", "softplus")


cdef class Options:
    """What a call of recurrent layers does beyond the plain cell.

    variant: (peephole, coupled, norm_c, clip, three of (activation's number, alpha, beta)) for a variant of a built-in cell, or
    address: that of a CellSpec, which `owner` keeps alive; zoneout: the rates of each state; norm: gates that are normalised
    together, or 0; expect: zoneout by its expectation; seed: of the masks; reset: uint8 [T, B] in x's layout, with reset_h and
    reset_c like initial states, or None; all_states: return the states of every step and layer; input_masks: for each layer an
    array to multiply its input with, or None.
    """
    cdef VariantSettings settings
    cdef CellSpec given
    cdef bint is_variant, is_given
    cdef object owner
    cdef double zoneout[4]
    cdef double recurrent_dropout
    cdef int norm
    cdef bint expect, all_states
    cdef uint64_t seed
    cdef object reset, reset_h, reset_c
    cdef tuple input_masks

    def __init__(self, variant=None, size_t address=0, owner=None, zoneout=(), double recurrent_dropout=0.0, int norm=0,
                 bint expect=True, uint64_t seed=0, reset=None, reset_h=None, reset_c=None, bint all_states=False,
                 input_masks=None):
        cdef int k
        memset(&self.settings, 0, sizeof(self.settings))
        memset(&self.given, 0, sizeof(self.given))
        self.is_variant = variant is not None
        self.is_given = address != 0
        if self.is_variant:
            self.settings.peephole, self.settings.coupled, self.settings.norm_c, self.settings.clip, activations = variant
            for k in range(3):
                kind, alpha, beta = activations[k]
                self.settings.activation[k].kind = kind
                self.settings.activation[k].alpha = alpha
                self.settings.activation[k].beta = beta
        if self.is_given:
            self.given = (<const CellSpec*>address)[0]
            if not (1 <= self.given.gates <= kMostGates and 1 <= self.given.states <= kMostStates
                    and 0 <= self.given.vectors <= kMostVectors):
                raise ValueError("address: the cell has too many gates, states or vectors")
        self.owner = owner
        for k in range(4):
            self.zoneout[k] = zoneout[k] if k < len(zoneout) else 0.0
        self.recurrent_dropout = recurrent_dropout
        self.norm = norm
        self.expect = expect
        self.seed = seed
        self.reset, self.reset_h, self.reset_c = reset, reset_h, reset_c
        self.all_states = all_states
        self.input_masks = None if input_masks is None else tuple(input_masks)
        if (norm or recurrent_dropout > 0 or any(zoneout)) and not (self.is_variant or self.is_given):
            raise ValueError("variant: expected one")

    cdef int keep(self) except -1:
        """What the caller may change before the pullback runs is copied."""
        self.reset_h = None if self.reset_h is None else self.reset_h.copy()
        self.reset_c = None if self.reset_c is None else self.reset_c.copy()
        return 0

    cdef int describe(self, Saved s, int cell) except -1:
        """The cell of a call; its sizes come after."""
        cdef Sequence* q = &s.q
        cdef int k
        s.options = self
        if self.is_given:
            s.spec = self.given
        elif self.is_variant:
            if not (<VariantFunction>s.table.variant)(&self.settings, q.dtype, cell, &s.spec):
                raise ValueError("variant: the cell has no such variant")
        else:
            return 0
        q.cell = 6
        q.spec = &s.spec
        for k in range(4):
            q.zoneout[k] = self.zoneout[k]
        q.recurrent_dropout = self.recurrent_dropout
        q.norm = self.norm
        q.expect = self.expect
        return 0

    cdef int describe_resets(self, Saved s, int layer, int layers) except -1:
        """Masks and resets of one layer of a stack."""
        cdef Sequence* q = &s.q
        cdef cnp.ndarray a
        cdef int d, first = 1 if s.batch_first else 0
        cdef ptrdiff_t item = 4 if s.type_num == cnp.NPY_FLOAT32 else 8
        cdef States start
        q.mask_seed = self.seed + 1024 * <uint64_t>layer
        if self.reset is None or q.B == 0:
            return 0
        if not fits(self.reset, cnp.NPY_UINT8, 2):
            raise ValueError("reset: expected uint8 of 2 dimensions")
        a = self.reset
        if cnp.PyArray_DIMS(a)[first] != q.T or cnp.PyArray_DIMS(a)[1 - first] != q.B:
            raise ValueError("reset: expected the steps and rows of x")
        q.reset = <const uint8_t*>cnp.PyArray_DATA(a)
        q.reset_t = stride(a, first)
        q.reset_b = stride(a, 1 - first)
        describe_states(&start, self.reset_h, self.reset_c, s.type_num, q, layers, False, "reset_state")
        for d in range(q.D):
            q.dir[d].reset_h = rows_from(start.h, (layer * q.D + d) * q.B * q.P * item)
            q.dir[d].reset_c = rows_from(start.c, (layer * q.D + d) * q.B * q.H * item)
        return 0


cdef inline int gates_of(const Sequence* q) noexcept:
    return <int>q.spec.gates if q.cell == 6 else GATES[q.cell]


cdef inline int states_of(const Sequence* q) noexcept:
    return <int>q.spec.states if q.cell == 6 else 2 if q.cell == 3 else 1


cdef int describe_parameters(Direction* p, const Sequence* q, int t, tuple weights) except -1:
    """What a direction has after W, R, b_w, b_r and M: gain_x, gain_r, and vectors."""
    cdef int v
    cdef ptrdiff_t n = gates_of(q) * q.H
    if len(weights) < 7:
        if len(weights) > 5 or q.norm or (q.cell == 6 and q.spec.vectors > 0):
            raise ValueError("weights: expected gains and vectors")
        return 0
    if q.cell != 6 or len(weights) != 7 + q.spec.vectors:
        raise ValueError("weights: expected as many vectors as the cell has")
    if q.norm:
        p.gain_x = block(weights[5], t, n, 1, "gain_ih")
        p.gain_r = block(weights[6], t, n, 1, "gain_hh")
    for v in range(q.spec.vectors):
        p.vectors[v] = block(weights[7 + v], t, q.H, 1, "vector")
    return 0


cdef int describe_parameter_gradients(Direction* p, const Sequence* q, int t, tuple grads) except -1:
    cdef int v
    cdef ptrdiff_t n = gates_of(q) * q.H
    p.dgain_x = p.dgain_r = NULL
    for v in range(kMostVectors):
        p.dvectors[v] = NULL
    if len(grads) < 7:
        return 0
    if q.cell != 6 or len(grads) != 7 + q.spec.vectors:
        raise ValueError("grads: expected as many vectors as the cell has")
    if q.norm and grads[5] is not None:
        p.dgain_x = block(grads[5], t, n, 1, "dgain_ih", True)
    if q.norm and grads[6] is not None:
        p.dgain_r = block(grads[6], t, n, 1, "dgain_hh", True)
    for v in range(q.spec.vectors):
        if grads[7 + v] is not None:
            p.dvectors[v] = block(grads[7 + v], t, q.H, 1, "dvector", True)
    return 0
