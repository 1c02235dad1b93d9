# Part of _core.pyx: one-hot input of recurrent layers, which comes as int64 codes.

cdef ptrdiff_t num_classes(tuple weights) except -1:
    """The I of a layer whose input is one-hot: columns of its first weight."""
    if len(weights) == 0 or len(weights[0]) < 5 or not cnp.PyArray_Check(weights[0][0]) or weights[0][0].ndim != 2:
        raise ValueError("weight_ih: expected a matrix")
    return weights[0][0].shape[1]


cdef cnp.ndarray input_array(x, tuple weights, bint save, int* t):
    """`x` as kernels read it, and the float type of the call: that of x, or of the weights where x is int64 codes.

    Codes are looked at here, once a call, for kernels take them as addresses; they are copied where backward will.
    """
    cdef cnp.ndarray a
    cdef ptrdiff_t classes, i, j
    cdef char* row
    cdef bint good = True
    if not cnp.PyArray_Check(x):
        raise TypeError("x: expected an array")
    if cnp.PyArray_TYPE(x) != cnp.NPY_INT64:
        t[0] = cnp.NPY_FLOAT32 if dtype_of(x) == 0 else cnp.NPY_FLOAT64
        return readable(x, t[0], 3, "x")
    classes = num_classes(weights)
    t[0] = cnp.NPY_FLOAT32 if dtype_of(weights[0][1]) == 0 else cnp.NPY_FLOAT64
    if cnp.PyArray_NDIM(x) != 2:
        raise ValueError("x: expected codes of 2 dimensions")
    a = np.array(x, np.int64, order="K") if save or not fits(x, cnp.NPY_INT64, 2) else x
    for i in range(cnp.PyArray_DIMS(a)[0]):
        row = <char*>cnp.PyArray_DATA(a) + i * cnp.PyArray_STRIDES(a)[0]
        for j in range(cnp.PyArray_DIMS(a)[1]):
            good &= 0 <= (<int64_t*>(row + j * cnp.PyArray_STRIDES(a)[1]))[0] < classes
    if not good:
        raise ValueError(f"x: expected codes from 0 to {classes - 1}, got {a.min()} to {a.max()}")
    return a
