"""Arrays that would lead a kernel out of bounds: refused with the argument's name, and nothing is written."""

import numpy as np
import pytest

from fastrnn import _core
from tests.ops.helpers import one_step


@pytest.fixture(autouse=True)
def isa():
    """The binding refuses these before any instruction set matters."""


F32, F64, I64 = np.float32, np.float64, np.int64

# for each op: its arguments in order, as (name, shape) for arrays and values for the rest
N, C = 4, 6
OPS = {
    "activation": ["exp", ("x", (N,)), ("out", (N,))],
    "activation_backward": ["exp", ("x", (N,)), ("y", (N,)), ("dy", (N,)), ("out", (N,))],
    "softmax": [("x", (N, C)), ("out", (N, C))],
    "log_softmax": [("x", (N, C)), ("out", (N, C))],
    "softmax_backward": [("y", (N, C)), ("dy", (N, C)), ("out", (N, C))],
    "cross_entropy": [("logits", (N, C)), ("targets", (N,)), ("factor", (N,)), 0.1, ("dlogits", (N, C))],
    "bce_with_logits": [("logits", (N,)), ("targets", (N,)), ("factor", (N,)), ("dlogits", (N,))],
    "layer_norm_forward": [
        ("x", (N, C)),
        ("gamma", (C,)),
        ("beta", (C,)),
        1e-5,
        ("y", (N, C)),
        ("mean", (N,)),
        ("rstd", (N,)),
    ],
    "layer_norm_backward": [
        ("dy", (N, C)),
        ("x", (N, C)),
        ("gamma", (C,)),
        ("mean", (N,)),
        ("rstd", (N,)),
        ("dx", (N, C)),
        ("dgamma", (C,)),
        ("dbeta", (C,)),
    ],
    "embedding_forward": [("weight", (3, C)), ("idx", (N,)), ("out", (N, C))],
    "embedding_backward": [("dy", (N, C)), ("idx", (N,)), ("dweight", (3, C))],
    "dropout": [("x", (N,)), 0.5, 1, ("out", (N,))],
    "sgd": [("p", (N,)), ("g", (N,)), ("buf", (N,)), 0.1, 0.9, 0.0, False, 0.0, False],
    "rmsprop": [("p", (N,)), ("g", (N,)), ("sq", (N,)), ("buf", (N,)), ("gavg", (N,)), 0.1, 0.9, 1e-8, 0.9, 0.0],
    "adam": [("p", (N,)), ("g", (N,)), ("m", (N,)), ("v", (N,)), 0.1, 0.9, 0.99, 1e-8, 0.0, True, 1],
    "column_sum": [("a", (N, C)), ("out", (C,))],
    "sum_squares": [("a", (N,))],
    "all_finite": [("a", (N,))],
    "scale": [("a", (N,)), 0.5],
    "clip": [("a", (N,)), -1.0, 1.0],
    "add": [("a", (N,)), ("b", (N,)), ("out", (N,))],
}
SLOTS = {"sgd": 1, "rmsprop": 3, "adam": 2}  # rules of `update`: arrays after p and g
WRITTEN = {"out", "dlogits", "y", "mean", "rstd", "dx", "dgamma", "dbeta", "dweight"}
WRITTEN |= {"p", "buf", "sq", "gavg", "m", "v"}
READ = {
    ("softmax_backward", "y"),
    ("activation_backward", "y"),
    ("layer_norm_backward", "mean"),
    ("layer_norm_backward", "rstd"),
}
MATRICES = [op for op, a in OPS.items() if any(isinstance(v, tuple) and len(v[1]) == 2 for v in a)]
CASES = [(op, a[0]) for op, arguments in OPS.items() for a in arguments if isinstance(a, tuple)]


def is_index(op, name):
    return name == "idx" or (op, name) == ("cross_entropy", "targets")


def arguments(op, dtype=F32):
    """Good arguments of an op, and where each name is."""
    values, place = [], {}
    for a in OPS[op]:
        if isinstance(a, tuple):
            place[a[0]] = len(values)
            a = np.zeros(a[1], I64 if is_index(op, a[0]) else dtype)
        values.append(a)
    return values, place


def call(op, values):
    if op not in SLOTS:
        return getattr(_core, op)(*values)
    last = 2 + SLOTS[op]
    return one_step(op, *values[:2], values[2:last], values[last:])


def refused(op, name, make):
    values, place = arguments(op)
    values[place[name]] = make(values[place[name]])
    before = [v.tobytes() for v in values if isinstance(v, np.ndarray)]
    with pytest.raises((ValueError, TypeError), match=rf"^{name}: expected "):
        call(op, values)
    assert before == [v.tobytes() for v in values if isinstance(v, np.ndarray)]


@pytest.mark.parametrize("op", OPS)
def test_good_arguments_pass(op, dtype):
    values, _ = arguments(op, dtype)
    call(op, values)


@pytest.mark.parametrize(("op", "name"), CASES)
def test_wrong_arrays(op, name):
    wide = I64 if is_index(op, name) else F32
    refused(op, name, lambda a: a.astype(np.int32))
    refused(op, name, lambda a: a.astype(">i8" if is_index(op, name) else ">f4"))
    refused(op, name, lambda a: np.zeros((*a.shape[:-1], 2 * a.shape[-1]), wide)[..., ::2])
    refused(op, name, lambda a: np.frombuffer(bytes(a.nbytes + 1), np.uint8)[1:].view(wide).reshape(a.shape))
    refused(op, name, lambda a: a.tolist())
    if name not in {"gamma", "beta", "dlogits", "dgamma", "dbeta", "buf", "gavg"}:
        refused(op, name, lambda a: None)


@pytest.mark.parametrize(("op", "name"), CASES)
def test_wrong_sizes(op, name):
    """Whichever array is too small or of another float type, the kernel doesn't run."""
    values, place = arguments(op)
    if len(place) == 1:
        return
    for make in (lambda a: a[:-1], lambda a: a[..., :-1].copy(), lambda a: a.astype(F64)):
        values, _ = arguments(op)
        if is_index(op, name) and make(values[place[name]]).dtype == F64:
            continue
        values[place[name]] = make(values[place[name]])
        if name in ("weight", "dweight", "a") and values[place[name]].shape in ((2, C), (3, C)):
            continue  # fewer words, or fewer rows to add up, are fine
        with pytest.raises((ValueError, TypeError), match=r"^\w+: expected "):
            call(op, values)


@pytest.mark.parametrize(
    ("op", "name"), [("scale", "a"), ("clip", "a"), *(c for c in CASES if c[1] in WRITTEN and c not in READ)]
)
def test_read_only(op, name):
    def lock(a):
        a = a.copy()
        a.flags.writeable = False
        return a

    refused(op, name, lock)


@pytest.mark.parametrize("op", MATRICES)
def test_wrong_dimensions(op):
    leading = {
        "embedding_forward": "weight",
        "embedding_backward": "dweight",
        "softmax_backward": "y",
        "cross_entropy": "logits",
        "column_sum": "a",
    }.get(op, "x")
    refused(op, leading, lambda a: a.ravel())


def test_unknown_activation():
    x = np.ones(3)
    for name in ("relu6", None, 3):
        with pytest.raises(ValueError, match=r"^name: expected one of exp, tanh, .*, swish, gelu, got"):
            _core.activation(name, x, x)
        with pytest.raises(ValueError, match=r"^name: expected one of"):
            _core.activation_backward(name, x, x, x, x)
