# Optimisers and gradients of whole models: lists of arrays, one call (csrc/ops.h).

cdef int select_rows(Selection* s, object a, object rows, str name, bint writable) except -1:
    """What `rows` selects of `a`: int64 [R], ascending; None for everything."""
    cdef int t = floats(a, name)
    cdef ptrdiff_t r, count
    cdef const int64_t* data
    s.dtype = code_of(t)
    s.n = cnp.PyArray_SIZE(a)
    s.data = block(a, t, s.n, 1, name, writable)
    s.rows = NULL
    s.width = 1
    if rows is None:
        return 0
    if cnp.PyArray_NDIM(a) < 1 or not cnp.PyArray_Check(rows):
        raise ValueError(f"rows: expected an array of rows of {name}, got {rows!r}")
    count = cnp.PyArray_SIZE(rows)
    data = <const int64_t*>block(rows, cnp.NPY_INT64, count, 1, "rows")
    for r in range(count):
        if data[r] < 0 or data[r] >= cnp.PyArray_DIMS(a)[0] or (r > 0 and data[r] <= data[r - 1]):
            raise ValueError(f"rows: expected ascending integers from 0 to {cnp.PyArray_DIMS(a)[0] - 1}, "
                             f"got {data[r]} at position {r}")
    s.width = s.n // cnp.PyArray_DIMS(a)[0] if count else 1
    s.n = count * s.width
    s.rows = data
    return 0


# code, slots, how many numbers
cdef dict _RULES = {"sgd": (0, ("buf",), 6), "rmsprop": (1, ("sq", "buf", "gavg"), 5), "adam": (2, ("m", "v"), 7)}


def update(rule, items):
    """One step of an optimiser for all items (p, g, slots, numbers, rows), in place.

    `slots` and `numbers` as in `Update` of csrc/ops.h, a slot that isn't wanted None; rows as in `norm_squared`.
    """
    cdef int code, count_numbers, t, k
    cdef tuple slots
    cdef ptrdiff_t i = 0, n, count = len(items)
    cdef Update* u
    cdef Update* list_
    if rule not in _RULES:
        raise ValueError(f"rule: expected one of {', '.join(_RULES)}, got {rule!r}")
    code, slots, count_numbers = _RULES[rule]
    if count == 0:
        return
    list_ = <Update*>workspace_acquire(count * sizeof(Update))
    if list_ == NULL:
        raise MemoryError("no memory for a step")
    try:
        for p, g, arrays, numbers, rows in items:
            u = &list_[i]
            i += 1
            select_rows(&u.p, p, rows, "p", True)
            t = cnp.PyArray_TYPE(p)
            n = cnp.PyArray_SIZE(p)
            u.g = block(g, t, n, 1, "g")
            if len(arrays) != len(slots) or len(numbers) != count_numbers:
                raise ValueError(f"{rule}: expected {len(slots)} slots and {count_numbers} numbers, "
                                 f"got {len(arrays)} and {len(numbers)}")
            for k in range(3):
                u.slot[k] = NULL
            for k in range(len(slots)):
                u.slot[k] = optional(arrays[k], t, n, 1, slots[k], True)
            for k in range(count_numbers):
                u.number[k] = numbers[k]
            check_rule(code, u)
        with nogil:
            ops().update(code, list_, count, threads())
    finally:
        workspace_release(list_)


cdef int check_rule(int code, Update* u) except -1:
    """The slots that the numbers ask for are there."""
    if code == 0 and u.slot[0] == NULL and u.number[1] != 0:
        raise ValueError(f"buf: expected an array for momentum {u.number[1]}, got None")
    if code == 1 and u.slot[1] == NULL and u.number[3] != 0:
        raise ValueError(f"buf: expected an array for momentum {u.number[3]}, got None")
    if code != 0 and u.slot[0] == NULL:
        raise TypeError(f"{'sq' if code == 1 else 'm'}: expected an array, got None")
    if code == 2 and u.slot[1] == NULL:
        raise TypeError("v: expected an array, got None")
    if code == 2 and u.number[6] < 1:
        raise ValueError(f"step: expected at least 1, got {u.number[6]:g}")
    return 0


cdef Selection* selections(object arrays, bint writable) except NULL:
    cdef ptrdiff_t i = 0
    cdef Selection* list_ = <Selection*>workspace_acquire((len(arrays) + 1) * sizeof(Selection))
    if list_ == NULL:
        raise MemoryError("no memory for a list of arrays")
    try:
        for a, rows in arrays:
            select_rows(&list_[i], a, rows, "a", writable)
            i += 1
    except BaseException:
        workspace_release(list_)
        raise
    return list_


def norm_squared(arrays):
    """Σ a², summed in float64, over pairs (a, rows); rows: int64 [R], ascending, those that count, or None for all."""
    cdef ptrdiff_t count = len(arrays)
    cdef Selection* list_ = selections(arrays, False)
    cdef double total
    with nogil:
        total = ops().norm_squared(list_, count, threads())
    workspace_release(list_)
    return total


def scale_all(arrays, double s):
    """a *= s over pairs (a, rows) as in `norm_squared`; s = 0 sets zeros, also in place of NaN."""
    cdef ptrdiff_t count = len(arrays)
    cdef Selection* list_ = selections(arrays, True)
    with nogil:
        ops().scale_all(list_, count, s, threads())
    workspace_release(list_)
