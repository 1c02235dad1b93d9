"""`fastrnn.functional`: every variant, option and shape against the reference and finite differences."""

import itertools

import numpy as np
import pytest

from fastrnn import functional as F
from fastrnn import reference
from tests.reference.finite_differences import assert_close, check_gradients

from . import masks

T, B, I, H, P = 7, 4, 3, 17, 5
SEED = 11
F32, F64 = np.float32, np.float64
LENGTHS = [4, 7, 0, 2]

# what `Problem` takes: the sizes of a layer's options; "masks" gives rates, whose masks the reference is handed
CELLS = {
    "lstm": [
        {"peephole": True},
        {"coupled": True},
        {"coupled": True, "peephole": True, "clip": 0.7},
        {"activations": ("hard_sigmoid", ("Elu", 0.5), ("scaled_tanh", 1.2, 0.7))},
        {"norm": True},
        {"norm": "gains", "projection": True},
        {"norm": True, "peephole": True, "clip": 2.0},
        {"zoneout": (0.3, 0.2)},
        {"zoneout": 0.25, "recurrent_dropout": 0.3, "projection": True},
        {"recurrent_dropout": 0.4, "norm": True},
        {"projection": True},
    ],
    "gru": [
        {"clip": 0.6},
        {"clip": 0.6, "reset_after": False},
        {"norm": True},
        {"norm": True, "reset_after": False, "recurrent_dropout": 0.3},
        {"zoneout": 0.3, "activations": ("hard_sigmoid", ("leaky_relu", 0.2))},
        {"recurrent_dropout": 0.4},
    ],
    "rnn": [
        {"nonlinearity": "leaky_relu"},
        {"nonlinearity": "identity", "norm": True},
        {"activations": ("softplus",), "clip": 0.8},
        {"activations": (("elu", 0.7),), "zoneout": 0.3},
        {"nonlinearity": "relu", "recurrent_dropout": 0.4},
        {"nonlinearity": "sigmoid", "norm": True, "recurrent_dropout": 0.2},
    ],
}
SHAPES = {
    "plain": {},
    "ragged_reverse": {"lengths": LENGTHS, "reverse": True},
    "resets": {"resets": True},
    "resets_ragged_reverse": {"resets": True, "lengths": LENGTHS, "reverse": True},
    "batch_first": {"batch_first": True, "resets": True, "lengths": LENGTHS},
    "one_sequence": {"unbatched": True, "resets": True, "reverse": True},
    "no_bias": {"bias": False},
}
CASES = [pytest.param(cell, v, id=f"{cell} {v}") for cell, found in CELLS.items() for v in found]
cases = pytest.mark.parametrize(("cell", "variant"), CASES)
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def flat(value):
    """The arrays in a nested tuple, without what is None."""
    if isinstance(value, tuple):
        return [array for item in value for array in flat(item)]
    return [] if value is None else [value]


def same(found, right):
    for a, b in zip(flat(found), flat(right), strict=True):
        np.testing.assert_array_equal(a, b)


class Problem:
    """Random arrays and options of a cell, for us and for the reference."""

    def __init__(self, cell, variant, shape, dtype=F64, hidden=H, resets=None):
        self.rng = np.random.default_rng([*cell.encode(), *str(variant).encode()])
        variant, self.dtype, self.cell = dict(variant), dtype, cell
        self.call, self.vjp = getattr(F, cell), getattr(F, cell + "_vjp")
        self.reference = getattr(reference, cell + "_vjp")
        coupled = variant.get("coupled", False)
        gates = {"lstm": 3 if coupled else 4, "gru": 3, "rnn": 1}[cell]
        wide = P if variant.pop("projection", False) else hidden
        self.sizes = (wide, hidden) if cell == "lstm" else (wide,)
        self.unbatched, self.batch_first = shape.get("unbatched", False), shape.get("batch_first", False)
        self.lead = (T,) if self.unbatched else (B, T) if self.batch_first else (T, B)
        self.rows = () if self.unbatched else (B,)
        self.x, self.dy = self.normal(*self.lead, I), self.normal(*self.lead, wide)
        self.state, self.dstate, again = (self.packed([self.normal(*self.rows, n) for n in self.sizes]) for _ in "abc")
        self.dstates = self.packed([self.normal(*self.lead, n) for n in self.sizes])
        scale = 0.5
        self.weights = {
            "weight_ih": self.normal(gates * hidden, I, scale=scale),
            "weight_hh": self.normal(gates * hidden, wide, scale=scale),
        }
        if shape.get("bias", True):
            self.weights |= {f"bias_{k}": self.normal(gates * hidden, scale=scale) for k in ("ih", "hh")}
        if wide != hidden:
            self.weights["weight_hr"] = self.normal(wide, hidden, scale=scale)
        if variant.pop("peephole", False):
            self.weights["peephole"] = self.normal((gates - 1) * hidden, scale=scale)
        self.gains = {}
        if norm := variant.pop("norm", False):
            self.gains = {f"gain_{k}": 1 + self.normal(gates * hidden, scale=0.3) for k in ("ih", "hh")}
            if cell == "lstm" and norm is True:
                self.gains |= {"gain_c": 1 + self.normal(hidden, scale=0.3), "bias_c": self.normal(hidden)}
        self.zoneout, self.rate = variant.pop("zoneout", None), variant.pop("recurrent_dropout", 0.0)
        options = {key: shape[key] for key in ("lengths", "reverse", "batch_first") if key in shape}
        self.options = {**variant, **options}
        if shape.get("resets") if resets is None else resets:
            mask = self.rng.random(self.lead) < 0.3
            self.options |= {"reset_mask": mask, "reset_state": again}

    def normal(self, *shape, scale=1.0):
        return (scale * self.rng.standard_normal(shape)).astype(F32).astype(self.dtype)

    def packed(self, arrays):
        return tuple(arrays) if self.cell == "lstm" else arrays[0]

    def arguments(self, dtype=None, **more):
        """(positional, by name), in another type for the reference."""

        def cast(value):
            if isinstance(value, tuple):
                return tuple(map(cast, value))
            is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f"
            return value.astype(dtype) if is_float and dtype is not None else value

        Norm = F.Norm if dtype is None else reference.Norm
        norm = {"norm": Norm(**{k: cast(g) for k, g in self.gains.items()})} if self.gains else {}
        names = {**self.weights, **self.options, **more}
        return cast((self.x, self.state)), {**{k: cast(v) for k, v in names.items()}, **norm}

    def ours(self, **more):
        rates = {"zoneout": self.zoneout, "recurrent_dropout": self.rate, "seed": SEED}
        positional, named = self.arguments(**rates, **more)
        return self.vjp(*positional, **named)

    def inference(self, **more):
        positional, named = self.arguments(zoneout=self.zoneout, **more)
        return self.call(*positional, **named)

    def theirs(self, train=True, **more):
        """The reference, in float64, with the masks that we draw."""
        found = {"zoneout": self.zoneout}
        batch = B if self.rows else 1
        if train and self.zoneout is not None:
            rates = self.zoneout if isinstance(self.zoneout, tuple) else (self.zoneout,) * len(self.sizes)
            drawn = [masks.zoneout(SEED, 0, 0, k, p, (T, batch, n)) for k, (p, n) in enumerate(zip(rates, self.sizes))]
            drawn = [d[:, 0] if self.unbatched else d.swapaxes(0, 1) if self.batch_first else d for d in drawn]
            found["zoneout"] = self.packed(drawn)
        if train and self.rate:
            mask = masks.recurrent(SEED, 0, 0, self.rate, (batch, self.sizes[0]))
            found["recurrent_mask"] = mask[0] if self.unbatched else mask
        positional, named = self.arguments(F64, **found, **more)
        return self.reference(*positional, **named)

    def cotangents(self, dtype=None):
        def cast(part):
            return tuple(map(cast, part)) if isinstance(part, tuple) else part.astype(dtype or self.dtype)

        return cast((self.dy, self.dstate, self.dstates))


@pytest.mark.parametrize("dtype", [F64, F32], ids=["f64", "f32"])
@cases
@shapes
def test_against_the_reference(cell, variant, shape, dtype):
    p = Problem(cell, variant, shape, dtype)
    forward, gradient = (1e-5, 1e-4) if dtype is F32 else (1e-12, 1e-12)
    outputs, pullback = p.ours(return_all_states=True)
    right, back = p.theirs(all_states=True)
    for a, b in zip(flat(outputs), flat(right), strict=True):
        assert a.dtype == dtype
        assert_close(a, b, forward)
    found, right = pullback(*p.cotangents()), back(*p.cotangents(F64))
    assert found[2]._fields == right[2]._fields
    assert [g is None for g in found[2]] == [g is None for g in right[2]]
    for a, b in zip(flat(found), flat(right), strict=True):
        assert a.dtype == dtype
        assert_close(a, b, gradient)
    for a, b in zip(flat(p.inference()), flat(p.theirs(train=False)[0]), strict=True):
        assert_close(a, b, forward)


@cases
def test_finite_differences(cell, variant):
    p = Problem(cell, variant, SHAPES["resets_ragged_reverse"], hidden=4)
    dx, dstate, grads = p.ours(return_all_states=True)[1](*p.cotangents())
    inputs = {"x": p.x, **{f"state {k}": s for k, s in enumerate(flat(p.state))}, **p.weights, **p.gains}
    gradients = {"x": dx, **{f"state {k}": d for k, d in enumerate(flat(dstate))}}
    gradients |= {name: grad for name, grad in grads._asdict().items() if grad is not None}
    check_gradients(lambda: p.ours(return_all_states=True)[0], inputs, p.cotangents(), gradients)


# ---- what depends on what


@cases
def test_seeds_and_inference(cell, variant):
    p = Problem(cell, variant, {})
    positional, named = p.arguments(zoneout=p.zoneout, recurrent_dropout=p.rate)
    drawn = bool(p.zoneout or p.rate)
    for make in (lambda: 3, lambda: np.random.default_rng(3)):
        same(p.vjp(*positional, **named, seed=make())[0], p.vjp(*positional, **named, seed=make())[0])
    first, second = p.vjp(*positional, **named)[0][0], p.vjp(*positional, **named)[0][0]
    assert np.array_equal(first, second) == (not drawn)
    assert np.array_equal(first, p.inference()[0]) == (not drawn)
    same(p.inference(), p.inference())


@cases
@pytest.mark.parametrize("steps", [1, 3, 100])
def test_checkpoint_changes_no_bit(cell, variant, steps):
    p = Problem(cell, variant, SHAPES["resets_ragged_reverse"])
    right, pullback = p.ours(return_all_states=True)
    found, again = p.ours(return_all_states=True, checkpoint=steps)
    same(found, right)
    same(again(*p.cotangents()), pullback(*p.cotangents()))


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_states_that_are_none_are_zero(cell):
    p = Problem(cell, {}, {"lengths": LENGTHS, "reverse": True})
    zero = p.packed([np.zeros_like(a) for a in flat(p.dstates)])
    right = p.ours(return_all_states=True)[1](p.dy, p.dstate, zero)
    same(p.ours(return_all_states=True)[1](p.dy, p.dstate), right)
    same(p.ours()[1](p.dy, p.dstate), right)
    only_h = p.ours(return_all_states=True)[1](None, p.dstate, (p.dy, None) if cell == "lstm" else p.dy)
    same(only_h, right)
    if cell == "lstm":
        half = p.ours(return_all_states=True)[1](None, None, (None, p.dstates[1]))
        same(half, p.ours(return_all_states=True)[1](None, None, (np.zeros_like(p.dy), p.dstates[1])))


def test_what_is_kept_may_change():
    """But for x and the weights, arguments are the caller's again after the call."""
    p = Problem("lstm", {"zoneout": 0.2}, {"resets": True})
    right = p.ours()[1](p.dy, p.dstate)
    _, pullback = p.ours()
    p.options["reset_mask"][...] = False
    for array in p.options["reset_state"]:
        array[...] = 100
    same(pullback(p.dy, p.dstate), right)


@pytest.mark.parametrize("cell", CELLS)
def test_out_and_all_states(cell):
    p = Problem(cell, {}, {"resets": True})
    out = np.empty_like(p.dy)
    y, _, states = p.inference(out=out, return_all_states=True)
    assert np.shares_memory(y, out)
    np.testing.assert_array_equal(flat(states)[0], y)
    for overlapping in flat(p.options["reset_state"])[:1]:
        memory = np.zeros(p.dy.size + overlapping.size)
        fresh = memory[: overlapping.size].reshape(overlapping.shape)
        p.options["reset_state"] = p.packed([fresh, *flat(p.options["reset_state"])[1:]])
        with pytest.raises(ValueError, match=r"^out: .*overlaps reset_state"):
            p.inference(out=memory[: p.dy.size].reshape(p.dy.shape))


@pytest.mark.parametrize("cell", CELLS)
def test_empty_batch(cell):
    arrays = {"x": np.ones((T, 0, I)), "weight_ih": np.ones(({"lstm": 4, "gru": 3, "rnn": 1}[cell] * 2, I))}
    arrays["weight_hh"] = arrays["weight_ih"][:, :2].copy()
    outputs, pullback = getattr(F, cell + "_vjp")(
        state=None, **arrays, clip=1.0, zoneout=0.2, reset_mask=np.ones((T, 0), bool), return_all_states=True
    )
    assert [a.shape for a in flat(outputs[2])] == [(T, 0, 2)] * (2 if cell == "lstm" else 1)
    assert pullback(outputs[0] * 1.0)[0].shape == (T, 0, I)


def test_one_hot():
    import fastrnn as fr

    p = Problem("lstm", {"peephole": True, "norm": True}, {"resets": True})
    codes = p.rng.integers(I, size=(T, B))
    p.x = np.eye(I)[codes]
    right, back = p.ours(return_all_states=True)
    p.x = fr.one_hot(codes, I)
    found, pullback = p.ours(return_all_states=True)
    for a, b in zip(flat(found), flat(right), strict=True):
        assert_close(a, b, 1e-12)
    for a, b in zip(flat(pullback(*p.cotangents())[1:]), flat(back(*p.cotangents())[1:]), strict=True):
        assert_close(a, b, 1e-12)


# ---- bad input

REFUSED = [
    ("lstm", {"peephole": np.ones(5)}, ValueError, "peephole: expected shape (51,), got (5,)"),
    ("lstm", {"peephole": np.ones(51, F32)}, TypeError, "peephole: expected float64, got float32"),
    ("lstm", {"coupled": "yes"}, TypeError, "coupled: expected"),
    ("lstm", {"coupled": True}, ValueError, "weight_ih: expected [3·H, 3]"),
    ("lstm", {"clip": 0.0}, ValueError, "clip: expected"),
    ("lstm", {"clip": "x"}, TypeError, "clip: expected"),
    ("lstm", {"activations": ("tanh", "tanh")}, ValueError, "activations: expected 3 of them"),
    ("lstm", {"activations": ("tanh", "tanh", "swish")}, ValueError, "activations: expected one of identity, tanh"),
    ("lstm", {"norm": np.ones(68)}, TypeError, "norm: expected functional.Norm"),
    ("lstm", {"norm": F.Norm(np.ones(68), None)}, TypeError, "norm.gain_hh: expected an array, got None"),
    ("lstm", {"norm": F.Norm(np.ones(68), np.ones(67))}, ValueError, "norm.gain_hh: expected shape (68,), got (67,)"),
    (
        "lstm",
        {"norm": F.Norm(np.ones(68), np.ones(68), np.ones(17))},
        ValueError,
        "norm: expected both of gain_c and bias_c, or neither",
    ),
    ("gru", {"norm": F.Norm(*np.ones((2, 51)), *np.ones((2, 17)))}, ValueError, "norm: expected gain_c and bias_c for"),
    ("lstm", {"zoneout": 1.0}, ValueError, "zoneout: expected"),
    ("lstm", {"zoneout": (0.1, 0.2, 0.3)}, ValueError, "zoneout: expected a number or 2 of them"),
    ("gru", {"zoneout": (0.1, 0.2)}, TypeError, "zoneout: expected"),
    ("lstm", {"reset_mask": np.ones((T, B))}, TypeError, "reset_mask: expected bool [7, 4]"),
    ("lstm", {"reset_mask": np.ones((B, T), bool)}, ValueError, "reset_mask: expected bool [7, 4]"),
    ("gru", {"reset_state": np.ones((B, H))}, ValueError, "reset_state: expected with reset_mask"),
    (
        "lstm",
        {"reset_mask": np.ones((T, B), bool), "reset_state": np.ones((B, H))},
        TypeError,
        "reset_state: expected a tuple (h, c)",
    ),
    (
        "gru",
        {"reset_mask": np.ones((T, B), bool), "reset_state": np.ones((B, 3))},
        ValueError,
        "reset_state: expected shape (4, 17), got (4, 3)",
    ),
    ("rnn", {"nonlinearity": "relu", "activations": ("tanh",)}, ValueError, "activations: expected without nonlinear"),
    ("rnn", {"activations": ("tanh", "tanh")}, TypeError, "activations: alpha and beta: expected a number"),
]


@pytest.mark.parametrize(("cell", "changes", "error", "message"), REFUSED)
def test_refused(cell, changes, error, message):
    p = Problem(cell, {}, {})
    for call in (p.call, p.vjp):
        positional, named = p.arguments(**changes)
        with pytest.raises(error) as caught:
            call(*positional, **named)
        assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"recurrent_dropout": 1.0}, ValueError, "recurrent_dropout: expected"),
        ({"recurrent_dropout": "x"}, TypeError, "recurrent_dropout: expected"),
        ({"recurrent_dropout": 0.1, "seed": "x"}, TypeError, "seed: expected"),
    ],
)
def test_refused_in_training(changes, error, message):
    p = Problem("gru", {}, {})
    positional, named = p.arguments(**changes)
    with pytest.raises(error) as caught:
        p.vjp(*positional, **named)
    assert str(caught.value).startswith(message)


def test_pullback_refuses():
    p = Problem("lstm", {}, {})
    with pytest.raises(ValueError, match=r"^dstates: expected only with return_all_states=True"):
        p.ours()[1](p.dy, p.dstate, p.dstates)
    _, pullback = p.ours(return_all_states=True)
    for given, error, message in [
        (p.dy, TypeError, r"^dstates: expected a tuple \(h, c\)"),
        ((p.dy[:1], None), ValueError, r"^dstates\[0\]: expected shape \(7, 4, 17\)"),
        ((None, p.dy.astype(F32)), TypeError, r"^dstates\[1\]: expected float64"),
    ]:
        with pytest.raises(error, match=message):
            pullback(p.dy, p.dstate, given)
    same(pullback(p.dy, p.dstate, p.dstates), p.ours(return_all_states=True)[1](p.dy, p.dstate, p.dstates))


def refusal(call, positional, named):
    """The explanation that a call gives, or None if it returns."""
    try:
        call(*positional, **named)
    except (ValueError, TypeError) as error:
        return str(error)


def test_whatever_comes_in():
    """Any value in place of any argument: an explanation that names it, or a result."""
    values = [None, 0, -1, 2.5, True, "", "tanh", [], (), (None,), (None, None), {}, object(), b"x", np.nan, np.ones(0)]
    values += [np.ones(()), np.ones((B, H)), np.array("x"), np.array(None), ..., np.ones((T, B), bool), ("tanh",) * 3]
    names = ("peephole", "coupled", "clip", "activations", "norm", "zoneout", "reset_mask", "reset_state")
    p = Problem("lstm", {}, {})
    for name, value in itertools.product((*names, "recurrent_dropout", "return_all_states"), values):
        positional, named = p.arguments(**{name: value})
        message = refusal(p.vjp, positional, named)
        assert message is None or name in message or (name == "coupled" and "weight_ih" in message), (name, value)
