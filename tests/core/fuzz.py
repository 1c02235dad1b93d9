"""The core with arguments changed at random: it may refuse or accept, but never crash or write elsewhere.

Run as a script with the number of attempts; the line before a crash says what was tried.
"""

import sys

import numpy as np

from fastrnn import _core
from tests.core import misfits

ALLOWED = (ValueError, TypeError, IndexError, AttributeError, OverflowError, MemoryError)


def changed(rng, array):
    """Another array in place of one: other sizes, types, strides or kinds."""
    if not isinstance(array, np.ndarray):
        return [None, 1.5, np.ones((3, 2)), np.ones(24), [1.0], np.zeros(0), 2][rng.integers(7)]
    shape = [max(0, n + int(rng.integers(-1, 2))) for n in array.shape]
    choices = (
        lambda: None,
        lambda: np.ones(shape, array.dtype),
        lambda: np.ones(array.shape[1:], array.dtype),
        lambda: np.ones((1, *array.shape), array.dtype),
        lambda: np.ones(array.shape[::-1], array.dtype).T,
        lambda: np.broadcast_to(np.ones(1, array.dtype), array.shape),
        lambda: np.repeat(array, 2, -1)[..., ::2],
        lambda: np.ascontiguousarray(array[::-1])[::-1],
        lambda: array.astype(rng.choice(["f4", "f8", "i8", "f2", ">f8", "O", "c16", "?"])),
        lambda: np.frombuffer(b"\0" + array.tobytes(), array.dtype, offset=1).reshape(array.shape),
        lambda: array.tolist(),
        lambda: array + rng.integers(-9, 9) if array.dtype == np.int64 else array * np.nan,
    )
    return choices[rng.integers(len(choices))]()


def mutate(rng, arguments):
    """Change one or two of the arguments, or what is inside of the tuples of weights and gradients."""
    for _ in range(rng.integers(1, 3)):
        name = rng.choice(list(arguments))
        value = arguments[name]
        if name in ("weights", "grads") and isinstance(value, tuple) and value and rng.random() < 0.9:
            inner = list(value[0])
            k = int(rng.integers(len(inner)))
            inner[k] = changed(rng, inner[k])
            arguments[name] = (tuple(inner), *value[1:])
        elif name in ("batch_first", "reverse", "save", "retain", "input_grad"):
            arguments[name] = bool(rng.integers(2))
        else:
            arguments[name] = changed(rng, value)


def guarded(arguments, names):
    """Put plain arrays among the outputs in the middle of larger buffers; returns the buffers."""
    buffers = []
    for name in names:
        array = arguments[name]
        if isinstance(array, np.ndarray) and array.dtype == np.float64 and array.flags.c_contiguous:
            buffer = np.full(array.size + 512, 7.0)
            arguments[name] = buffer[256:-256].reshape(array.shape)
            arguments[name].flags.writeable = array.flags.writeable
            buffers.append(buffer)
    return buffers


def words(value):
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape} strides {value.strides}"
    return [words(v) for v in value] if isinstance(value, tuple) else repr(value)[:60]


def main(attempts):
    refused = 0
    for seed in range(attempts):
        rng = np.random.default_rng(seed)
        forward, backward = misfits.forward_arguments(), misfits.backward_arguments()
        arguments = forward if seed % 2 else backward
        before = dict(arguments)
        mutate(rng, arguments)
        changes = {name: words(value) for name, value in arguments.items() if value is not before[name]}
        print(seed, changes, flush=True)
        buffers = guarded(forward, ("y", "h_n", "c_n")) + guarded(backward, ("dh_0", "dc_0", "dx"))
        try:
            saved = _core.forward(*forward.values())
            if saved is not None:
                saved.backward(*backward.values())
        except ALLOWED:
            refused += 1
        for buffer in buffers:
            assert (buffer[:256] == 7).all(), "written before an output"
            assert (buffer[-256:] == 7).all(), "written past an output"
    assert refused > attempts / 4
    print("done")


if __name__ == "__main__":
    main(int(sys.argv[1]))
