"""Every variant of LSTM, GRU and RNN against the reference, in every shape that a layer may have."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import _core, reference

from . import masks

SEED = 5
VARIANTS = {
    "lstm": [
        {},
        {"peephole": True},
        {"coupled": True},
        {"peephole": True, "coupled": True, "clip": 0.8},
        {"clip": 0.5},
        {"layer_norm": True},
        {"layer_norm": True, "peephole": True, "clip": 2.0},
        {"zoneout": (0.3, 0.2)},
        {"zoneout": (0.0, 0.4)},
        {"recurrent_dropout": 0.4},
        {"input_dropout": 0.3, "weight_dropout": 0.3},
        {"layer_norm": True, "zoneout": 0.25, "recurrent_dropout": 0.3, "coupled": True},
        {"activations": ("hard_sigmoid", "softsign", ("scaled_tanh", 1.2, 0.7))},
        {"proj_size": 3, "peephole": True, "zoneout": (0.3, 0.2), "recurrent_dropout": 0.25},
        {"proj_size": 5, "layer_norm": True},
    ],
    "gru": [
        {},
        {"clip": 0.6},
        {"layer_norm": True},
        {"zoneout": 0.3},
        {"recurrent_dropout": 0.4},
        {"layer_norm": True, "zoneout": 0.25, "recurrent_dropout": 0.3, "clip": 1.5},
        {"input_dropout": 0.3, "weight_dropout": 0.3},
        {"activations": ("hard_sigmoid", ("leaky_relu", 0.2))},
    ],
    "rnn": [
        {},
        {"clip": 0.6},
        {"layer_norm": True},
        {"zoneout": 0.3, "recurrent_dropout": 0.4},
        {"nonlinearity": "leaky_relu"},
        {"nonlinearity": "identity", "layer_norm": True},
        {"activations": "softplus"},
        {"activations": ("elu", 0.7)},
    ],
}
SHAPES = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 3, "batch_first": True},
    {"bias": False},
]


def cases():
    for cell, shape in itertools.product(VARIANTS, SHAPES):
        for variant in VARIANTS[cell]:
            for reset_after in (True, False) if cell == "gru" else (None,):
                extra = {} if reset_after is None else {"reset_after": reset_after}
                yield pytest.param(cell, {**shape, **variant, **extra}, id=f"{cell} {variant} {shape} {extra}")


def make(cell, options, size=4, hidden=7, dtype=np.float64):
    layer = {"lstm": fr.LSTM, "gru": fr.GRU, "rnn": fr.RNN}[cell](size, hidden, seed=1, dtype=dtype, **options)
    rng = np.random.default_rng(2)
    for name, array in layer.params.items():  # gains and biases that are not all alike
        array[...] = rng.normal(0.9, 0.4, array.shape) if name.startswith("gain") else rng.normal(0, 0.5, array.shape)
    return layer


def reference_of(cell, layer, options, batch, steps, train):
    """(what `reference.stack` takes, the arrays that multiply inputs of each layer, weights)."""
    L, D, H = layer.num_layers, 2 if layer.bidirectional else 1, layer.hidden_size
    P = layer._h_size
    found = {"num_layers": L, "bidirectional": layer.bidirectional, "batch_first": layer.batch_first}
    if cell == "gru":
        found["reset_after"] = layer.reset_after
    if cell == "lstm":
        found["coupled"] = options.get("coupled", False)
    found["clip"] = options.get("clip")
    activations = options.get("activations")
    if activations is not None and cell == "rnn":
        activations = (activations,)
    found["activations"] = activations
    zoneout = layer.variant.zoneout
    if any(zoneout):
        parts = []
        for k, d in itertools.product(range(L), range(D)):
            one = [
                masks.zoneout(SEED, k, d, s, rate, (steps, batch, H if s else P)) if train else rate
                for s, rate in enumerate(zoneout)
            ]
            one = [a.swapaxes(0, 1) if layer.batch_first and train else a for a in one]
            parts.append(tuple(one) if cell == "lstm" else one[0])
        found["zoneout"] = parts
    rate = layer.variant.recurrent_dropout
    if rate and train:
        found["recurrent_masks"] = [masks.recurrent(SEED, k, d, rate, (batch, P)) for k in range(L) for d in range(D)]
    name = {"lstm": "lstm", "gru": "gru"}.get(cell, f"rnn_{options.get('nonlinearity', 'tanh')}")
    return name, found


def close(got, wanted, tolerance, what):
    if wanted is None:
        return
    scale = max(float(np.abs(wanted).max(initial=0)), 1e-30)
    assert got.shape == wanted.shape, what
    assert np.isfinite(got).all(), what
    assert float(np.abs(got - wanted).max(initial=0)) <= tolerance * scale, what


def check(cell, options, dtype=np.float64, steps=6, batch=3, size=4, hidden=7, train=True, lengths=(6, 0, 3),
          resets=True, all_states=True, checkpoint=None, forward=1e-12, backward=1e-12):  # fmt: skip
    layer = make(cell, options, size, hidden, dtype)
    rng = np.random.default_rng(3)
    wide, L, D = layer._h_size, layer.num_layers, 2 if layer.bidirectional else 1
    first = (batch, steps) if layer.batch_first else (steps, batch)
    x = rng.normal(size=(*first, size)).astype(dtype)
    state = [rng.normal(size=(L * D, batch, n)).astype(dtype) for n in (wide, layer.hidden_size)]
    again = [rng.normal(size=(L * D, batch, n)).astype(dtype) for n in (wide, layer.hidden_size)]
    lstm = cell == "lstm"
    state, again = (tuple(state), tuple(again)) if lstm else (state[0], again[0])
    given = {"lengths": None if lengths is None else np.array(lengths)}
    if resets:
        given |= {"reset_mask": rng.random(first) < 0.3, "reset_state": again}
    name, wanted = reference_of(cell, layer, options, batch, steps, train)
    params = {key: a.astype(np.float64) for key, a in layer.params.items()}
    wide64 = lambda tree: tuple(a.astype(np.float64) for a in tree) if isinstance(tree, tuple) else tree.astype(float)  # noqa: E731
    for k, suffix in enumerate(("", "_reverse")[:D]):
        for level in range(L):
            if train and layer.variant.weight_dropout:
                key = f"weight_hh_l{level}{suffix}"
                params[key] = params[key] * masks.weights(
                    SEED, level, k, layer.variant.weight_dropout, params[key].shape
                )
    reference_given = {**given, **({"reset_state": wide64(again)} if resets else {})}
    x64 = x.astype(np.float64)
    if train and layer.variant.input_dropout:
        assert L == 1  # the masks between layers are tested apart
        mask = masks.inputs(SEED, 0, layer.variant.input_dropout, (batch, size))
        x64 = x64 * (mask[:, None] if layer.batch_first else mask)
    found, back = reference.stack_vjp(
        name, x64, wide64(state), params, **wanted, **reference_given, all_states=all_states
    )
    outputs, pullback = layer.vjp(
        x, state, **given, dropout=train, seed=SEED, return_all_states=all_states, checkpoint=checkpoint
    )
    flat = lambda tree: [a for part in tree for a in (flat(part) if isinstance(part, tuple) else [part])]  # noqa: E731
    for got, right in zip(flat(outputs), flat(found), strict=True):
        close(got, right, forward, "outputs")
    inference = layer(x, state, **given) if not train else None
    if inference is not None:
        for got, right in zip(flat(inference), flat(found[:2]), strict=True):
            close(got, right, forward, "inference")
    grads = [rng.normal(size=a.shape).astype(dtype) for a in flat(outputs)]
    parts = lambda a: (a[0], tuple(a[1:3]), tuple(a[3:])) if lstm else tuple(a)  # noqa: E731
    arranged = parts(grads)
    dx, dstate = pullback(*arranged[: 3 if all_states else 2])
    right_dx, right_dstate, right_grads = back(*parts([a.astype(np.float64) for a in grads])[: 3 if all_states else 2])
    if train and layer.variant.input_dropout:
        right_dx = right_dx * (mask[:, None] if layer.batch_first else mask)
    close(dx, right_dx, backward, "dx")
    for got, right in zip(flat((dstate,)), flat((right_dstate,)), strict=True):
        close(got, right, backward, "dstate")
    for key, right in right_grads.items():
        if train and layer.variant.weight_dropout and key.startswith("weight_hh"):
            k, level = key.endswith("_reverse"), int(key.split("_l")[1].split("_")[0])
            right = right * masks.weights(SEED, level, int(k), layer.variant.weight_dropout, right.shape)
        close(layer.grads[key], right, backward, key)


@pytest.mark.parametrize(("cell", "options"), cases())
def test_training_and_inference(cell, options):
    if options.get("input_dropout") and options.get("num_layers", 1) > 1:
        options = {**options, "input_dropout": 0.0}
    check(cell, options)
    check(cell, options, train=False)


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("cell", VARIANTS)
def test_instruction_sets_and_sizes(cell, dtype, isa):
    before = _core.isa()
    _core.select_isa(isa)
    tolerance = {} if dtype == np.float64 else {"forward": 1e-5, "backward": 1e-4}
    try:
        for variant, (steps, batch, hidden) in itertools.product(VARIANTS[cell], [(5, 7, 33), (40, 5, 16)]):
            if "proj_size" in variant and hidden == 16:
                continue
            lengths = tuple(np.random.default_rng(hidden).integers(0, steps + 1, batch))
            check(cell, variant, dtype, steps, batch, 9, hidden, lengths=lengths, **tolerance)
    finally:
        _core.select_isa(before)


@pytest.mark.parametrize("cell", VARIANTS)
def test_checkpoints_and_threads_change_no_bit(cell):
    threads = _core.get_num_threads()
    rng = np.random.default_rng(0)
    try:
        for variant, shape in itertools.product(VARIANTS[cell], [{}, {"num_layers": 2}, {"bidirectional": True}]):
            layer = make(cell, {**variant, **shape}, 5, 40, np.float32)
            x = rng.normal(size=(60, 9, 5)).astype(np.float32)
            lengths, resets = rng.integers(0, 61, 9), rng.random((60, 9)) < 0.1
            seen = None
            for n, checkpoint in [(1, None), (1, 20), (2, None), (3, None), (8, None), (8, 20)]:
                _core.set_num_threads(n)
                layer.zero_grads()
                (y, _), pullback = layer.vjp(x, lengths=lengths, reset_mask=resets, seed=SEED, checkpoint=checkpoint)
                dx, _ = pullback(y * 1.0)
                found = [y, dx, *(a.copy() for a in layer.grads.values())]
                seen = seen or found
                for a, b in zip(found, seen, strict=True):
                    np.testing.assert_array_equal(a, b, err_msg=f"{variant} {shape} {n} {checkpoint}")
    finally:
        _core.set_num_threads(threads)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_clip_that_limits_nothing(dtype):
    """An input too long for the product of each step, several vectors of units: the plain cell's bits."""
    x = np.random.default_rng(0).normal(size=(6, 3, 120)).astype(dtype)
    plain, clipped = (fr.RNN(120, 100, clip=clip, dtype=dtype, seed=0) for clip in (None, 1e3))
    np.testing.assert_array_equal(clipped(x)[0], plain(x)[0])
