# Part of _core.pyx: stacks of recurrent layers, one after the other or side by side.

cdef int run_stack(const Kernels* table, Sequence** q, int layers, bint backward, size_t* bytes) except -1:
    """The layers of a stack in one call, with workspaces of so many bytes."""
    cdef int k
    cdef size_t total = 0
    for k in range(layers):
        total += bytes[k]
    cdef char* memory = <char*>workspace_acquire(total)
    if memory == NULL:
        raise MemoryError("no memory for the backward pass" if backward else "no memory for the forward pass")
    for k in range(layers):
        q[k].workspace = memory
        memory += bytes[k]
    with nogil:
        if backward:
            table.backward_stack(<const Sequence**>q, layers)
        else:
            table.forward_stack(<const Sequence**>q, layers)
    workspace_release(q[0].workspace)
    for k in range(layers):
        q[k].workspace = NULL
    return 0


cdef cnp.ndarray new_states(ptrdiff_t states, ptrdiff_t rows, ptrdiff_t B, ptrdiff_t H, int t):
    """[rows, B, H], or [states, rows, B, H] for more than one."""
    cdef cnp.npy_intp dims[4]
    dims[0] = states
    dims[1] = rows
    dims[2] = B
    dims[3] = H
    return empty_array(3, dims + 1, t) if states == 1 else empty_array(4, dims, t)


def forward_layers(int cell, x, tuple layers, h_0, c_0, lengths, bint batch_first, bint save, ptrdiff_t checkpoint,
                   double rate, uint64_t mask, Options options=None):
    """Run a stack of layers: `forward` for each, on the outputs of the one below.

    layers: `weights` of each; h_0, c_0: [layers·D, B, ·] or None; rate: dropout between layers, with masks of the seeds
    mask + 1, mask + 2, …. Returns y, h_n, c_n (None without one), and a list of what backward needs of each layer. Cells with
    more than two states have c_0 and c_n [states - 1, layers·D, B, H]. With options.all_states y is [layers, …], and the list
    ends with [states - 1, layers, …, D·H], the further states of every step, or None.
    """
    cdef Saved s
    cdef States initial, final, start, end
    cdef ptrdiff_t k, count = len(layers), item
    cdef int t, first = 1 if batch_first else 0
    cdef cnp.npy_intp dims[5]
    cdef cnp.ndarray a, y = None, h_n = None, c_n = None, h_all = None, c_all = None
    cdef ptrdiff_t all_size = 0
    cdef int d
    cdef bint at_once = False  # side by side: described one after the other, then run in one call
    cdef Sequence* stack[kMostLayers]
    cdef size_t bytes[kMostLayers]
    cdef Saved lowest
    a = input_array(x, layers[0] if count else (), save, &t)
    item = 4 if t == cnp.NPY_FLOAT32 else 8
    if save:  # the caller may change these before the pullback runs; x and the weights are held by reference
        lengths = None if lengths is None else lengths.copy()
        h_0 = None if h_0 is None else h_0.copy()
        if options is not None:
            options.keep()
    cdef list kept = []
    cdef tuple refs, sizes = None
    if count == 0:
        raise ValueError("layers: expected at least one")
    for k in range(count):
        weights = layers[k]
        if k and rate > 0:
            a = empty_array(3, cnp.PyArray_DIMS(y), t)
            dropout(y, rate, mask + <uint64_t>k, a)
        elif k:
            a = y
        if options is not None and options.input_masks is not None and options.input_masks[k] is not None:
            a = a * options.input_masks[k]
        s = Saved.__new__(Saved)
        describe_layer(s, cell, a, weights, lengths, batch_first, save, options)
        if k == 0:
            dims[0] = count * s.q.D
            dims[1] = s.q.B
            dims[2] = s.q.P
            h_n = empty_array(3, dims, t)
            if states_of(&s.q) > 1:
                c_n = new_states(states_of(&s.q) - 1, count * s.q.D, s.q.B, s.q.H, t)
            if options is not None and options.all_states:
                dims[0] = count
                dims[1 + first] = s.q.T
                dims[2 - first] = s.q.B
                dims[3] = s.q.D * s.q.P
                h_all = empty_array(4, dims, t)
                if states_of(&s.q) > 1:
                    dims[4] = s.q.D * s.q.H
                    dims[3] = dims[2]
                    dims[2] = dims[1]
                    dims[1] = count
                    dims[0] = states_of(&s.q) - 1
                    c_all = empty_array(5, dims, t) if dims[0] > 1 else empty_array(4, dims + 1, t)
                    all_size = s.q.T * s.q.B * s.q.D * s.q.H
            describe_states(&initial, h_0, c_0, t, &s.q, count, False, "state")
            describe_states(&final, h_n, c_n, t, &s.q, count, True, "state_n")
            sizes = (s.q.D, s.q.H, s.q.P)
            lowest = s
            describe_saving(s, save, checkpoint, threads())
            if count > 1 and rate == 0 and s.q.codes == NULL and (options is None or not options.input_masks):
                at_once = s.table.stack_teams(&s.q, count, False) > 0
        elif sizes != (s.q.D, s.q.H, s.q.P):
            raise ValueError("layers: expected equal directions and sizes in all")
        dims[first] = s.q.T
        dims[1 - first] = s.q.B
        dims[2] = s.q.D * s.q.P
        y = empty_array(3, dims, t) if h_all is None else h_all[k]
        start.h = rows_from(initial.h, k * s.q.D * s.q.B * s.q.P * item)
        start.c = rows_from(initial.c, k * s.q.D * s.q.B * s.q.H * item)
        end.h = rows_from(final.h, k * s.q.D * s.q.B * s.q.P * item)
        end.c = rows_from(final.c, k * s.q.D * s.q.B * s.q.H * item)
        if k:
            s.table = lowest.table
            describe_saving(s, save, checkpoint, lowest.q.threads)
        if options is not None:  # before the workspace is measured
            options.describe_resets(s, k, count)
        describe_forward(s, (a, y, weights, h_0, c_0, lengths), weights, start, False, y, end)
        for d in range(s.q.D):
            s.q.dir[d].c_next = count * s.q.D * s.q.B * s.q.H
        if c_all is not None:
            for d in range(s.q.D):
                s.q.dir[d].c_all = <char*>cnp.PyArray_DATA(c_all) + (k * all_size + d * s.q.H) * item
                s.q.dir[d].c_all_t = s.q.D * s.q.H * (1 if batch_first else s.q.B)
                s.q.dir[d].c_all_b = s.q.D * s.q.H * (s.q.T if batch_first else 1)
                s.q.dir[d].c_all_next = count * all_size
        if at_once:
            stack[k] = &s.q
            bytes[k] = s.sizes.forward
        else:
            run_forward(s)
        if save or at_once:
            kept.append(s)
    if at_once:
        run_stack(s.table, stack, count, False, bytes)
    kept = kept if save else []
    if h_all is None:
        return y, h_n, c_n, kept
    return h_all, h_n, c_n, [*kept, c_all]


cdef int run_backward_stack(list kept, Sequence* stack, bint retain) except -1:
    cdef Sequence* q[kMostLayers]
    cdef size_t bytes[kMostLayers]
    cdef size_t total = 0
    cdef Saved s
    cdef int k, count = len(kept)
    for k in range(count):
        s = kept[k]
        q[k] = &stack[k]
        bytes[k] = s.sizes.backward
        total += s.sizes.gates
    cdef char* copies = NULL
    cdef char* at
    if retain:
        copies = at = <char*>workspace_acquire(total)
        if copies == NULL:
            raise MemoryError("no memory for the backward pass")
        for k in range(count):
            s = kept[k]
            memcpy(at, q[k].dir[0].gates, s.sizes.gates)
            q[k].dir[0].gates = at
            at += s.sizes.gates
    try:
        run_stack(s.table, q, count, True, bytes)
    finally:
        workspace_release(copies)
    return 0


def backward_layers(list kept, dy, dh_n, dc_n, tuple grads, bint input_grad, bint retain, double rate, uint64_t mask,
                    dh_all=None, dc_all=None):
    """Gradients of the stack that `forward_layers` ran; grads: those of `Saved.backward` for each layer.

    dh_all, dc_all: as `forward_layers` returned them, or None; dy is then that of the last layer besides. Returns dx (None
    without `input_grad`), dh_0 and dc_0 (None without one).
    """
    cdef ptrdiff_t k, count = len(kept)
    cdef Saved s = kept[0]
    cdef Sequence q
    cdef States given, out, end, start
    cdef cnp.npy_intp dims[3]
    cdef ptrdiff_t item = 4 if s.type_num == cnp.NPY_FLOAT32 else 8
    dims[0] = count * s.q.D
    dims[1] = s.q.B
    dims[2] = s.q.P
    cdef cnp.ndarray dh_0 = empty_array(3, dims, s.type_num), dc_0 = None
    if states_of(&s.q) > 1:
        dc_0 = new_states(states_of(&s.q) - 1, count * s.q.D, s.q.B, s.q.H, s.type_num)
    describe_states(&given, dh_n, dc_n, s.type_num, &s.q, count, False, "dstate")
    describe_states(&out, dh_0, dc_0, s.type_num, &s.q, count, True, "dstate_0")
    if len(grads) != count:
        raise ValueError(f"grads: expected a tuple of {count}")
    for k in range(count):  # everything is looked at before anything is overwritten: the caller may mend it and call again
        s = kept[k]
        q = s.q
        if type(grads[k]) is not tuple or len(grads[k]) != q.D:
            raise ValueError(f"grads: expected a tuple of {q.D}")
        s.describe_gradients(&q, None, &given, grads[k], &out)
    cdef Sequence stack[kMostLayers]
    cdef bint at_once = False  # as in `forward_layers`
    cdef Saved lowest = kept[0]
    cdef tuple input_masks = None if lowest.options is None else lowest.options.input_masks
    cdef ptrdiff_t all_size = lowest.q.T * lowest.q.B * lowest.q.D * lowest.q.H
    cdef char* all_c = NULL
    cdef int d
    if dc_all is not None:
        all_c = <char*>block(dc_all, lowest.type_num, (states_of(&lowest.q) - 1) * count, all_size, "dstates c")
    if count > 1 and rate == 0 and lowest.q.codes == NULL and not input_masks and dh_all is None:
        q = lowest.q
        q.threads = threads()
        at_once = lowest.table.stack_teams(&q, count, True) > 0
    held = []
    for k in range(count - 1, -1, -1):
        s = kept[k]
        end.h = rows_from(given.h, k * s.q.D * s.q.B * s.q.P * item)
        end.c = rows_from(given.c, k * s.q.D * s.q.B * s.q.H * item)
        start.h = rows_from(out.h, k * s.q.D * s.q.B * s.q.P * item)
        start.c = rows_from(out.c, k * s.q.D * s.q.B * s.q.H * item)
        for d in range(s.q.D):
            s.q.dir[d].dc_all = rows_from(all_c, (k * all_size + d * s.q.H) * item)
            s.q.dir[d].dc_all_t = s.q.D * s.q.H * (1 if s.batch_first else s.q.B)
            s.q.dir[d].dc_all_b = s.q.D * s.q.H * (s.q.T if s.batch_first else 1)
            s.q.dir[d].dc_all_next = count * all_size
        if dh_all is not None:
            dy = dh_all[k] if dy is None else dy + dh_all[k]
        if at_once:
            dy, copy = s.describe_backward(&stack[k], dy, end, grads[k], input_grad or k > 0, start, None, q.threads)
            held += (dy, copy)
            continue
        dy = s.run_backward(dy, end, grads[k], input_grad or k > 0, start, retain, None)
        if input_masks is not None and input_masks[k] is not None and dy is not None:
            dy *= input_masks[k]
        if k and rate > 0:
            dropout(dy, rate, mask + <uint64_t>k, dy)
    if at_once:
        run_backward_stack(kept, stack, retain)
    return dy, dh_0, dc_0
