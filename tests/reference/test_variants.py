"""Variants of LSTM, GRU and RNN: gradients by finite differences, alone and combined; meanings by their definitions."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import reference
from fastrnn.reference._variants import ACTIVATIONS, activation
from tests.variants.cases import CELLS, RAGGED, VARIANTS, B, Case, H, T, arrays, assert_same, everything

from .finite_differences import assert_close, numerical_gradient

EACH = [pytest.param(cell, name, id=f"{cell}-{name}") for cell, names in VARIANTS.items() for name in names]
every_cell = pytest.mark.parametrize("cell", CELLS)
both_directions = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


@pytest.mark.parametrize("cell, name", EACH)
@both_directions
@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["full", "ragged"])
def test_gradients_of_each(cell, name, reverse, lengths):
    Case(cell, [name], reverse=reverse, lengths=lengths).check()


@pytest.mark.parametrize("cell", VARIANTS)
def test_gradients_of_all_states_of_a_plain_cell(cell):
    Case(cell, lengths=RAGGED).check()


@every_cell
@both_directions
def test_gradients_of_everything_at_once(cell, reverse):
    names = [n for n in VARIANTS[cell] if n not in ("activations", "zoneout_share", "resets")]
    Case(cell, names, seed=2, reverse=reverse, lengths=RAGGED).check()


@settings(max_examples=60, deadline=None, derandomize=True)  # the same cases always: some lie on a kink of clip
@given(
    cell=st.sampled_from(sorted(VARIANTS)),
    picks=st.sets(st.integers(0, 99), max_size=5),
    seed=st.integers(0, 5),
    lengths=st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B),
    reverse=st.booleans(),
    batch_first=st.booleans(),
)
def test_gradients_of_combinations(cell, picks, seed, lengths, reverse, batch_first):
    names = {VARIANTS[cell][k % len(VARIANTS[cell])] for k in picks}
    Case(cell, names, seed=seed, lengths=lengths, reverse=reverse, batch_first=batch_first).check()


# ---- activations

FORMULAS = {  # ONNX's operators, one number at a time
    "Affine": lambda z, a, b: a * z + b,
    "Relu": lambda z, a, b: max(z, 0.0),
    "LeakyRelu": lambda z, a, b: z if z >= 0 else a * z,
    "ThresholdedRelu": lambda z, a, b: z if z >= a else 0.0,
    "ScaledTanh": lambda z, a, b: a * np.tanh(b * z),
    "HardSigmoid": lambda z, a, b: min(max(a * z + b, 0.0), 1.0),
    "Elu": lambda z, a, b: z if z >= 0 else a * (np.exp(z) - 1),
    "Softsign": lambda z, a, b: z / (1 + abs(z)),
    "Softplus": lambda z, a, b: np.log(1 + np.exp(z)),
    "Tanh": lambda z, a, b: np.tanh(z),
    "Sigmoid": lambda z, a, b: 1 / (1 + np.exp(-z)),
    "identity": lambda z, a, b: z,
}
NUMBERS = {"LeakyRelu": (0.01, 0), "HardSigmoid": (0.2, 0.5), "Affine": (1, 0)}  # ONNX's defaults; else 1, 1


def test_every_activation_is_known():
    assert {name.lower() for name in FORMULAS} == set(ACTIVATIONS)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("numbers", [(), (0.4,), (0.4, 0.3)], ids=["defaults", "alpha", "alpha and beta"])
def test_activation(name, numbers):
    z = np.linspace(-4, 4, 38)  # meets no kink
    alpha, beta = (*numbers, *NUMBERS.get(name, (1, 1))[len(numbers) :])
    f, derivative = activation((name, *numbers))
    assert_close(f(z), [FORMULAS[name](n, alpha, beta) for n in z], 1e-13)
    v = np.cos(z)
    assert_close(derivative(z, f(z)) * v, numerical_gradient(lambda: float(f(z) @ v), z), 1e-8)


@pytest.mark.parametrize("name", FORMULAS)
def test_activation_keeps_type_and_nan_and_does_not_overflow(name):
    z = np.array([-1e30, np.nan, 0, 1e30], np.float32)
    with np.errstate(over="raise", divide="raise"):
        for clip in (None, 2.0):
            f, derivative = activation(name, clip)
            for y in (f(z), derivative(z, f(z))):
                assert y.dtype == np.float32 and np.isnan(y).tolist() == [False, True, False, False]


def test_clip_limits_the_argument():
    f, derivative = activation(("affine", 2.0, 1.0), 1.5)
    z = np.array([-2.0, -1.5, 0.0, 1.5, 2.0])
    assert f(z).tolist() == [-2, -2, 1, 4, 4] and derivative(z, f(z)).tolist() == [0, 2, 2, 2, 0]


@every_cell
def test_usual_activations_by_name(cell):
    case = Case(cell)
    names = {"lstm": ("Sigmoid", "Tanh", "Tanh"), "gru": ("sigmoid", ("TANH",)), "rnn": ("tanh",)}[cell]
    assert_same(everything(case, activations=names), everything(case), 0)


# ---- what the variants mean


def test_coupled_gates_are_those_whose_weights_are_opposite():
    """1 − σ(z) = σ(−z)."""
    case = Case("lstm", ["coupled", "peephole"])
    coupled = case.vjp()[0]
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "peephole"):
        first, *rest = np.split(case.weights[name], len(case.weights[name]) // H)
        case.weights[name] = np.concatenate([first, -first, *rest])
    assert_same(arrays(case.vjp(coupled=False)[0]), arrays(coupled))


@every_cell
def test_clip(cell):
    case = Case(cell)
    assert_same(everything(case, clip=1e3), everything(case), 0)
    case.weights["bias_ih"][:] = 50
    dx, _, grads = case.vjp(clip=3.0)[1](*case.cotangents())
    assert not dx.any() and not grads.weight_hh.any(), "all is limited"


@every_cell
def test_peephole_and_norm_of_nothing(cell):
    case = Case(cell)
    if cell == "lstm":
        assert_same(arrays(case.vjp(peephole=np.zeros(3 * H))[0]), arrays(case.vjp()[0]), 0)
    rows = len(case.weights["bias_ih"])
    norm = reference.Norm(np.zeros(rows), np.zeros(rows))  # products are gone, biases are left
    normed = case.vjp(norm=norm)[0]
    case.weights["weight_ih"][:] = case.weights["weight_hh"][:] = 0
    assert_same(arrays(normed), arrays(case.vjp()[0]), 0)


@every_cell
def test_norm_forgets_the_scale_of_a_weight(cell):
    case = Case(cell, ["norm"])
    for name in ("weight_ih", "weight_hh"):
        case.weights[name] *= 1e4  # beside which eps counts for nothing
    expected = arrays(case.vjp()[0])
    for name in ("weight_ih", "weight_hh"):
        case.weights[name] *= 7
    assert_same(arrays(case.vjp()[0]), expected, 1e-8)


@every_cell
def test_zoneout(cell):
    """All kept: the states stay; nothing kept: the plain cell; a share: between the two in every step."""
    case = Case(cell)
    (y, state_n, _), _ = case.vjp(zoneout=case.packed([1.0] * len(case.states)))
    assert_same(arrays(state_n), case.states, 0)
    assert_same([y], [np.broadcast_to(case.states[0], y.shape)], 0)
    ones, zeros = (case.packed([np.full((T, B, n), v) for n in case.sizes]) for v in (1.0, 0.0))
    assert_same(arrays(case.vjp(zoneout=ones)[0][1]), case.states, 0)
    assert_same(everything(case, zoneout=zeros), everything(case), 0)
    plain = arrays(case.vjp()[0][2])
    for kept, new, old in zip(arrays(case.vjp(zoneout=0.25)[0][2]), plain, case.states):
        assert_close(kept[0], 0.25 * old + 0.75 * new[0], 1e-14)


def test_zoneout_of_c_leaves_the_output_of_the_step_alone():
    """h is made of the cell's own c, whatever is then carried on."""
    case = Case("lstm", ["peephole", "norm"])
    d = case.random(T, B, H) < 0.5
    plain, zoned = (case.vjp(zoneout=z)[0][2] for z in (None, (None, d.astype(float))))
    assert_close(zoned[0][0], plain[0][0], 0)
    assert_close(zoned[1][0], np.where(d[0], case.states[1], plain[1][0]), 0)


@every_cell
def test_recurrent_mask(cell):
    case = Case(cell)
    assert_same(everything(case, recurrent_mask=np.ones((B, H))), everything(case), 0)
    masked = arrays(case.vjp(recurrent_mask=np.zeros((B, H)))[0])
    case.weights["weight_hh"][:] = 0
    assert_same(masked, arrays(case.vjp()[0]))


@every_cell
@both_directions
def test_resets_cut_a_sequence_in_two(cell, reverse):
    """Both sides of a border, run alone, are the whole; in the reverse direction too, and in a ragged batch."""
    case = Case(cell, ["norm"], reverse=reverse)
    fresh = [case.random(B, n) for n in case.sizes]
    cut, lengths = np.array([2, 1, 3]), np.array([4, 3, 3])  # the last border lies behind the end of its row
    mask = np.arange(T)[:, None] == cut
    (y, state_n, _), pullback = case.vjp(reset_mask=mask, reset_state=case.packed(fresh), lengths=lengths)
    dx, dstate_0, _ = pullback(case.dy, case.packed(case.dstate_n))
    for b in range(B):
        whole = slice(b, b + 1)
        pieces = [slice(0, cut[b]), slice(cut[b], lengths[b])]
        pieces = [p for p in (pieces[::-1] if reverse else pieces) if p.start < p.stop]
        for k, piece in enumerate(pieces):
            start = [(case.states if k == 0 else fresh)[n][whole] for n in range(len(case.sizes))]
            end = case.packed([d[whole] for d in case.dstate_n]) if k == len(pieces) - 1 else None
            norm = reference.Norm(**case.gains)
            (y_k, state_k), pullback = case.vjp_function(
                case.x[piece, whole], case.packed(start), **case.weights, norm=norm, reverse=reverse
            )
            dx_k, dstate_k, _ = pullback(case.dy[piece, whole], end)
            assert_close(y_k, y[piece, whole], 1e-13)
            assert_close(dx_k, dx[piece, whole], 1e-13)
            if k == 0:
                assert_same(arrays(dstate_k), [d[whole] for d in arrays(dstate_0)])
        assert_same(arrays(state_k), [s[whole] for s in arrays(state_n)])


@every_cell
@both_directions
def test_all_states_are_the_last_of_shorter_runs(cell, reverse):
    case = Case(cell, ["norm", "zoneout_share"], reverse=reverse, lengths=RAGGED)
    (y, _, states), _ = case.vjp()
    assert_same([y], arrays(states)[:1], 0)
    norm, zoneout = reference.Norm(**case.gains), case.options["zoneout"]
    for t, b in itertools.product(range(T), range(B)):
        if t >= RAGGED[b]:
            assert all(not s[t, b].any() for s in arrays(states))
            continue
        x = case.x[t : RAGGED[b], b] if reverse else case.x[: t + 1, b]
        start = case.packed([s[b] for s in case.states])
        (_, end), _ = case.vjp_function(x, start, **case.weights, norm=norm, zoneout=zoneout, reverse=reverse)
        assert_same(arrays(end), [s[t, b] for s in arrays(states)])


@pytest.mark.parametrize("cell, name", EACH)
@both_directions
def test_padding_and_what_belongs_to_it_is_never_read(cell, name, reverse):
    case = Case(cell, [name], lengths=RAGGED, reverse=reverse)
    clean = everything(case)
    zoneout = [z for z in arrays(case.options.get("zoneout")) if np.ndim(z)]
    for a in (case.x, case.dy, *case.dstates, *zoneout):
        for b, n in enumerate(RAGGED):
            a[n:, b] = np.nan
    if "reset_mask" in case.options:
        for b, n in enumerate(RAGGED):
            case.options["reset_mask"][n:, b] ^= True
    for actual, expected in zip(everything(case), clean):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("cell, name", EACH)
def test_layouts(cell, name):
    """Batch first, and one sequence without a batch."""
    case = Case(cell, [name])
    (y, state_n, states), pullback = case.vjp()
    results = (y, pullback(*case.cotangents())[0], *arrays(states))
    options = {n: o for n, o in case.options.items() if n not in ("lengths", "reverse", "batch_first")}
    if case.gains:
        options["norm"] = reference.Norm(**case.gains)
    for form in ("batch_first", "unbatched"):
        cut = (lambda a: a.swapaxes(0, 1)) if form == "batch_first" else (lambda a: a[:, 1])
        rows = (lambda a: a) if form == "batch_first" else (lambda a: a[1])
        given = dict(options)
        for key, change in (("zoneout", cut), ("recurrent_mask", rows), ("reset_mask", cut), ("reset_state", rows)):
            if key in given and not isinstance(given[key], float):
                value = given[key]
                whole = tuple(v if np.ndim(v) == 0 else change(v) for v in arrays(value) or value)
                given[key] = whole if isinstance(value, tuple) else whole[0]
        state = case.packed([rows(s) for s in case.states])
        batch_first, weights = form == "batch_first", case.weights
        (y_2, n_2, all_2), pullback_2 = case.vjp_function(
            cut(case.x), state, **weights, **given, batch_first=batch_first, all_states=True
        )
        cotangents = (
            cut(case.dy),
            case.packed([rows(d) for d in case.dstate_n]),
            case.packed([cut(d) for d in case.dstates]),
        )
        dx_2 = pullback_2(*cotangents)[0]
        assert_same([y_2, dx_2, *arrays(all_2)], [cut(a) for a in results])
        assert_same(arrays(n_2), [rows(s) for s in arrays(state_n)])


@pytest.mark.parametrize("cell, name", EACH)
def test_float32(cell, name):
    case = Case(cell, [name], lengths=RAGGED)
    wide = everything(case)
    for holder in (case.weights, case.gains, case.options):
        for key, value in holder.items():
            if any(getattr(a, "dtype", None) == np.float64 for a in arrays(value)):
                cast = tuple(a.astype(np.float32) for a in arrays(value))
                holder[key] = cast if isinstance(value, tuple) else cast[0]
    for name in ("x", "dy"):
        setattr(case, name, getattr(case, name).astype(np.float32))
    for name in ("states", "dstate_n", "dstates"):
        setattr(case, name, [a.astype(np.float32) for a in getattr(case, name)])
    narrow = everything(case)
    assert {a.dtype for a in narrow} == {np.dtype(np.float32)}
    assert_same(narrow, wide, 2e-5)  # 2⁻²⁴ = 6e-8, over four steps and norms of three features


BAD = {
    "activation": (
        {"activations": ("tanh", "swish", "tanh")},
        ValueError,
        "activations: expected one of affine,.* got 'swish'",
    ),
    "number of activations": ({"activations": ("tanh",)}, ValueError, "activations: expected 3 of them"),
    "clip": ({"clip": 0.0}, ValueError, "clip: expected a number above 0, got 0.0"),
    "peephole": ({"peephole": np.zeros(2 * H)}, ValueError, r"peephole: expected \[9\], got shape \(6,\)"),
    "coupled": ({"coupled": True}, ValueError, r"expected \[12, 4\]|weight_hh: expected"),
    "gain": ({"norm": reference.Norm(np.zeros(H), np.zeros(H))}, ValueError, r"gain_ih: expected \[12\]"),
    "mask": ({"recurrent_mask": np.ones((B, H + 1))}, ValueError, "recurrent_mask: expected shape"),
    "mask type": ({"recurrent_mask": np.ones((B, H), bool)}, TypeError, "recurrent_mask: expected float64, got bool"),
    "zoneout": ({"zoneout": (np.ones((T, B)), None)}, ValueError, "zoneout: expected shape"),
    "one zoneout": ({"zoneout": (0.1,)}, ValueError, "zoneout: expected 2 arrays, got 1"),
    "reset type": ({"reset_mask": np.zeros((T, B))}, TypeError, "reset_mask: expected bool, got float64"),
    "reset shape": (
        {"reset_mask": np.zeros((B, T), bool)},
        ValueError,
        r"reset_mask: expected shape \(4, 3\), got \(3, 4\)",
    ),
    "reset state": ({"reset_state": (np.zeros((1, H)), None)}, ValueError, "reset_state: expected shape"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input(bad):
    options, error, message = BAD[bad]
    with pytest.raises(error, match=message):
        Case("lstm").vjp(**options)
