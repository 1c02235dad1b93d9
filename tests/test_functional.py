"""`fastrnn.functional`: every signature and rule, against the reference, PyTorch's numbers and differences.

Over 400 lines: every message stands here in full.
"""

import inspect
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from fastrnn import functional as F
from fastrnn import reference
from tests.reference.finite_differences import assert_close, check_gradients
from tests.reference.test_torch import DATA, under

F32, F64 = np.float32, np.float64
T, B, I, H = 7, 4, 3, 5
LENGTHS = [4, 7, 0, 2]

# name: (function, its vjp, the reference's, gates, options)
KINDS = {
    "lstm": (F.lstm, F.lstm_vjp, reference.lstm_vjp, 4, {}),
    "lstm_projected": (F.lstm, F.lstm_vjp, reference.lstm_vjp, 4, {}),
    "gru": (F.gru, F.gru_vjp, reference.gru_vjp, 3, {}),
    "gru_before": (F.gru, F.gru_vjp, reference.gru_vjp, 3, {"reset_after": False}),
    "rnn": (F.rnn, F.rnn_vjp, reference.rnn_vjp, 1, {}),
    "rnn_relu": (F.rnn, F.rnn_vjp, reference.rnn_vjp, 1, {"nonlinearity": "relu"}),
    "rnn_sigmoid": (F.rnn, F.rnn_vjp, reference.rnn_vjp, 1, {"nonlinearity": "sigmoid"}),
    "rnn_leaky": (F.rnn, F.rnn_vjp, reference.rnn_vjp, 1, {"nonlinearity": "leaky_relu"}),
    "rnn_identity": (F.rnn, F.rnn_vjp, reference.rnn_vjp, 1, {"nonlinearity": "identity"}),
}
kinds = pytest.mark.parametrize("kind", KINDS)


class Problem:
    """Arguments of one kind of layer: x, state, weights, and gradients of the outputs."""

    def __init__(self, kind, dtype=F64, *, batch=B, batch_first=False, unbatched=False, bias=True):
        self.call, self.vjp, self.reference, gates, self.options = KINDS[kind]
        self.is_lstm, self.kind = kind.startswith("lstm"), kind
        P = 2 if kind == "lstm_projected" else H
        rng = np.random.default_rng(len(kind))

        def normal(*shape, scale=1.0):
            return (scale * rng.standard_normal(shape)).astype(F32).astype(dtype)

        weights = [normal(gates * H, I), normal(gates * H, P, scale=0.4)]
        weights += [normal(gates * H), normal(gates * H)] if bias else [None, None]
        if self.is_lstm:
            weights.append(normal(P, H, scale=0.4) if P != H else None)
        self.weights = tuple(weights)
        lead = (T,) if unbatched else (batch, T) if batch_first else (T, batch)
        rows = () if unbatched else (batch,)
        self.x, self.dy = normal(*lead, I), normal(*lead, P)
        self.state, self.dstate = (
            (normal(*rows, P), normal(*rows, H)) if self.is_lstm else normal(*rows, P) for _ in range(2)
        )

    def inputs(self):
        """name → array, of everything that has a gradient."""
        found = {"x": self.x} | {f"weight {k}": w for k, w in enumerate(self.weights) if w is not None}
        return found | {f"state {k}": s for k, s in enumerate(flat(self.state))}


def flat(value):
    """The arrays in a nested tuple, without what is None."""
    if isinstance(value, tuple):
        return [array for item in value for array in flat(item)]
    return [] if value is None else [value]


def same(found, right):
    """Bitwise equality, array by array."""
    found, right = flat(found), flat(right)
    assert len(found) == len(right)
    for a, b in zip(found, right, strict=True):
        np.testing.assert_array_equal(a, b)


VARIANTS = {
    "plain": {},
    "ragged": {"lengths": LENGTHS},
    "reverse": {"reverse": True},
    "ragged_reverse": {"lengths": LENGTHS, "reverse": True},
    "batch_first": {"batch_first": True},
    "batch_first_ragged": {"batch_first": True, "lengths": LENGTHS, "reverse": True},
    "one_sequence": {"unbatched": True},
    "one_short_sequence": {"unbatched": True, "lengths": [5]},
    "one_sequence_reverse": {"unbatched": True, "reverse": True, "batch_first": True},
    "no_bias": {"bias": False},
}
variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


def split(kind, variant, dtype=F64):
    make = {name: variant[name] for name in ("batch_first", "unbatched", "bias") if name in variant}
    p = Problem(kind, dtype, **make)
    run = {name: variant[name] for name in ("batch_first", "lengths", "reverse") if name in variant}
    return p, {**p.options, **run}


@pytest.mark.parametrize("dtype", [F32, F64], ids=["f32", "f64"])
@kinds
@variants
def test_against_the_reference(kind, variant, dtype):
    p, options = split(kind, variant, dtype)
    q, _ = split(kind, variant)  # the same numbers in float64
    forward, gradient = (1e-5, 1e-4) if dtype is F32 else (1e-12, 1e-12)
    outputs, pullback = p.vjp(p.x, p.state, *p.weights, **options)
    right, back = p.reference(q.x, q.state, *q.weights, **options)
    for a, b in zip(flat(outputs), flat(right), strict=True):
        assert a.dtype == dtype
        assert_close(a, b, forward)
    same(p.call(p.x, p.state, *p.weights, **options), outputs)
    found, right = pullback(p.dy, p.dstate), back(q.dy, q.dstate)
    assert [w is None for w in found[2]] == [w is None for w in right[2]]
    for a, b in zip(flat(found), flat(right), strict=True):
        assert a.dtype == dtype
        assert_close(a, b, gradient)


@kinds
@variants
def test_finite_differences(kind, variant):
    p, options = split(kind, variant)
    _, pullback = p.vjp(p.x, p.state, *p.weights, **options)
    dx, dstate, grads = pullback(p.dy, p.dstate)
    gradients = dict(zip(p.inputs(), [dx, *flat(tuple(grads)), *flat(dstate)], strict=True))
    check_gradients(lambda: p.call(p.x, p.state, *p.weights, **options), p.inputs(), (p.dy, p.dstate), gradients)


@pytest.mark.parametrize("case", ["lstm", "lstm_no_bias", "lstm_projected", "gru", "gru_no_bias"])
def test_against_pytorch(case):
    d = DATA[case]
    weights = {name.removesuffix("_l0"): a for name, a in under(d, "param").items()}
    vjp, lstm = (F.lstm_vjp, True) if "c_0" in d else (F.gru_vjp, False)

    def states(name):
        return (d[name.replace("s", "h")][0], d[name.replace("s", "c")][0]) if lstm else d[name.replace("s", "h")][0]

    (y, state_n), pullback = vjp(d["x"], states("s_0"), **weights)
    dx, dstate_0, grads = pullback(d["dy"], states("ds_n"))
    found, right = (y, state_n, dx, dstate_0), (d["y"], states("s_n"), d["dx"], states("ds_0"))
    for a, b in zip(flat(found), flat(right), strict=True):
        assert_close(a, b, 1e-12)
    for name in weights:
        assert_close(getattr(grads, name), d[f"grad/{name}_l0"], 1e-12, name)


# ---- gradients that are None, once, what is kept


@kinds
def test_none_is_zero(kind):
    p = Problem(kind)
    zero = tuple(np.zeros_like(s) for s in p.state) if p.is_lstm else np.zeros_like(p.state)

    def gradients(dy, dstate, state=p.state):
        return p.vjp(p.x, state, *p.weights, **p.options)[1](dy, dstate)

    same(gradients(None, p.dstate), gradients(np.zeros_like(p.dy), p.dstate))
    same(gradients(p.dy, None), gradients(p.dy, zero))
    same(gradients(p.dy, p.dstate, None), gradients(p.dy, p.dstate, zero))
    for array in flat(gradients(None, None)):
        assert not array.any()
    if p.is_lstm:
        same(gradients(p.dy, (None, p.dstate[1])), gradients(p.dy, (zero[0], p.dstate[1])))
        same(gradients(p.dy, (p.dstate[0], None)), gradients(p.dy, (p.dstate[0], zero[1])))
        same(gradients(p.dy, p.dstate, (None, p.state[1])), gradients(p.dy, p.dstate, (zero[0], p.state[1])))


@kinds
def test_names_of_gradients(kind):
    p = Problem(kind, bias=False)
    _, pullback = p.vjp(p.x, None, *p.weights, **p.options)
    grads = pullback(p.dy)[2]
    assert grads._fields == p.reference(p.x, None, *p.weights, **p.options)[1](p.dy)[2]._fields
    assert grads.bias_ih is None
    assert grads.bias_hh is None
    given = len(p.weights)
    for grad, weight in zip(grads[:given], p.weights, strict=True):
        assert grad is None or grad.shape == weight.shape
    assert grads[given:] == (None,) * len(grads[given:])


@kinds
def test_no_input_gradient(kind):
    p = Problem(kind)
    right = p.vjp(p.x, p.state, *p.weights, **p.options)[1](p.dy, p.dstate)
    found = p.vjp(p.x, p.state, *p.weights, **p.options, input_grad=False)[1](p.dy, p.dstate)
    assert found[0] is None
    same(found, right[1:])


@kinds
def test_pullback_runs_once(kind):
    p = Problem(kind)
    _, pullback = p.vjp(p.x, p.state, *p.weights, **p.options)
    for bad in (p.dy[:-1], p.dy.astype(F32), "dy"):
        with pytest.raises((ValueError, TypeError), match="dy"):
            pullback(bad)  # is refused before anything is lost
    pullback(p.dy)
    message = (
        rf"^functional\.{kind.split('_')[0]}_vjp: this pullback has already run.*; call functional\.\w+_vjp again$"
    )
    with pytest.raises(RuntimeError, match=message):  # it has no retain= that could be recommended
        pullback(p.dy)


def test_of_many_threads_one_runs_the_pullback():
    """The others may have passed a test whether it is spent: only taking it away decides."""
    p = Problem("lstm")
    for _ in range(20):
        _, pullback = p.vjp(p.x, p.state, *p.weights, **p.options)
        ready = threading.Barrier(8)

        def call(pull=pullback, ready=ready):
            ready.wait()
            try:
                return pull(p.dy)[0] is not None
            except RuntimeError:
                return False

        with ThreadPoolExecutor(8) as pool:
            assert sum(future.result() for future in [pool.submit(call) for _ in range(8)]) == 1


def test_a_pullback_is_taken_before_it_runs():
    """A call that comes while the first one runs is the second one."""
    p = Problem("lstm")
    _, pullback = p.vjp(p.x, p.state, *p.weights, **p.options)

    class Late:
        """A gradient that is used once more while it is being read."""

        def __array__(self, dtype=None, copy=None):
            with pytest.raises(RuntimeError, match="already run"):
                pullback(p.dy)
            return p.dy

    pullback(Late())


RENAMED = {"all_states": "return_all_states"}
MASKS = ("lstm", "gru", "rnn")  # the reference takes masks where we draw them, in training alone


@pytest.mark.parametrize("name", F.__all__)
def test_the_reference_has_the_same_functions(name):
    ours, theirs = (dict(inspect.signature(getattr(module, name)).parameters) for module in (F, reference))
    theirs = {RENAMED.get(key, key): parameter for key, parameter in theirs.items()}
    if name.removesuffix("_vjp") in MASKS:
        del theirs["recurrent_mask"]
        if name.endswith("_vjp"):
            assert ours.pop("recurrent_dropout").default == 0
            assert ours.pop("seed").default is None
    assert set(ours) == set(theirs)
    for parameter in ours:
        assert ours[parameter].default == theirs[parameter].default, parameter
        assert ours[parameter].kind == theirs[parameter].kind, parameter


@kinds
def test_out_of_the_reference(kind):
    p = Problem(kind)
    vjp, call = p.reference, getattr(reference, p.reference.__name__.removesuffix("_vjp"))
    args, options = (p.x, p.state, *p.weights), p.options
    y, _ = call(*args, **options)
    out = np.full_like(y, np.nan)
    assert call(*args, **options, out=out)[0] is out
    np.testing.assert_array_equal(out, y)
    out.fill(np.nan)
    (got, _), pullback = vjp(*args, **options, out=out)
    assert got is out
    dx = np.full_like(p.x, np.nan)
    assert pullback(p.dy, out=dx)[0] is dx
    np.testing.assert_array_equal(dx, pullback(p.dy)[0])
    for bad in (out[:-1], out.astype(F32), out.tolist()):
        with pytest.raises((ValueError, TypeError), match=r"^out: expected"):
            call(*args, **options, out=bad)


@kinds
@pytest.mark.parametrize("steps", [1, 3, 100])
def test_checkpoint_changes_no_bit(kind, steps):
    p = Problem(kind, batch=300)  # several chunks of time
    right, pullback = p.vjp(p.x, p.state, *p.weights, **p.options)
    found, checkpointed = p.vjp(p.x, p.state, *p.weights, **p.options, checkpoint=steps)
    same(found, right)
    same(checkpointed(p.dy, p.dstate), pullback(p.dy, p.dstate))


# ---- memory


@kinds
def test_output_of_training_is_read_only(kind):
    p = Problem(kind)
    (y, state), _ = p.vjp(p.x, p.state, *p.weights, **p.options)
    with pytest.raises(ValueError, match="read-only"):
        y[...] = 0
    assert all(s.flags.writeable for s in flat(state))
    assert all(a.flags.writeable for a in flat(p.call(p.x, p.state, *p.weights, **p.options)))


@kinds
@pytest.mark.parametrize("variant", ["plain", "ragged_reverse", "batch_first", "one_sequence"])
def test_out(kind, variant):
    p, options = split(kind, VARIANTS[variant])
    right, pullback = p.vjp(p.x, p.state, *p.weights, **options)
    gradients = pullback(p.dy, p.dstate)
    wide = np.full((*p.dy.shape[:-1], p.dy.shape[-1] + 3), 7.0)
    for out in (np.empty_like(p.dy), wide[..., 1:-2], np.empty_like(p.dy[::-1])[::-1]):
        found = p.call(p.x, p.state, *p.weights, **options, out=out)
        assert np.shares_memory(found[0], out)
        same(found, right)
        np.testing.assert_array_equal(out, right[0])
        found, pullback = p.vjp(p.x, p.state, *p.weights, **options, out=out)
        same(found, right)
        dx = np.empty_like(p.x)
        back = pullback(p.dy, p.dstate, out=dx)
        assert np.shares_memory(back[0], dx)
        same(back, gradients)
    wide[..., 1:-2] = 7
    assert (wide == 7).all()


@kinds
def test_out_can_be_used_again(kind):
    """The array that y was written to is the caller's: only the y that vjp returns is read-only."""
    p = Problem(kind)
    out = np.empty_like(p.dy)
    for _ in range(2):
        (y, _), pullback = p.vjp(p.x, p.state, *p.weights, **p.options, out=out)
        assert not y.flags.writeable
        pullback(p.dy)
        assert out.flags.writeable


@kinds
def test_out_that_overlaps_an_input_is_refused(kind):
    """Writing y over x or the state, or dx over x or dy, would make wrong gradients in silence."""
    p = Problem(kind)
    memory = np.zeros(4 * T * B * 8)
    x = memory[: p.x.size].reshape(p.x.shape)
    x[...] = p.x
    over_x = memory[8 : 8 + p.dy.size].reshape(p.dy.shape)
    with pytest.raises(ValueError, match=r"out: .*overlap"):
        p.vjp(x, p.state, *p.weights, **p.options, out=over_x)
    with pytest.raises(ValueError, match=r"out: .*overlap"):
        p.call(x, p.state, *p.weights, **p.options, out=over_x)
    _, pullback = p.vjp(x, p.state, *p.weights, **p.options)
    with pytest.raises(ValueError, match=r"out: .*overlap"):
        pullback(p.dy, out=x)


@kinds
def test_arguments_are_left_as_they_were(kind):
    p = Problem(kind)
    for array in [*flat(p.weights), *flat(p.state), *flat(p.dstate), p.x, p.dy]:
        array.flags.writeable = False
    before = [a.copy() for a in [p.x, p.dy, *flat(p.weights), *flat(p.state), *flat(p.dstate)]]
    _, pullback = p.vjp(p.x, p.state, *p.weights, **p.options, lengths=LENGTHS)
    pullback(p.dy, p.dstate)
    same((p.x, p.dy, p.weights, p.state, p.dstate), tuple(before))


@kinds
def test_lengths_may_change_after_the_call(kind):
    """Only x and the weights are held by reference; other lengths would take the kernels out of bounds."""
    p = Problem(kind)
    right = p.vjp(p.x, p.state, *p.weights, **p.options, lengths=LENGTHS)[1](p.dy, p.dstate)
    lengths = np.array(LENGTHS, np.int64)
    _, pullback = p.vjp(p.x, p.state, *p.weights, **p.options, lengths=lengths)
    lengths[:] = [1, 1, 7, 7]
    same(pullback(p.dy, p.dstate), right)


@kinds
def test_states_may_change_after_the_call(kind):
    """A loop that carries its state in one array writes the next one over it."""
    p = Problem(kind)
    right = p.vjp(p.x, p.state, *p.weights, **p.options)[1](p.dy, p.dstate)
    (_, state_n), pullback = p.vjp(p.x, p.state, *p.weights, **p.options)
    for state in [*flat(p.state), *flat(state_n)]:
        state[...] = 100
    same(pullback(p.dy, p.dstate), right)


def unaligned(array):
    return np.frombuffer(b"\0" + array.tobytes(), array.dtype, offset=1).reshape(array.shape)


def field(array):
    """A field of a record: the strides are no multiple of the item size."""
    records = np.zeros(array.shape, [("value", array.dtype), ("flag", "i1")])
    records["value"] = array
    return records["value"]


LAYOUTS = {
    "fortran": np.asfortranarray,
    "spaced": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "backwards": lambda a: np.flip(np.flip(a).copy()),
    "unaligned": unaligned,
    "field": field,
    "read_only": lambda a: np.broadcast_to(a, a.shape),
    "matrix_subclass": lambda a: a.view(np.recarray) if a.ndim != 2 else np.asmatrix(a),
}


@kinds
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_any_strides(kind, layout):
    p = Problem(kind)
    right, pullback = p.vjp(p.x, p.state, *p.weights, **p.options)
    gradients = pullback(p.dy, p.dstate)

    def apply(value):
        if isinstance(value, tuple):
            return tuple(apply(v) for v in value)
        return None if value is None else layout(value)

    found, pullback = p.vjp(apply(p.x), apply(p.state), *apply(p.weights), **p.options)
    same(found, right)
    same(pullback(apply(p.dy), apply(p.dstate)), gradients)
    assert type(found[0]) is np.ndarray


@pytest.mark.parametrize("shape", [(64, 400, 40), (400, 64, 40)])
def test_layouts_are_not_copied(shape):
    """batch_first, and x of other strides, cost no memory in the size of x."""
    x = np.ones(shape, F32)
    weights = np.ones((1, 40), F32), np.ones((1, 1), F32)
    for view, batch_first in ((x, True), (x, False), (x.swapaxes(0, 1), False), (x[::-1, ::2], True)):
        tracemalloc.start()
        F.rnn(view, None, *weights, batch_first=batch_first)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < x.nbytes / 8


@kinds
def test_lists(kind):
    """Lists become float32, like all that fastrnn makes by itself."""
    p = Problem(kind, F32)
    right, pullback = p.vjp(p.x, p.state, *p.weights, **p.options)
    gradients = pullback(p.dy, p.dstate)

    def apply(value):
        if isinstance(value, tuple):
            return tuple(apply(v) for v in value)
        return None if value is None else value.tolist()

    found, pullback = p.vjp(apply(p.x), apply(p.state), *apply(p.weights), **p.options)
    same(found, right)
    same(pullback(apply(p.dy), apply(p.dstate)), gradients)


@kinds
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [None, [], np.zeros(0, np.int64)], ids=["full", "list", "array"])
def test_empty_batch(kind, batch_first, lengths):
    p = Problem(kind, batch=0, batch_first=batch_first)
    options = {**p.options, "batch_first": batch_first, "lengths": lengths}
    (y, state), pullback = p.vjp(p.x, p.state, *p.weights, **options)
    dx, dstate, grads = pullback(p.dy, p.dstate)
    assert y.shape == p.dy.shape
    assert dx.shape == p.x.shape
    assert [s.shape for s in flat(state)] == [s.shape for s in flat(dstate)] == [s.shape for s in flat(p.state)]
    assert not any(g.any() for g in flat(tuple(grads)))


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64, np.uint64, list, tuple])
def test_lengths_of_any_integers(dtype):
    p = Problem("gru")
    lengths = dtype(LENGTHS) if dtype in (list, tuple) else np.array(LENGTHS, dtype)
    right = p.call(p.x, p.state, *p.weights, lengths=LENGTHS)
    same(p.call(p.x, p.state, *p.weights, lengths=lengths), right)
    assert not right[0][4:, 0].any()


# ---- bad input, with its message


def bad(kind="lstm", **changes):
    """A call with some arguments replaced."""
    p = Problem(kind)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    arguments = {
        "x": p.x,
        "state": p.state,
        **dict(zip(names, p.weights, strict=False)),
        **p.options,
        **changes,
    }
    return partial(p.call, **arguments), partial(p.vjp, **arguments)


REFUSED = [
    ("x", np.ones((T, B, I), np.float16), TypeError, "x: expected float32 or float64, got float16"),
    ("x", np.ones((T, B, I), int), TypeError, r"got int64; use x.astype(np.float32)"),
    ("x", np.ones((T, B, I), complex), TypeError, "x: expected float32 or float64, got complex128"),
    ("x", np.ones((T, B, I), ">f8"), TypeError, "x: expected float32 or float64, got >f8"),
    ("x", None, TypeError, "x: expected an array, got None"),
    ("x", "text", TypeError, "x: expected float32 or float64"),
    ("x", [[1.0], [2.0, 3.0]], ValueError, "x: could not be made into an array"),
    ("x", np.ones(I), ValueError, "x: expected [T, B, F], or [T, F] for one sequence, got shape (3,)"),
    ("x", np.ones((T, B, I, 1)), ValueError, "got shape (7, 4, 3, 1)"),
    ("x", np.ones((0, B, I)), ValueError, "x: expected at least one time step, got shape (0, 4, 3)"),
    ("x", np.ones((T, B, 0)), ValueError, "weight_ih: expected [4·H, 0], to fit x"),
    ("x", np.ones((T, B, I), F32), TypeError, "weight_ih: expected float32, got float64"),
    ("x", np.ones((T, B, I + 1)), ValueError, "weight_ih: expected [4·H, 4], to fit x, got shape (20, 3)"),
    ("x", np.ones((T, B + 1, I)), ValueError, "state[0]: expected shape (5, 5), got (4, 5)"),
    ("weight_ih", None, TypeError, "weight_ih: expected an array, got None"),
    ("weight_ih", np.ones((21, I)), ValueError, "weight_ih: expected [4·H, 3], to fit x, got shape (21, 3)"),
    ("weight_ih", np.ones((0, I)), ValueError, "weight_ih: expected [4·H, 3], to fit x, got shape (0, 3)"),
    ("weight_ih", np.ones(20), ValueError, "weight_ih: expected [4·H, 3], to fit x, got shape (20,)"),
    ("weight_hh", None, TypeError, "weight_hh: expected an array, got None"),
    ("weight_hh", np.ones((20, 4)), ValueError, "weight_hh: expected shape (20, 5), got (20, 4)"),
    ("weight_hh", np.ones((20, 5), F32), TypeError, "weight_hh: expected float64, got float32"),
    ("bias_ih", np.ones(19), ValueError, "bias_ih: expected shape (20,), got (19,)"),
    ("bias_hh", np.ones((20, 1)), ValueError, "bias_hh: expected shape (20,), got (20, 1)"),
    ("bias_hh", np.ones(20, int), TypeError, "bias_hh: expected float64, got int64"),
    (
        "weight_hr",
        np.ones((2, 4)),
        ValueError,
        "weight_hr: expected [P, 5], to fit weight_ih, got shape (2, 4)",
    ),
    ("weight_hr", np.ones((2, 5)), ValueError, "weight_hh: expected shape (20, 2), got (20, 5)"),
    (
        "state",
        np.ones((B, H)),
        TypeError,
        "state: expected a tuple (h, c) or None, got an array of shape (4, 5)",
    ),
    (
        "state",
        (np.ones((B, H)),),
        TypeError,
        "state: expected a tuple (h, c) or None, got a tuple of length 1",
    ),
    ("state", (np.ones((B, H + 1)), None), ValueError, "state[0]: expected shape (4, 5), got (4, 6)"),
    ("state", (None, np.ones((1, B, H))), ValueError, "state[1]: expected shape (4, 5), got (1, 4, 5)"),
    ("state", (np.ones((B, H), F32), None), TypeError, "state[0]: expected float64, got float32"),
    ("lengths", [4.0, 7.0, 0.0, 2.0], TypeError, "lengths: expected integers, got float64"),
    ("lengths", [True, False, True, True], TypeError, "lengths: expected integers, got bool"),
    ("lengths", [4, 7, 0], ValueError, "lengths: expected 4 integers, one for each row, got shape (3,)"),
    (
        "lengths",
        [[4, 7], [0, 2]],
        ValueError,
        "lengths: expected 4 integers, one for each row, got shape (2, 2)",
    ),
    ("lengths", [4, 8, 0, 2], ValueError, "lengths: expected integers from 0 to T=7, got 8 in row 1"),
    ("lengths", [4, 7, -1, 2], ValueError, "lengths: expected integers from 0 to T=7, got -1 in row 2"),
    ("lengths", [1 << 62] * 4, ValueError, "lengths: expected integers from 0 to T=7"),
    ("lengths", np.array([1 << 63] * 4, np.uint64), ValueError, "lengths: expected integers from 0 to T=7"),
    ("lengths", "abcd", TypeError, "lengths: expected integers"),
    ("out", [1.0], TypeError, "out: expected an array, got a list of length 1"),
    ("out", np.empty((T, B, H), F32), TypeError, "out: expected float64, got float32"),
    ("out", np.empty((T, B, H + 1)), ValueError, "out: expected shape (7, 4, 5), got (7, 4, 6)"),
    ("out", np.broadcast_to(0.0, (T, B, H)), ValueError, "out: expected a writable array"),
    ("out", np.empty((T, B, 2 * H))[..., ::2], ValueError, "out: expected a contiguous last axis"),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), REFUSED, ids=[r[3][:50] for r in REFUSED])
def test_refused(name, value, error, message):
    for call in bad(**{name: value}):
        with pytest.raises(error) as caught:
            call()
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name", "value", "error", "message"),
    [
        (
            "gru",
            "state",
            (np.ones((B, H)),) * 2,
            TypeError,
            "state: expected one array or None, got a tuple of length 2",
        ),
        ("gru", "weight_ih", np.ones((16, I)), ValueError, "weight_ih: expected [3·H, 3], to fit x"),
        ("rnn", "state", np.ones(H), ValueError, "state: expected shape (4, 5), got (5,)"),
        ("rnn", "weight_hh", np.ones((4, 4)), ValueError, "weight_hh: expected shape (5, 5), got (4, 4)"),
        (
            "rnn",
            "nonlinearity",
            "gelu",
            ValueError,
            "expected one of 'tanh', 'relu', 'sigmoid', 'leaky_relu', 'identity', got 'gelu'",
        ),
        (
            "rnn",
            "nonlinearity",
            None,
            ValueError,
            "expected one of 'tanh', 'relu', 'sigmoid', 'leaky_relu', 'identity', got None",
        ),
        (
            "rnn",
            "nonlinearity",
            ["relu"],
            ValueError,
            "expected one of 'tanh', 'relu', 'sigmoid', 'leaky_relu', 'identity', got ['relu']",
        ),
    ],
)
def test_refused_by_others(kind, name, value, error, message):
    for call in bad(kind, **{name: value}):
        with pytest.raises(error) as caught:
            call()
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"dy": np.ones((T, B, H + 1))},
            ValueError,
            "dy: expected shape (7, 4, 5), that of the output, got (7, 4, 6)",
        ),
        ({"dy": np.ones((T, B, H), F32)}, TypeError, "dy: expected float64, got float32"),
        ({"dy": np.ones(H)}, ValueError, "dy: expected shape (7, 4, 5)"),
        ({"dstate": np.ones((B, H))}, TypeError, "dstate: expected a tuple (h, c) or None"),
        ({"dstate": (np.ones((B, 4)), None)}, ValueError, "dstate[0]: expected shape (4, 5), got (4, 4)"),
        ({"dstate": (None, np.ones((B, H), int))}, TypeError, "dstate[1]: expected float64, got int64"),
        ({"out": np.ones((T, B, H))}, ValueError, "out: expected shape (7, 4, 3), got (7, 4, 5)"),
        ({"out": np.ones((T, B, I), F32)}, TypeError, "out: expected float64, got float32"),
    ],
)
def test_pullback_refuses(arguments, error, message):
    _, pullback = bad()[1]()
    with pytest.raises(error) as caught:
        pullback(**arguments)
    assert message in str(caught.value)
    pullback()


@pytest.mark.parametrize("value", [0, -1, 2.0, "3", True])
def test_checkpoint_is_a_positive_integer(value):
    with pytest.raises((ValueError, TypeError), match="checkpoint: expected"):
        bad(checkpoint=value)[1]()


def test_too_many_steps():
    x = np.broadcast_to(F32(0), (1 << 16, 1 << 15, 1))
    with pytest.raises((ValueError, MemoryError)):
        F.rnn(x, None, np.ones((1, 1), F32), np.ones((1, 1), F32))


def test_unexpected_names():
    for call in bad(dropout=0.5):
        with pytest.raises(TypeError, match="dropout"):
            call()


def refusal(call):
    """The explanation that a call gives, or all names if it returns."""
    try:
        call()
    except (ValueError, TypeError) as error:
        return str(error)
    return "x state weight bias lengths out checkpoint"


@kinds
def test_whatever_comes_in(kind):
    """Any value in place of any argument: an explanation or a result."""
    p = Problem(kind)
    values = [
        None, 0, -1, 2.5, True, "", "tanh", [], [[]], (), (None,), (None, None), {}, object(), b"x", print,
        np.float32(1), np.nan, np.ones(0), np.ones((0, 0)), np.ones((0, 0, 0)), np.ones(()), range(4), ...,
        np.ones((B, H)), np.ones((T, B, I)), np.array("x"), np.array(None), np.array([None] * 4), type,
        np.ones((T, B, I), np.longdouble), np.datetime64("2020-01-01"), np.ma.ones((T, B, I)), slice(None),
        np.ones((5, 5))[:, ::-1], np.ones((1, 1, 1, 1)),
    ]  # fmt: skip
    names = ["x", "state", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "lengths", "out", "checkpoint"]
    names += ["weight_hr"] if p.is_lstm else []
    for name in names:
        for value in values:
            call, vjp = bad(kind, **{name: value})
            for f in (vjp,) if name == "checkpoint" else (call, vjp):
                message = refusal(f)
                assert name.split("_")[0] in message or name == "x", (name, value, message)


# ---- gate order


@pytest.mark.parametrize("reorder_gates", [F.reorder_gates, reference.reorder_gates], ids=["ours", "reference"])
def test_reorder_gates(reorder_gates):
    a = np.arange(24.0).reshape(8, 3)
    there = reorder_gates(a, "ifgo", "iofg")
    np.testing.assert_array_equal(there, a[[0, 1, 6, 7, 2, 3, 4, 5]])
    np.testing.assert_array_equal(reorder_gates(there, "iofg", "ifgo"), a)
    assert not np.shares_memory(reorder_gates(a, "ifgo", "ifgo"), a)
    np.testing.assert_array_equal(reorder_gates(np.arange(6), "rzn", "zrn"), [2, 3, 0, 1, 4, 5])
    for arguments, message in [
        ((a, "ifgo", "ifg"), "target: expected the letters"),
        ((a, "ifgo", "ifgx"), "target: expected the letters"),
        ((a, "iifg", "iifg"), "source: expected one letter for each gate"),
        ((a, "", ""), "source: expected one letter for each gate"),
        ((a, 3, "ifgo"), "target: expected the letters"),
        ((a[:7], "ifgo", "iofg"), "a: expected [4·H, ...], got shape (7, 3)"),
        ((1.0, "ifgo", "iofg"), "a: expected [4·H, ...], got shape ()"),
    ]:
        with pytest.raises(ValueError, match="expected") as caught:
            reorder_gates(*arguments)
        assert message in str(caught.value)


def test_reordered_weights_compute_the_same():
    """Blocks of a weight move together: a layer in another library's order is this one after reordering."""
    p = Problem("lstm")
    other = [F.reorder_gates(w, "ifgo", "iofg") for w in p.weights[:4]]
    back = [F.reorder_gates(w, "iofg", "ifgo") for w in other]
    same(p.call(p.x, p.state, *back), p.call(p.x, p.state, *p.weights))
    assert not np.array_equal(p.call(p.x, p.state, *other)[0], p.call(p.x, p.state, *p.weights)[0])
