"""Stacked and bidirectional layers."""

from functools import partial

import numpy as np
import pytest

from fastrnn import reference

from .finite_differences import assert_close, check_gradients

T, B, I, H, P = 3, 3, 2, 3, 1
RAGGED = [2, 0, 3]
GATES = {
    "lstm": 4,
    "gru": 3,
    "rnn_tanh": 1,
    "rnn_relu": 1,
    "rnn_sigmoid": 1,
    "rnn_leaky_relu": 1,
    "rnn_identity": 1,
    "fast_rnn": 1,
    "fast_grnn": 1,
}
FAST = {"fast_rnn": {"bias": H, "alpha": 1, "beta": 1}, "fast_grnn": {"bias_z": H, "bias_h": H, "zeta": 1, "nu": 1}}


def make(cell, num_layers, bidirectional, *, proj_size=0, bias=True, seed=0):
    """Random params, x, states, dy and dstates; states as a tuple of arrays."""
    rng = np.random.default_rng(seed)
    D, output_size = 1 + bidirectional, proj_size or H
    params = {}
    for layer in range(num_layers):
        for suffix in ("", "_reverse")[:D]:
            name, size = f"_l{layer}{suffix}", I if layer == 0 else D * output_size
            params["weight_ih" + name] = rng.standard_normal((GATES[cell] * H, size))
            params["weight_hh" + name] = rng.standard_normal((GATES[cell] * H, output_size))
            if cell in FAST:
                params |= {n + name: rng.standard_normal(size) for n, size in FAST[cell].items()}
            elif bias:
                params["bias_ih" + name] = rng.standard_normal(GATES[cell] * H)
                params["bias_hh" + name] = rng.standard_normal(GATES[cell] * H)
            if proj_size:
                params["weight_hr" + name] = rng.standard_normal((proj_size, H))
    sizes = (output_size, H) if cell == "lstm" else (H,)
    states, dstates = (tuple(rng.standard_normal((num_layers * D, B, s)) for s in sizes) for _ in range(2))
    return (
        params,
        rng.standard_normal((T, B, I)),
        states,
        rng.standard_normal((T, B, D * output_size)),
        dstates,
    )


def as_state(cell, states):
    return states if cell == "lstm" else states[0]


def as_tuple(cell, state):
    return state if cell == "lstm" else (state,)


CASES = {
    "lstm": ("lstm", 2, True, {}, {}),
    "lstm_projected": ("lstm", 2, True, {"proj_size": P, "bias": False}, {}),
    "lstm_three_layers": ("lstm", 3, False, {}, {}),
    "gru": ("gru", 2, True, {}, {}),
    "gru_reset_before": ("gru", 2, True, {}, {"reset_after": False}),
    "rnn_tanh": ("rnn_tanh", 2, True, {}, {}),
    "rnn_relu": ("rnn_relu", 2, False, {}, {}),
    "rnn_sigmoid": ("rnn_sigmoid", 2, True, {"bias": False}, {}),
    "fast_rnn": ("fast_rnn", 2, True, {}, {}),
    "fast_grnn": ("fast_grnn", 2, True, {}, {"zoneout": 0.2}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dropout", [False, True], ids=["plain", "dropout"])
def test_gradients(name, dropout):
    cell, num_layers, bidirectional, make_options, options = CASES[name]
    params, x, states, dy, dstates = make(cell, num_layers, bidirectional, **make_options)
    options = {"num_layers": num_layers, "bidirectional": bidirectional, "lengths": RAGGED, **options}
    if dropout:
        rng = np.random.default_rng(5)
        options["dropout_masks"] = [2.0 * (rng.random(dy.shape) < 0.5) for _ in range(num_layers - 1)]

    def forward():
        y, state_n = reference.stack(cell, x, as_state(cell, states), params, **options)
        return y, as_tuple(cell, state_n)

    _, pullback = reference.stack_vjp(cell, x, as_state(cell, states), params, **options)
    dx, dstate_0, grads = pullback(dy, as_state(cell, dstates))
    assert list(grads) != [] and set(grads) == set(params)
    inputs = {"x": x, **{f"state {k}": s for k, s in enumerate(states)}, **params}
    dstates_0 = {f"state {k}": d for k, d in enumerate(as_tuple(cell, dstate_0))}
    check_gradients(forward, inputs, (dy, dstates), {"x": dx, **dstates_0, **grads})


def variants(cell, params, *, seed=3):
    """Every option of a stack, for two layers in two directions; gains and peepholes are added to `params`."""
    rng = np.random.default_rng(seed)
    gates = GATES[cell]
    sizes = (H, H) if cell == "lstm" else (H,)
    for suffix in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        own = {"gain_ih": gates * H, "gain_hh": gates * H}
        own |= {"peephole": 3 * H, "gain_c": H, "bias_c": H} if cell == "lstm" else {}
        params |= {name + suffix: rng.standard_normal(size) for name, size in own.items()}
    return {
        "clip": 1.5,
        "zoneout": [as_state(cell, tuple(0.4 * rng.random((T, B, n)) for n in sizes)) for _ in range(4)],
        "recurrent_masks": [2.0 * (rng.random((B, H)) < 0.5) for _ in range(4)],
        "reset_mask": rng.random((T, B)) < 0.5,
        "reset_state": as_state(cell, tuple(rng.standard_normal((4, B, n)) for n in sizes)),
    }


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_gradients_of_variants(cell):
    params, x, states, dy, dstates = make(cell, 2, True)
    options = {"num_layers": 2, "bidirectional": True, "lengths": RAGGED, "all_states": True, **variants(cell, params)}
    rng = np.random.default_rng(4)
    dall = as_state(cell, tuple(rng.standard_normal((2, T, B, 2 * H)) for _ in states))
    run = partial(reference.stack_vjp, cell, x, as_state(cell, states), params, **options)
    (y, _, all_states), pullback = run()
    np.testing.assert_array_equal(as_tuple(cell, all_states)[0][1], y)
    dx, dstate_0, grads = pullback(dy, as_state(cell, dstates), dall)
    inputs = {"x": x, **{f"state {k}": s for k, s in enumerate(states)}, **params}
    dstates_0 = {f"state {k}": d for k, d in enumerate(as_tuple(cell, dstate_0))}
    cotangents = (dy, as_state(cell, dstates), dall)
    check_gradients(lambda: run()[0], inputs, cotangents, {"x": dx, **dstates_0, **grads})


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_variants_of_a_layer_are_those_of_its_parts(cell):
    """Each direction of each layer gets what belongs to it."""
    params, x, states, _, _ = make(cell, 2, True)
    given = variants(cell, params)
    options = {"num_layers": 2, "bidirectional": True, "lengths": RAGGED, "all_states": True}
    _, state_n, all_states = reference.stack(cell, x, as_state(cell, states), params, **options, **given)
    gains = ("gain_ih", "gain_hh", "gain_c", "bias_c") if cell == "lstm" else ("gain_ih", "gain_hh")
    below = x
    for layer in range(2):
        outputs = []
        for direction, suffix in enumerate((f"_l{layer}", f"_l{layer}_reverse")):
            k = 2 * layer + direction
            own = {name.removesuffix(suffix): p for name, p in params.items() if name.endswith(suffix)}
            norm = reference.Norm(*(own.pop(name) for name in gains))
            y, final, whole = SINGLE[cell][0](
                below,
                as_state(cell, tuple(s[k] for s in states)),
                **own,
                norm=norm,
                lengths=RAGGED,
                reverse=direction == 1,
                all_states=True,
                clip=given["clip"],
                zoneout=given["zoneout"][k],
                recurrent_mask=given["recurrent_masks"][k],
                reset_mask=given["reset_mask"],
                reset_state=as_state(cell, tuple(s[k] for s in as_tuple(cell, given["reset_state"]))),
            )
            for actual, expected in zip(as_tuple(cell, state_n), as_tuple(cell, final)):
                np.testing.assert_array_equal(actual[k], expected)
            for actual, expected in zip(as_tuple(cell, all_states), as_tuple(cell, whole)):
                np.testing.assert_array_equal(np.split(actual[layer], 2, axis=-1)[direction], expected)
            outputs.append(y)
        below = np.concatenate(outputs, axis=-1)


SINGLE = {  # how the name of a cell reads as a call
    "lstm": (reference.lstm, {}),
    "gru": (reference.gru, {}),
    "rnn_tanh": (reference.rnn, {}),
    "rnn_relu": (reference.rnn, {"nonlinearity": "relu"}),
    "rnn_sigmoid": (reference.rnn, {"nonlinearity": "sigmoid"}),
    "rnn_leaky_relu": (reference.rnn, {"nonlinearity": "leaky_relu"}),
    "rnn_identity": (reference.rnn, {"nonlinearity": "identity"}),
}


@pytest.mark.parametrize("cell, options", [*((c, {}) for c in SINGLE), ("gru", {"reset_after": False})])
def test_composition(cell, options):
    """Two layers in two directions are four single calls; states come in the order layer, direction."""
    params, x, states, _, _ = make(cell, 2, True)
    stack_options = {"num_layers": 2, "bidirectional": True, "lengths": RAGGED, **options}
    y, state_n = reference.stack(cell, x, as_state(cell, states), params, **stack_options)
    function, single_options = SINGLE[cell]

    def single(x, k, suffix):
        weights = [params[f"{w}_{suffix}"] for w in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        all_options = {"lengths": RAGGED, "reverse": suffix.endswith("reverse"), **single_options, **options}
        out, final = function(x, as_state(cell, tuple(s[k] for s in states)), *weights, **all_options)
        for actual, expected in zip(as_tuple(cell, state_n), as_tuple(cell, final)):
            np.testing.assert_array_equal(actual[k], expected)
        return out

    middle = np.concatenate([single(x, 0, "l0"), single(x, 1, "l0_reverse")], axis=-1)
    top = np.concatenate([single(middle, 2, "l1"), single(middle, 3, "l1_reverse")], axis=-1)
    np.testing.assert_array_equal(y, top)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_layouts(cell):
    params, x, states, dy, dstates = make(cell, 2, True)
    options = {"num_layers": 2, "bidirectional": True}
    (y, state_n), pullback = reference.stack_vjp(cell, x, as_state(cell, states), params, **options)
    dx, dstate_0, grads = pullback(dy, as_state(cell, dstates))
    swapped, pullback = reference.stack_vjp(
        cell, x.swapaxes(0, 1), as_state(cell, states), params, batch_first=True, **options
    )
    swapped_dx, swapped_dstate_0, swapped_grads = pullback(dy.swapaxes(0, 1), as_state(cell, dstates))
    np.testing.assert_array_equal(swapped[0].swapaxes(0, 1), y)
    np.testing.assert_array_equal(swapped_dx.swapaxes(0, 1), dx)
    for a, e in zip(
        as_tuple(cell, swapped[1]) + as_tuple(cell, swapped_dstate_0),
        as_tuple(cell, state_n) + as_tuple(cell, dstate_0),
    ):
        np.testing.assert_array_equal(a, e)
    for name, grad in grads.items():
        np.testing.assert_array_equal(swapped_grads[name], grad)

    alone, pullback = reference.stack_vjp(
        cell, x[:, 1], as_state(cell, tuple(s[:, 1] for s in states)), params, **options
    )
    alone_dx, alone_dstate_0, _ = pullback(dy[:, 1], as_state(cell, tuple(d[:, 1] for d in dstates)))
    assert_close(alone[0], y[:, 1], 1e-14)
    assert_close(alone_dx, dx[:, 1], 1e-13)
    for a, e in zip(
        as_tuple(cell, alone[1]) + as_tuple(cell, alone_dstate_0),
        as_tuple(cell, state_n) + as_tuple(cell, dstate_0),
    ):
        assert_close(a, e[:, 1], 1e-13)


def test_padding_is_never_read():
    params, x, states, dy, dstates = make("lstm", 2, True)
    mask = 2.0 * (np.random.default_rng(1).random(dy.shape) < 0.5)
    options = {"num_layers": 2, "bidirectional": True, "lengths": RAGGED}

    def everything():
        (y, state_n), pullback = reference.stack_vjp("lstm", x, states, params, dropout_masks=[mask], **options)
        dx, dstate_0, grads = pullback(dy, dstates)
        return [y, *state_n, dx, *dstate_0, *grads.values()]

    clean = everything()
    for b, n in enumerate(RAGGED):
        x[n:, b] = dy[n:, b] = np.nan
    for actual, expected in zip(everything(), clean):
        np.testing.assert_array_equal(actual, expected)


def test_missing_cotangents_and_input_grad():
    params, x, states, dy, dstates = make("lstm", 2, True)
    options = {"num_layers": 2, "bidirectional": True}
    _, pullback = reference.stack_vjp("lstm", x, states, params, input_grad=False, **options)
    both, from_y, from_h, from_c = (
        pullback(dy, dstates),
        pullback(dy),
        pullback(dstate=(dstates[0], None)),
        pullback(None, (None, dstates[1])),
    )
    assert both[0] is None
    for name in params:
        assert_close(from_y[2][name] + from_h[2][name] + from_c[2][name], both[2][name], 1e-13)
    for k in range(2):
        assert_close(from_y[1][k] + from_h[1][k] + from_c[1][k], both[1][k], 1e-13)


def test_bad_arguments():
    params, x, states, _, _ = make("lstm", 2, False)
    with pytest.raises(ValueError, match=r"cell: expected one of lstm, gru, .* got 'rnn'"):
        reference.stack("rnn", x, None, params)
    with pytest.raises(ValueError, match="params: unknown names bias_hh_l1, bias_ih_l1, weight_hh_l1, weight_ih_l1"):
        reference.stack("lstm", x, None, params)
    with pytest.raises(ValueError, match="dropout_masks: expected 1 arrays, got 2"):
        reference.stack("lstm", x, None, params, num_layers=2, dropout_masks=[1, 1])
    with pytest.raises(ValueError, match=r"recurrent_masks: expected 2 entries \(num_layers·D\), got 1"):
        reference.stack("lstm", x, None, params, num_layers=2, recurrent_masks=[None])
    with pytest.raises(ValueError, match=r"^reset_state: expected \[2, …\]"):
        reference.stack("lstm", x, None, params, num_layers=2, reset_state=(states[0][:1], None))
    with pytest.raises(ValueError, match=r"state: expected \[2, …\]"):
        reference.stack("lstm", x, (states[0][:1], None), params, num_layers=2)
